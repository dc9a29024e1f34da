package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// Issue 31, 5: with the setting, who asks and who agrees are two people, by all ways; a marketer of another account sees nothing.
func TestWhoAsksAndWhoAgreesAreTwo(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: shop,
		Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	s.Admin("PUT", "/settings", `{"order_by_two":true}`)
	who := map[string]*visitor{}
	for name, account := range map[string]string{"alice": "press", "bob": "press", "eve": "shop"} {
		s.Admin("POST", "/people", fmt.Sprintf(`{"name":%q,"role":"marketer","accounts":[%q],"password":%q}`, name, account, password))
		who[name] = visit(t, s)
		who[name].signIn(name, password, "")
	}
	order := func(name, did, isv, count string) page {
		return who[name].post("/console/orders", url.Values{"did": {did}, "account": {"press"}, "isv": {isv}, "count": {count}})
	}
	for count, isv := range map[string]string{"12": "a", "x": "b", "10000": "", "999999990000": "c"} {
		if p := order("alice", "ask", isv, count); p.Status != 422 || !strings.Contains(p.Body, `aria-invalid="true"`) ||
			!strings.Contains(p.Body, fmt.Sprintf("value=%q", count)) {
			t.Errorf("%s codes of %q: %d %s", count, isv, p.Status, p.Body)
		}
	}
	if p := order("alice", "ask", "order-77", "10000"); p.Status != 303 || !strings.HasSuffix(p.Header.Get("Location"), "order.waits") {
		t.Fatalf("%d %q %s", p.Status, p.Header.Get("Location"), p.Body)
	}
	if p := order("alice", "ask", "order-77", "20000"); p.Status != 409 {
		t.Errorf("another count: %d", p.Status)
	}
	if p := order("alice", "agree", "order-77", ""); p.Status != 409 || !strings.Contains(p.Body, "somebody else") {
		t.Errorf("whoever asked agrees: %d %s", p.Status, p.Body)
	}
	if p := order("eve", "agree", "order-77", ""); p.Status != http.StatusForbidden {
		t.Errorf("a marketer of another account agrees: %d", p.Status)
	}
	if p := who["eve"].get("/console/orders"); strings.Contains(p.Body, "order-77") {
		t.Error("a marketer of another account sees the order")
	}
	if list := s.Admin("GET", "/batches", "").Body; strings.Contains(list, "order-77") {
		t.Errorf("codes are made before anybody agreed: %s", list)
	}
	if p := order("bob", "agree", "order-77", ""); p.Status != 303 || !strings.HasSuffix(p.Header.Get("Location"), "order.made") {
		t.Fatalf("%d %q %s", p.Status, p.Header.Get("Location"), p.Body)
	}
	log := s.Admin("GET", "/changes?kind=meta", "").Body
	if !strings.Contains(log, `"actor":"person:alice"`) || !strings.Contains(log, `"actor":"person:bob"`) {
		t.Errorf("the audit log says %s", log)
	}
	if p := order("bob", "refuse", "order-77", ""); p.Status != 409 {
		t.Errorf("decided twice: %d", p.Status)
	}
	order("alice", "ask", "other", "10000")
	if p := order("alice", "refuse", "other", ""); p.Status != 303 {
		t.Errorf("whoever asked takes it back: %d %s", p.Status, p.Body)
	}
	if p := order("bob", "ask", "other", "20000"); p.Status != 303 {
		t.Errorf("one that was refused is asked for anew: %d %s", p.Status, p.Body)
	}
	if p := order("alice", "agree", "other", "10000"); p.Status != 409 {
		t.Errorf("a page that shows another count agrees: %d", p.Status)
	}
	if p := order("bob", "agree", "nothing", ""); p.Status != 404 {
		t.Errorf("an order that is not there: %d", p.Status)
	}
}
