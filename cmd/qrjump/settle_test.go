package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

const settleSeed = `accounts:
  - {appid: wxa0b1c2d3e4f50001, kind: mini_program, secret: "0123456789abcdef0123456789abcdef", certified: true, versions: [release]}
  - {appid: wxa0b1c2d3e4f50002, kind: mini_program, secret: "0123456789abcdef0123456789abcde2", certified: true, versions: [release]}
  - {appid: wxa0b1c2d3e4f50003, kind: service_account, secret: "0123456789abcdef0123456789abcde3", certified: true,
     linked: [wxa0b1c2d3e4f50001]}
settings: {verification: trust, rate_limit: 0, publish_quota: 1000}
`

// asSettler are the flags of a run as the account, and everything those of one that asks everything.
var (
	asSettler  = []string{"settle", "--pause", "0s", "--appid", "wxa0b1c2d3e4f50001", "--secret", "0123456789abcdef0123456789abcdef"}
	everything = []string{"--refresh", "--neighbour-appid", "wxa0b1c2d3e4f50002", "--neighbour-secret", "0123456789abcdef0123456789abcde2",
		"--service-appid", "wxa0b1c2d3e4f50003", "--service-secret", "0123456789abcdef0123456789abcde3"}
)

// settled runs settle against a server, and returns how it ended and what it said.
func settled(t *testing.T, upstream, out string, more ...string) (code int, said, errs string) {
	t.Helper()
	return command(t.Context(), slices.Concat(asSettler, []string{"--upstream", upstream, "--out", out}, more)...)
}

// left are the rules that a server has.
func left(t *testing.T, s *servertest.Server) (prefixes []string) {
	t.Helper()
	var list struct {
		Rules []struct{ Prefix string } `json:"rules"`
	}
	s.Admin("GET", "/rules", "").JSON(t, &list)
	for _, rule := range list.Rules {
		prefixes = append(prefixes, rule.Prefix)
	}
	return prefixes
}

// Nothing is found where nothing was turned; each row that was turned is found, and it alone; no rule is left.
// Behaviour(rules.publish.again) Behaviour(rules.edit.keeps_links) Behaviour(rules.edit.unchecked) Behaviour(token.stable.soon)
// Behaviour(codes.gate).
func TestSettleFindsWhatWasTurned(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: settleSeed})
	dir := t.TempDir()
	code, said, errs := settled(t, s.URL, filepath.Join(dir, "nothing"), everything...)
	if code != exitDone || strings.Count(said, ": as this table has it\n") != len(questions) || len(left(t, s)) > 0 {
		t.Fatalf("exit %d, left %q\n%s%s", code, left(t, s), said, errs)
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
		code, said, errs := settled(t, s.URL, filepath.Join(dir, row), everything...)
		if code != exitDone || !strings.Contains(said, "\n"+row+": OTHERWISE") || strings.Count(said, "OTHERWISE") != 1 ||
			len(left(t, s)) > 0 {
			t.Errorf("%s turned: exit %d, left %q\n%s%s", row, code, left(t, s), said, errs)
		}
	}
}

// No run makes more than sixty calls, whatever the table asks.
func TestSettleStaysBelowItsMost(t *testing.T) {
	t.Parallel()
	calls, _ := costs(questions)
	if calls > mostSettling {
		t.Errorf("the table asks for %d calls, wanted at most %d", calls, mostSettling)
	}
}

// What could not be asked is said, ends with a failure, and leaves its cassette.
func TestSettleSaysWhatItCouldNotAsk(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(settleSeed, "versions: [release]", "versions: []", 1)})
	out := filepath.Join(t.TempDir(), "out")
	code, said, errs := settled(t, s.URL, out, "--only", "rules.publish.again")
	if code == exitDone || !strings.Contains(said, "rules.publish.again: not settled: qrcodejumppublish answered") ||
		!strings.Contains(said, "85074") {
		t.Errorf("exit %d\n%s%s", code, said, errs)
	}
	if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), "/cgi-bin/wxopen/qrcodejumpdelete") {
		t.Errorf("%v: the cassette has not that the rule was deleted", err)
	}
	if code, said, _ := settled(t, s.URL, out, "--dry-run"); code != exitDone || !strings.Contains(said, "cost: at most ") {
		t.Errorf("a dry run: exit %d, %s", code, said)
	}
	for _, want := range []string{"neighbour-appid", "refresh", "service-appid"} {
		if _, said, _ := settled(t, s.URL, out, "--dry-run"); !strings.Contains(said, "--"+want) {
			t.Errorf("a run without --%s does not say what it cannot ask: %s", want, said)
		}
	}
	code, _, errs = settled(t, s.URL, out, "--only", "rules.add.owned")
	if code != exitMisused || !strings.Contains(errs, "--neighbour-appid") {
		t.Errorf("a row that wants a neighbour: exit %d, %s", code, errs)
	}
}

// A run that is interrupted deletes what it added, whichever call it makes just then.
func TestSettleUndoesWhatItAddedWhenInterrupted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: settleSeed})
	platform, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 7, 12, 20, 30} {
		ctx, interrupt := context.WithCancel(t.Context())
		asked, met := 0, 0
		through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(platform) },
			ModifyResponse: func(*http.Response) error {
				if asked++; asked == n { // the server did it, and the answer does not come any more
					met = len(left(t, s))
					interrupt()
				}
				return nil
			}, ErrorLog: log.New(io.Discard, "", 0)}
		upstream := httptest.NewServer(through)
		code, said, errs := command(ctx, slices.Concat(asSettler, everything,
			[]string{"--upstream", upstream.URL, "--out", filepath.Join(t.TempDir(), "out")})...)
		upstream.Close()
		interrupt()
		if code == exitDone || len(left(t, s)) > 0 || n > 1 && met == 0 {
			t.Errorf("interrupted at call %d: exit %d, %d rules were there, left %q\n%s%s", n, code, met, left(t, s), said, errs)
		}
	}
}
