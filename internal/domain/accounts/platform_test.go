package accounts_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// addPlatform creates a third-party platform with the secret "secret of APPID".
func (w *fixture) addPlatform(appid, eventURL string, grants ...accounts.Grant) accounts.PlatformCredentials {
	w.t.Helper()
	c := accounts.Component{AppID: appid, EventURL: eventURL, Grants: grants}
	require.NoError(w.t, w.PutComponent(w.t.Context(), c, "secret of "+appid, "tok", aesKey))
	return accounts.PlatformCredentials{AppID: appid, Secret: "secret of " + appid, IP: netip.MustParseAddr("203.0.113.1")}
}

// mustAuthorize authorizes component for appid and returns the authorization_code.
func (w *fixture) mustAuthorize(component, appid string, sets ...int) string {
	w.t.Helper()
	return require.Value(w.authorize(component, appid, false, sets...))(w.t)
}

func (w *fixture) authorize(component, appid string, move bool, sets ...int) (string, error) {
	w.t.Helper()
	pre := require.Value(w.CreatePreAuthCode(w.t.Context(), component))(w.t)
	code, err := w.Agree(w.t.Context(), accounts.Agreement{Component: component, PreAuthCode: pre.Text, AppID: appid, Sets: sets,
		ForceExclusive: move})
	return code.Text, err
}

func (w *fixture) permissionSets(component, appid string) []int {
	w.t.Helper()
	a, err := w.Authorization(w.t.Context(), component, appid)
	if code(err) == 61003 {
		return nil
	}
	require.NoError(w.t, err)
	return a.Sets
}

// TestPlatformCredentials_ExpiryBoundaries checks tokens, codes and tickets each second around their expiry. Contract: rules 3.2.
func TestPlatformCredentials_ExpiryBoundaries(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addMiniProgram("wxa")
	isv := w.addPlatform("wxc", "")
	ticket := require.Value(w.NewTicket(ctx, "wxc"))(t)
	first := require.Value(w.PlatformToken(ctx, isv, ticket))(t)
	assertEqual(t, "expires_in", first.ExpiresIn, 7200)
	pre := require.Value(w.CreatePreAuthCode(ctx, "wxc"))(t)
	assertEqual(t, "expires_in of the pre_auth_code", pre.ExpiresIn, 1800)
	auth := w.mustAuthorize("wxc", "wxa", 18)
	code1 := w.mustAuthorize("wxc", "wxa", 18)
	got := require.Value(w.TradeAuthCode(ctx, "wxc", code1))(t)
	assertEqual(t, "expires_in of the authorizer's token", got.Token.ExpiresIn, 7200)
	const replacedAfter = 10 * time.Minute
	identify := func(text string) int {
		_, err := w.Identify(ctx, text)
		return code(err)
	}
	check := func(name string, got, want int) {
		t.Helper()
		assert.Equal(t, got, want, "%s: code of %s", w.now.Format(time.StampMilli), name)
	}
	preAuth := func() int {
		if err := w.CheckPreAuthCode(ctx, "wxc", pre.Text); err != nil {
			return 1
		}
		return 0
	}
	for _, moment := range []time.Duration{accounts.AuthCodeLife, accounts.PreAuthLife, accounts.TokenLife, accounts.TicketLife} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			check("the component token", identify(first.Text), codeAt(since, accounts.TokenLife, 0, expired))
			check("the authorizer's token", identify(got.Token.Text), codeAt(since, accounts.TokenLife, 0, expired))
			check("the pre_auth_code", preAuth(), codeAt(since, accounts.PreAuthLife, 0, 1))
			if since >= accounts.AuthCodeLife {
				_, err := w.TradeAuthCode(ctx, "wxc", auth)
				check("the authorization_code", code(err), 61010)
			}
			if since >= accounts.TicketLife {
				_, err := w.PlatformToken(ctx, isv, ticket)
				check("the ticket", code(err), 61005)
			}
		})
	}

	// Credentials are valid until the last millisecond.
	w.setTime(begin)
	w.setTime(begin.Add(accounts.AuthCodeLife - time.Millisecond))
	_, err := w.TradeAuthCode(ctx, "wxc", auth)
	check("the authorization_code in its last moment", code(err), 0)
	w.setTime(begin.Add(replacedAfter))
	require.Value(w.PlatformToken(ctx, isv, ticket))(t)
	forEachSecondAround(accounts.TokenOverlap, func(since time.Duration) {
		w.setTime(begin.Add(replacedAfter + since))
		check("the component token that was replaced", identify(first.Text), codeAt(since, accounts.TokenOverlap, 0, replaced))
	})
	for since := accounts.TicketLife - 3*time.Second; since < accounts.TicketLife; since += time.Second {
		w.setTime(begin.Add(since))
		_, err := w.PlatformToken(ctx, isv, ticket)
		check("the ticket before its end", code(err), 0)
	}
	w.setTime(begin.Add(accounts.TicketLife - time.Millisecond))
	_, err = w.PlatformToken(ctx, isv, ticket)
	check("the ticket in its last moment", code(err), 0)
}

func TestComponentToken_SecretAndTicket(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addMiniProgram("wxa")
	isv, other := w.addPlatform("wxc", ""), w.addPlatform("wxd", "")
	ticket, foreign := require.Value(w.NewTicket(ctx, "wxc"))(t), require.Value(w.NewTicket(ctx, "wxd"))(t)
	for _, c := range []struct {
		name        string
		credentials accounts.PlatformCredentials
		ticket      string
		want        int
	}{
		{"valid credentials", isv, ticket, 0},
		{"a ticket may be traded again", isv, ticket, 0},
		{"another platform's ticket", isv, foreign, 61006},
		{"another platform with this ticket", other, ticket, 61006},
		{"no ticket", isv, "", 61006},
		{"no component_appid", accounts.PlatformCredentials{Secret: "x"}, ticket, 41018},
		{"no secret", accounts.PlatformCredentials{AppID: "wxc"}, ticket, 41004},
		{"an unknown platform, no secret, no ticket", accounts.PlatformCredentials{AppID: "unknown"}, "", 40013},
		{"an account, no secret, no ticket", accounts.PlatformCredentials{AppID: "wxa"}, "", 61011},
		{"another secret, no ticket", accounts.PlatformCredentials{AppID: "wxc", Secret: "x"}, "", 40125},
		{"another secret", accounts.PlatformCredentials{AppID: "wxc", Secret: "secret of wxd"}, ticket, 40125},
		{"an endless secret", accounts.PlatformCredentials{AppID: "wxc", Secret: strings.Repeat("x", 257)}, ticket, 40125},
		{"an unknown platform", accounts.PlatformCredentials{AppID: "unknown", Secret: "x"}, ticket, 40013},
		{"an account", accounts.PlatformCredentials{AppID: "wxa", Secret: "secret of wxa"}, ticket, 61011},
	} {
		_, err := w.PlatformToken(ctx, c.credentials, c.ticket)
		assert.True(t, code(err) == c.want, "%s: %v, want %d", c.name, err, c.want)
	}
}

// Contract: decisions, design 8: a missing permission is not an invalid token.
func TestAuthorizerToken_GrantedPermissions(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addMiniProgram("wxa")
	isv := w.addPlatform("wxc", "")
	own := w.mustIssueToken(credentials("wxa"))
	component := require.Value(w.PlatformToken(ctx, isv, require.Value(w.NewTicket(ctx, "wxc"))(t)))(t)
	got := require.Value(w.TradeAuthCode(ctx, "wxc", w.mustAuthorize("wxc", "wxa", 33, 18, 33)))(t)
	assertEqual(t, "sets", fmt.Sprint(got.Sets), "[18 33]")

	_, err := w.AuthenticateWithin(ctx, component.Text, nil)
	assertEqual(t, "a component token where an account's belongs", code(err), 48001)
	for _, text := range []string{own.Text, got.Token.Text} {
		_, err := w.AuthenticatePlatform(ctx, text)
		assertEqual(t, "an account's token where a component's belongs", code(err), 61014)
	}
	caller := require.Value(w.AuthenticateWithin(ctx, got.Token.Text, nil))(t)
	assertEqual(t, "account", caller.AppID, "wxa")
	assertEqual(t, "component", caller.Component, "wxc")
	for set, want := range map[int]int{0: 0, 18: 0, 33: 0, 3: 61007, 46: 61007} {
		assertEqual(t, fmt.Sprint("set ", set), code(caller.Granted(set)), want)
	}
	caller = require.Value(w.AuthenticateWithin(ctx, own.Text, nil))(t)
	assertEqual(t, "a set with the token of the account", code(caller.Granted(46)), 0)

	// A new authorisation revokes the previous token and has its own sets.
	before := got.Token.Text
	got = require.Value(w.TradeAuthCode(ctx, "wxc", w.mustAuthorize("wxc", "wxa", 33)))(t)
	w.assertTokenCode("a token from before a new authorisation", before, 40001)
	caller = require.Value(w.AuthenticateWithin(ctx, got.Token.Text, nil))(t)
	assertEqual(t, "a set that was revoked", code(caller.Granted(18)), 61007)

	require.NoError(t, w.Revoke(ctx, "wxc", "wxa"))
	w.assertTokenCode("a token of a revoked grant", got.Token.Text, 61003)
	_, err = w.RefreshAuthorizerToken(ctx, "wxc", "wxa", got.RefreshToken)
	assertEqual(t, "a refresh without a grant", code(err), 61003)
	assert.ErrorIs(t, w.Revoke(ctx, "wxc", "wxa"), accounts.ErrNoGrant, "second Revoke")
	// Another authorisation does not restore old tokens.
	renewed := require.Value(w.TradeAuthCode(ctx, "wxc", w.mustAuthorize("wxc", "wxa", 18)))(t)
	w.assertTokenCode("a token of the earlier grant", got.Token.Text, 40001)
	w.assertTokenCode("a token of the new grant", renewed.Token.Text, 0)
	assert.True(t, renewed.RefreshToken != got.RefreshToken, "the new grant has the refresh token of the earlier grant, want another")
	for text, want := range map[string]int{got.RefreshToken: 61023, "refreshtoken@@@x": 61023, "": 61023, renewed.RefreshToken: 0} {
		a, err := w.RefreshAuthorizerToken(ctx, "wxc", "wxa", text)
		assertEqual(t, "refresh with "+text, code(err), want)
		if want == 0 {
			assertEqual(t, "refresh token", a.RefreshToken, renewed.RefreshToken)
		}
	}
}

func TestAuthorizationCode_SingleUsePerPlatform(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addMiniProgram("wxa")
	w.addPlatform("wxc", "")
	w.addPlatform("wxd", "")
	pre := require.Value(w.CreatePreAuthCode(ctx, "wxc"))(t)
	agree := func(component, text string) error {
		_, err := w.Agree(ctx, accounts.Agreement{Component: component, PreAuthCode: text, AppID: "wxa", Sets: []int{33}})
		return err
	}

	assertInvalid(t, "another platform's pre_auth_code", agree("wxd", pre.Text), "")
	assertInvalid(t, "no pre_auth_code", agree("wxc", ""), "")
	require.NoError(t, agree("wxc", pre.Text))
	assertInvalid(t, "a pre_auth_code used twice", agree("wxc", pre.Text), "")
	_, err := w.Agree(ctx, accounts.Agreement{Component: "wxc", PreAuthCode: pre.Text, AppID: "wxa"})
	assertInvalid(t, "no permission sets", err, "")
	text := w.mustAuthorize("wxc", "wxa", 33)
	assertInvalid(t, "an authorization_code as a pre_auth_code", agree("wxc", text), "")
	for _, c := range []struct {
		name, component, text string
		want                  int
	}{
		{"a code of another platform", "wxd", text, 61009},
		{"a code that was not issued", "wxc", "queryauthcode@@@x", 61009},
		{"a pre_auth_code", "wxc", pre.Text, 61009},
		{"the issued code", "wxc", text, 0},
		{"used twice", "wxc", text, 61010},
	} {
		_, err := w.TradeAuthCode(ctx, c.component, c.text)
		assert.True(t, code(err) == c.want, "%s: %v, want %d", c.name, err, c.want)
	}
	// One of 8 concurrent calls succeeds.
	text = w.mustAuthorize("wxc", "wxa", 33)
	var got []int
	for _, err := range dbtest.Race(8, func(int) error { return assert.ErrorOf(w.TradeAuthCode(ctx, "wxc", text)) }) {
		got = append(got, code(err))
	}
	slices.Sort(got)
	assertEqual(t, "codes", fmt.Sprint(got), "[0 61010 61010 61010 61010 61010 61010 61010]")
}

// Contract: rules 3.3: one platform at a time has set 18.
func TestExclusivePermissionSet_OnePlatform(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxa")
	w.addPlatform("wxc", "")
	w.addPlatform("wxd", "")
	w.mustAuthorize("wxc", "wxa", 18, 33)
	_, err := w.authorize("wxd", "wxa", false, 18)
	conflict, ok := errors.AsType[accounts.ExclusiveConflict](err)
	assert.True(t, ok && conflict.By == "wxc", "authorization of set 18 for wxd: %v, want a conflict with wxc", err)
	w.mustAuthorize("wxd", "wxa", 33) // not exclusive
	require.NoError(t, assert.ErrorOf(w.authorize("wxd", "wxa", true, 18, 33)))
	assertEqual(t, "sets of the first", fmt.Sprint(w.permissionSets("wxc", "wxa")), "[33]")
	assertEqual(t, "sets of the second", fmt.Sprint(w.permissionSets("wxd", "wxa")), "[18 33]")
	// A grant without permission sets is deleted.
	w.mustAuthorize("wxd", "wxa", 18)
	require.NoError(t, assert.ErrorOf(w.authorize("wxc", "wxa", true, 18)))
	assertEqual(t, "sets of the second after the loss of its last", len(w.permissionSets("wxd", "wxa")), 0)
	// An operator cannot grant the set to a second platform either.
	err = w.PutComponent(t.Context(), accounts.Component{AppID: "wxd", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{18}}}},
		"", "", "")
	assert.True(t, err != nil && strings.Contains(err.Error(), "exclusive"),
		"PutComponent with the set of another platform: %v, want an error", err)
}

func TestExclusivePermissionSet_RaceOfPlatforms(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxa")
	names := []string{"wxc", "wxd"}
	w.addPlatform("wxc", "")
	w.addPlatform("wxd", "")
	for round := range 100 {
		pre := [2]string{}
		for i, name := range names {
			pre[i] = require.Value(w.CreatePreAuthCode(t.Context(), name))(t).Text
		}
		errs := dbtest.Race(2, func(i int) error {
			return assert.ErrorOf(w.Agree(t.Context(), accounts.Agreement{Component: names[i], PreAuthCode: pre[i], AppID: "wxa",
				Sets: []int{18}}))
		})
		var winners []string
		for i, name := range names {
			if slices.Contains(w.permissionSets(name, "wxa"), 18) {
				winners = append(winners, name)
			} else if _, ok := errors.AsType[accounts.ExclusiveConflict](errs[i]); !ok {
				t.Fatalf("round %d: authorization of %s failed with %v, want a conflict", round, name, errs[i])
			}
		}
		require.True(t, len(winners) == 1, "round %d: platforms with the set = %v, want one", round, winners)
		require.NoError(t, w.Revoke(t.Context(), winners[0], "wxa"))
	}
}

func TestPlatform_ChangedByOperator(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addMiniProgram("wxa")
	isv := w.addPlatform("wxc", "", accounts.Grant{AppID: "wxa", PermissionSets: []int{33, 18}})
	before := require.Value(w.Authorization(ctx, "wxc", "wxa"))(t)
	assertEqual(t, "sets", fmt.Sprint(before.Sets), "[18 33]")
	assert.True(t, strings.HasPrefix(before.RefreshToken, "refreshtoken@@@"),
		"refresh token of a seeded grant = %q, want refreshtoken@@@...", before.RefreshToken)
	// Omitted fields are unchanged.
	err := w.PutComponent(ctx, accounts.Component{AppID: "wxc", RedirectHosts: []string{"isv.example", "isv.example:8443"}}, "", "", "")
	require.NoError(t, err)
	assertEqual(t, "refresh token", require.Value(w.Authorization(ctx, "wxc", "wxa"))(t).RefreshToken, before.RefreshToken)
	require.Value(w.PlatformToken(ctx, isv, require.Value(w.NewTicket(ctx, "wxc"))(t)))(t)
	// Given grants replace all others and keep their refresh tokens.
	w.addPlatform("wxc", "", accounts.Grant{AppID: "wxa", PermissionSets: []int{33}})
	after := require.Value(w.Authorization(ctx, "wxc", "wxa"))(t)
	assertEqual(t, "sets", fmt.Sprint(after.Sets), "[33]")
	assertEqual(t, "refresh token", after.RefreshToken, before.RefreshToken)
	for _, c := range []accounts.Component{
		{AppID: "new"}, // no EncodingAESKey
		{AppID: "wxc", RedirectHosts: []string{""}},
		{AppID: "wxc", RedirectHosts: []string{"https://isv.example"}},
		{AppID: "wxc", RedirectHosts: []string{"isv.example/x"}},
		{AppID: "wxc", RedirectHosts: []string{"a@isv.example"}},
		{AppID: "wxc", RedirectHosts: []string{`isv.example\x`}},
		{AppID: "wxc", RedirectHosts: []string{"isv.example?x"}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa"}, {AppID: "wxa"}}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "unknown"}}},
		{AppID: "wxc", Grants: []accounts.Grant{{AppID: "wxa", PermissionSets: []int{0}}}},
	} {
		assertInvalid(t, fmt.Sprintf("PutComponent(%+v)", c), w.PutComponent(ctx, c, "", "", ""), "")
	}
}

func TestAuthorizerList_OrderAndLimit(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	w.addPlatform("wxc", "")
	for i := range 5 {
		w.addMiniProgram(fmt.Sprint("wx", 9-i))
		w.mustAuthorize("wxc", fmt.Sprint("wx", 9-i), 33)
		w.setTime(begin.Add(time.Duration(i+1) * time.Second))
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
		assertEqual(t, "total_count", total, 5)
		assertEqual(t, fmt.Sprint(c.offset, c.count), names, c.want)
	}
	for _, c := range [][3]int{{0, 501, 40170}, {-1, 1, 40097}, {0, -1, 40097}} {
		_, _, err := w.Authorizations(ctx, "wxc", c[0], c[1])
		assertEqual(t, fmt.Sprint(c), code(err), c[2])
	}
}

// TestIdentity_MalformedIdentifiers verifies that malformed identifiers return the error of unknown ones and no database error.
func TestIdentity_MalformedIdentifiers(t *testing.T) {
	w := newFixture(t)
	w.addPlatform("wxc", "")
	for _, text := range []string{"", "\x00", "\xff", strings.Repeat("x", 100_000), "' OR 1=1"} {
		_, err := w.PlatformToken(t.Context(), accounts.PlatformCredentials{AppID: text + "x", Secret: "x"}, text)
		assertEqual(t, "appid", code(err), 40013)
		_, err = w.TradeAuthCode(t.Context(), "wxc", text)
		assertEqual(t, "code", code(err), 61009)
		_, err = w.RefreshAuthorizerToken(t.Context(), "wxc", text, "x")
		assertEqual(t, "authorizer", code(err), 40013)
		err = w.OwnComponent(t.Context(), accounts.Caller{Component: "wxc"}, text+"x")
		assert.ErrorIs(t, err, errcode.InvalidAppID, "OwnComponent of %.20q", text)
	}
}
