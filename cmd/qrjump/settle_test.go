package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

const settleSeed = `accounts:
  - {appid: wxa0b1c2d3e4f50001, kind: mini_program, secret: "0123456789abcdef0123456789abcdef", certified: true, versions: [release]}
settings: {verification: trust, rate_limit: 0}
`

// settled runs settle against a server, and returns how it ended, what it said, and the rules that it left.
func settled(t *testing.T, s *servertest.Server, out string, more ...string) (code int, said, errs string) {
	t.Helper()
	return command(t.Context(), append([]string{"settle", "--upstream", s.URL, "--out", out, "--pause", "0s",
		"--appid", "wxa0b1c2d3e4f50001", "--secret", "0123456789abcdef0123456789abcdef"}, more...)...)
}

// Nothing is found where nothing was turned; each row that was turned is found, and it alone; no rule is left.
// Behaviour(rules.publish.again) Behaviour(rules.edit.keeps_links) Behaviour(rules.edit.unchecked).
func TestSettleFindsWhatWasTurned(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: settleSeed})
	dir := t.TempDir()
	left := func() int {
		var list struct {
			Total int `json:"total_count"`
		}
		s.Rule("wxa0b1c2d3e4f50001", "get", `{"get_type":2,"page_num":1,"page_size":1}`).JSON(t, &list)
		return list.Total
	}
	code, said, errs := settled(t, s, filepath.Join(dir, "nothing"))
	if code != exitDone || strings.Count(said, ": as this table has it\n") != len(questions) || left() != 0 {
		t.Fatalf("exit %d, %d rules left\n%s%s", code, left(), said, errs)
	}
	text, err := os.ReadFile(filepath.Join(dir, "nothing"))
	if err != nil || strings.Contains(string(text), "0123456789abcdef0123456789abcdef") {
		t.Errorf("%v, or the secret is in the cassette", err)
	}
	for _, q := range questions {
		row := q.row.String()
		turned, err := json.Marshal(map[string]any{"behaviours": map[string]bool{row: true}})
		if err != nil {
			t.Fatal(err)
		}
		if a := s.Admin("PUT", "/settings", string(turned)); a.Status != 200 {
			t.Fatalf("%s: %d %s", row, a.Status, a.Body)
		}
		code, said, errs := settled(t, s, filepath.Join(dir, row))
		if code != exitDone || !strings.Contains(said, "\n"+row+": OTHERWISE") || strings.Count(said, "OTHERWISE") != 1 || left() != 0 {
			t.Errorf("%s turned: exit %d, %d rules left\n%s%s", row, code, left(), said, errs)
		}
	}
}

// No run makes more than sixty calls, whatever the table asks.
func TestSettleStaysBelowItsMost(t *testing.T) {
	t.Parallel()
	calls := 2
	for _, q := range questions {
		calls += q.calls + q.rules
	}
	if calls > mostSettling {
		t.Errorf("the table asks for %d calls, wanted at most %d", calls, mostSettling)
	}
}

// What could not be asked is said, ends with a failure, and leaves its cassette.
func TestSettleSaysWhatItCouldNotAsk(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(settleSeed, "versions: [release]", "versions: []", 1)})
	out := filepath.Join(t.TempDir(), "out")
	code, said, errs := settled(t, s, out, "--only", "rules.publish.again")
	if code == exitDone || !strings.Contains(said, "rules.publish.again: not settled: qrcodejumppublish answered") ||
		!strings.Contains(said, "85074") {
		t.Errorf("exit %d\n%s%s", code, said, errs)
	}
	if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), "/cgi-bin/wxopen/qrcodejumpdelete") {
		t.Errorf("%v: the cassette has not that the rule was deleted", err)
	}
	if code, said, _ := settled(t, s, out, "--dry-run"); code != exitDone || !strings.Contains(said, "cost: at most ") {
		t.Errorf("a dry run: exit %d, %s", code, said)
	}
}
