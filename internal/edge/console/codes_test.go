package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
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

// codeText returns the text of a code.
func codeText(t *testing.T, s *servertest.Server, batch string, index int) string {
	t.Helper()
	id := require.Value(strconv.ParseInt(batch, 10, 64))(t)
	return s.CodeText(id, int64(index))
}

// scanByUsers scans a text as n users in n networks.
func scanByUsers(s *servertest.Server, text string, n int, header ...string) {
	for i := range n {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, text, i, i, i), header...)
	}
}

// qrPicture returns a PNG of a QR code.
func qrPicture(t *testing.T, text string) []byte {
	t.Helper()
	code, err := symbol.QR(text, 'M')
	var b bytes.Buffer
	if err == nil {
		err = png.Encode(&b, code.Picture(10))
	}
	require.NoError(t, err)
	return b.Bytes()
}

// TestCodesPage_FindMapAndChange activates ranges of codes, freezes and redeems them after a confirmation of their count, finds codes by
// index, text and picture, and verifies the map of states after each change.
func TestCodesPage_FindMapAndChange(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	id := fmt.Sprint(s.Apply("press", "<b>order", 10_000))
	for _, role := range []adminroute.Role{adminroute.Viewer, adminroute.Marketer, adminroute.Operator} {
		createPerson(s, string(role), role)
	}
	v, viewer, operator := newVisitor(t, s), newVisitor(t, s), newVisitor(t, s)
	v.signIn("marketer", password, "")
	viewer.signIn("viewer", password, "")
	operator.signIn("operator", password, "")
	path := "/console/codes/" + id
	rows := func() string {
		t.Helper()
		p := v.get(path)
		require.True(t, p.Status == 200, "status %d, want 200: %s", p.Status, p.Body)
		var list []string
		row := regexp.MustCompile(`<tr><td class="num">(\d+)</td><td class="num">(\d+)</td>.*?<td><span class="tag[^"]*">([a-z ]+)<`)
		for _, m := range row.FindAllStringSubmatch(p.Body, -1) {
			list = append(list, m[1]+"-"+m[2]+" "+m[3])
		}
		assert.True(t, !strings.Contains(p.Body, "<b>order") && !strings.Contains(p.Body, "<i>eve"), "the page has unescaped text")
		return strings.Join(list, ", ")
	}
	assert.Equal(t, rows(), "0-9999 not active", "map of new codes")
	change := func(visitor *visitor, form url.Values, status int) page {
		t.Helper()
		form.Set("batch", id)
		p := visitor.post("/console/codes", form)
		p.wantStatus(t, status, "%v", form)
		return p
	}
	binding := url.Values{"did": {"activate"}, "from": {"0"}, "to": {"4999"}, "target": {"shop"}, "path": {"pages/<i>eve"},
		"activity": {"<i>eve"}, "brand": {"b"}, "title": {"t"}, "product": {"4006381333931"}, "type": {"0"}}
	change(v, binding, 200).wantText(t, "Activate 5,000 codes of application "+id+", from 0 to 4999?")
	assert.Equal(t, rows(), "0-9999 not active", "map before the confirmation")
	binding.Set("sure", "5000")
	change(viewer, binding, http.StatusForbidden)
	change(v, binding, http.StatusSeeOther)
	change(v, url.Values{"did": {"freeze"}, "from": {"100"}, "to": {"199"}, "sure": {"100"}}, http.StatusSeeOther)
	change(v, url.Values{"did": {"redeem"}, "from": {"7"}, "to": {"7"}, "sure": {"1"}}, http.StatusSeeOther)
	change(v, url.Values{"did": {"void"}, "from": {"9999"}, "to": {"9999"}, "sure": {"1"}}, http.StatusSeeOther)
	const states = "0-6 active, 7-7 redeemed, 8-99 active, 100-199 frozen, 200-4999 active, 5000-9998 not active, 9999-9999 void"
	assert.Equal(t, rows(), states, "the map")
	p := change(v, url.Values{"did": {"redeem"}, "from": {"7"}, "to": {"7"}, "sure": {"1"}}, http.StatusConflict)
	p.wantText(t, "was redeemed by person:marketer")
	change(v, url.Values{"did": {"freeze"}, "from": {"0"}, "to": {"10000"}, "sure": {"10001"}}, http.StatusUnprocessableEntity)
	change(v, url.Values{"did": {"melt"}, "from": {"0"}, "to": {"1"}}, http.StatusUnprocessableEntity)

	page := v.get("/console/codes?code=" + id + ":7")
	text := regexp.MustCompile(`<code class="copy">(C\.EXAMPLE/[^<]+)</code>`).FindStringSubmatch(page.Body)
	require.True(t, text != nil && strings.Contains(page.Body, "redeemed") && strings.Contains(page.Body, "person:marketer"),
		"search by index: status %d, want the text and the history of a redeemed code: %s", page.Status, page.Body)
	v.get("/console/codes?code="+url.QueryEscape(text[1])).wantText(t, text[1])
	p = v.upload("/console/codes/picture", nil, "picture", qrPicture(t, text[1]))
	assert.Equal(t, p.Header.Get("Location"), "/console/codes?code="+url.QueryEscape(text[1]), "redirect of a search by picture")
	for _, text := range []string{"C.EXAMPLE/ABC", id + ":99999", "999:1", "ABCDEFGHI", "<script>"} {
		p := v.get("/console/codes?code=" + url.QueryEscape(text))
		assert.True(t, (p.Status == 404 || p.Status == 422) && strings.Contains(p.Body, "This server has no such code"),
			"search for %s: status %d, want 404 or 422 with a message: %s", text, p.Status, p.Body)
	}
	list := operator.get(path + "/list.csv?from=7&to=8")
	lines := strings.Split(list.Body, "\r\n")
	assert.True(t, len(lines) == 4 && strings.HasPrefix(lines[1], "7,") && strings.HasSuffix(lines[1], ","+text[1]),
		"list.csv: status %d, %q; want the codes 7 and 8", list.Status, list.Body)
	assert.Equal(t, v.get(path+"/list.csv?from=7&to=8").Status, http.StatusForbidden, "list.csv as a marketer")
	log := servertest.Decode[struct{ Changes []json.RawMessage }](t, s.Admin("GET", "/changes?kind=codes&actor=person:marketer", ""))
	assert.Equal(t, len(log.Changes), 4, "changes of the marketer in the audit log")
}

// TestUnfreezeForm_RecalledPackageConfirm verifies that unfreezing codes of a recalled package asks for a confirmation, because the file of
// the package becomes valid again.
func TestUnfreezeForm_RecalledPackageConfirm(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	id := fmt.Sprint(s.Apply("press", "<b>order", 10_000))
	v := newUser(t, s, "operator", adminroute.Operator)
	packageID := s.Admin("POST", "/batches/"+id+"/packages", `{"code_start":100,"code_end":199,"printer":"p"}`).Number(t, "package")
	s.Admin("POST", fmt.Sprintf("/packages/%d/recall", packageID), "{}")
	for _, c := range []struct {
		did, from, to string
		want          bool
	}{{"unfreeze", "150", "250", true}, {"unfreeze", "0", "99", false}, {"unfreeze", "200", "299", false}, {"void", "150", "250", false}} {
		p := v.post("/console/codes", url.Values{"batch": {id}, "did": {c.did}, "from": {c.from}, "to": {c.to}})
		if warns := strings.Contains(p.Body, fmt.Sprintf("Package %d was recalled", packageID)); p.Status != 200 || warns != c.want {
			t.Errorf("%s %s-%s: %d, warns of the package = %v, want %v", c.did, c.from, c.to, p.Status, warns, c.want)
		}
	}
}
