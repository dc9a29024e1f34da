package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/print/symbol"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// applied applies for ten thousand codes and waits until they are there.
func applied(t *testing.T, s *servertest.Server) (id int64) {
	t.Helper()
	return s.Apply("press", "<b>order", 10_000)
}

// codeText returns the text of a code.
func codeText(t *testing.T, s *servertest.Server, batch string, index int) string {
	t.Helper()
	id, err := strconv.ParseInt(batch, 10, 64)
	require.NoError(t, err)
	return s.CodeText(id, int64(index))
}

// picture is a picture of a QR code.
func picture(t *testing.T, text string) []byte {
	t.Helper()
	code, err := symbol.QR(text, 'M')
	var b bytes.Buffer
	if err == nil {
		err = png.Encode(&b, code.Picture(10))
	}
	require.NoError(t, err)
	return b.Bytes()
}

// Codes are activated by ranges, frozen and redeemed after their number was asked back, found by index, text and picture, and
// the map tells what each range is.
func TestCodesPage_FindMapAndChange(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	id := fmt.Sprint(applied(t, s))
	for _, role := range []adminroute.Role{adminroute.Viewer, adminroute.Marketer, adminroute.Operator} {
		person(s, string(role), role)
	}
	v, viewer, operator := request(t, s), request(t, s), request(t, s)
	v.signIn("marketer", password, "")
	viewer.signIn("viewer", password, "")
	operator.signIn("operator", password, "")
	at := "/console/codes/" + id
	rows := func() string {
		t.Helper()
		p := v.get(at)
		require.True(t, p.Status == 200, "%d %s", p.Status, p.Body)
		var list []string
		row := regexp.MustCompile(`<tr><td class="num">(\d+)</td><td class="num">(\d+)</td>.*?<td><span class="tag[^"]*">([a-z ]+)<`)
		for _, m := range row.FindAllStringSubmatch(p.Body, -1) {
			list = append(list, m[1]+"-"+m[2]+" "+m[3])
		}
		assert.True(t, !strings.Contains(p.Body, "<b>order") && !strings.Contains(p.Body, "<i>eve"), "what a caller sent is HTML in ours")
		return strings.Join(list, ", ")
	}
	assert.Equal(t, rows(), "0-9999 not active", "at first")
	change := func(by *visitor, form url.Values, status int) page {
		t.Helper()
		form.Set("batch", id)
		p := by.post("/console/codes", form)
		require.True(t, p.Status == status, "%v: %d, want %d: %s", form, p.Status, status, p.Body)
		return p
	}
	binding := url.Values{"did": {"activate"}, "from": {"0"}, "to": {"4999"}, "target": {"shop"}, "path": {"pages/<i>eve"},
		"activity": {"<i>eve"}, "brand": {"b"}, "title": {"t"}, "product": {"4006381333931"}, "type": {"0"}}
	assert.Contains(t, change(v, binding, 200).Body, "Activate 5,000 codes of application "+id+", from 0 to 4999?", "it is not asked back")
	assert.Equal(t, rows(), "0-9999 not active", "asked back, and done already")
	binding.Set("sure", "5000")
	change(viewer, binding, http.StatusForbidden)
	change(v, binding, http.StatusSeeOther)
	change(v, url.Values{"did": {"freeze"}, "from": {"100"}, "to": {"199"}, "sure": {"100"}}, http.StatusSeeOther)
	change(v, url.Values{"did": {"redeem"}, "from": {"7"}, "to": {"7"}, "sure": {"1"}}, http.StatusSeeOther)
	change(v, url.Values{"did": {"void"}, "from": {"9999"}, "to": {"9999"}, "sure": {"1"}}, http.StatusSeeOther)
	const whole = "0-6 active, 7-7 redeemed, 8-99 active, 100-199 frozen, 200-4999 active, 5000-9998 not active, 9999-9999 void"
	assert.Equal(t, rows(), whole, "the map")
	p := change(v, url.Values{"did": {"redeem"}, "from": {"7"}, "to": {"7"}, "sure": {"1"}}, http.StatusConflict)
	assert.True(t, strings.Contains(p.Body, "was redeemed by person:marketer"), "redeemed twice: %s", p.Body)
	change(v, url.Values{"did": {"freeze"}, "from": {"0"}, "to": {"10000"}, "sure": {"10001"}}, http.StatusUnprocessableEntity)
	change(v, url.Values{"did": {"melt"}, "from": {"0"}, "to": {"1"}}, http.StatusUnprocessableEntity)

	found := v.get("/console/codes?code=" + id + ":7")
	text := regexp.MustCompile(`<code class="copy">(C\.EXAMPLE/[^<]+)</code>`).FindStringSubmatch(found.Body)
	require.True(t, text != nil && strings.Contains(found.Body, "redeemed") && strings.Contains(found.Body, "person:marketer"),
		"by index: %d %s", found.Status, found.Body)
	p = v.get("/console/codes?code=" + url.QueryEscape(text[1]))
	assert.True(t, strings.Contains(p.Body, text[1]), "by text: %d %s", p.Status, p.Body)
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	if file, err := form.CreateFormFile("picture", "code.png"); err != nil {
		t.Fatal(err)
	} else if _, err = file.Write(picture(t, text[1])); err != nil || form.Close() != nil {
		t.Fatal(err)
	}
	p = v.send("POST", "/console/codes/picture", form.FormDataContentType(), &b)
	assert.Equal(t, p.Header.Get("Location"), "/console/codes?code="+url.QueryEscape(text[1]), "by picture: %d", p.Status)
	for _, none := range []string{"C.EXAMPLE/ABC", id + ":99999", "999:1", "ABCDEFGHI", "<script>"} {
		p := v.get("/console/codes?code=" + url.QueryEscape(none))
		assert.True(t, (p.Status == 404 || p.Status == 422) && strings.Contains(p.Body, "This server has no such code"),
			"%s: %d %s", none, p.Status, p.Body)
	}
	list := operator.get(at + "/list.csv?from=7&to=8")
	lines := strings.Split(list.Body, "\r\n")
	assert.True(t, len(lines) == 4 && strings.HasPrefix(lines[1], "7,") && strings.HasSuffix(lines[1], ","+text[1]),
		"the file: %d %q", list.Status, list.Body)
	assert.Equal(t, v.get(at+"/list.csv?from=7&to=8").Status, http.StatusForbidden, "the file for a marketer")
	log := servertest.Decode[struct{ Changes []json.RawMessage }](t, s.Admin("GET", "/changes?kind=codes&actor=person:marketer", ""))
	assert.Equal(t, len(log.Changes), 4, "changes are by the marketer")
}

// Issue 42, 12: whoever unfreezes codes of a recalled package is told, before anything happens, that its file is valid again.
func TestUnfreezeForm_RecalledPackageConfirm(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	id := fmt.Sprint(applied(t, s))
	person(s, "operator", adminroute.Operator)
	v := request(t, s)
	v.signIn("operator", password, "")
	made := s.Admin("POST", "/batches/"+id+"/packages", `{"code_start":100,"code_end":199,"printer":"p"}`).Number(t, "package")
	s.Admin("POST", fmt.Sprintf("/packages/%d/recall", made), "{}")
	for _, c := range []struct {
		did, from, to string
		warns         bool
	}{{"unfreeze", "150", "250", true}, {"unfreeze", "0", "99", false}, {"unfreeze", "200", "299", false}, {"void", "150", "250", false}} {
		p := v.post("/console/codes", url.Values{"batch": {id}, "did": {c.did}, "from": {c.from}, "to": {c.to}})
		if warned := strings.Contains(p.Body, fmt.Sprintf("Package %d was recalled", made)); p.Status != 200 || warned != c.warns {
			t.Errorf("%s %s-%s: %d, warns of the package = %v, want %v", c.did, c.from, c.to, p.Status, warned, c.warns)
		}
	}
}
