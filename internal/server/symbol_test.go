package server_test

import (
	"image"
	"image/png"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/readtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestProductSymbol_ReadByThreeScanners saves a product on its console page and reads its symbols with independent decoders. The text must
// give a till the GTIN and the serial number, redirect a phone to the default link, and open the Mini Program in the app.
func TestProductSymbol_ReadByThreeScanners(t *testing.T) {
	t.Parallel()
	w := startBrand(t, servertest.Options{Config: func(c *server.Config) { c.DevHost = templateHosts }})
	w.Admin("PUT", "/settings", `{"gs1_hosts":["id.brand.example"]}`)
	form := url.Values{"did": {"save"}, "fresh": {"yes"}, "key": {"01/09506000134352"}, "owner": {"brand"}, "wxa_appid": {"shop"},
		"wxa_path": {"pages/product/index?gtin={01}"}, "default": {"0"},
		"linktype_0": {"gs1:pip"}, "href_0": {"https://brand.example/p/{01}"}, "title_0": {"Tea"}}
	a := w.Do("POST", "/console/gs1/key", form.Encode(), "Content-Type: application/x-www-form-urlencoded")
	require.True(t, a.Status == 303, "the page of the product: %d %.2000s", a.Status, a.Body)
	page := w.Do("GET", "/console/gs1/key?key=01/09506000134352", "").Body
	for _, has := range []string{`value="pages/product/index?gtin={01}"`, `value="https://brand.example/p/{01}"`,
		`value="https://id.brand.example/01/09506000134352"`, `<option value="gs1-datamatrix">`, `src="data:image/png`} {
		assert.Contains(t, page, has, "the page of the product")
	}
	id := w.order(templateCases[2].OrderPut, "three scanners").ApplicationID
	w.activate(id, 0, 99)
	code := packageRow(w, id, 7)
	plain := "https://id.brand.example/01/09506000134352/21/A-7"
	for _, c := range []struct {
		kind, identifier string
		read             func(testing.TB, image.Image) string
	}{{"gs1-digital-link", "", readtest.Zbarimg}, {"gs1-qr", "]Q3", readtest.Zbarimg}, {"gs1-datamatrix", "]d2", readtest.DmtxreadGS1}} {
		for text, serial := range map[string]string{code.Text: code.Code, plain: "A-7"} {
			localized := strings.TrimPrefix(c.read(t, w.symbol(text, c.kind)), "\x1d")
			till, err := gs1.Parse(c.identifier + localized)
			gtin, _ := till.Value("01")
			if got, _ := till.Value("21"); err != nil || gtin != "09506000134352" || got != serial {
				t.Errorf("%s: the till reads GTIN %s and serial %s, %v, want 09506000134352 and %s", c.kind, gtin, got, err, serial)
			}
			if serial == "A-7" {
				d := w.callScan("resolve", "alice", c.identifier+localized)
				assert.True(t, d.AppID == "shop" && strings.HasPrefix(d.Path, "pages/product/index?gtin=09506000134352") &&
					!strings.Contains(d.Path, "ticket"), "%s: without a secret the app opens %s", c.kind, d.summary())
			} else {
				w.checkOpens(c.kind, c.identifier+localized, id, 7)
			}
			if c.identifier != "" {
				continue // a phone's camera opens only links
			}
			path := strings.TrimPrefix(localized, "https://id.brand.example")
			a := w.Do("GET", path, "", "Host: id.brand.example")
			assert.True(t, a.Status == 307 && strings.HasPrefix(a.Header.Get("Location"), "https://brand.example/p/09506000134352"),
				"a phone gets %d to %s, want 307 to the default link", a.Status, a.Header.Get("Location"))
		}
	}
	for _, wrong := range []string{"text=(01)09506000134369&kind=gs1-qr", "text=(01)09506000134352&kind=gs1-digital-link",
		"text=tea&kind=gs1-qr", "text=(01)09506000134352&kind=none"} {
		assert.Equal(t, w.Do("GET", "/console/gs1/symbol?key=01/09506000134352&module=2mm&as=png&"+wrong, "").Status, 422, "%s", wrong)
	}
}

// symbol returns a symbol from the console page of the product 09506000134352.
func (w brandServer) symbol(text, kind string) image.Image {
	w.t.Helper()
	q := url.Values{"key": {"01/09506000134352"}, "text": {text}, "kind": {kind}, "module": {"0.5mm"}, "as": {"png"}}
	a := w.Do("GET", "/console/gs1/symbol?"+q.Encode(), "")
	m, err := png.Decode(strings.NewReader(a.Body))
	require.True(w.t, err == nil, "%s: %d %v %.2000s", kind, a.Status, err, a.Body)
	return m
}
