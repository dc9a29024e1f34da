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

// asProber are the flags of a run as the account, and everything those of one that asks everything.
var (
	asProber   = []string{"probe", "--pause", "0s", "--appid", "wxa0b1c2d3e4f50001", "--secret", "0123456789abcdef0123456789abcdef"}
	everything = []string{"--refresh", "--second-appid", "wxa0b1c2d3e4f50002", "--second-secret", "0123456789abcdef0123456789abcde2",
		"--service-appid", "wxa0b1c2d3e4f50003", "--service-secret", "0123456789abcdef0123456789abcde3"}
)

// probed runs probe against a server, and returns how it ended and what it said.
func probed(t *testing.T, upstream, out string, more ...string) (code int, tr, errs string) {
	t.Helper()
	return command(t.Context(), slices.Concat(asProber, []string{"--upstream", upstream, "--out", out}, more)...)
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

// spent returns the calls that a run stated at its begin, and those that it made.
func spent(t *testing.T, tr string) (stated, made int) {
	t.Helper()
	found := regexp.MustCompile(`(?s)^cost: at most (\d+) calls.*\nused: (\d+) calls?, \d+ publish(?:es)?; `).FindStringSubmatch(tr)
	require.True(t, found != nil, "the run states no cost:\n%s", tr)
	stated, _ = strconv.Atoi(found[1])
	made, _ = strconv.Atoi(found[2])
	return stated, made
}

// Behaviour(rules.publish.again) Behaviour(rules.edit.keeps_links) Behaviour(rules.edit.unchecked) Behaviour(token.stable.soon)
// Behaviour(codes.gate).
func TestProbe_EachRowTurned(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed})
	dir := t.TempDir()
	code, tr, errs := probed(t, s.URL, filepath.Join(dir, "nothing"), everything...)
	if n := strings.Count(tr, ": as documented here"); code != exitDone || n != len(probes) || len(left(t, s)) > 0 {
		t.Fatalf("probe without a turned row: exit %d, %d of %d rows as here, rules left %q\n%s%s", code, n, len(probes), left(t, s), tr,
			errs)
	}
	stated, made := spent(t, tr)
	assert.True(t, made <= stated, "probe made %d calls, want at most the %d that it stated", made, stated)
	text, err := os.ReadFile(filepath.Join(dir, "nothing"))
	assert.True(t, err == nil && !strings.Contains(string(text), "0123456789abcdef0123456789abcdef"),
		"%v, or the secret is in the cassette", err)
	assert.True(t, probes[0].row == behaviour.WireBodyEmptyAccepted, "probes[0] = %v, want the empty body of qrcodejumpget", probes[0].row)
	for _, p := range probes {
		turned := "reject"
		if d, deviates := p.row.Deviation(); deviates && d.Closed() {
			turned = "allow"
		}
		text, err := json.Marshal(map[string]any{"behaviours": map[string]string{p.row.String(): turned}})
		require.NoError(t, err)
		a := s.Admin("PUT", "/settings", string(text))
		require.True(t, a.Status == 200, "PUT /settings %s = %d %s, want 200", text, a.Status, a.Body)
		code, tr, errs := probed(t, s.URL, filepath.Join(dir, p.row.String()), everything...)
		if code != exitDone || !strings.Contains(tr, "\n"+p.row.String()+": DIFFERENT") || strings.Count(tr, "DIFFERENT") != 1 ||
			len(left(t, s)) > 0 {
			t.Errorf("probe with %s turned: exit %d, rules left %q\n%s%s", p.row, code, left(t, s), tr, errs)
		}
	}
}

// The table of the documents and a dry run say what each row asks, and the partial ones what they do not ask.
func TestProbe_SaysWhatItAsks(t *testing.T) {
	for _, language := range []string{"en", "zh"} {
		page, err := os.ReadFile("../../docs/" + language + "/behaviours.md")
		require.NoError(t, err)
		_, tr, errs := probed(t, "http://127.0.0.1:1", "none", append([]string{"--dry-run", "--lang", language}, everything...)...)
		for _, p := range probes {
			asks, leaves := catalog.Text("probe.asks."+p.row.String()), ""
			tag := reader(language).language()
			if p.partial {
				leaves = catalog.Text("probe.leaves." + p.row.String()).In(tag)
			}
			for where, text := range map[string]string{"the page": string(page), "a dry run": tr} {
				if !strings.Contains(text, asks.In(tag)) || !strings.Contains(text, leaves) {
					t.Errorf("%s (%s) lacks what %s asks: %s %s\n%s", where, language, p.row, asks.In(tag), leaves, errs)
				}
			}
		}
	}
}

func TestProbe_ReadOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed + rulesBelow})
	before := left(t, s)
	out := filepath.Join(t.TempDir(), "out")
	code, tr, errs := probed(t, s.URL, out, "--read-only")
	stated, made := spent(t, tr)
	assert.True(t, code == exitDone && made <= stated && stated <= 20 && strings.Contains(tr, "0 publishes, no files; nothing is added"),
		"probe --read-only: exit %d, stated %d calls, made %d\n%s%s", code, stated, made, tr, errs)
	text, err := os.ReadFile(out)
	if err != nil || strings.Contains(string(text), "qrcodejumpadd") || strings.Contains(string(text), "qrcodejumppublish") ||
		strings.Contains(string(text), "qrcodejumpdelete") || !slices.Equal(before, left(t, s)) {
		t.Errorf("probe --read-only changed rules (%v): before %q, after %q\n%s", err, before, left(t, s), text)
	}
	n := strings.Count(tr, ": not tested, requires a run without --read-only")
	assert.True(t, n != 0 && strings.Count(tr, ": as documented here")+n+1 == len(probes),
		"probe --read-only does not say which rows it leaves out:\n%s", tr)
	code, _, errs = probed(t, s.URL, out, "--read-only", "--refresh")
	assert.True(t, code == exitMisused, "probe --read-only --refresh: exit %d, want %d: %s", code, exitMisused, errs)
}

// rulesBelow are published rules of the account with names that a run uses.
const rulesBelow = `rules:
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/case", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/again", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/unknown", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/links/", path: pages/a/a, published: true}
  - {owner: wxa0b1c2d3e4f50001, prefix: "https://coffee.example/probe/slash", path: pages/a/a, published: true}
`

// A run adds and deletes nothing where one of the accounts has a rule with one of its names.
func TestProbe_RefusesWhereRulesExist(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed + rulesBelow})
	before := left(t, s)
	for _, args := range [][]string{everything, {"--only", "rules.prefix.unknown"}, {"--only", "rules.prefix.case"}} {
		code, tr, errs := probed(t, s.URL, filepath.Join(t.TempDir(), "out"), args...)
		assert.True(t, code != exitDone && !strings.Contains(tr, "DIFFERENT") && strings.Contains(errs, "--below") &&
			strings.Contains(errs, "wxa0b1c2d3e4f50001 has rules that this run would"), "probe %q: exit %d\n%s%s", args, code, tr, errs)
		after := left(t, s)
		assert.True(t, len(before) == 5 && slices.Equal(before, after), "probe %q: rules before %q, after %q", args, before, after)
	}
	other := servertest.Start(t, servertest.Options{Seed: probeSeed +
		strings.ReplaceAll(strings.Replace(rulesBelow, "probe/case", "probe/owned", 1), "50001", "50002")})
	code, tr, errs := probed(t, other.URL, filepath.Join(t.TempDir(), "out"), everything...)
	if code == exitDone || !strings.Contains(errs, "wxa0b1c2d3e4f50002 has rules") || len(left(t, other)) != 5 {
		t.Errorf("probe with rules of the second account: exit %d, left %q\n%s%s", code, left(t, other), tr, errs)
	}
}

// An add that is done and answered with -1 is undone, also where the first deletes are answered with -1.
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
			a := s.Admin("POST", "/emulator/faults", fault)
			require.True(t, a.Status/100 == 2, "POST /emulator/faults %s = %d %s, want 2xx", fault, a.Status, a.Body)
		}
		code, tr, errs := probed(t, s.URL, filepath.Join(t.TempDir(), "out"), everything...)
		if code == exitDone || strings.Contains(tr, "DIFFERENT") || len(left(t, s)) > 0 {
			t.Errorf("probe with %s: exit %d, rules left %q, want none and no row otherwise\n%s%s", faults, code, left(t, s), tr, errs)
		}
		a := s.Admin("DELETE", "/emulator/faults", "")
		require.True(t, a.Status/100 == 2, "DELETE /emulator/faults = %d %s, want 2xx", a.Status, a.Body)
	}
	a := s.Admin("POST", "/emulator/faults", `{"path":"/cgi-bin/wxopen/qrcodejumpdelete","errcode":-1}`)
	require.True(t, a.Status/100 == 2, "POST /emulator/faults = %d %s, want 2xx", a.Status, a.Body)
	code, tr, errs := probed(t, s.URL, filepath.Join(t.TempDir(), "out"), "--only", "rules.add.path_slash")
	assert.True(t, code != exitDone && strings.Contains(errs, "still has these rules, delete them: https://coffee.example/probe/slash"),
		"probe whose deletes all fail: exit %d, want the rule that is left named\n%s%s", code, tr, errs)
}

// What could not be asked is said, ends with a failure, and leaves its cassette.
func TestProbe_SaysWhatItCouldNotAsk(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(probeSeed, "versions: [release]", "versions: []", 1)})
	out := filepath.Join(t.TempDir(), "out")
	code, tr, errs := probed(t, s.URL, out, "--only", "rules.publish.again")
	assert.True(t, code != exitDone && strings.Contains(tr, "rules.publish.again: undecided: /cgi-bin/wxopen/qrcodejumppublish returned") &&
		strings.Contains(tr, "85074"), "exit %d\n%s%s", code, tr, errs)
	if text, err := os.ReadFile(out); err != nil || !strings.Contains(string(text), "/cgi-bin/wxopen/qrcodejumpdelete") {
		t.Errorf("%v: the cassette has not that the rule was deleted", err)
	}
	code, tr, _ = probed(t, s.URL, out, "--dry-run")
	assert.True(t, code == exitDone && strings.Contains(tr, "cost: at most "), "a dry run: exit %d, %s", code, tr)
	for _, want := range []string{"second-appid", "refresh", "service-appid"} {
		_, tr, _ := probed(t, s.URL, out, "--dry-run")
		assert.Contains(t, tr, "--"+want, "a run without --%s does not say what it cannot ask", want)
	}
	code, _, errs = probed(t, s.URL, out, "--only", "rules.add.owned")
	assert.True(t, code == exitMisused && strings.Contains(errs, "--second-appid"),
		"a row that wants a second account: exit %d, %s", code, errs)
}

// A run that is interrupted deletes what it added, whichever call it makes just then.
func TestProbe_UndoesWhatItAddedWhenInterrupted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: probeSeed})
	platform, err := url.Parse(s.URL)
	require.NoError(t, err)
	for _, n := range []int{1, 2, 9, 14, 22, 32} {
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
		code, tr, errs := command(ctx, slices.Concat(asProber, everything,
			[]string{"--upstream", upstream.URL, "--out", filepath.Join(t.TempDir(), "out")})...)
		upstream.Close()
		interrupt()
		if code == exitDone || len(left(t, s)) > 0 || n > 8 && met == 0 {
			t.Errorf("interrupted at call %d: exit %d, %d rules were there, left %q\n%s%s", n, code, met, left(t, s), tr, errs)
		}
	}
}
