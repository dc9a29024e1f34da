package landing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/replica"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// fakeRules implements Hosts. It counts the calls, and returns err, if set.
type fakeRules struct {
	list      []rules.Rule
	err       error
	fileReads int            // calls of RulesOfHost
	hostReads map[string]int // calls of HasRules by host
}

func (f *fakeRules) RulesOfHost(_ context.Context, host string, limit int) (found []rules.Rule, err error) {
	f.fileReads++
	for _, r := range f.list {
		if r.Prefix.Host == host && len(found) < limit && f.err == nil {
			found = append(found, r)
		}
	}
	return found, f.err
}

func (f *fakeRules) HasRules(_ context.Context, host string) (bool, error) {
	f.hostReads[host]++
	return f.err == nil && slices.ContainsFunc(f.list, func(r rules.Rule) bool { return r.Prefix.Host == host }), f.err
}

// newGateway returns a gateway over rules. The account "off" has jumping switched off, the account "young" has no release.
func newGateway(list []rules.Rule) *Gateway {
	index, directory := index.New(), replica.NewAccounts()
	for _, appid := range []string{"a", "b", "c", "off", "young"} {
		account := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, JumpOpen: appid != "off",
			Versions: []accounts.Version{accounts.Release}}
		if appid == "young" {
			account.Versions = nil
		}
		directory.Set(account, nil)
	}
	for _, r := range list {
		index.Set(r)
	}
	s := settings.Defaults()
	s.AppleAppIDs = settings.AppleAppIDs{"ABCDE12345.com.example.app"}
	s.AndroidApps = settings.AndroidApps{{Package: "com.example.app", Fingerprints: []string{strings.Repeat("AB:", 31) + "AB"}}}
	return &Gateway{
		Resolve: scan.Resolver{Finder: index, Accounts: directory}.Resolve, Account: directory.Account,
		Prefixes: func() []string { return []string{"HTTPS://Q.EXAMPLE/X/"} }, Settings: settings.NewLive(s),
		Links: func() []codes.Link { return nil }, Scheme: func(*http.Request) string { return "https" },
		Rules: &fakeRules{list: list, hostReads: map[string]int{}}, LinkHost: func(string, string) bool { return false },
		Now: func() time.Time { return testTime }, RealNow: func() time.Time { return testTime },
		ClientIP: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }, Log: slog.New(slog.DiscardHandler),
	}
}

func rule(t testing.TB, id int64, owner, prefix string, published bool) rules.Rule {
	t.Helper()
	p := require.Value(rules.ParsePrefix(prefix, rules.Ordinary, false))(t)
	return rules.Rule{ID: id, Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: p, Path: "p", Published: published}
}

// appleFile is the checked part of apple-app-site-association.
type appleFile struct {
	AppLinks struct {
		Details []struct {
			AppIDs     []string
			Components []map[string]any
		}
	} `json:"applinks"`
}

func (g *Gateway) getFile(t testing.TB, host, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "https://"+host+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
	return w
}

// componentPatterns caches patterns of the component grammar as regular expressions.
var componentPatterns sync.Map

// matchComponents interprets components as Apple documents them: the first component whose parts all match decides.
func matchComponents(components []map[string]any, link string) bool {
	rest := strings.TrimPrefix(link, "https://h.example")
	path, query, _ := strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	matches := func(pattern any, text string) bool {
		if pattern == nil {
			return true
		}
		expression, ok := componentPatterns.Load(pattern)
		if !ok {
			// In the grammar, * is any text and ? is one character.
			inner := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern.(string)))
			expression = regexp.MustCompile(`^(?s:` + inner + `)$`)
			componentPatterns.Store(pattern, expression)
		}
		return expression.(*regexp.Regexp).MatchString(text)
	}
	for _, c := range components {
		if matches(c["/"], path) && matches(c["?"], query) {
			return c["exclude"] != true
		}
	}
	return false
}

// TestAppLinks_AgreesWithScan compares the Apple file of random rule sets with the decision of a scan, for random links.
func TestAppLinks_AgreesWithScan(t *testing.T) {
	t.Parallel()
	const links = 40
	sets := testscope.Select(3000, 300)
	g := rand.New(rand.NewPCG(11, 7))
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	randomLink := func() string {
		var s strings.Builder
		s.WriteString("https://h.example")
		for range g.IntN(4) {
			s.WriteString(pick("/a", "/b", "/A", "/ab", "/", "/a.b", "/(x)", "/%2f"))
		}
		s.WriteString(pick("", "/"))
		if g.IntN(3) == 0 {
			s.WriteString("?" + pick("", "x", "x=1", "x=12", "x=1&y=2", "y=2", "X=1"))
		}
		return s.String()
	}
	opened, excluded := 0, 0
	for n := range sets {
		var list []rules.Rule
		seen := map[string]bool{}
		for i := range 1 + g.IntN(9) {
			prefix := randomLink()
			r := rule(t, int64(i+1), pick("a", "a", "b", "c", "off", "young"), prefix, g.IntN(3) > 0)
			if !seen[r.Prefix.Key] {
				seen[r.Prefix.Key] = true
				list = append(list, r)
			}
		}
		gw := newGateway(list)
		w := gw.getFile(t, "h.example", applePath)
		var file appleFile
		var components []map[string]any
		if w.Code == 200 {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &file))
			components = file.AppLinks.Details[0].Components
		}
		for i := range links {
			link := randomLink()
			if i%2 == 0 {
				link = list[g.IntN(len(list))].Prefix.Text + pick("", "/", "a", "?", "?x=1", "2", "&y")
			}
			d := gw.Resolve(scan.Request{Text: link, At: testTime})
			got := matchComponents(components, link)
			if want := opens(d); got != want {
				var b strings.Builder
				for _, r := range list {
					fmt.Fprintf(&b, "\n  %s %s published %v", r.Owner, r.Prefix.Text, r.Published)
				}
				t.Fatalf("set %d, link %s: file = %v, scan = %v\nrules %s\nfile %s", n, link, got, want, b.String(), w.Body)
			}
			if got {
				opened++
			}
		}
		for _, c := range components {
			if c["exclude"] == true {
				excluded++
			}
		}
	}
	assert.True(t, opened >= sets && excluded >= sets/10,
		"%d opened links, %d excluding components: the random sets are too uniform", opened, excluded)
	t.Logf("%d rule sets, %d links, %d opened, %d excluding components", sets, sets*links, opened, excluded)
}

func TestAppLinks_ExcludesUnpublishedLongerRule(t *testing.T) {
	t.Parallel()
	g := newGateway([]rules.Rule{
		rule(t, 1, "a", "https://h.example/", true), rule(t, 2, "a", "https://h.example/draft/", false),
		rule(t, 3, "a", "https://h.example/draft/old", true),
		rule(t, 4, "b", "https://h.example/draft/b/", true), rule(t, 5, "b", "https://h.example/shop?id=1&k=2", true),
		rule(t, 6, "a", "https://h.example/s/$(lang)/", false),
		rule(t, 7, "off", "https://h.example/off/", true), rule(t, 8, "a", "https://h.example/x#y", false),
		rule(t, 9, "a", "http://h.example/draft/http", true),
	})
	w := g.getFile(t, "h.example", applePath)
	want := `{"applinks":{"details":[{"appIDs":["ABCDE12345.com.example.app"],"components":[` +
		`{"/":"/s/?(lang)/*","exclude":true},{"/":"/draft/old"},{"/":"/draft/b/*"},{"/":"/draft/*","exclude":true},{"/":"/off/*","exclude":true},{"/":"/*"}]}]}}` + "\n"
	assert.True(t, w.Body.String() == want, "got  %swant %s", w.Body, want)
	h := w.Header()
	assert.True(t, w.Code == 200 && h.Get("Content-Type") == "application/json" && h.Get("Cache-Control") == "public, max-age=300" &&
		h.Get("ETag") != "" && h.Get("Location") == "", "%d %v", w.Code, h)
	cached := g.getFile(t, "h.example", applePath, "If-None-Match", `"x", W/`+h.Get("ETag"))
	assert.True(t, cached.Code == 304 && cached.Body.Len() == 0,
		"request with a matching ETag: status %d, want 304: %s", cached.Code, cached.Body)
}

func TestAppLinks_AndroidQueryParameters(t *testing.T) {
	t.Parallel()
	g := newGateway([]rules.Rule{
		rule(t, 1, "a", "https://h.example/p/", true), rule(t, 2, "a", "https://h.example/p/x?id=1&k=2", false),
		rule(t, 3, "b", "https://h.example/shop?id=1&k=2", true), rule(t, 4, "b", "https://h.example/other?half", true),
	})
	w := g.getFile(t, "h.example", androidPath)
	want := `[{"relation":["delegate_permission/common.handle_all_urls"],"target":{"namespace":"android_app","package_name":"com.example.app","sha256_cert_fingerprints":["` +
		strings.Repeat("AB:", 31) +
		`AB"]},"relation_extensions":{"delegate_permission/common.handle_all_urls":{"dynamic_app_link_components":[` +
		`{"/":"/shop","?":{"id":"1","k":"2*"}},{"/":"/other"},{"/":"/p/*"}]}}}]` + "\n"
	assert.True(t, w.Code == 200 && w.Body.String() == want, "%d\ngot  %swant %s", w.Code, w.Body, want)
}

func TestAppLinks_CodeHost(t *testing.T) {
	t.Parallel()
	w := newGateway(nil).getFile(t, "q.example", applePath)
	want := `"components":[{"/":"/x/???????????????????","caseSensitive":false}]`
	assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), want), "status %d, want 200: %s", w.Code, w.Body)
}

// TestAppLinks_TemplateTexts verifies that links of templates open the app with any GTIN, and that the Android file splits a query into its
// parameters.
func TestAppLinks_TemplateTexts(t *testing.T) {
	t.Parallel()
	g := newGateway(nil)
	g.Links = func() []codes.Link {
		return []codes.Link{{Host: "id.example", Path: "/01/??????????????/21/?????????", Query: "98=???????????????????"},
			{Host: "other.example", Path: "/?????"}}
	}
	for file, want := range map[string]string{
		applePath: `"components":[{"/":"/01/??????????????/21/?????????","?":"98=???????????????????","caseSensitive":false}]`,
		androidPath: `"dynamic_app_link_components":[{"/":"/01/??????????????/21/?????????",` +
			`"?":{"98":"???????????????????"}}]`} {
		w := g.getFile(t, "id.example", file)
		assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), want), "%s: status %d, want 200: %s", file, w.Code, w.Body)
	}
}

func TestAppLinks_NotFoundWithoutAppOrLink(t *testing.T) {
	t.Parallel()
	draft := []rules.Rule{rule(t, 1, "a", "https://h.example/", false)}
	plain := []rules.Rule{rule(t, 1, "a", "http://h.example/", true)}
	for what, g := range map[string]*Gateway{"nothing is published": newGateway(draft), "no https": newGateway(plain)} {
		w := g.getFile(t, "h.example", applePath)
		assert.True(t, w.Code == 404, "%s: status %d, want 404: %s", what, w.Code, w.Body)
	}
	g := newGateway([]rules.Rule{rule(t, 1, "a", "https://h.example/", true)})
	s := g.Settings.Get()
	s.AppleAppIDs = nil
	g.Settings.Set(s)
	assert.Equal(t, g.getFile(t, "h.example", applePath).Code, 404, "Apple file without an app")
	assert.Equal(t, g.getFile(t, "h.example", androidPath).Code, 200, "Android file")
	var many []rules.Rule
	for i := range int64(3000) {
		many = append(many, rule(t, i+1, "a", fmt.Sprintf("https://h.example/%s/%d", strings.Repeat("x", 40), i), true))
	}
	g = newGateway(many)
	var logs bytes.Buffer
	g.Log = slog.New(slog.NewTextHandler(&logs, nil))
	if w := g.getFile(t, "h.example", androidPath); w.Code != 404 || !strings.Contains(logs.String(), "use a host with fewer rules") {
		t.Errorf("oversized file: status %d, want 404: %s", w.Code, logs.String())
	}
}

// TestAppLinks_NoRedundantEntries verifies that the file contains no component that an earlier one implies.
func TestAppLinks_NoRedundantEntries(t *testing.T) {
	t.Parallel()
	list := []rules.Rule{rule(t, 1, "a", "https://h.example/", true)}
	for i := range int64(100) {
		list = append(list, rule(t, i+2, "a", fmt.Sprintf("https://h.example/%d/", i), i%10 > 0))
	}
	var file appleFile
	require.NoError(t, json.Unmarshal(newGateway(list).getFile(t, "h.example", applePath).Body.Bytes(), &file))
	n := len(file.AppLinks.Details[0].Components)
	assert.True(t, n == 11 && slices.Equal(file.AppLinks.Details[0].AppIDs, []string{"ABCDE12345.com.example.app"}),
		"%d components, want 11 and the app", n)
}

// TestAppLinks_OversizedFileRetryThrottled verifies that a host whose file is too long is retried and logged only once per interval,
// because computing it is expensive.
func TestAppLinks_OversizedFileRetryThrottled(t *testing.T) {
	t.Parallel()
	var list []rules.Rule
	for n := range 2500 {
		list = append(list, rule(t, int64(n+1), "a", fmt.Sprintf("https://coffee.example/%050d/", n), true))
	}
	g := newGateway(list)
	store := g.Rules.(*fakeRules)
	var logs bytes.Buffer
	now := testTime
	g.Log, g.RealNow = slog.New(slog.NewTextHandler(&logs, nil)), func() time.Time { return now }
	for range 5 {
		w := g.getFile(t, "coffee.example", applePath)
		assert.True(t, w.Code == 404, "status %d, want 404: %s", w.Code, w.Body)
	}
	assert.True(t, store.fileReads == 1 && strings.Count(logs.String(), "fewer rules") == 1, "%d reads, want 1 with one log entry: %s",
		store.fileReads, logs.String())
	now = now.Add(linksFresh)
	g.getFile(t, "coffee.example", applePath)
	assert.Equal(t, store.fileReads, 2, "reads after the interval")
}

// TestAppLinks_StoreOutage verifies that during a storage outage the last file is served, or 503 if there is none. A cache would take a 404
// as a host without links.
func TestAppLinks_StoreOutage(t *testing.T) {
	t.Parallel()
	list := []rules.Rule{rule(t, 1, "a", "https://coffee.example/t/", true)}
	g := newGateway(list)
	store := g.Rules.(*fakeRules)
	errUnavailable := errors.New("no answer")
	store.err = errUnavailable
	now := testTime
	g.RealNow = func() time.Time { return now }
	for _, path := range []string{applePath, androidPath} {
		w := g.getFile(t, "coffee.example", path)
		assert.True(t, w.Code == 503 && w.Header().Get("Retry-After") != "", "unknown host: %d %v %s, want 503", w.Code, w.Header(), w.Body)
	}
	store.err = nil
	w := g.getFile(t, "coffee.example", androidPath)
	require.True(t, w.Code == 200, "status %d, want 200: %s", w.Code, w.Body)
	previous := g.getFile(t, "coffee.example", androidPath).Body.String()
	store.err, now = errUnavailable, now.Add(linksFresh)
	w = g.getFile(t, "coffee.example", androidPath)
	assert.True(t, w.Code == 200 && w.Body.String() == previous, "a file that was: status %d, want 200: %s", w.Code, w.Body)
	w = g.getFile(t, "coffee.example", applePath)
	assert.True(t, w.Code == 503, "file that was never computed: status %d, want 503: %s", w.Code, w.Body)
	store.err, now = nil, now.Add(linksFresh)
	w = g.getFile(t, "coffee.example", applePath)
	assert.True(t, w.Code == 200, "file after the outage: status %d, want 200: %s", w.Code, w.Body)
}

// TestAppLinks_UnknownHostsThrottled verifies that requests for unknown hosts are limited before they reach the database, and do not evict
// a host with rules from the cache.
func TestAppLinks_UnknownHostsThrottled(t *testing.T) {
	t.Parallel()
	g := newGateway([]rules.Rule{rule(t, 1, "a", "https://h.example/x/", true)})
	reads := g.Rules.(*fakeRules).hostReads
	current := g.Settings.Get()
	for n := range int(current.LandingPageRateLimit) + 5 {
		want := 404 // from the API
		if n >= int(current.LandingPageRateLimit) {
			want = 429
		}
		require.Equal(t, g.getFile(t, fmt.Sprintf("made-up-%d.example", n), "/").Code, want, "host %d", n)
	}
	assert.Equal(t, len(reads), int(current.LandingPageRateLimit), "hosts read from the store")
	if w := g.getFile(t, "made-up-0.example", "/"); w.Code != 404 || reads["made-up-0.example"] != 1 {
		t.Errorf("repeated unknown host: status %d, %d reads; want 404 with one read", w.Code, reads["made-up-0.example"])
	}
	current.LandingPageRateLimit = settings.Unlimited
	g.Settings = settings.NewLive(current)
	for n := range 2*maxHosts + 2 {
		if n%1000 == 0 {
			g.getFile(t, "h.example", "/other")
		}
		g.getFile(t, fmt.Sprintf("m%d.example", n), "/")
	}
	n := reads["h.example"]
	assert.True(t, n == 1, "%d reads of a host with rules, want 1", n)
	assert.True(t, len(g.hosts.withoutRules) <= maxHosts, "%d hosts are cached, want at most %d", len(g.hosts.withoutRules), maxHosts)
}
