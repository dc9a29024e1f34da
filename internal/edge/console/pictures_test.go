package console_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/browsertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// TestPictures_OfTheDocuments takes the pictures of the documents in both languages: home, statistics, an alarm, and the page of a buyer.
// Each picture must have at most 150 KB. make pictures writes them to PICTURES_DIR.
func TestPictures_OfTheDocuments(t *testing.T) {
	testscope.RequireComplete(t, "the browser opens the same pages in TestPages_InChromium; the picture size matters only to the documents")
	s := servertest.Start(t, servertest.Options{Seed: `
accounts:
  - {appid: coffee, kind: mini_program, name: Coffee House, secret: the-secret-of-coffee, certified: true, versions: [release]}
  - {appid: press, kind: service_account, name: Coffee Beans, secret: the-secret-of-press, certified: true, features: [marketcode],
     marketcode_key: 0123456789abcdef, linked: [coffee]}
rules:
  - {owner: coffee, prefix: "https://coffee.example/t/", path: pages/table/table, published: true}
  - {owner: coffee, prefix: "https://coffee.example/menu/", path: pages/menu/menu, published: true}
settings: {verification: trust, rule_rate_limit: 0}
`, Config: func(c *server.Config) { c.CodePrefix, c.Regions = "C.EXAMPLE/", regionsFile(t) }})
	start := time.Date(2040, 1, 2, 2, 0, 0, 0, time.UTC)
	s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, start.Format(time.RFC3339)))
	batch := s.Apply("press", "spring", 10_000)
	s.Admin("POST", fmt.Sprintf("/batches/%d/activations", batch), `{"code_start":0,"code_end":999,"binding":{"wxa_appid":"coffee",
		"wxa_path":"pages/bag","activity_name":"Spring","product_brand":"Coffee Beans","product_title":"House blend, 250 g","product_code":"1"}}`)
	code := s.CodeText(batch, 7)
	for i := range 14 {
		s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, start.AddDate(0, 0, i).Add(time.Hour).Format(time.RFC3339)))
		var lines strings.Builder
		scan := func(n int, text string) {
			for j := range n {
				fmt.Fprintf(&lines, `{"text":%q,"user":"u%d-%d","ip":"10.%d.%d.1"}`+"\n", text, i, j, 1+j%3/2, j)
			}
		}
		scan(40+11*i%23+3*i, "https://coffee.example/t/7")
		scan(25+7*i%19, "https://coffee.example/menu/1")
		scan(2+i%4, "https://coffee.example/old/1")
		if i == 12 {
			scan(60, code)
		}
		s.Do("POST", "/scan/v1/resolve", lines.String(), "Content-Type: application/x-ndjson")
	}
	s.Admin("GET", "/statistics?wait=true", "")
	ctx, folder := browsertest.Start(t, ""), os.Getenv("PICTURES_DIR")
	browsertest.Run(t, ctx, chromedp.EmulateViewport(1024, 720))
	for _, language := range []string{"en", "zh"} {
		_, err := chromedp.Call(ctx, network.SetExtraHTTPHeaders,
			network.SetExtraHTTPHeadersParams{
				Headers: network.Headers{"Accept-Language": map[string]string{"en": "en", "zh": "zh-CN"}[language]},
			})
		require.NoError(t, err)
		for name, path := range map[string]string{"home": "/console/home", "statistics": "/console/statistics?days=7&by=day",
			"alarm": "/console/alarms/1", "buyer": "/p/?u=" + url.QueryEscape(code)} {
			require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.AdminURL+path)))
			browsertest.Await(t, ctx, `document.readyState === "complete" && !document.querySelector('.later[aria-busy]')`)
			picture := browsertest.Run(t, ctx, chromedp.CaptureScreenshot())
			assert.True(t, len(picture) >= 5<<10 && len(picture) <= 150<<10,
				"the picture of %s in %s has %d bytes, want between 5 and 150 KB", name, language, len(picture))
			if folder != "" {
				require.NoError(t, os.WriteFile(filepath.Join(folder, name+"-"+language+".png"), picture, 0o644))
			}
		}
	}
}
