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

// TestOrderApproval_FourEyes verifies that with order_approval_required an order and its approval need two people, by all interfaces, and
// that a marketer of another account sees nothing of it.
func TestOrderApproval_FourEyes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"order_approval_required":true}`)
	visitors := map[string]*visitor{}
	for name, account := range map[string]string{"alice": "press", "bob": "press", "eve": "shop"} {
		createPerson(s, name, adminroute.Marketer, account)
		visitors[name] = newVisitor(t, s)
		visitors[name].signIn(name, password, "")
	}
	// revisions are those of the forms that each person opened last; a decision sends its revision.
	revisions := map[string]string{}
	readRevision := func(name, isv string) {
		t.Helper()
		_, row, _ := strings.Cut(visitors[name].get("/console/orders").Body, `name="isv_application_id" value="`+isv+`"`)
		_, value, _ := strings.Cut(row, `name="read" value="`)
		revisions[name+isv], _, _ = strings.Cut(value, `"`)
	}
	order := func(name, did, isv, count string) page {
		return visitors[name].post("/console/orders", url.Values{"did": {did}, "account": {"press"}, "isv_application_id": {isv},
			"code_count": {count},
			"read":       {revisions[name+isv]}})
	}
	for count, isv := range map[string]string{"12": "a", "x": "b", "10000": "", "999999990000": "c"} {
		p := order("alice", "ask", isv, count)
		assert.True(t, p.Status == 422 && strings.Contains(p.Body, `aria-invalid="true"`) &&
			strings.Contains(p.Body, fmt.Sprintf("value=%q", count)),
			"%s codes of %q: status %d, want 422: %s", count, isv, p.Status, p.Body)
	}
	ordered := order("alice", "ask", "order-77", "10000")
	require.True(t, ordered.Status == 303 && strings.HasSuffix(ordered.Header.Get("Location"), "order.pending_approval"),
		"new order: %+v", ordered)
	assert.Equal(t, order("alice", "ask", "order-77", "20000").Status, 409, "same order with another count")
	readRevision("alice", "order-77")
	readRevision("bob", "order-77")
	if p := order("alice", "approve", "order-77", ""); p.Status != 409 || !strings.Contains(p.Body, "another person must approve") {
		t.Errorf("approval by the author: status %d, want 409: %s", p.Status, p.Body)
	}
	assert.Equal(t, order("eve", "approve", "order-77", "").Status, http.StatusForbidden, "approval by a marketer of another account")
	assert.True(t, !strings.Contains(visitors["eve"].get("/console/orders").Body, "order-77"),
		"a marketer of another account sees the order")
	list := s.Admin("GET", "/batches", "").Body
	assert.True(t, !strings.Contains(list, "order-77"), "codes exist before the approval: %s", list)
	if p := order("bob", "approve", "order-77", ""); p.Status != 303 || !strings.HasSuffix(p.Header.Get("Location"), "order.generated") {
		t.Fatalf("status %d, want 303, Location %q: %s", p.Status, p.Header.Get("Location"), p.Body)
	}
	log := s.Admin("GET", "/changes?kind=meta", "").Body
	assert.True(t, strings.Contains(log, `"actor":"person:alice"`) && strings.Contains(log, `"actor":"person:bob"`),
		"audit log = %s, want the actors", log)
	assert.Equal(t, order("bob", "refuse", "order-77", "").Status, 409, "second decision")
	order("alice", "ask", "other", "10000")
	readRevision("alice", "other")
	p := order("alice", "refuse", "other", "")
	p.wantStatus(t, 303, "whoever asked takes it back")
	p = order("bob", "ask", "other", "20000")
	p.wantStatus(t, 303, "one that was refused is asked for anew")
	if p := order("alice", "approve", "other", "10000"); p.Status != 409 || !strings.Contains(p.Body, "has changed since it was read") {
		t.Errorf("a page that shows the order as it was agrees: status %d, want 409: %s", p.Status, p.Body)
	}
	// Texts by template: the confirmation shows the entropy and an example, and a guessable template needs allow_guessable.
	orderTexts := func(text, fixed, guessable, sure string) page {
		return visitors["alice"].post("/console/orders", url.Values{"did": {"ask"}, "account": {"press"},
			"isv_application_id": {"by-template"}, "code_count": {"10000"}, "text": {text}, "fixed_digits": {fixed},
			"allow_guessable": {guessable}, "sure": {sure}})
	}
	orderTexts("https://brand.example/{serial}", "", "", "").wantText(t, `id="text-wrong"`, "so its texts could be forged")
	orderTexts("{given:5}{digits:15}", "81234", "", "").wantText(t, `id="allow_guessable-wrong"`, "only 36 bits of entropy",
		`value="81234"`)
	orderTexts("{given:5}{digits:15}", "81234", "yes", "").wantText(t, `id="sure"`, "only 36 bits", "81234000000000000000",
		`name="allow_guessable" value="yes"`)
	orderTexts("{given:5}\r\n{digits:21}", "81234", "", "").wantText(t, `id="sure"`, "(56 bits of entropy)",
		"81234 ⏎ 000000000000000000000")
	list = s.Admin("GET", "/orders", "").Body
	assert.True(t, !strings.Contains(list, "by-template"), "order exists before the confirmation: %s", list)
	p = orderTexts("{given:5}\r\n{digits:21}", "81234", "", "by-template")
	assert.True(t, p.Status == 303, "status %d, want 303: %s", p.Status, p.Body)
	visitors["alice"].get("/console/orders").wantText(t, "81234\n{digits:21}")
	assert.Equal(t, order("bob", "approve", "nothing", "").Status, 404, "approval of an unknown order")
}

// TestImportTexts_Form imports a list of texts of another system with the form. A list with invalid lines must name each line and import
// nothing.
func TestImportTexts_Form(t *testing.T) {
	t.Parallel()
	seed := strings.Replace(shop, "https://shop.example/", "https://old.example/c/ofARule1/", 1)
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: seed})
	alice := newUser(t, s, "alice", adminroute.Operator)
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
			assert.True(t, p.Status == 422 && strings.Contains(p.Body, want), "%s: status %d, want 422: %s", c.name, p.Status, p.Body)
		}
	}
	assert.True(t, !strings.Contains(s.Admin("GET", "/batches?limit=100", "").Body, "old.example"), "a rejected import left texts")
	p := send("good", "\ufeff"+text("aBcDeFg1")+text("aBcDeFg2"), "", "en")
	assert.True(t, p.Status == 303 && strings.HasSuffix(p.Header.Get("Location"), "?done=texts"),
		"a good list: status %d, want 303: %s", p.Status, p.Body)
	s.Admin("POST", "/codes/lookup", `{"code_url":"https://old.example/c/aBcDeFg2"}`).JSON(t, new(struct{}))
}
