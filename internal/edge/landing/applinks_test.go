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

// someRules implements Hosts.
type someRules []rules.Rule

func (l someRules) RulesOfHost(_ context.Context, host string, limit int) (found []rules.Rule, err error) {
	for _, r := range l {
		if r.Prefix.Host == host && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

func (l someRules) HasRules(ctx context.Context, host string) (bool, error) {
	found, err := l.RulesOfHost(ctx, host, 1)
	return len(found) > 0, err
}

// ruled is a gateway over rules; the account "off" has jumping switched off, "young" no release.
func ruled(list []rules.Rule) *Gateway {
	index, directory := index.New(), replica.NewAccounts()
	for _, appid := range []string{"a", "b", "c", "off", "young"} {
		one := accounts.Account{AppID: appid, Kind: accounts.MiniProgram, JumpOpen: appid != "off",
			Versions: []accounts.Version{accounts.Release}}
		if appid == "young" {
			one.Versions = nil
		}
		directory.Set(one, nil)
	}
	for _, r := range list {
		index.Set(r)
	}
	s := settings.Defaults()
	s.AppleAppIDs = settings.AppleAppIDs{"ABCDE12345.com.example.app"}
	s.AndroidApps = settings.AndroidApps{{Package: "com.example.app", Fingerprints: []string{strings.Repeat("AB:", 31) + "AB"}}}
	return &Gateway{
		Resolve: scan.Resolver{Finder: index, Accounts: directory}.Resolve, Account: directory.Account,
		Prefixes: func() []string { return []string{"HTTPS://Q.EXAMPLE/X/"} }, Rules: someRules(list), Settings: settings.NewLive(s),
		Now: func() time.Time { return began }, RealNow: func() time.Time { return began },
		ClientIP: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") }, Log: slog.New(slog.DiscardHandler),
	}
}

func rule(t testing.TB, id int64, owner, prefix string, published bool) rules.Rule {
	t.Helper()
	p, err := rules.ParsePrefix(prefix, rules.Ordinary, false)
	require.NoError(t, err)
	return rules.Rule{ID: id, Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: p, Path: "p", Published: published}
}

// apple is the part of the file that is read here.
type apple struct {
	AppLinks struct {
		Details []struct {
			AppIDs     []string
			Components []map[string]any
		}
	} `json:"applinks"`
}

func (g *Gateway) file(t testing.TB, host, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", "https://"+host+path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
	return w
}

var patterns sync.Map // of the grammar, as regular expressions

// wanted interprets components as the documentation of the grammar says it: from the top, the first whose every part matches decides.
func wanted(components []map[string]any, link string) bool {
	rest := strings.TrimPrefix(link, "https://h.example")
	path, query, _ := strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	matches := func(pattern any, text string) bool {
		if pattern == nil {
			return true
		}
		expression, known := patterns.Load(pattern)
		if !known {
			// In the grammar, * is any text and ? is one character.
			inner := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(pattern.(string)))
			expression = regexp.MustCompile(`^(?s:` + inner + `)$`)
			patterns.Store(pattern, expression)
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

// The file opens what a scan opens, under any rules.
func TestAppLinks_AgreesWithScan(t *testing.T) {
	t.Parallel()
	const links = 40
	sets := testscope.Choose(3000, 300)
	g := rand.New(rand.NewPCG(11, 7))
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	text := func() string {
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
			prefix := text()
			r := rule(t, int64(i+1), pick("a", "a", "b", "c", "off", "young"), prefix, g.IntN(3) > 0)
			if !seen[r.Prefix.Key] {
				seen[r.Prefix.Key] = true
				list = append(list, r)
			}
		}
		gw := ruled(list)
		w := gw.file(t, "h.example", applePath)
		var file apple
		var components []map[string]any
		if w.Code == 200 {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &file))
			components = file.AppLinks.Details[0].Components
		}
		for i := range links {
			link := text()
			if i%2 == 0 {
				link = list[g.IntN(len(list))].Prefix.Text + pick("", "/", "a", "?", "?x=1", "2", "&y")
			}
			d := gw.Resolve(scan.Request{Text: link, At: began})
			got := wanted(components, link)
			if want := opens(d); got != want {
				var b strings.Builder
				for _, r := range list {
					fmt.Fprintf(&b, "\n  %s %s published %v", r.Owner, r.Prefix.Text, r.Published)
				}
				t.Fatalf("set %d: link %s: the file says %v, the scan %v\nrules %s\nfile %s", n, link, got, want, b.String(), w.Body)
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
		"%d links opened, %d lines excluded: the generator is too narrow", opened, excluded)
	t.Logf("%d rule sets, %d links, %d opened, %d lines that exclude", sets, sets*links, opened, excluded)
}

func TestAppLinks_ExcludesUnpublishedLongerRule(t *testing.T) {
	t.Parallel()
	g := ruled([]rules.Rule{
		rule(t, 1, "a", "https://h.example/", true), rule(t, 2, "a", "https://h.example/draft/", false),
		rule(t, 3, "a", "https://h.example/draft/old", true),
		rule(t, 4, "b", "https://h.example/draft/b/", true), rule(t, 5, "b", "https://h.example/shop?id=1&k=2", true),
		rule(t, 6, "a", "https://h.example/s/$(lang)/", false),
		rule(t, 7, "off", "https://h.example/off/", true), rule(t, 8, "a", "https://h.example/x#y", false),
		rule(t, 9, "a", "http://h.example/draft/http", true),
	})
	w := g.file(t, "h.example", applePath)
	want := `{"applinks":{"details":[{"appIDs":["ABCDE12345.com.example.app"],"components":[` +
		`{"/":"/s/?(lang)/*","exclude":true},{"/":"/draft/old"},{"/":"/draft/b/*"},{"/":"/draft/*","exclude":true},{"/":"/off/*","exclude":true},{"/":"/*"}]}]}}` + "\n"
	assert.True(t, w.Body.String() == want, "got  %swant %s", w.Body, want)
	h := w.Header()
	assert.True(t, w.Code == 200 && h.Get("Content-Type") == "application/json" && h.Get("Cache-Control") == "public, max-age=300" &&
		h.Get("ETag") != "" && h.Get("Location") == "", "%d %v", w.Code, h)
	again := g.file(t, "h.example", applePath, "If-None-Match", `"x", W/`+h.Get("ETag"))
	assert.True(t, again.Code == 304 && again.Body.Len() == 0, "again: %d %s", again.Code, again.Body)
}

func TestAppLinks_AndroidQueryParameters(t *testing.T) {
	t.Parallel()
	g := ruled([]rules.Rule{
		rule(t, 1, "a", "https://h.example/p/", true), rule(t, 2, "a", "https://h.example/p/x?id=1&k=2", false),
		rule(t, 3, "b", "https://h.example/shop?id=1&k=2", true), rule(t, 4, "b", "https://h.example/other?half", true),
	})
	w := g.file(t, "h.example", androidPath)
	want := `[{"relation":["delegate_permission/common.handle_all_urls"],"target":{"namespace":"android_app","package_name":"com.example.app","sha256_cert_fingerprints":["` +
		strings.Repeat("AB:", 31) +
		`AB"]},"relation_extensions":{"delegate_permission/common.handle_all_urls":{"dynamic_app_link_components":[` +
		`{"/":"/shop","?":{"id":"1","k":"2*"}},{"/":"/other"},{"/":"/p/*"}]}}}]` + "\n"
	assert.True(t, w.Code == 200 && w.Body.String() == want, "%d\ngot  %swant %s", w.Code, w.Body, want)
}

func TestAppLinks_CodeHost(t *testing.T) {
	t.Parallel()
	w := ruled(nil).file(t, "q.example", applePath)
	want := `"components":[{"/":"/x/???????????????????","caseSensitive":false}]`
	assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), want), "%d %s", w.Code, w.Body)
}

// Issue 34, 1: texts by template that are links open the app too, whatever GTIN they have; Android takes a query by its parameters.
func TestAppLinks_TemplateTexts(t *testing.T) {
	t.Parallel()
	g := ruled(nil)
	g.Links = func() []codes.Link {
		return []codes.Link{{Host: "id.example", Path: "/01/??????????????/21/?????????", Query: "98=???????????????????"},
			{Host: "other.example", Path: "/?????"}}
	}
	for file, want := range map[string]string{
		applePath: `"components":[{"/":"/01/??????????????/21/?????????","?":"98=???????????????????","caseSensitive":false}]`,
		androidPath: `"dynamic_app_link_components":[{"/":"/01/??????????????/21/?????????",` +
			`"?":{"98":"???????????????????"}}]`} {
		w := g.file(t, "id.example", file)
		assert.True(t, w.Code == 200 && strings.Contains(w.Body.String(), want), "%s: %d %s", file, w.Code, w.Body)
	}
}

func TestAppLinks_NotFoundWithoutAppOrLink(t *testing.T) {
	t.Parallel()
	draft := []rules.Rule{rule(t, 1, "a", "https://h.example/", false)}
	plain := []rules.Rule{rule(t, 1, "a", "http://h.example/", true)}
	for what, g := range map[string]*Gateway{"nothing is published": ruled(draft), "no https": ruled(plain)} {
		w := g.file(t, "h.example", applePath)
		assert.True(t, w.Code == 404, "%s: %d %s", what, w.Code, w.Body)
	}
	g := ruled([]rules.Rule{rule(t, 1, "a", "https://h.example/", true)})
	s := g.Settings.Get()
	s.AppleAppIDs = nil
	g.Settings.Set(s)
	assert.Equal(t, g.file(t, "h.example", applePath).Code, 404, "no app")
	assert.Equal(t, g.file(t, "h.example", androidPath).Code, 200, "the other's")
	var many []rules.Rule
	for i := range int64(3000) {
		many = append(many, rule(t, i+1, "a", fmt.Sprintf("https://h.example/%s/%d", strings.Repeat("x", 40), i), true))
	}
	g = ruled(many)
	var logs bytes.Buffer
	g.Log = slog.New(slog.NewTextHandler(&logs, nil))
	if w := g.file(t, "h.example", androidPath); w.Code != 404 || !strings.Contains(logs.String(), "use a host with fewer rules") {
		t.Errorf("too long: %d %s", w.Code, logs.String())
	}
}

// The lines say no more than they must.
func TestAppLinks_NoRedundantEntries(t *testing.T) {
	t.Parallel()
	list := []rules.Rule{rule(t, 1, "a", "https://h.example/", true)}
	for i := range int64(100) {
		list = append(list, rule(t, i+2, "a", fmt.Sprintf("https://h.example/%d/", i), i%10 > 0))
	}
	var file apple
	require.NoError(t, json.Unmarshal(ruled(list).file(t, "h.example", applePath).Body.Bytes(), &file))
	n := len(file.AppLinks.Details[0].Components)
	assert.True(t, n == 11 && slices.Equal(file.AppLinks.Details[0].AppIDs, []string{"ABCDE12345.com.example.app"}), "%d lines", n)
}

// countedRules says how often it was asked.
type countedRules struct {
	someRules
	asked int
}

func (l *countedRules) RulesOfHost(ctx context.Context, host string, limit int) ([]rules.Rule, error) {
	l.asked++
	return l.someRules.RulesOfHost(ctx, host, limit)
}

// A file that is too long is work as well: it is tried once in a while, and told of then.
func TestAppLinks_OversizedFileRetryThrottled(t *testing.T) {
	t.Parallel()
	var list []rules.Rule
	for n := range 2500 {
		list = append(list, rule(t, int64(n+1), "a", fmt.Sprintf("https://coffee.example/%050d/", n), true))
	}
	g := ruled(list)
	many := &countedRules{someRules: list}
	var logs bytes.Buffer
	now := began
	g.Rules, g.Log, g.RealNow = many, slog.New(slog.NewTextHandler(&logs, nil)), func() time.Time { return now }
	for range 5 {
		w := g.file(t, "coffee.example", applePath)
		assert.True(t, w.Code == 404, "%d %s", w.Code, w.Body)
	}
	assert.True(t, many.asked == 1 && strings.Count(logs.String(), "fewer rules") == 1, "asked %d times; %s", many.asked, logs.String())
	now = now.Add(linksFresh)
	g.file(t, "coffee.example", applePath)
	assert.True(t, many.asked == 2, "asked %d times", many.asked)
}

// awayRules are rules that cannot be read while away is set.
type awayRules struct {
	someRules
	away bool
}

var errAway = errors.New("no answer")

func (l *awayRules) RulesOfHost(ctx context.Context, host string, limit int) ([]rules.Rule, error) {
	if l.away {
		return nil, errAway
	}
	return l.someRules.RulesOfHost(ctx, host, limit)
}

func (l *awayRules) HasRules(ctx context.Context, host string) (bool, error) {
	if l.away {
		return false, errAway
	}
	return l.someRules.HasRules(ctx, host)
}

// A cache of the files for telephones understands a 404 as "no links", and what the API says for a file: while the rules cannot be read
// they get the file as it was, or are asked to come again.
func TestAppLinks_StoreOutage(t *testing.T) {
	t.Parallel()
	list := []rules.Rule{rule(t, 1, "a", "https://coffee.example/t/", true)}
	g := ruled(list)
	stored := &awayRules{someRules: list, away: true}
	now := began
	g.Rules, g.RealNow = stored, func() time.Time { return now }
	for _, path := range []string{applePath, androidPath} {
		w := g.file(t, "coffee.example", path)
		assert.True(t, w.Code == 503 && w.Header().Get("Retry-After") != "", "nobody knows the host: %d %v %s", w.Code, w.Header(), w.Body)
	}
	stored.away = false
	w := g.file(t, "coffee.example", androidPath)
	require.True(t, w.Code == 200, "%d %s", w.Code, w.Body)
	was := g.file(t, "coffee.example", androidPath).Body.String()
	stored.away, now = true, now.Add(linksFresh)
	w = g.file(t, "coffee.example", androidPath)
	assert.True(t, w.Code == 200 && w.Body.String() == was, "a file that was: %d %s", w.Code, w.Body)
	w = g.file(t, "coffee.example", applePath)
	assert.True(t, w.Code == 503, "a file that never was: %d %s", w.Code, w.Body)
	stored.away, now = false, now.Add(linksFresh)
	w = g.file(t, "coffee.example", applePath)
	assert.True(t, w.Code == 200, "after the outage: %d %s", w.Code, w.Body)
}

// askedHosts counts questions about hosts.
type askedHosts struct {
	someRules
	asked map[string]int
}

func (l askedHosts) HasRules(ctx context.Context, host string) (bool, error) {
	l.asked[host]++
	return l.someRules.HasRules(ctx, host)
}

// A caller that makes up hosts is asked for patience before the database is asked, and pushes no host that has rules out of memory.
func TestAppLinks_UnknownHostsThrottled(t *testing.T) {
	t.Parallel()
	g := ruled([]rules.Rule{rule(t, 1, "a", "https://h.example/x/", true)})
	hosts := askedHosts{g.Rules.(someRules), map[string]int{}}
	g.Rules = hosts
	limited := g.Settings.Get()
	for n := range int(limited.LandingPageRateLimit) + 5 {
		want := 404 // the API's answer
		if n >= int(limited.LandingPageRateLimit) {
			want = 429
		}
		require.Equal(t, g.file(t, fmt.Sprintf("made-up-%d.example", n), "/").Code, want, "host %d", n)
	}
	assert.Equal(t, len(hosts.asked), int(limited.LandingPageRateLimit), "hosts were asked for")
	if w := g.file(t, "made-up-0.example", "/"); w.Code != 404 || hosts.asked["made-up-0.example"] != 1 {
		t.Errorf("a host that was just asked for: %d, asked %v", w.Code, hosts.asked["made-up-0.example"])
	}
	limited.LandingPageRateLimit = settings.Unlimited
	g.Settings = settings.NewLive(limited)
	for n := range 2*maxHosts + 2 {
		if n%1000 == 0 {
			g.file(t, "h.example", "/other")
		}
		g.file(t, fmt.Sprintf("m%d.example", n), "/")
	}
	n := hosts.asked["h.example"]
	assert.True(t, n == 1, "a host with rules was asked for %d times in a moment", n)
	assert.True(t, len(g.hosts.withoutRules) <= maxHosts, "%d hosts are remembered", len(g.hosts.withoutRules))
}
