package qrjumptest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// start starts a server with the demo accounts and returns its URL.
func start(t *testing.T) string {
	t.Helper()
	return qrjumptest.Start(t).URL
}

func connect(t *testing.T, url string, o client.Options) *client.Client {
	t.Helper()
	return require.Value(client.New(url, o))(t)
}

var shop = client.Options{AppID: "wxc0ffee0000000001", Secret: "c0ffee00000000000000000000000001"}

func TestClientRules_AddToDelete(t *testing.T) {
	url := start(t)
	c, ctx := connect(t, url+"/", shop), t.Context()
	check := func(operation string, err error) {
		t.Helper()
		require.NoErrorf(t, err, "%s", operation)
	}
	token, err := c.Wire.GetToken(ctx)
	check("token", err)
	assert.True(t, token.AccessToken != "" && token.ExpiresIn == 7200, "got the token %+v", token)
	stable, err := c.Wire.GetStableToken(ctx, false)
	check("stable token", err)
	c = connect(t, url, client.Options{AccessToken: stable.AccessToken})

	const prefix, link = "https://tea.example/t/", "https://tea.example/t/7?a=1&b=<2>"
	file, err := c.Wire.GetVerificationFile(ctx)
	check("file", err)
	assert.True(t, strings.HasSuffix(file.Name, ".txt") && len(file.Content) == 32, "got the file %+v", file)
	check("add", c.Wire.CreateRule(ctx, client.RuleDraft{Prefix: prefix, Path: "pages/t/t", TestLinks: []string{prefix + "x"}}))
	check("edit", c.Wire.UpdateRule(ctx, client.RuleDraft{Prefix: prefix, Path: "pages/u/u", Occupy: true, OpenVersion: client.OpenTrial}))
	list, err := c.Wire.ListRules(ctx, client.ListRequest{Prefixes: []string{prefix}})
	check("list", err)
	want := client.Rule{Prefix: prefix, Path: "pages/u/u", Occupy: true, OpenVersion: client.OpenTrial, TestLinks: []string{prefix + "x"}}
	assert.True(t, reflect.DeepEqual(list.Rules, []client.Rule{want}) && list.PublishesLeft == 100 && list.Open && list.Total == 3,
		"got %+v, want one rule %+v", list, want)
	check("publish", c.Wire.PublishRule(ctx, prefix))
	all, err := c.Wire.ListAllRules(ctx, "")
	check("list all", err)
	assert.True(t, len(all.Rules) == 3 && all.Rules[2].Prefix == prefix && all.Rules[2].Published, "got %+v, want the rule last", all.Rules)
	page, err := c.Wire.ListRules(ctx, client.ListRequest{Page: 3, PageSize: 1})
	check("list a page", err)
	assert.True(t, len(page.Rules) == 1 && page.Rules[0].Prefix == prefix && page.Total == 3, "got the page %+v", page)

	d, err := c.Scans.Resolve(ctx, client.ScanRequest{Text: link, User: "u"})
	check("resolve", err)
	assert.True(t, d.Action == client.OpenMiniProgram && d.AppID == shop.AppID && d.Matched != nil && d.Matched.Prefix == prefix &&
		d.ScanID != "" && len(d.Raw) != 0, "got the decision %+v", d)
	e, err := c.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: link}})
	check("explain", err)
	assert.True(t, len(e.Steps) == 1 && e.Steps[0].Verdict == "opens" && e.Steps[0].English != "" && e.Steps[0].Chinese != "",
		"got the steps %+v", e.Steps)
	assumed, err := c.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: "https://new.example/1"},
		Assume: []client.AssumedRule{{Owner: shop.AppID, Prefix: "https://new.example/", Path: "pages/n/n", Published: true}}})
	check("explain an assumption", err)
	assert.True(t, assumed.Action == client.OpenMiniProgram && assumed.Path != "", "got %+v under an assumption", assumed.Decision)
	check("delete", c.Wire.DeleteRule(ctx, prefix, ""))

	history, err := c.Rules.ListChanges(ctx, prefix)
	check("history", err)
	var actions []string
	for _, h := range history {
		actions = append(actions, h.Action)
	}
	assert.Equal(t, strings.Join(actions, " "), "delete publish edit add", "history")
}

func TestClientErrors_Typed(t *testing.T) {
	c := connect(t, start(t), shop)
	err := c.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: "nonsense", Path: "p"})
	w, ok := errors.AsType[*client.WireError](err)
	assert.True(t, ok && w.Code == 85066 && w.Message == "illegal prefix" && len(w.RID) == 26,
		"got %#v, want 85066 with separate message and request id", err)
	_, err = c.Accounts.Get(t.Context(), "nobody")
	p, ok := errors.AsType[*client.Problem](err)
	assert.True(t, ok && p.Status == http.StatusNotFound && p.Detail != "", "got %#v, want a problem 404", err)
	_, err = c.Scans.Resolve(t.Context(), client.ScanRequest{Text: "x", Source: "fax"})
	p, ok = errors.AsType[*client.Problem](err)
	assert.True(t, ok && p.Status == http.StatusUnprocessableEntity, "got %#v, want a problem 422", err)
}

func TestClientAdmin_AllCalls(t *testing.T) {
	c, ctx := connect(t, start(t), shop), t.Context()
	accounts, err := c.Accounts.List(ctx, "", 1)
	require.True(t, err == nil && len(accounts) == 1 && accounts[0].AppID == shop.AppID, "Accounts.List = %+v, %v", accounts, err)
	account, err := c.Accounts.Get(ctx, shop.AppID)
	require.True(t, err == nil && account.Members["bob"] == "trial" && account.VerificationFile.Name != "",
		"Accounts.Get = %+v, %v", account, err)
	stored, err := c.Rules.List(ctx, client.StoredRuleQuery{Owner: shop.AppID})
	assert.True(t, err == nil && len(stored) == 2 && stored[0].PublishedAt != nil && stored[1].PublishedAt == nil,
		"got the rules %+v, %v", stored, err)
	rest, err := c.Rules.List(ctx, client.StoredRuleQuery{After: stored[0].ID, Limit: 1})
	assert.True(t, err == nil && len(rest) == 1 && rest[0].ID == stored[1].ID, "got %+v, %v after the first rule", rest, err)
	require.NoError(t, c.Wire.CreateRule(ctx, client.RuleDraft{Prefix: "https://tea.example/", Path: "p"}))
	checks, err := c.Verifications.ListChecks(ctx, client.VerificationQuery{Owner: shop.AppID, Limit: 1})
	assert.True(t, err == nil && len(checks) == 1 && checks[0].OK && checks[0].Prefix == "https://tea.example/",
		"got the checks %+v, %v", checks, err)
	require.NoError(t, c.Settings.Update(ctx, map[string]any{"publish_quota": 7}))
	s, err := c.Settings.Get(ctx)
	assert.True(t, err == nil && string(s["publish_quota"]) == "7" && string(s["rule_limit"]) == "100", "got the settings %s, %v", s, err)
	key, err := c.ScanKeys.Create(ctx, client.ScanKey{Name: "app", Namespace: "n"})
	require.True(t, err == nil && key != "", "got the key %q, %v", key, err)
	keys, err := c.ScanKeys.List(ctx)
	assert.True(t, err == nil && len(keys) == 1 && keys[0].Name == "app" && keys[0].Namespace == "n" && keys[0].CreatedAt != nil,
		"got the keys %+v, %v", keys, err)
	assert.NoError(t, c.ScanKeys.Delete(ctx, "app"))
}

func TestClientHosts_TrustAndDeny(t *testing.T) {
	c, ctx := connect(t, start(t), shop), t.Context()
	require.NoError(t, c.Domains.Set(ctx, "bad.example", "denied"))
	if list, err := c.Domains.List(ctx); err != nil || len(list) != 1 || list[0].Host != "bad.example" || list[0].Status != "denied" ||
		list[0].UpdatedAt.IsZero() {
		t.Errorf("Domains.List = %+v, %v, want bad.example denied", list, err)
	}
	require.NoError(t, c.Domains.Delete(ctx, "bad.example"))
	list, err := c.Domains.List(ctx)
	assert.True(t, err == nil && len(list) == 0, "Domains.List after Delete = %+v, %v, want none", list, err)
}

func TestClientEmulator_AllCalls(t *testing.T) {
	c, ctx := connect(t, start(t), shop), t.Context()
	before, err := c.Emulator.GetClock(ctx)
	require.NoError(t, err)
	require.NoError(t, errors.Join(c.Emulator.Advance(ctx, 36*time.Hour), c.Emulator.FreezeClock(ctx)))
	if after, err := c.Emulator.GetClock(ctx); err != nil || !after.Frozen || after.Now.Sub(before.Now) < 36*time.Hour {
		t.Errorf("got the clock %+v, %v, from %+v", after, err, before)
	}
	require.NoError(t, c.Emulator.CreateFault(ctx, client.Fault{Path: "/cgi-bin/wxopen/qrcodejumpdownload", ErrCode: 886001,
		Remaining: new(1)}))
	w, ok := errors.AsType[*client.WireError](assert.ErrorOf(c.Wire.GetVerificationFile(ctx)))
	assert.True(t, ok && w.Code == 886001, "got %v, want the fault", err)
	require.NoError(t, c.Emulator.CreateFault(ctx, client.Fault{Path: "/cgi-bin/wxopen/qrcodejumpadd", ErrCode: -1, After: true,
		Remaining: new(1)}))
	rule := client.RuleDraft{Prefix: "https://coffee.example/after/", Path: "p", OpenVersion: 3}
	w, ok = errors.AsType[*client.WireError](c.Wire.CreateRule(ctx, rule))
	assert.True(t, ok && w.Code == -1, "got %v, want the fault", err)
	err = c.Wire.CreateRule(ctx, rule)
	w, ok = errors.AsType[*client.WireError](err)
	assert.True(t, ok && w.Code == 85071, "got %v, want 85071: the call with the fault created the rule", err)
	assert.NoError(t, errors.Join(c.Emulator.DeleteFaults(ctx), c.Emulator.Reset(ctx)))
}

func TestClientStream_OrderedResults(t *testing.T) {
	c := connect(t, start(t), client.Options{})
	n := 0
	requests := func(yield func(client.ScanRequest) bool) {
		for _, text := range []string{"https://coffee.example/t/1", "hello", "https://x.example/"} {
			n++
			if !yield(client.ScanRequest{Text: text}) {
				return
			}
		}
	}
	var actions []string
	for d, err := range c.Scans.ResolveStream(t.Context(), requests) {
		require.NoError(t, err)
		actions = append(actions, d.Action)
	}
	assert.True(t, slices.Equal(actions, []string{client.OpenMiniProgram, client.ShowText, client.OpenURL}) && n == 3,
		"got %v for %d requests, want one decision for each of 3, in order", actions, n)
	// A caller that stops reading ends the call.
	for range c.Scans.ResolveStream(t.Context(), requests) {
		break
	}
}

func TestClientStream_Truncated(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"action":"show_text"}`+"\n")
	}))
	defer srv.Close()
	requests := slices.Values([]client.ScanRequest{{Text: "a"}, {Text: "b"}})
	var last error
	n := 0
	for _, err := range connect(t, srv.URL, client.Options{}).Scans.ResolveStream(t.Context(), requests) {
		n, last = n+1, err
	}
	_, ok := errors.AsType[*client.Unreachable](last)
	assert.True(t, ok && n == 2, "got %d results and %v, want a decision and a broken stream", n, last)
}

// fixedResponses is a transport that returns the bodies in order with status 200, and the last one to all further requests.
type fixedResponses struct {
	bodies []string
	calls  atomic.Int64
}

func newFixedResponses(bodies ...string) *fixedResponses { return &fixedResponses{bodies: bodies} }

func (s *fixedResponses) client() *http.Client { return &http.Client{Transport: s} }

func (s *fixedResponses) RoundTrip(*http.Request) (*http.Response, error) {
	n := int(s.calls.Add(1)) - 1
	w := httptest.NewRecorder()
	_, _ = io.WriteString(w, s.bodies[min(n, len(s.bodies)-1)])
	return w.Result(), nil
}

// TestClientToken_RenewedOnce verifies that the client requests a new token once if the server rejects its token, and keeps the new one. It
// does not replace a token of the caller.
func TestClientToken_RenewedOnce(t *testing.T) {
	const okToken, ok = `{"access_token":"T1","expires_in":7200}`, `{"errcode":0,"errmsg":"ok"}`
	for _, code := range []string{"40001", "40014", "42001"} {
		rejected := `{"errcode":` + code + `,"errmsg":"no"}`
		s := newFixedResponses(okToken, rejected, okToken, ok)
		o := shop
		o.HTTP = s.client()
		c := connect(t, "http://x", o)
		err := c.Wire.PublishRule(t.Context(), "p")
		assert.True(t, err == nil && s.calls.Load() == 4, "%s: got %v after %d calls, want success after 4", code, err, s.calls.Load())
		err = c.Wire.PublishRule(t.Context(), "p")
		assert.True(t, err == nil && s.calls.Load() == 5, "%s: got %v after %d calls, want the token kept", code, err, s.calls.Load())
		s = newFixedResponses(okToken, rejected, okToken, rejected)
		o.HTTP = s.client()
		err = connect(t, "http://x", o).Wire.PublishRule(t.Context(), "p")
		assert.True(t, err != nil && s.calls.Load() == 4, "%s: got %v after %d calls, want an error after 4", code, err, s.calls.Load())
		s = newFixedResponses(rejected)
		c = connect(t, "http://x", client.Options{AccessToken: "theirs", HTTP: s.client()})
		err = c.Wire.PublishRule(t.Context(), "p")
		assert.True(t, err != nil && s.calls.Load() == 1, "%s: got %v after %d calls, want an error after one", code, err, s.calls.Load())
	}
}

func TestClientRetry_TooFrequent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tooFrequent = `{"errcode":44990,"errmsg":"slow"}`
		s := newFixedResponses(tooFrequent, tooFrequent, `{"errcode":0,"errmsg":"ok"}`)
		c := connect(t, "http://x", client.Options{AccessToken: "t", RateRetries: 2, HTTP: s.client()})
		began := time.Now()
		if err := c.Wire.PublishRule(t.Context(), "p"); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("got %v after %v, want success after two pauses of a second", err, time.Since(began))
		}
		c = connect(t, "http://x", client.Options{AccessToken: "t", HTTP: newFixedResponses(tooFrequent).client()})
		assert.True(t, c.Wire.PublishRule(t.Context(), "p") != nil, "PublishRule without retries succeeds, want errcode 44990")
	})
}

func TestClientCall_Limits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c := connect(t, "http://x", client.Options{AccessToken: "topsecret", HTTP: &http.Client{Transport: hang}})
		began := time.Now()
		err := c.Wire.PublishRule(t.Context(), "p")
		u, ok := errors.AsType[*client.Unreachable](err)
		assert.True(t, ok && u.URL == "http://x" && errors.Is(err, context.DeadlineExceeded) && time.Since(began) == 15*time.Second,
			"got %v after %v, want a timeout after 15 s", err, time.Since(began))
		assert.True(t, !strings.Contains(err.Error(), "topsecret"), "the error has the access token: %v", err)
	})
	endless := roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(zeros{}), Request: r}, nil
	})
	c := connect(t, "http://x", client.Options{HTTP: &http.Client{Transport: endless}})
	_, err := c.Wire.GetToken(t.Context())
	assert.True(t, err != nil && strings.Contains(err.Error(), "longer than"), "GetToken with an endless response = %v, want an error", err)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestClientCall_IgnoresRedirect(t *testing.T) {
	var redirected atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected.Store(true) }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	c := connect(t, srv.URL, client.Options{AccessToken: "t", AdminToken: "a"})
	_, adminErr := c.Accounts.Get(t.Context(), "x")
	if err := c.Wire.PublishRule(t.Context(), "p"); err == nil || adminErr == nil || redirected.Load() {
		t.Errorf("got %v and %v, request to the other server: %v, want errors and no request", err, adminErr, redirected.Load())
	}
}

func TestClientDecode_PlatformResponses(t *testing.T) {
	for name, test := range map[string]struct {
		body    string
		message string
		rid     string
	}{
		"a blank message": {`{"errcode":85076,"errmsg":" rid: 5f87eb8a-6ee66b1b-75f60c88"}`, "", "5f87eb8a-6ee66b1b-75f60c88"},
		"a comma before the rid": {`{"errcode":48001,"errmsg":"api unauthorized, rid: 614e959d-00000000-00000001"}`, "api unauthorized",
			"614e959d-00000000-00000001"},
		"the old hint": {`{"errcode":40001,"errmsg":"invalid credential hint: [SVVrfa0627vr22]"}`,
			"invalid credential hint: [SVVrfa0627vr22]", ""},
		"no request id":      {`{"errcode":-1,"errmsg":"system error"}`, "system error", ""},
		"a rid that is none": {`{"errcode":-1,"errmsg":"system error rid: x"}`, "system error rid: x", ""},
		"text that has its colon": {`{"errcode":40164,"errmsg":"invalid ip 1.2.3.4, not in whitelist rid: 614e959d-00000000-00000001"}`,
			"invalid ip 1.2.3.4, not in whitelist", "614e959d-00000000-00000001"},
	} {
		c := connect(t, client.Platform, client.Options{AccessToken: "t", HTTP: newFixedResponses(test.body).client()})
		w, ok := errors.AsType[*client.WireError](c.Wire.PublishRule(t.Context(), "p"))
		assert.True(t, ok && w.Message == test.message && w.RID == test.rid,
			"%s: got %+v, want message %q and rid %q", name, w, test.message, test.rid)
	}
	for _, body := range []string{"<html>bad gateway", `[]`, ``} {
		c := connect(t, client.Platform, client.Options{AccessToken: "t", HTTP: newFixedResponses(body).client()})
		assert.True(t, c.Wire.PublishRule(t.Context(), "p") != nil, "PublishRule with the response %q succeeds, want an error", body)
	}
}

func TestClientRules_ListPagination(t *testing.T) {
	page := func(first, n int) (rules string) {
		for i := range n {
			rules += `,{"prefix":"` + strings.Repeat("p", first+i+1) + `","path":"x","state":2}`
		}
		return `{"errcode":0,"total_count":250,"qrcodejump_open":1,"qrcodejump_pub_quota":100,"rule_list":[` + rules[1:] + `]}`
	}
	s := newFixedResponses(page(150, 100), page(0, 200), page(200, 50))
	c := connect(t, "http://x", client.Options{AccessToken: "t", HTTP: s.client()})
	list, err := c.Wire.ListAllRules(t.Context(), "")
	assert.True(t, err == nil && len(list.Rules) == 250 && s.calls.Load() == 3,
		"got %d rules, %v after %d calls, want 250 after 3", len(list.Rules), err, s.calls.Load())
}

func TestNewClient_InvalidAddress(t *testing.T) {
	for _, address := range []string{"", "tea.example", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "http://x\n"} {
		assert.True(t, assert.ErrorOf(client.New(address, client.Options{})) != nil, "New(%q) succeeds, want an error", address)
	}
}
