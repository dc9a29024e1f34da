package accounts_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// platform makes a third-party platform with the secret "secret of APPID".
func (w *world) platform(appid, eventURL string, grants ...accounts.Grant) accounts.PlatformCredentials {
	w.t.Helper()
	c := accounts.Component{AppID: appid, EventURL: eventURL, Grants: grants}
	require.NoError(w.t, w.PutComponent(w.t.Context(), c, "secret of "+appid, "tok", aesKey))
	return accounts.PlatformCredentials{AppID: appid, Secret: "secret of " + appid, IP: netip.MustParseAddr("203.0.113.1")}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

// agreed makes a person agree and returns the authorization_code.
func (w *world) agreed(component, appid string, sets ...int) string {
	w.t.Helper()
	text, err := w.agree(component, appid, false, sets...)
	require.NoError(w.t, err)
	return text
}

func (w *world) agree(component, appid string, move bool, sets ...int) (string, error) {
	w.t.Helper()
	pre := must[accounts.Issued](w.t)(w.CreatePreAuthCode(w.t.Context(), component))
	code, err := w.Agree(w.t.Context(), accounts.Agreement{Component: component, PreAuthCode: pre.Text, AppID: appid, Sets: sets,
		ForceExclusive: move})
	return code.Text, err
}

func (w *world) setsOf(component, appid string) []int {
	w.t.Helper()
	a, err := w.Authorization(w.t.Context(), component, appid)
	if code(err) == 61003 {
		return nil
	}
	require.NoError(w.t, err)
	return a.Sets
}

// Contract: rules 3.2. Every second around each boundary.
func TestPlatformCredentials_ExpiryBoundaries(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mini("wxa")
	isv := w.platform("wxc", "")
	ticket := must[string](t)(w.NewTicket(ctx, "wxc"))
	first := must[accounts.Issued](t)(w.PlatformToken(ctx, isv, ticket))
	same(t, "expires_in", first.ExpiresIn, 7200)
	pre := must[accounts.Issued](t)(w.CreatePreAuthCode(ctx, "wxc"))
	same(t, "expires_in of the pre_auth_code", pre.ExpiresIn, 1800)
	auth := w.agreed("wxc", "wxa", 18)
	code1 := w.agreed("wxc", "wxa", 18)
	got := must[accounts.Authorization](t)(w.TradeAuthCode(ctx, "wxc", code1))
	same(t, "expires_in of the authorizer's token", got.Token.ExpiresIn, 7200)
	const replacedAfter = 10 * time.Minute // tokens are replaced then
	identify := func(text string) int {
		_, err := w.Identify(ctx, text)
		return code(err)
	}
	is := func(what string, got, want int) {
		t.Helper()
		assert.Equal(t, got, want, "%s, %s", w.now.Format(time.StampMilli), what)
	}
	preAuth := func() int {
		if err := w.CheckPreAuthCode(ctx, "wxc", pre.Text); err != nil {
			return 1
		}
		return 0
	}
	for _, moment := range []time.Duration{accounts.AuthCodeLife, accounts.PreAuthLife, accounts.TokenLife, accounts.TicketLife} {
		around(moment, func(since time.Duration) {
			w.set(begin.Add(since))
			is("the component token", identify(first.Text), before(since, accounts.TokenLife, 0, expired))
			is("the authorizer's token", identify(got.Token.Text), before(since, accounts.TokenLife, 0, expired))
			is("the pre_auth_code", preAuth(), before(since, accounts.PreAuthLife, 0, 1))
			if since >= accounts.AuthCodeLife {
				_, err := w.TradeAuthCode(ctx, "wxc", auth)
				is("the authorization_code", code(err), 61010)
			}
			if since >= accounts.TicketLife {
				_, err := w.PlatformToken(ctx, isv, ticket)
				is("the ticket", code(err), 61005)
			}
		})
	}

	// Until their last moment they work.
	w.set(begin)
	w.set(begin.Add(accounts.AuthCodeLife - time.Millisecond))
	_, err := w.TradeAuthCode(ctx, "wxc", auth)
	is("the authorization_code in its last moment", code(err), 0)
	around(accounts.TokenOverlap, func(since time.Duration) {
		w.set(begin.Add(replacedAfter - time.Millisecond + since))
		is("the authorizer's token that was replaced", identify(got.Token.Text), before(since, accounts.TokenOverlap, 0, replaced))
	})
	w.set(begin.Add(replacedAfter))
	must[accounts.Issued](t)(w.PlatformToken(ctx, isv, ticket))
	around(accounts.TokenOverlap, func(since time.Duration) {
		w.set(begin.Add(replacedAfter + since))
		is("the component token that was replaced", identify(first.Text), before(since, accounts.TokenOverlap, 0, replaced))
	})
	for since := accounts.TicketLife - 3*time.Second; since < accounts.TicketLife; since += time.Second {
		w.set(begin.Add(since))
		_, err := w.PlatformToken(ctx, isv, ticket)
		is("the ticket before its end", code(err), 0)
	}
	w.set(begin.Add(accounts.TicketLife - time.Millisecond))
	_, err = w.PlatformToken(ctx, isv, ticket)
	is("the ticket in its last moment", code(err), 0)
}

func TestComponentToken_SecretAndTicket(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mini("wxa")
	isv, other := w.platform("wxc", ""), w.platform("wxd", "")
	ticket, foreign := must[string](t)(w.NewTicket(ctx, "wxc")), must[string](t)(w.NewTicket(ctx, "wxd"))
	for _, c := range []struct {
		name        string
		credentials accounts.PlatformCredentials
		ticket      string
		want        int
	}{
		{"all is well", isv, ticket, 0},
		{"a ticket may be traded again", isv, ticket, 0},
		{"another platform's ticket", isv, foreign, 61006},
		{"another platform with this ticket", other, ticket, 61006},
		{"no ticket", isv, "", 61006},
		{"no component_appid", accounts.PlatformCredentials{Secret: "x"}, ticket, 41018},
		{"no secret", accounts.PlatformCredentials{AppID: "wxc"}, ticket, 41004},
		{"nobody, no secret, no ticket", accounts.PlatformCredentials{AppID: "nobody"}, "", 40013},
		{"an account, no secret, no ticket", accounts.PlatformCredentials{AppID: "wxa"}, "", 61011},
		{"another secret, no ticket", accounts.PlatformCredentials{AppID: "wxc", Secret: "x"}, "", 40125},
		{"another secret", accounts.PlatformCredentials{AppID: "wxc", Secret: "secret of wxd"}, ticket, 40125},
		{"an endless secret", accounts.PlatformCredentials{AppID: "wxc", Secret: strings.Repeat("x", 257)}, ticket, 40125},
		{"nobody", accounts.PlatformCredentials{AppID: "nobody", Secret: "x"}, ticket, 40013},
		{"an account", accounts.PlatformCredentials{AppID: "wxa", Secret: "secret of wxa"}, ticket, 61011},
	} {
		_, err := w.PlatformToken(ctx, c.credentials, c.ticket)
		assert.True(t, code(err) == c.want, "%s: %v, want %d", c.name, err, c.want)
	}
}

// Contract: decisions, design 8: a permission that is missing is no fault of
// the token.
func TestAuthorizerToken_GrantedPermissions(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mini("wxa")
	isv := w.platform("wxc", "")
	own := w.plain(credentials("wxa"))
	component := must[accounts.Issued](t)(w.PlatformToken(ctx, isv, must[string](t)(w.NewTicket(ctx, "wxc"))))
	got := must[accounts.Authorization](t)(w.TradeAuthCode(ctx, "wxc", w.agreed("wxc", "wxa", 33, 18, 33)))
	same(t, "sets", fmt.Sprint(got.Sets), "[18 33]")

	_, err := w.AuthenticateWithin(ctx, component.Text, nil)
	same(t, "a component token where an account's belongs", code(err), 48001)
	for _, text := range []string{own.Text, got.Token.Text} {
		_, err := w.AuthenticatePlatform(ctx, text)
		same(t, "an account's token where a component's belongs", code(err), 61014)
	}
	caller := must[accounts.Caller](t)(w.AuthenticateWithin(ctx, got.Token.Text, nil))
	same(t, "account", caller.AppID, "wxa")
	same(t, "component", caller.Component, "wxc")
	for set, want := range map[int]int{0: 0, 18: 0, 33: 0, 3: 61007, 46: 61007} {
		same(t, fmt.Sprint("set ", set), code(caller.Granted(set)), want)
	}
	caller = must[accounts.Caller](t)(w.AuthenticateWithin(ctx, own.Text, nil))
	same(t, "a set that the account needs for itself", code(caller.Granted(46)), 0)

	// A new authorisation ends the token from before; fewer sets count with the next.
	before := got.Token.Text
	got = must[accounts.Authorization](t)(w.TradeAuthCode(ctx, "wxc", w.agreed("wxc", "wxa", 33)))
	w.wantAnswer("a token from before a new authorisation", before, 40001)
	caller = must[accounts.Caller](t)(w.AuthenticateWithin(ctx, got.Token.Text, nil))
	same(t, "a set that was taken back", code(caller.Granted(18)), 61007)

	require.NoError(t, w.Revoke(ctx, "wxc", "wxa"))
	w.wantAnswer("a token whose grant is gone", got.Token.Text, 61003)
	_, err = w.RefreshAuthorizerToken(ctx, "wxc", "wxa", got.RefreshToken)
	same(t, "a refresh without a grant", code(err), 61003)
	assert.ErrorIs(t, w.Revoke(ctx, "wxc", "wxa"), accounts.ErrNoGrant, "revoked twice")
	// Another authorisation does not bring old tokens back.
	again := must[accounts.Authorization](t)(w.TradeAuthCode(ctx, "wxc", w.agreed("wxc", "wxa", 18)))
	w.wantAnswer("a token of the earlier grant", got.Token.Text, 40001)
	w.wantAnswer("a token of the new grant", again.Token.Text, 0)
	assert.True(t, again.RefreshToken != got.RefreshToken, "the refresh token of the earlier grant came back")
	for text, want := range map[string]int{got.RefreshToken: 61023, "refreshtoken@@@x": 61023, "": 61023, again.RefreshToken: 0} {
		a, err := w.RefreshAuthorizerToken(ctx, "wxc", "wxa", text)
		same(t, "refresh with "+text, code(err), want)
		if want == 0 {
			same(t, "refresh token", a.RefreshToken, again.RefreshToken)
		}
	}
}

func TestAuthorizationCode_SingleUsePerPlatform(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mini("wxa")
	w.platform("wxc", "")
	w.platform("wxd", "")
	pre := must[accounts.Issued](t)(w.CreatePreAuthCode(ctx, "wxc"))
	agree := func(component, text string) error {
		_, err := w.Agree(ctx, accounts.Agreement{Component: component, PreAuthCode: text, AppID: "wxa", Sets: []int{33}})
		return err
	}
	invalid := func(what string, err error) {
		t.Helper()
		_, ok := errors.AsType[accounts.Invalid](err)
		assert.True(t, ok, "%s: %v", what, err)
	}
	invalid("another platform's pre_auth_code", agree("wxd", pre.Text))
	invalid("no pre_auth_code", agree("wxc", ""))
	require.NoError(t, agree("wxc", pre.Text))
	invalid("a pre_auth_code used twice", agree("wxc", pre.Text))
	_, err := w.Agree(ctx, accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa"})
	invalid("nothing", err)
	text := w.agreed("wxc", "wxa", 33)
	invalid("an authorization_code as a pre_auth_code", agree("wxc", text))
	for _, c := range []struct {
		name, component, text string
		want                  int
	}{
		{"another platform's", "wxd", text, 61009},
		{"one that nobody got", "wxc", "queryauthcode@@@x", 61009},
		{"a pre_auth_code", "wxc", pre.Text, 61009},
		{"the right one", "wxc", text, 0},
		{"used twice", "wxc", text, 61010},
	} {
		_, err := w.TradeAuthCode(ctx, c.component, c.text)
		assert.True(t, code(err) == c.want, "%s: %v, want %d", c.name, err, c.want)
	}
	// Many at once: one gets it.
	text = w.agreed("wxc", "wxa", 33)
	var wg sync.WaitGroup
	var got [8]int
	for i := range got {
		wg.Go(func() {
			_, err := w.TradeAuthCode(ctx, "wxc", text)
			got[i] = code(err)
		})
	}
	wg.Wait()
	slices.Sort(got[:])
	same(t, "answers", fmt.Sprint(got), "[0 61010 61010 61010 61010 61010 61010 61010]")
}

// Contract: rules 3.3: set 18 is with one platform at a time.
func TestExclusivePermissionSet_OnePlatform(t *testing.T) {
	w := newWorld(t)
	w.mini("wxa")
	w.platform("wxc", "")
	w.platform("wxd", "")
	w.agreed("wxc", "wxa", 18, 33)
	_, err := w.agree("wxd", "wxa", false, 18)
	taken, ok := errors.AsType[accounts.ExclusiveConflict](err)
	assert.True(t, ok && taken.By == "wxc", "got %v, want that wxc has it", err)
	w.agreed("wxd", "wxa", 33) // one that many may have
	require.NoError(t, assert.ErrorOf(w.agree("wxd", "wxa", true, 18, 33)))
	same(t, "sets of the first", fmt.Sprint(w.setsOf("wxc", "wxa")), "[33]")
	same(t, "sets of the second", fmt.Sprint(w.setsOf("wxd", "wxa")), "[18 33]")
	// Nothing is left: the grant is gone.
	w.agreed("wxd", "wxa", 18)
	require.NoError(t, assert.ErrorOf(w.agree("wxc", "wxa", true, 18)))
	same(t, "what is left of the second", len(w.setsOf("wxd", "wxa")), 0)
	// An operator cannot give it twice either.
	err = w.PutComponent(t.Context(), accounts.Component{AppID: "wxd", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{18}}}},
		"", "", "")
	assert.True(t, err != nil && strings.Contains(err.Error(), "exclusive"), "got %v", err)
}

func TestExclusivePermissionSet_RaceOfPlatforms(t *testing.T) {
	w := newWorld(t)
	w.mini("wxa")
	names := []string{"wxc", "wxd"}
	w.platform("wxc", "")
	w.platform("wxd", "")
	for round := range 100 {
		pre := [2]string{}
		for i, name := range names {
			pre[i] = must[accounts.Issued](t)(w.CreatePreAuthCode(t.Context(), name)).Text
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, name := range names {
			wg.Go(func() {
				_, errs[i] = w.Agree(t.Context(), accounts.Agreement{Component: name, PreAuthCode: pre[i], AppID: "wxa", Sets: []int{18}})
			})
		}
		wg.Wait()
		var winners []string
		for i, name := range names {
			if slices.Contains(w.setsOf(name, "wxa"), 18) {
				winners = append(winners, name)
			} else if _, ok := errors.AsType[accounts.ExclusiveConflict](errs[i]); !ok {
				t.Fatalf("round %d: %s has nothing and was told %v", round, name, errs[i])
			}
		}
		require.True(t, len(winners) == 1, "round %d: %v have it", round, winners)
		require.NoError(t, w.Revoke(t.Context(), winners[0], "wxa"))
	}
}

func TestPlatform_ChangedByOperator(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mini("wxa")
	isv := w.platform("wxc", "", accounts.Grant{AppID: "wxa", PermissionSets: []int{33, 18}})
	before := must[accounts.Authorization](t)(w.Authorization(ctx, "wxc", "wxa"))
	same(t, "sets", fmt.Sprint(before.Sets), "[18 33]")
	assert.True(t, strings.HasPrefix(before.RefreshToken, "refreshtoken@@@"),
		"a seeded grant has the refresh token %q", before.RefreshToken)
	// Fields that are not named stay.
	err := w.PutComponent(ctx, accounts.Component{AppID: "wxc", RedirectHosts: []string{"isv.example", "isv.example:8443"}}, "", "", "")
	require.NoError(t, err)
	same(t, "refresh token", must[accounts.Authorization](t)(w.Authorization(ctx, "wxc", "wxa")).RefreshToken, before.RefreshToken)
	must[accounts.Issued](t)(w.PlatformToken(ctx, isv, must[string](t)(w.NewTicket(ctx, "wxc"))))
	// Grants that are said replace all others, and keep their refresh token.
	w.platform("wxc", "", accounts.Grant{AppID: "wxa", PermissionSets: []int{33}})
	after := must[accounts.Authorization](t)(w.Authorization(ctx, "wxc", "wxa"))
	same(t, "sets", fmt.Sprint(after.Sets), "[33]")
	same(t, "refresh token", after.RefreshToken, before.RefreshToken)
	for _, c := range []accounts.Component{
		{AppID: "new"}, // no EncodingAESKey
		{AppID: "wxc", RedirectHosts: []string{""}},
		{AppID: "wxc", RedirectHosts: []string{"https://isv.example"}},
		{AppID: "wxc", RedirectHosts: []string{"isv.example/x"}},
		{AppID: "wxc", RedirectHosts: []string{"a@isv.example"}},
		{AppID: "wxc", RedirectHosts: []string{`isv.example\x`}},
		{AppID: "wxc", RedirectHosts: []string{"isv.example?x"}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa"}, {AppID: "wxa"}}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "nobody"}}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{0}}}},
	} {
		_, ok := errors.AsType[accounts.Invalid](w.PutComponent(ctx, c, "", "", ""))
		assert.True(t, ok, "%+v was taken", c)
	}
}

func TestAuthorizerList_OrderAndLimit(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.platform("wxc", "")
	for i := range 5 {
		w.mini(fmt.Sprint("wx", 9-i))
		w.agreed("wxc", fmt.Sprint("wx", 9-i), 33)
		w.set(begin.Add(time.Duration(i+1) * time.Second))
	}
	list := func(offset, count int) (total int, names string) {
		t.Helper()
		total, page, err := w.Authorizations(ctx, "wxc", offset, count)
		require.NoError(t, err)
		for _, a := range page {
			names += a.Account.AppID + " "
		}
		return total, names
	}
	for _, c := range []struct {
		offset, count int
		want          string
	}{{0, 500, "wx9 wx8 wx7 wx6 wx5 "}, {1, 2, "wx8 wx7 "}, {4, 2, "wx5 "}, {5, 1, ""}, {0, 0, ""}} {
		total, names := list(c.offset, c.count)
		same(t, "total_count", total, 5)
		same(t, fmt.Sprint(c.offset, c.count), names, c.want)
	}
	for _, c := range [][3]int{{0, 501, 40170}, {-1, 1, 40097}, {0, -1, 40097}} {
		_, _, err := w.Authorizations(ctx, "wxc", c[0], c[1])
		same(t, fmt.Sprint(c), code(err), c[2])
	}
}

// Texts of no platform or account must not reach the database as they are.
func TestIdentity_MalformedIdentifiers(t *testing.T) {
	w := newWorld(t)
	w.platform("wxc", "")
	for _, odd := range []string{"", "\x00", "\xff", strings.Repeat("x", 100_000), "' OR 1=1"} {
		_, err := w.PlatformToken(t.Context(), accounts.PlatformCredentials{AppID: odd + "x", Secret: "x"}, odd)
		same(t, "appid", code(err), 40013)
		_, err = w.TradeAuthCode(t.Context(), "wxc", odd)
		same(t, "code", code(err), 61009)
		_, err = w.RefreshAuthorizerToken(t.Context(), "wxc", odd, "x")
		same(t, "authorizer", code(err), 40013)
		err = w.OwnComponent(t.Context(), accounts.Caller{Component: "wxc"}, odd+"x")
		assert.True(t, errors.Is(err, errcode.InvalidAppID), "%v", err)
	}
}
