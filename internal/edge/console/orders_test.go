package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 31, 5: with the setting, who asks and who agrees are two people, by all ways; a marketer of another account sees nothing.
func TestOrderApproval_FourEyes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"order_approval_required":true}`)
	who := map[string]*visitor{}
	for name, account := range map[string]string{"alice": "press", "bob": "press", "eve": "shop"} {
		person(s, name, adminroute.Marketer, account)
		who[name] = request(t, s)
		who[name].signIn(name, password, "")
	}
	// read is the revision in the form of an order; decisions name the one that their page showed last.
	read := map[string]string{}
	look := func(name, isv string) {
		t.Helper()
		_, row, _ := strings.Cut(who[name].get("/console/orders").Body, `name="isv_application_id" value="`+isv+`"`)
		_, value, _ := strings.Cut(row, `name="read" value="`)
		read[name+isv], _, _ = strings.Cut(value, `"`)
	}
	order := func(name, did, isv, count string) page {
		return who[name].post("/console/orders", url.Values{"did": {did}, "account": {"press"}, "isv_application_id": {isv},
			"code_count": {count},
			"read":       {read[name+isv]}})
	}
	for count, isv := range map[string]string{"12": "a", "x": "b", "10000": "", "999999990000": "c"} {
		p := order("alice", "ask", isv, count)
		assert.True(t, p.Status == 422 && strings.Contains(p.Body, `aria-invalid="true"`) &&
			strings.Contains(p.Body, fmt.Sprintf("value=%q", count)), "%s codes of %q: %d %s", count, isv, p.Status, p.Body)
	}
	asked := order("alice", "ask", "order-77", "10000")
	require.True(t, asked.Status == 303 && strings.HasSuffix(asked.Header.Get("Location"), "order.pending_approval"), "%+v", asked)
	assert.Equal(t, order("alice", "ask", "order-77", "20000").Status, 409, "another count")
	look("alice", "order-77")
	look("bob", "order-77")
	if p := order("alice", "approve", "order-77", ""); p.Status != 409 || !strings.Contains(p.Body, "another person must approve") {
		t.Errorf("whoever asked agrees: %d %s", p.Status, p.Body)
	}
	assert.Equal(t, order("eve", "approve", "order-77", "").Status, http.StatusForbidden, "a marketer of another account agrees")
	assert.True(t, !strings.Contains(who["eve"].get("/console/orders").Body, "order-77"), "a marketer of another account sees the order")
	list := s.Admin("GET", "/batches", "").Body
	assert.True(t, !strings.Contains(list, "order-77"), "codes are made before anybody agreed: %s", list)
	if p := order("bob", "approve", "order-77", ""); p.Status != 303 || !strings.HasSuffix(p.Header.Get("Location"), "order.generated") {
		t.Fatalf("%d %q %s", p.Status, p.Header.Get("Location"), p.Body)
	}
	log := s.Admin("GET", "/changes?kind=meta", "").Body
	assert.True(t, strings.Contains(log, `"actor":"person:alice"`) && strings.Contains(log, `"actor":"person:bob"`),
		"the audit log says %s", log)
	assert.Equal(t, order("bob", "refuse", "order-77", "").Status, 409, "decided twice")
	order("alice", "ask", "other", "10000")
	look("alice", "other")
	p := order("alice", "refuse", "other", "")
	assert.True(t, p.Status == 303, "whoever asked takes it back: %d %s", p.Status, p.Body)
	p = order("bob", "ask", "other", "20000")
	assert.True(t, p.Status == 303, "one that was refused is asked for anew: %d %s", p.Status, p.Body)
	if p := order("alice", "approve", "other", "10000"); p.Status != 409 || !strings.Contains(p.Body, "has changed since it was read") {
		t.Errorf("a page that shows the order as it was agrees: %d %s", p.Status, p.Body)
	}
	// Texts by template: what one costs to guess and looks like is shown before it is ordered, and a weak one wants its tick.
	written := func(text, given, weak, sure string) page {
		return who["alice"].post("/console/orders", url.Values{"did": {"ask"}, "account": {"press"}, "isv_application_id": {"by-template"},
			"code_count": {"10000"}, "text": {text}, "fixed_digits": {given}, "allow_guessable": {weak}, "sure": {sure}})
	}
	written("https://brand.example/{serial}", "", "", "").wants(t, `id="text-wrong"`, "so its texts could be forged")
	written("{given:5}{digits:15}", "81234", "", "").wants(t, `id="allow_guessable-wrong"`, "only 36 bits of entropy", `value="81234"`)
	written("{given:5}{digits:15}", "81234", "yes", "").wants(t, `id="sure"`, "only 36 bits", "81234000000000000000",
		`name="allow_guessable" value="yes"`)
	written("{given:5}\r\n{digits:21}", "81234", "", "").wants(t, `id="sure"`, "(56 bits of entropy)", "81234 ⏎ 000000000000000000000")
	list = s.Admin("GET", "/orders", "").Body
	assert.True(t, !strings.Contains(list, "by-template"), "ordered before it was shown: %s", list)
	p = written("{given:5}\r\n{digits:21}", "81234", "", "by-template")
	assert.True(t, p.Status == 303, "%d %s", p.Status, p.Body)
	who["alice"].get("/console/orders").wants(t, "81234\n{digits:21}")
	assert.Equal(t, order("bob", "approve", "nothing", "").Status, 404, "an order that is not there")
}

// A list of texts of another system is imported by the form, or each wrong line is named and nothing is imported.
func TestImportTexts_Form(t *testing.T) {
	t.Parallel()
	seed := strings.Replace(shop, "https://shop.example/", "https://old.example/c/ofARule1/", 1)
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: seed})
	person(s, "alice", adminroute.Operator)
	alice := request(t, s)
	alice.signIn("alice", password, "")
	send := func(isv, list, column, language string) page {
		return alice.post("/console/orders/texts", url.Values{"account": {"press"}, "isv_application_id": {isv}, "column": {column},
			"text": {"https://old.example/c/{token:8-64}"}, "list": {list}}, "Accept-Language: "+language)
	}
	text := func(token string) string { return "https://old.example/c/" + token + "\n" }
	for _, c := range []struct{ name, list, column, english, chinese string }{
		{"duplicates", text("aBcDeFg1") + text("aBcDeFg1"), "", "Line 2: the text equals that of line 1.", "第 2 行：与第 1 行的文本相同。"},
		{"65 characters", text("aBcDeFg1") + text(strings.Repeat("x", 65)) + text("short"), "", "Line 3: ", "第 3 行："},
		{"a truncated CSV file", "name,link\nx," + text("aBcDeFg1") + "y\n", "link", "Line 3: the row has 1 columns", "第 3 行："},
		{"UTF-16", "\xff\xfeh\x00", "", "Line 1: the list is UTF-16", "第 1 行："},
		{"a text of a rule", text("aBcDeFg1") + text("ofARule1/x"), "", "Line 2: ", "第 2 行："},
		{"no text", "", "", "", ""},
	} {
		for language, want := range map[string]string{"en": c.english, "zh": c.chinese} {
			p := send(c.name, c.list, c.column, language)
			assert.True(t, p.Status == 422 && strings.Contains(p.Body, want), "%s: %d %s", c.name, p.Status, p.Body)
		}
	}
	assert.True(t, !strings.Contains(s.Admin("GET", "/batches?limit=100", "").Body, "old.example"), "half an import is left")
	p := send("good", "\ufeff"+text("aBcDeFg1")+text("aBcDeFg2"), "", "en")
	assert.True(t, p.Status == 303 && strings.HasSuffix(p.Header.Get("Location"), "?done=texts"), "a good list: %d %s", p.Status, p.Body)
	s.Admin("POST", "/codes/lookup", `{"code_url":"https://old.example/c/aBcDeFg2"}`).JSON(t, new(struct{}))
}
