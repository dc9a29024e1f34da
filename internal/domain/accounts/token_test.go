package accounts_test

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

const (
	works    = 0
	replaced = 40001 // or unknown
	expired  = 42001
)

// forEachSecondAround calls f with each second from 3 s before to 3 s after moment, and with the milliseconds next to it.
func forEachSecondAround(moment time.Duration, f func(since time.Duration)) {
	for _, ms := range []time.Duration{-3000, -2000, -1000, -1, 0, 1, 1000, 2000, 3000} {
		f(moment + ms*time.Millisecond)
	}
}

// codeAt returns before until moment, and after from moment on.
func codeAt(since, moment time.Duration, before, after int) int {
	if since < moment {
		return before
	}
	return after
}

// Contract: rules 3.1.
func TestToken_ExpiresAfterTwoHours(t *testing.T) {
	w := newFixture(t)
	a := w.mustIssueToken(w.addMiniProgram("wxa"))
	assertEqual(t, "expires_in", a.ExpiresIn, 7200)
	assert.True(t, regexp.MustCompile(`^[0-9]+_[0-9A-Za-z_-]{100,150}$`).MatchString(a.Text),
		"token %q does not have the format of a token of the platform", a.Text)
	caller := require.Value(w.AuthenticateWithin(t.Context(), a.Text, nil))(t)
	assertEqual(t, "caller", caller.AppID, "wxa")
	for _, moment := range []time.Duration{0, accounts.TokenOverlap, accounts.TokenLife} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			w.assertTokenCode("the only token", a.Text, codeAt(since, accounts.TokenLife, works, expired))
		})
	}
	w.setTime(begin.Add(7 * 24 * time.Hour))
	w.assertTokenCode("a week later", a.Text, expired)
}

func TestToken_OverlapFiveMinutes(t *testing.T) {
	const second = 10 * time.Minute
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	a := w.mustIssueToken(c)
	w.setTime(begin.Add(second))
	b := w.mustIssueToken(c)
	assertEqual(t, "expires_in", b.ExpiresIn, 7200)
	for _, moment := range []time.Duration{second, second + accounts.TokenOverlap, accounts.TokenLife, second + accounts.TokenLife} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			w.assertTokenCode("the first token", a.Text, codeAt(since, second+accounts.TokenOverlap, works, replaced))
			w.assertTokenCode("the second token", b.Text, codeAt(since, second+accounts.TokenLife, works, expired))
		})
	}
}

func TestToken_ThirdKeepsFirstOverlap(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	a := w.mustIssueToken(c)
	w.setTime(begin.Add(time.Minute))
	b := w.mustIssueToken(c)
	w.setTime(begin.Add(3 * time.Minute))
	d := w.mustIssueToken(c)
	for _, moment := range []time.Duration{6 * time.Minute, 8 * time.Minute} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			w.assertTokenCode("the first token", a.Text, codeAt(since, 6*time.Minute, works, replaced))
			w.assertTokenCode("the second token", b.Text, codeAt(since, 8*time.Minute, works, replaced))
			w.assertTokenCode("the third token", d.Text, works)
		})
	}
}

func TestToken_ReplacedNearExpiry(t *testing.T) {
	const second = accounts.TokenLife - time.Minute
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	w.addPlatform("wxc", "")
	a := w.mustIssueToken(c)
	granted := require.Value(w.TradeAuthCode(t.Context(), "wxc", w.mustAuthorize("wxc", "wxa", 18)))(t)
	w.setTime(begin.Add(second))
	w.mustIssueToken(c)
	require.Value(w.RefreshAuthorizerToken(t.Context(), "wxc", "wxa", granted.RefreshToken))(t)
	for _, moment := range []time.Duration{accounts.TokenLife, second + accounts.TokenOverlap} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			w.assertTokenCode("the first token", a.Text, codeAt(since, second+accounts.TokenOverlap, works, replaced))
			w.assertTokenCode("the authorizer's token", granted.Token.Text, codeAt(since, second+accounts.TokenOverlap, works, replaced))
		})
	}
}

func TestToken_PurgedAfterExpiry(t *testing.T) {
	const retention = accounts.TokenLife + 7*24*time.Hour
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	a := w.mustIssueToken(c)
	w.setTime(begin.Add(retention))
	w.mustIssueToken(c)
	w.assertTokenCode("a token that expired seven days ago", a.Text, expired)
	w.setTime(begin.Add(retention + time.Millisecond))
	w.mustIssueToken(c)
	w.assertTokenCode("a token that expired longer ago", a.Text, replaced)
}

// Contract: rules 3.6.
func TestToken_MalformedAsUnknown(t *testing.T) {
	w := newFixture(t)
	good := w.mustIssueToken(w.addMiniProgram("wxa")).Text
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"the token", good, works},
		{"empty", "", replaced},
		{"a word", "ACCESS_TOKEN", replaced},
		{"without the number", good[strings.IndexByte(good, '_'):], replaced},
		{"cut short", good[:60], replaced},
		{"with a space", good + " ", replaced},
		{"with a newline", good + "\n", replaced},
		{"with NUL", good + "\x00", replaced},
		{"with invalid UTF-8", good + "\xff", replaced},
		{"far too long", "1_" + strings.Repeat("x", 501), replaced},
		{"cut by one character", good[:len(good)-1], replaced},
		{"longer by one character", good + "x", replaced},
		{"another of the right shape", "109_" + strings.Repeat("x", 128), replaced},
		{"in another case", strings.ToUpper(good), replaced},
	} {
		t.Run(c.name, func(t *testing.T) { assertEqual(t, "code", w.tokenCode(c.text), c.want) })
	}
}

func TestToken_DeletedAccount(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	text := w.mustIssueToken(c).Text
	require.NoError(t, w.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error { return tx.DeleteAccount(t.Context(), "wxa") }))
	w.assertTokenCode("its token", text, replaced)
	_, err := w.IssueToken(t.Context(), c)
	assertEqual(t, "code of a new token", code(err), 40013)
}

// Contract: rules 3.1: the same token until five minutes before its expiry.
// Behaviour(token.stable.border).
func TestStableToken_RenewalBoundary(t *testing.T) {
	const renewed = accounts.TokenLife - accounts.TokenOverlap
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	first := w.mustStableToken(c, false)
	assertEqual(t, "expires_in", first.ExpiresIn, 7200)
	var second accounts.Issued
	var renewedAt time.Duration
	for _, moment := range []time.Duration{5 * time.Second, time.Hour, renewed} {
		forEachSecondAround(moment, func(since time.Duration) {
			w.setTime(begin.Add(since))
			got := w.mustStableToken(c, false)
			left := accounts.TokenLife - since
			if left > accounts.TokenOverlap {
				// expires_in is rounded down.
				if seconds := int(left / time.Second); seconds > 300 {
					assertEqual(t, fmt.Sprint("after ", since), got, accounts.Issued{Text: first.Text, ExpiresIn: seconds})
					return
				}
			}
			if second.Text == "" {
				second, renewedAt = got, since
				assertEqual(t, "expires_in of the second", got.ExpiresIn, 7200)
			}
			assert.True(t, got.Text == second.Text && got.Text != first.Text, "after %v: token is not the second token", since)
			assert.True(t, got.ExpiresIn > 300, "after %v: expires_in = %d, want more than 300", since, got.ExpiresIn)
		})
	}
	// Both tokens are valid for five minutes.
	forEachSecondAround(renewedAt+accounts.TokenOverlap, func(since time.Duration) {
		w.setTime(begin.Add(since))
		w.assertTokenCode("the first token", first.Text, codeAt(since, renewedAt+accounts.TokenOverlap, works, replaced))
		w.assertTokenCode("the second token", second.Text, works)
	})
}

func TestStableToken_ReplacedAfterExpiry(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	first := w.mustStableToken(c, false)
	w.setTime(begin.Add(3 * time.Hour))
	second := w.mustStableToken(c, false)
	assert.True(t, second.Text != first.Text && second.ExpiresIn == 7200, "token after three hours = %+v, want a new one", second)
}

// Contract: rules 3.1: a second forced call within 30 s returns the current token; otherwise the previous token is revoked.
// Behaviour(token.stable.soon).
func TestStableToken_ForceRefreshRevokesPrevious(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	previous := w.mustStableToken(c, false)
	w.setTime(begin.Add(time.Second))
	first := w.mustStableToken(c, true)
	assert.True(t, first.Text != previous.Text && first.ExpiresIn == 7200, "forced token = %+v, want a new one", first)
	w.assertTokenCode("the previous token", previous.Text, replaced)
	assertEqual(t, "token without force", w.mustStableToken(c, false).Text, first.Text)
	forced := begin.Add(time.Second)
	forEachSecondAround(accounts.ForceInterval, func(since time.Duration) {
		if since >= accounts.ForceInterval {
			return
		}
		w.setTime(forced.Add(since))
		assertEqual(t, fmt.Sprint("forced again after ", since), w.mustStableToken(c, true),
			accounts.Issued{Text: first.Text, ExpiresIn: int((accounts.TokenLife - since) / time.Second)})
		w.assertTokenCode("the forced token", first.Text, works)
	})
	w.setTime(forced.Add(accounts.ForceInterval))
	second := w.mustStableToken(c, true)
	assert.True(t, second.Text != first.Text, "token forced again after 30 s = the first token, want a new one")
	w.assertTokenCode("the first forced token", first.Text, replaced)
	w.assertTokenCode("the second forced token", second.Text, works)
	assertEqual(t, "token without force", w.mustStableToken(c, false).Text, second.Text)
	w.setTime(forced.Add(accounts.ForceInterval + accounts.TokenLife + time.Minute))
	w.mustStableToken(c, true)
	w.assertTokenCode("a token that expired before the forced refresh", second.Text, expired)
	require.NoError(t, w.ExpireTokens(t.Context(), "wxa"))
	w.assertTokenCode("a token that expired before all tokens were ended", second.Text, expired)
}

func TestStableToken_ForceRefreshRevokesOverlap(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	first := w.mustStableToken(c, false)
	w.setTime(begin.Add(accounts.TokenLife - time.Minute))
	second := w.mustStableToken(c, false)
	w.assertTokenCode("the first token", first.Text, works)
	w.mustStableToken(c, true)
	w.assertTokenCode("the first token", first.Text, replaced)
	w.assertTokenCode("the second token", second.Text, replaced)
}

func TestStableToken_ForceRefreshDailyLimit(t *testing.T) {
	w := newFixture(t)
	midnight := time.Date(2026, 2, 1, 0, 0, 0, 0, zone)
	c := w.addMiniProgram("wxa")
	w.setTime(midnight.Add(-time.Hour))
	var last accounts.Issued
	for n := range accounts.ForcedPerDay {
		w.setTime(midnight.Add(-time.Hour + time.Duration(n)*accounts.ForceInterval))
		last = w.mustStableToken(c, true)
		assertEqual(t, "forced again within 30 s", w.mustStableToken(c, true).Text, last.Text) // not counted
	}
	w.addMiniProgram("wxb")
	forEachSecondAround(0, func(since time.Duration) {
		w.setTime(midnight.Add(since))
		issued, err := w.StableToken(t.Context(), c, true)
		if since < 0 {
			assertEqual(t, fmt.Sprint(since, " from midnight"), code(err), 45009)
			w.assertTokenCode("the last forced token", last.Text, works)
			assertEqual(t, "token without force", w.mustStableToken(c, false).Text, last.Text)
			w.mustStableToken(credentials("wxb"), true) // the count is per account
			return
		}
		assert.True(t, err == nil && issued.Text != last.Text, "%v from midnight: %v", since, err)
	})
}

func TestToken_DailyLimit(t *testing.T) {
	w := newFixture(t)
	midnight := time.Date(2026, 2, 1, 0, 0, 0, 0, zone)
	c, other := w.addMiniProgram("wxa"), w.addMiniProgram("wxb")
	w.setTime(midnight.Add(-time.Hour))
	// The first 1,998 calls in one transaction.
	day := settings.Defaults().Day(midnight.Add(-time.Hour))
	require.NoError(t, w.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		for range 1998 {
			if _, err := tx.AddCount(t.Context(), "wxa", "/cgi-bin/token", day); err != nil {
				return err
			}
		}
		return nil
	}))
	w.mustIssueToken(c)
	last := w.mustIssueToken(c)
	forEachSecondAround(0, func(since time.Duration) {
		w.setTime(midnight.Add(since))
		issued, err := w.IssueToken(t.Context(), c)
		if since < 0 {
			assertEqual(t, fmt.Sprint(since, " from midnight"), code(err), 45009)
			w.assertTokenCode("the last token", last.Text, works)
			w.mustIssueToken(other)
			w.mustStableToken(c, false) // stable tokens are not counted
			return
		}
		assert.True(t, err == nil && issued.Text != last.Text, "%v from midnight: %v", since, err)
	})
}

func TestToken_DailyLimitUTCOffset(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	values := settings.Defaults()
	values.TokenDailyLimit, values.UTCOffsetHours = 1, -5
	w.Settings.Set(values)
	midnight := time.Date(2026, 2, 1, 5, 0, 0, 0, time.UTC)
	w.setTime(midnight.Add(-time.Hour))
	w.mustIssueToken(c)
	w.setTime(midnight.Add(-time.Millisecond))
	_, err := w.IssueToken(t.Context(), c)
	assert.True(t, code(err) == 45009, "before midnight: %v", err)
	w.setTime(midnight)
	w.mustIssueToken(c)
}

func TestStableToken_MinuteLimit(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	minute := begin.Truncate(time.Minute).Add(time.Minute)
	w.setTime(minute)
	first := w.mustStableToken(c, false)
	for n := 1; n < accounts.StablePerMinute; n++ {
		w.setTime(minute.Add(time.Duration(n) * 5 * time.Millisecond))
		issued, err := w.StableToken(t.Context(), c, false)
		require.True(t, err == nil && issued.Text == first.Text, "call %d: %v", n+1, err)
	}
	other := w.addMiniProgram("wxb")
	forEachSecondAround(time.Minute, func(since time.Duration) {
		w.setTime(minute.Add(since))
		_, err := w.StableToken(t.Context(), c, false)
		assertEqual(t, fmt.Sprint("after ", since), code(err), codeAt(since, time.Minute, 45011, 0))
		w.mustStableToken(other, false)
		w.mustIssueToken(c)
	})
	// A call with a wrong secret is not counted, and its error names the secret.
	wrong := c
	wrong.Secret = "x"
	_, err := w.StableToken(t.Context(), wrong, false)
	assertEqual(t, "a wrong secret", code(err), 40125)
}

// Contract: rules 3.1: fully isolated.
func TestStableToken_IsolatedFromPlain(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	stable := w.mustStableToken(c, false)
	plain := w.mustIssueToken(c)
	assert.True(t, stable.Text != plain.Text, "plain and stable token are equal, want two tokens")
	w.setTime(begin.Add(time.Minute))
	second := w.mustIssueToken(c)
	w.setTime(begin.Add(10 * time.Minute))
	w.assertTokenCode("the plain token that was replaced", plain.Text, replaced)
	w.assertTokenCode("the stable token", stable.Text, works)
	assertEqual(t, "the stable token", w.mustStableToken(c, false).Text, stable.Text)
	forced := w.mustStableToken(c, true)
	w.assertTokenCode("the stable token that was forced out", stable.Text, replaced)
	w.assertTokenCode("the plain token", second.Text, works)
	w.setTime(begin.Add(20 * time.Minute))
	w.assertTokenCode("the plain token", second.Text, works)
	w.assertTokenCode("the forced token", forced.Text, works)
}

func TestToken_IsolatedPerAccount(t *testing.T) {
	w := newFixture(t)
	a, b := w.addMiniProgram("wxa"), w.addMiniProgram("WXA")
	plain, stable := w.mustIssueToken(a), w.mustStableToken(a, false)
	w.mustIssueToken(b)
	w.mustIssueToken(b)
	w.mustStableToken(b, true)
	w.setTime(begin.Add(time.Hour))
	w.assertTokenCode("the plain token", plain.Text, works)
	assertEqual(t, "the stable token", w.mustStableToken(a, false).Text, stable.Text)
}

func TestStableToken_OperatorWithoutSecret(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	got := require.Value(w.OperatorToken(t.Context(), "wxa"))(t)
	assertEqual(t, "the token of the account", w.mustStableToken(c, false), got)
	assert.True(t, assert.ErrorOf(w.OperatorToken(t.Context(), "wxunknown")) != nil, "OperatorToken of an unknown account succeeded")
}

// TestTokenCall_ErrorPrecedence corrects one fault from row to row and verifies the error of the first remaining fault. Contract: rules
// 3.1.
func TestTokenCall_ErrorPrecedence(t *testing.T) {
	w := newFixture(t)
	w.putAccount(accounts.Registration{Account: accounts.Account{AppID: "wxa", SecretFrozen: true, IPAllowlist: []string{"10.0.0.0/8"}},
		Secret: "right"})
	require.NoError(t, w.PutComponent(t.Context(), accounts.Component{AppID: "wxc"}, "right", "t", aesKey))
	changes := map[string]func(*accounts.Account){"unfreeze": func(a *accounts.Account) { a.SecretFrozen = false },
		"no secret": func(a *accounts.Account) { a.SecretHash = "" }}
	fill := strings.NewReplacer("LONGEST", strings.Repeat("x", 256), "LONG", strings.Repeat("x", 257))
	for _, c := range testtable.Rows(t, "testdata/token_calls.txt", 8) {
		t.Run(c[0], func(t *testing.T) {
			if change := changes[c[5]]; change != nil {
				require.NoError(t, assert.ErrorOf(w.Change(t.Context(), "wxa", func(a *accounts.Account) error { change(a); return nil })))
			}
			given := accounts.Credentials{GrantType: c[1], AppID: c[2], Secret: fill.Replace(c[3])}
			if c[4] != "" {
				given.IP = netip.MustParseAddr(c[4])
			}
			for series, fetch := range map[string]func() (accounts.Issued, error){
				"token":                func() (accounts.Issued, error) { return w.IssueToken(t.Context(), given) },
				"stable_token":         func() (accounts.Issued, error) { return w.StableToken(t.Context(), given, false) },
				"stable_token, forced": func() (accounts.Issued, error) { return w.StableToken(t.Context(), given, true) },
			} {
				issued, err := fetch()
				assertEqual(t, series, fmt.Sprint(code(err)), c[6])
				assert.True(t, err == nil || issued == (accounts.Issued{}), "%s: token %v with an error, want none", series, issued)
				if row, _ := errcode.FromError(err); c[7] != "" {
					assertEqual(t, series+", text", row.Text, c[7])
				}
			}
		})
	}
}

func TestToken_IPAllowlist(t *testing.T) {
	w := newFixture(t)
	for _, c := range testtable.Rows(t, "testdata/allowlists.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			account := accounts.Account{AppID: "wxa", IPAllowlist: testtable.List(c[1])}
			w.putAccount(accounts.Registration{Account: account, Secret: "secret of wxa"})
			given := credentials("wxa")
			given.IP = netip.MustParseAddr(c[2])
			_, err := w.StableToken(t.Context(), given, false)
			assertEqual(t, "code", fmt.Sprint(code(err)), c[3])
		})
	}
}

// fetchConcurrently makes n concurrent calls.
func fetchConcurrently(t *testing.T, n int, fetch func(context.Context) (accounts.Issued, error)) []accounts.Issued {
	t.Helper()
	got := make([]accounts.Issued, n)
	for _, err := range dbtest.Race(n, func(i int) (err error) {
		got[i], err = fetch(t.Context())
		return err
	}) {
		assert.NoError(t, err)
	}
	return got
}

// countByText counts the tokens with the same text.
func countByText(list []accounts.Issued) map[string]int {
	texts := map[string]int{}
	for _, issued := range list {
		texts[issued.Text]++
	}
	return texts
}

func TestStableToken_ConcurrentCallsShareOne(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	fetch := func(force bool) func(context.Context) (accounts.Issued, error) {
		return func(ctx context.Context) (accounts.Issued, error) { return w.StableToken(ctx, c, force) }
	}
	assertEqual(t, "tokens of the first calls", len(countByText(fetchConcurrently(t, 32, fetch(false)))), 1)
	w.setTime(begin.Add(accounts.TokenLife - accounts.TokenOverlap))
	assertEqual(t, "tokens of the renewal", len(countByText(fetchConcurrently(t, 32, fetch(false)))), 1)
	w.setTime(begin.Add(accounts.TokenLife))
	forced := countByText(fetchConcurrently(t, 32, fetch(true)))
	assertEqual(t, "tokens of the forced refresh", len(forced), 1)
	require.NoError(t, w.store.ViewAccounts(t.Context(), func(tx accounts.Tx) error {
		n, err := tx.Count(t.Context(), "wxa", "/cgi-bin/stable_token force", settings.Defaults().Day(begin))
		assertEqual(t, "forced refreshes that count", n, 1)
		return err
	}))
}

func TestToken_ConcurrentIssueLastSurvives(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	all := countByText(fetchConcurrently(t, 32, func(ctx context.Context) (accounts.Issued, error) { return w.IssueToken(ctx, c) }))
	assertEqual(t, "tokens", len(all), 32)
	alive := func() (n int) {
		t.Helper()
		for text := range all {
			if w.tokenCode(text) == works {
				n++
			}
		}
		return n
	}
	forEachSecondAround(accounts.TokenOverlap, func(since time.Duration) {
		w.setTime(begin.Add(since))
		assertEqual(t, fmt.Sprint("alive after ", since), alive(), codeAt(since, accounts.TokenOverlap, 32, 1))
	})
}

func TestToken_ConcurrentPlainAndStable(t *testing.T) {
	w := newFixture(t)
	c := w.addMiniProgram("wxa")
	var n atomic.Int64
	got := fetchConcurrently(t, 32, func(ctx context.Context) (accounts.Issued, error) {
		if n.Add(1)%2 == 1 {
			return w.StableToken(ctx, c, false)
		}
		return w.IssueToken(ctx, c)
	})
	texts := countByText(got)
	assertEqual(t, "tokens", len(texts), 17)
	assertEqual(t, "calls that returned the stable token", texts[w.mustStableToken(c, false).Text], 16)
	for text := range texts {
		w.assertTokenCode("a token", text, works)
	}
}
