package adminapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// A plan is tried on the scans that were, and changes nothing.
func TestPlanReplay_RecentScansDryRun(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.OK("shop", "add", `{"prefix":"https://shop.example/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
	s.OK("shop", "publish", `{"prefix":"https://shop.example/"}`)
	for _, link := range []string{"https://shop.example/a/1", "https://shop.example/a/1", "https://shop.example/b",
		"https://other.example/", "no link"} {
		s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q}`, link))
	}
	before := s.Admin("GET", "/changes?newest=true&limit=1", "").Body
	var got struct {
		Scans, Examined, Changed int64
		Changes                  []struct {
			Before, After string
			Scans         int64
			Examples      []string
		}
	}
	for _, c := range []struct{ plan, want string }{
		{`{"action":"add","owner":"shop","prefix":"https://shop.example/a/","path":"q"}`,
			"4 2 2 open_mini_program shop https://shop.example/ p → open_mini_program shop https://shop.example/a/ q: 2 [https://shop.example/a/1]"},
		{`{"action":"add","owner":"shop","prefix":"https://shop.example/a/","path":"q","published":false}`,
			"4 2 2 open_mini_program shop https://shop.example/ p → open_url: 2 [https://shop.example/a/1]"},
		{`{"action":"delete","owner":"shop","prefix":"https://shop.example/"}`,
			"4 3 3 open_mini_program shop https://shop.example/ p → open_url: 3 [https://shop.example/a/1 https://shop.example/b]"},
		{`{"action":"edit","owner":"shop","prefix":"https://shop.example/","path":"r?a=1"}`,
			"4 3 3 open_mini_program shop https://shop.example/ p → open_mini_program shop https://shop.example/ r?a=1: 3 " +
				"[https://shop.example/a/1 https://shop.example/b]"},
		{`{"action":"publish","owner":"shop","prefix":"https://shop.example/"}`, "4 3 0 "},
	} {
		a := s.Admin("POST", "/rules/plan/replay", `{"days":1,"changes":[`+c.plan+`]}`)
		got.Changes = nil
		a.JSON(t, &got)
		var text strings.Builder
		text.WriteString(fmt.Sprint(got.Scans, " ", got.Examined, " ", got.Changed, " "))
		for _, turn := range got.Changes {
			text.WriteString(fmt.Sprintf("%s → %s: %d %v", turn.Before, turn.After, turn.Scans, turn.Examples))
		}
		if text.String() != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s\n%s", c.plan, text.String(), c.want, a.Body)
		}
	}
	if a := call(t, s, "POST", "/rules/plan/replay",
		`{"days":1,"changes":[{"action":"delete","owner":"shop","prefix":"https://nothing.example/"}]}`); a.Status != 422 ||
		!strings.Contains(a.Body, "changes[0]") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := call(t, s, "POST", "/rules/plan/replay",
		`{"days":1,"changes":[{"action":"delete","owner":"shopp","prefix":"https://shop.example/"}]}`); a.Status != 422 ||
		!strings.Contains(a.Body, "changes[0]: there is no account shopp: did you mean shop?") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	assert.Equal(t, s.Admin("GET", "/changes?newest=true&limit=1", "").Body, before, "a plan changed something")
}

// Changes since a moment come in the order of time, of every kind.
func TestChangesSince_TimeOrder(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: cafe})
	var clock struct{ Now string }
	s.Admin("PUT", "/emulator/clock", `{"advance":"1h"}`).JSON(t, &clock)
	s.Admin("PUT", "/emulator/clock", `{"advance":"1h"}`)
	code := codeText(t, s, aBatch(t, s), 1)
	s.Admin("PUT", "/emulator/clock", `{"advance":"1h"}`)
	s.Admin("PUT", "/accounts/cafe", `{"kind":"mini_program","name":"Another","versions":["release"]}`)
	var past struct{ Changes []struct{ Kind string } }
	call(t, s, "GET", "/history/resolve?at="+url.QueryEscape(clock.Now)+"&text="+url.QueryEscape(code), "").JSON(t, &past)
	var kinds []string
	for _, c := range past.Changes {
		kinds = append(kinds, c.Kind)
	}
	if got := strings.Join(kinds, " "); got != "codes account" {
		t.Errorf("%s: %+v", got, past.Changes)
	}
}

// Behaviour(rules.undo).
func TestUndo_RestoresPrevious(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	newest := func() (seq int64, published bool, did string) {
		t.Helper()
		var h struct {
			Changes []struct {
				Seq    int64
				Action string
				Rule   struct{ Published bool }
			}
		}
		s.Admin("GET", "/rules/history?prefix=https://shop.example/a/", "").JSON(t, &h)
		return h.Changes[0].Seq, h.Changes[0].Rule.Published, h.Changes[0].Action
	}
	undo := func(seq int64, status int, want string) {
		t.Helper()
		if a := call(t, s, "POST", fmt.Sprintf("/rules/changes/%d/undo", seq), ""); a.Status != status || !strings.Contains(a.Body, want) {
			t.Errorf("%d: %d %s; want %d %s", seq, a.Status, a.Body, status, want)
		}
	}
	rule := `{"prefix":"https://shop.example/a/","path":"p","is_edit":0,"permit_sub_rule":2,"open_version":3}`
	s.OK("shop", "add", rule)
	added, _, _ := newest()
	s.OK("shop", "publish", `{"prefix":"https://shop.example/a/"}`)
	published, _, _ := newest()
	undo(added, 409, fmt.Sprintf("change %d by shop", published))
	undo(published, 200, `"action":"edit"`)
	undo(published, 409, "by admin")
	unpublished, live, _ := newest()
	assert.True(t, !live, "still published")
	undo(unpublished, 200, `"published":true`)
	if a := s.Admin("GET", "/accounts/shop/quota", ""); !strings.Contains(a.Body, `"publishes_left":99`) {
		t.Errorf("an undo spends nothing and gives nothing back: %s", a.Body)
	}
	s.OK("shop", "delete", `{"prefix":"https://shop.example/a/"}`)
	deleted, _, _ := newest()
	// Somebody else has it meanwhile, then not any more.
	s.OK("rival", "add", rule)
	undo(deleted, 409, "by rival")
	s.OK("rival", "delete", `{"prefix":"https://shop.example/a/"}`)
	gone, _, _ := newest()
	undo(gone, 200, `"owner":"rival"`)
	undo(1, 404, "no change of a rule")
	assert.True(t, !strings.Contains(s.Log(), "level=ERROR"), "a wrong question is no error of ours")
}
