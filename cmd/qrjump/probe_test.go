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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const probeSeed = `accounts:
  - {appid: wxa0b1c2d3e4f50001, kind: mini_program, secret: "0123456789abcdef0123456789abcdef", certified: true, versions: [release]}
  - {appid: wxa0b1c2d3e4f50002, kind: mini_program, secret: "0123456789abcdef0123456789abcde2", certified: true, versions: [release]}
  - {appid: wxa0b1c2d3e4f50003, kind: service_account, secret: "0123456789abcdef0123456789abcde3", certified: true,
     linked: [wxa0b1c2d3e4f50001]}
settings: {verification: trust, rule_rate_limit: null, publish_quota: 1000}
`

// probeFlags are the flags of every run. With allFlags too, a run probes all rows.
var (
	probeFlags = []string{"probe", "--pause", "0s", "--appid", "wxa0b1c2d3e4f50001", "--secret", "0123456789abcdef0123456789abcdef"}
	allFlags   = []string{"--refresh", "--second-appid", "wxa0b1c2d3e4f50002", "--second-secret", "0123456789abcdef0123456789abcde2",
		"--service-appid", "wxa0b1c2d3e4f50003", "--service-secret", "0123456789abcdef0123456789abcde3"}
)

// runProbe runs probe against a server. It returns the exit code, standard output and standard error.
func runProbe(t *testing.T, upstream, file string, flags ...string) (code int, out, errs string) {
	t.Helper()
	return command(t.Context(), slices.Concat(probeFlags, []string{"--upstream", upstream, "--out", file}, flags)...)
}

// addFault adds a fault to the emulator.
func addFault(t *testing.T, s *servertest.Server, fault string) {
	t.Helper()
	a := s.Admin("POST", "/emulator/faults", fault)
	require.True(t, a.Status/100 == 2, "POST /emulator/faults %s = %d %s, want 2xx", fault, a.Status, a.Body)
}

// listPrefixes returns the prefixes of all rules of a server.
func listPrefixes(t *testing.T, s *servertest.Server) (prefixes []string) {
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

// parseCosts returns the numbers of calls that the output of a run has: the maximum at its start, and the actual number at its end.
func parseCosts(t *testing.T, out string) (limit, used int) {
	t.Helper()
	found := regexp.MustCompile(`(?s)^cost: at most (\d+) calls.*\nused: (\d+) calls?, \d+ publish(?:es)?; `).FindStringSubmatch(out)
	require.True(t, found != nil, "the output states no cost:\n%s", out)
	limit, _ = strconv.Atoi(found[1])
	used, _ = strconv.Atoi(found[2])
	return limit, used
}

// TestProbe_EachRowTurned inverts each behaviour of the server and verifies that probe reports exactly this row as different.
//
// Behaviour(rules.publish.again) Behaviour(rules.edit.keeps_links) Behaviour(rules.edit.unchecked) Behaviour(token.stable.soon)
// Behaviour(codes.gate).
func TestProbe_EachRowTurned(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed})
	dir := t.TempDir()
	code, out, errs := runProbe(t, s.URL, filepath.Join(dir, "default"), allFlags...)
	if n := strings.Count(out, ": as documented here"); code != exitDone || n != len(probes) || len(listPrefixes(t, s)) > 0 {
		t.Fatalf("probe of the defaults: exit %d, %d of %d rows as documented, rules left %q\n%s%s", code, n, len(probes),
			listPrefixes(t, s), out, errs)
	}
	limit, used := parseCosts(t, out)
	assert.True(t, used <= limit, "probe made %d calls, want at most the stated %d", used, limit)
	text, err := os.ReadFile(filepath.Join(dir, "default"))
	assert.True(t, err == nil && !strings.Contains(string(text), "0123456789abcdef0123456789abcdef"),
		"the cassette: %v, want one without the secret", err)
	assert.True(t, probes[0].row == behaviour.WireBodyEmptyAccepted, "probes[0] = %v, want the empty body of qrcodejumpget", probes[0].row)
	for _, p := range probes {
		inverse := "reject"
		if d, ok := p.row.Deviation(); ok && d.Closed() {
			inverse = "allow"
		}
		text := require.Value(json.Marshal(map[string]any{"behaviours": map[string]string{p.row.String(): inverse}}))(t)
		a := s.Admin("PUT", "/settings", string(text))
		require.True(t, a.Status == 200, "PUT /settings %s = %d %s, want 200", text, a.Status, a.Body)
		code, out, errs := runProbe(t, s.URL, filepath.Join(dir, p.row.String()), allFlags...)
		if code != exitDone || !strings.Contains(out, "\n"+p.row.String()+": DIFFERENT") || strings.Count(out, "DIFFERENT") != 1 ||
			len(listPrefixes(t, s)) > 0 {
			t.Errorf("probe with %s inverted: exit %d, rules left %q, want only this row DIFFERENT\n%s%s", p.row, code,
				listPrefixes(t, s), out, errs)
		}
	}
}

// TestProbe_SaysWhatItAsks verifies that the page of behaviours and a dry run describe what each row tests, and what a partial row omits.
func TestProbe_SaysWhatItAsks(t *testing.T) {
	for _, language := range []string{"en", "zh"} {
		page := require.Value(os.ReadFile("../../docs/" + language + "/behaviours.md"))(t)
		_, out, errs := runProbe(t, "http://127.0.0.1:1", "none", append([]string{"--dry-run", "--lang", language}, allFlags...)...)
		tag := reader(language).language()
		for _, p := range probes {
			question, omitted := catalog.Text("probe.asks."+p.row.String()).In(tag), ""
			if p.partial {
				omitted = catalog.Text("probe.leaves." + p.row.String()).In(tag)
			}
			for source, text := range map[string]string{"the page": string(page), "a dry run": out} {
				if !strings.Contains(text, question) || !strings.Contains(text, omitted) {
					t.Errorf("%s (%s) lacks the description of %s: %s %s\n%s", source, language, p.row, question, omitted, errs)
				}
			}
		}
	}
}

// TestProbe_ReadOnly verifies that a run with --read-only changes no rule, makes at most 20 calls and lists the rows that it omits.
func TestProbe_ReadOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed + conflictingRules})
	before := listPrefixes(t, s)
	file := filepath.Join(t.TempDir(), "out")
	code, out, errs := runProbe(t, s.URL, file, "--read-only")
	limit, used := parseCosts(t, out)
	assert.True(t, code == exitDone && used <= limit && limit <= 20 && strings.Contains(out, "0 publishes, no files; nothing is added"),
		"probe --read-only: exit %d, stated %d calls, made %d, want at most 20\n%s%s", code, limit, used, out, errs)
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "qrcodejumpadd") || strings.Contains(string(text), "qrcodejumppublish") ||
		strings.Contains(string(text), "qrcodejumpdelete") || !slices.Equal(before, listPrefixes(t, s)) {
		t.Errorf("probe --read-only changed rules (%v): before %q, after %q\n%s", err, before, listPrefixes(t, s), text)
	}
	n := strings.Count(out, ": not tested, requires a run without --read-only")
	assert.True(t, n != 0 && strings.Count(out, ": as documented here")+n+1 == len(probes),
		"probe --read-only prints %d omitted rows, want all that it does not test:\n%s", n, out)
	code, _, errs = runProbe(t, s.URL, file, "--read-only", "--refresh")
	assert.True(t, code == exitMisused, "probe --read-only --refresh: exit %d, want %d: %s", code, exitMisused, errs)
}

// conflictingRules are published rules of the account with prefixes that a run uses.
const conflictingRules = `rules:
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/case", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/again", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/unknown", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/links/", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/slash", path: pages/a/a, published: true}
`

// TestProbe_RefusesWhereRulesExist verifies that a run changes nothing if one of the accounts has a rule with a prefix that the run uses.
func TestProbe_RefusesWhereRulesExist(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed + conflictingRules})
	before := listPrefixes(t, s)
	for _, args := range [][]string{allFlags, {"--only", "rules.prefix.unknown"}, {"--only", "rules.prefix.case"}} {
		code, out, errs := runProbe(t, s.URL, filepath.Join(t.TempDir(), "out"), args...)
		assert.True(t, code != exitDone && !strings.Contains(out, "DIFFERENT") && strings.Contains(errs, "--below") &&
			strings.Contains(errs, "wxa0b1c2d3e4f50001 has rules that this run would"), "probe %q: exit %d\n%s%s", args, code, out, errs)
		after := listPrefixes(t, s)
		assert.True(t, len(before) == 5 && slices.Equal(before, after), "probe %q: rules before %q, after %q", args, before, after)
	}
	other := servertest.Start(t, servertest.Options{Seed: probeSeed +
		strings.ReplaceAll(strings.Replace(conflictingRules, "probe/case", "probe/owned", 1), "50001", "50002")})
	code, out, errs := runProbe(t, other.URL, filepath.Join(t.TempDir(), "out"), allFlags...)
	if code == exitDone || !strings.Contains(errs, "wxa0b1c2d3e4f50002 has rules") || len(listPrefixes(t, other)) != 5 {
		t.Errorf("probe with rules of the second account: exit %d, rules left %q, want an error and all 5\n%s%s", code,
			listPrefixes(t, other), out, errs)
	}
}

// TestProbe_SystemBusy verifies that a run deletes a rule whose add was executed and returned -1, even if the first deletes return -1.
func TestProbe_SystemBusy(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed})
	for _, faults := range [][]string{
		{`{"path":"/cgi-bin/wxopen/qrcodejumpadd","errcode":-1,"after":true}`},
		{`{"path":"/cgi-bin/wxopen/qrcodejumpadd","errcode":-1,"after":true,"probability":0.5}`,
			`{"path":"/cgi-bin/wxopen/qrcodejumpdelete","errcode":-1,"remaining":4}`},
		{`{"path":"/cgi-bin/wxopen/qrcodejumpadd","drop_after":true,"remaining":3}`,
			`{"path":"/cgi-bin/wxopen/qrcodejumpdelete","drop":true,"remaining":4}`},
		{`{"path":"/cgi-bin/wxopen/qrcodejumpadd","errcode":-1,"after":true,"remaining":2}`,
			`{"path":"/cgi-bin/wxopen/qrcodejumpdelete","errcode":-1,"after":true,"remaining":3}`},
	} {
		for _, fault := range faults {
			addFault(t, s, fault)
		}
		code, out, errs := runProbe(t, s.URL, filepath.Join(t.TempDir(), "out"), allFlags...)
		if code == exitDone || strings.Contains(out, "DIFFERENT") || len(listPrefixes(t, s)) > 0 {
			t.Errorf("probe with %s: exit %d, rules left %q, want none, no DIFFERENT\n%s%s", faults, code, listPrefixes(t, s), out, errs)
		}
		a := s.Admin("DELETE", "/emulator/faults", "")
		require.True(t, a.Status/100 == 2, "DELETE /emulator/faults = %d %s, want 2xx", a.Status, a.Body)
	}
	addFault(t, s, `{"path":"/cgi-bin/wxopen/qrcodejumpdelete","errcode":-1}`)
	code, out, errs := runProbe(t, s.URL, filepath.Join(t.TempDir(), "out"), "--only", "rules.add.path_slash")
	assert.True(t, code != exitDone && strings.Contains(errs, "still has these rules, delete them: https://coffee.example/probe/slash"),
		"probe whose deletes all fail: exit %d, want an error with the remaining rule\n%s%s", code, out, errs)
}

// TestProbe_SaysWhatItCouldNotAsk verifies that a run reports an undecided row, ends with an error, and keeps its cassette.
func TestProbe_SaysWhatItCouldNotAsk(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(probeSeed, "versions: [release]", "versions: []", 1)})
	file := filepath.Join(t.TempDir(), "out")
	code, out, errs := runProbe(t, s.URL, file, "--only", "rules.publish.again")
	const undecided = "rules.publish.again: undecided: /cgi-bin/wxopen/qrcodejumppublish returned"
	assert.True(t, code != exitDone && strings.Contains(out, undecided) && strings.Contains(out, "85074"),
		"probe of an unreleased account: exit %d, want an undecided row\n%s%s", code, out, errs)
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "/cgi-bin/wxopen/qrcodejumpdelete") {
		t.Errorf("the cassette has no call that deletes the rule: %v", err)
	}
	code, out, _ = runProbe(t, s.URL, file, "--dry-run")
	assert.True(t, code == exitDone && strings.Contains(out, "cost: at most "), "probe --dry-run: exit %d, want the cost: %s", code, out)
	for _, flag := range []string{"second-appid", "refresh", "service-appid"} {
		assert.Contains(t, out, "--"+flag, "rows that a run without --%s omits", flag)
	}
	code, _, errs = runProbe(t, s.URL, file, "--only", "rules.add.owned")
	assert.True(t, code == exitMisused && strings.Contains(errs, "--second-appid"),
		"probe of a row that requires a second account: exit %d, want %d: %s", code, exitMisused, errs)
}

// TestProbe_UndoesWhatItAddedWhenInterrupted interrupts a run at different calls and verifies that it deletes the rules that it added.
func TestProbe_UndoesWhatItAddedWhenInterrupted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed})
	platform := require.Value(url.Parse(s.URL))(t)
	for _, n := range []int{1, 2, 9, 14, 22, 32} {
		ctx, interrupt := context.WithCancel(t.Context())
		calls, added := 0, 0
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(platform) },
			ModifyResponse: func(*http.Response) error {
				if calls++; calls == n { // the server executed the call, the client receives no response
					added = len(listPrefixes(t, s))
					interrupt()
				}
				return nil
			}, ErrorLog: log.New(io.Discard, "", 0)}
		upstream := httptest.NewServer(proxy)
		code, out, errs := command(ctx, slices.Concat(probeFlags, allFlags,
			[]string{"--upstream", upstream.URL, "--out", filepath.Join(t.TempDir(), "out")})...)
		upstream.Close()
		interrupt()
		if code == exitDone || len(listPrefixes(t, s)) > 0 || n > 8 && added == 0 {
			t.Errorf("probe interrupted at call %d: exit %d, %d rules added, left %q, want none\n%s%s", n, code, added,
				listPrefixes(t, s), out, errs)
		}
	}
}
