package accounts_test

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

const (
	works    = 0
	replaced = 40001 // or unknown
	expired  = 42001
)

// around gives f each second around a moment, and the milliseconds next to it.
func around(moment time.Duration, f func(since time.Duration)) {
	for s := -3; s <= 3; s++ {
		since := moment + time.Duration(s)*time.Second
		if s == 0 {
			f(since - time.Millisecond)
			f(since)
			f(since + time.Millisecond)
			continue
		}
		f(since)
	}
}

// before is one answer until a moment, and another from it on.
func before(since, moment time.Duration, first, then int) int {
	if since < moment {
		return first
	}
	return then
}

// Contract: rules 3.1.
func TestToken_ExpiresAfterTwoHours(t *testing.T) {
	w := newWorld(t)
	a := w.plain(w.mini("wxa"))
	same(t, "expires_in", a.ExpiresIn, 7200)
	assert.True(t, regexp.MustCompile(`^[0-9]+_[0-9A-Za-z_-]{100,150}$`).MatchString(a.Text),
		"the token %q has not the shape of a live one", a.Text)
	caller, err := w.AuthenticateWithin(t.Context(), a.Text, nil)
	require.NoError(t, err)
	same(t, "caller", caller.AppID, "wxa")
	for _, moment := range []time.Duration{0, accounts.TokenOverlap, accounts.TokenLife} {
		around(moment, func(since time.Duration) {
			w.set(begin.Add(since))
			w.wantAnswer("the only token", a.Text, before(since, accounts.TokenLife, works, expired))
		})
	}
	w.set(begin.Add(7 * 24 * time.Hour))
	w.wantAnswer("a week later", a.Text, expired)
}

func TestToken_OverlapFiveMinutes(t *testing.T) {
	const second = 10 * time.Minute
	w := newWorld(t)
	c := w.mini("wxa")
	a := w.plain(c)
	w.set(begin.Add(second))
	b := w.plain(c)
	same(t, "expires_in", b.ExpiresIn, 7200)
	for _, moment := range []time.Duration{second, second + accounts.TokenOverlap, accounts.TokenLife, second + accounts.TokenLife} {
		around(moment, func(since time.Duration) {
			w.set(begin.Add(since))
			w.wantAnswer("the first token", a.Text, before(since, second+accounts.TokenOverlap, works, replaced))
			w.wantAnswer("the second token", b.Text, before(since, second+accounts.TokenLife, works, expired))
		})
	}
}

func TestToken_ThirdKeepsFirstOverlap(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	a := w.plain(c)
	w.set(begin.Add(time.Minute))
	b := w.plain(c)
	w.set(begin.Add(3 * time.Minute))
	d := w.plain(c)
	for _, moment := range []time.Duration{6 * time.Minute, 8 * time.Minute} {
		around(moment, func(since time.Duration) {
			w.set(begin.Add(since))
			w.wantAnswer("the first token", a.Text, before(since, 6*time.Minute, works, replaced))
			w.wantAnswer("the second token", b.Text, before(since, 8*time.Minute, works, replaced))
			w.wantAnswer("the third token", d.Text, works)
		})
	}
}

func TestToken_ReplacedNearExpiry(t *testing.T) {
	const second = accounts.TokenLife - time.Minute
	w := newWorld(t)
	c := w.mini("wxa")
	a := w.plain(c)
	w.set(begin.Add(second))
	w.plain(c)
	around(accounts.TokenLife, func(since time.Duration) {
		w.set(begin.Add(since))
		w.wantAnswer("the first token", a.Text, before(since, accounts.TokenLife, works, expired))
	})
	around(second+accounts.TokenOverlap, func(since time.Duration) {
		w.set(begin.Add(since))
		w.wantAnswer("the first token", a.Text, before(since, second+accounts.TokenOverlap, expired, replaced))
	})
}

func TestToken_PurgedAfterExpiry(t *testing.T) {
	const memory = accounts.TokenLife + 7*24*time.Hour
	w := newWorld(t)
	c := w.mini("wxa")
	a := w.plain(c)
	w.set(begin.Add(memory))
	w.plain(c)
	w.wantAnswer("a token that expired seven days ago", a.Text, expired)
	w.set(begin.Add(memory + time.Millisecond))
	w.plain(c)
	w.wantAnswer("a token that expired longer ago", a.Text, replaced)
}

// Contract: rules 3.6.
func TestToken_MalformedAsUnknown(t *testing.T) {
	w := newWorld(t)
	good := w.plain(w.mini("wxa")).Text
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
		t.Run(c.name, func(t *testing.T) { same(t, "code", w.answers(c.text), c.want) })
	}
}

func TestToken_DeletedAccount(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	text := w.plain(c).Text
	require.NoError(t, w.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error { return tx.DeleteAccount(t.Context(), "wxa") }))
	w.wantAnswer("its token", text, replaced)
	_, err := w.IssueToken(t.Context(), c)
	assert.True(t, code(err) == 40013, "another token: %v", err)
}

// Contract: rules 3.1: the same token until five minutes before its end.
// Behaviour(token.stable.border).
func TestStableToken_RenewalBoundary(t *testing.T) {
	const renewed = accounts.TokenLife - accounts.TokenOverlap
	w := newWorld(t)
	c := w.mini("wxa")
	first := w.stable(c, false)
	same(t, "expires_in", first.ExpiresIn, 7200)
	var second accounts.Issued
	var renewedAt time.Duration
	for _, moment := range []time.Duration{5 * time.Second, time.Hour, renewed} {
		around(moment, func(since time.Duration) {
			w.set(begin.Add(since))
			got := w.stable(c, false)
			left := accounts.TokenLife - since
			if left > accounts.TokenOverlap {
				// A second that has begun is not promised.
				if whole := int(left / time.Second); whole > 300 {
					same(t, fmt.Sprint("after ", since), got, accounts.Issued{Text: first.Text, ExpiresIn: whole})
					return
				}
			}
			if second.Text == "" {
				second, renewedAt = got, since
				same(t, "expires_in of the second", got.ExpiresIn, 7200)
			}
			assert.True(t, got.Text == second.Text && got.Text != first.Text, "after %v: another token than the second", since)
			assert.True(t, got.ExpiresIn > 300, "after %v: expires_in is %d", since, got.ExpiresIn)
		})
	}
	// Both work for five minutes.
	around(renewedAt+accounts.TokenOverlap, func(since time.Duration) {
		w.set(begin.Add(since))
		w.wantAnswer("the first token", first.Text, before(since, renewedAt+accounts.TokenOverlap, works, replaced))
		w.wantAnswer("the second token", second.Text, works)
	})
}

func TestStableToken_ReplacedAfterExpiry(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	first := w.stable(c, false)
	w.set(begin.Add(3 * time.Hour))
	second := w.stable(c, false)
	assert.True(t, second.Text != first.Text && second.ExpiresIn == 7200, "three hours later: %+v", second)
}

// Contract: rules 3.1: two force calls must be at least 30 s apart, otherwise
// the current token comes; the previous token dies at once.
// Behaviour(token.stable.soon).
func TestStableToken_ForceRefreshRevokesPrevious(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	calm := w.stable(c, false)
	w.set(begin.Add(time.Second))
	first := w.stable(c, true)
	assert.True(t, first.Text != calm.Text && first.ExpiresIn == 7200, "a forced token: %+v", first)
	w.wantAnswer("the token before", calm.Text, replaced)
	same(t, "a calm call", w.stable(c, false).Text, first.Text)
	forced := begin.Add(time.Second)
	around(accounts.ForceInterval, func(since time.Duration) {
		if since >= accounts.ForceInterval {
			return
		}
		w.set(forced.Add(since))
		same(t, fmt.Sprint("forced again after ", since), w.stable(c, true),
			accounts.Issued{Text: first.Text, ExpiresIn: int((accounts.TokenLife - since) / time.Second)})
		w.wantAnswer("the forced token", first.Text, works)
	})
	w.set(forced.Add(accounts.ForceInterval))
	second := w.stable(c, true)
	assert.True(t, second.Text != first.Text, "forced again after 30 s: the same token")
	w.wantAnswer("the first forced token", first.Text, replaced)
	w.wantAnswer("the second forced token", second.Text, works)
	same(t, "a calm call", w.stable(c, false).Text, second.Text)
}

func TestStableToken_ForceRefreshRevokesOverlap(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	first := w.stable(c, false)
	w.set(begin.Add(accounts.TokenLife - time.Minute))
	second := w.stable(c, false)
	w.wantAnswer("the first token", first.Text, works)
	w.stable(c, true)
	w.wantAnswer("the first token", first.Text, replaced)
	w.wantAnswer("the second token", second.Text, replaced)
}

func TestStableToken_ForceRefreshDailyLimit(t *testing.T) {
	w := newWorld(t)
	midnight := time.Date(2026, 2, 1, 0, 0, 0, 0, zone)
	c := w.mini("wxa")
	w.set(midnight.Add(-time.Hour))
	var last accounts.Issued
	for n := range accounts.ForcedPerDay {
		w.set(midnight.Add(-time.Hour + time.Duration(n)*accounts.ForceInterval))
		last = w.stable(c, true)
		same(t, "forced again within 30 s", w.stable(c, true).Text, last.Text) // not counted
	}
	w.mini("wxb")
	around(0, func(since time.Duration) {
		w.set(midnight.Add(since))
		issued, err := w.StableToken(t.Context(), c, true)
		if since < 0 {
			same(t, fmt.Sprint(since, " from midnight"), code(err), 45009)
			w.wantAnswer("the last forced token", last.Text, works)
			same(t, "a calm call", w.stable(c, false).Text, last.Text)
			w.stable(credentials("wxb"), true) // another account has its own count
			return
		}
		assert.True(t, err == nil && issued.Text != last.Text, "%v from midnight: %v", since, err)
	})
}

func TestToken_DailyLimit(t *testing.T) {
	w := newWorld(t)
	midnight := time.Date(2026, 2, 1, 0, 0, 0, 0, zone)
	c, other := w.mini("wxa"), w.mini("wxb")
	w.set(midnight.Add(-time.Hour))
	// The first 1,998 in one go.
	day := settings.Defaults().Day(midnight.Add(-time.Hour))
	require.NoError(t, w.store.UpdateAccounts(t.Context(), func(tx accounts.Tx) error {
		for range 1998 {
			if _, err := tx.AddCount(t.Context(), "wxa", "/cgi-bin/token", day); err != nil {
				return err
			}
		}
		return nil
	}))
	w.plain(c)
	last := w.plain(c)
	around(0, func(since time.Duration) {
		w.set(midnight.Add(since))
		issued, err := w.IssueToken(t.Context(), c)
		if since < 0 {
			same(t, fmt.Sprint(since, " from midnight"), code(err), 45009)
			w.wantAnswer("the last token", last.Text, works)
			w.plain(other)
			w.stable(c, false) // the other series has no part in it
			return
		}
		assert.True(t, err == nil && issued.Text != last.Text, "%v from midnight: %v", since, err)
	})
}

func TestToken_DailyLimitUTCOffset(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	values := settings.Defaults()
	values.TokenDailyLimit, values.UTCOffsetHours = 1, -5
	w.Settings.Set(values)
	midnight := time.Date(2026, 2, 1, 5, 0, 0, 0, time.UTC)
	w.set(midnight.Add(-time.Hour))
	w.plain(c)
	w.set(midnight.Add(-time.Millisecond))
	_, err := w.IssueToken(t.Context(), c)
	assert.True(t, code(err) == 45009, "before midnight: %v", err)
	w.set(midnight)
	w.plain(c)
}

func TestStableToken_MinuteLimit(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	minute := begin.Truncate(time.Minute).Add(time.Minute)
	w.set(minute)
	first := w.stable(c, false)
	for n := 1; n < accounts.StablePerMinute; n++ {
		w.set(minute.Add(time.Duration(n) * 5 * time.Millisecond))
		issued, err := w.StableToken(t.Context(), c, false)
		require.True(t, err == nil && issued.Text == first.Text, "call %d: %v", n+1, err)
	}
	other := w.mini("wxb")
	around(time.Minute, func(since time.Duration) {
		w.set(minute.Add(since))
		_, err := w.StableToken(t.Context(), c, false)
		same(t, fmt.Sprint("after ", since), code(err), before(since, time.Minute, 45011, 0))
		w.stable(other, false)
		w.plain(c)
	})
	// A caller with a wrong secret spends nobody's calls, and hears of the secret.
	wrong := c
	wrong.Secret = "x"
	_, err := w.StableToken(t.Context(), wrong, false)
	same(t, "a wrong secret", code(err), 40125)
}

// Contract: rules 3.1: fully isolated.
func TestStableToken_IsolatedFromPlain(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	stable := w.stable(c, false)
	plain := w.plain(c)
	assert.True(t, stable.Text != plain.Text, "both series have one token")
	w.set(begin.Add(time.Minute))
	second := w.plain(c)
	w.set(begin.Add(10 * time.Minute))
	w.wantAnswer("the plain token that was replaced", plain.Text, replaced)
	w.wantAnswer("the stable token", stable.Text, works)
	same(t, "the stable token", w.stable(c, false).Text, stable.Text)
	forced := w.stable(c, true)
	w.wantAnswer("the stable token that was forced out", stable.Text, replaced)
	w.wantAnswer("the plain token", second.Text, works)
	w.set(begin.Add(20 * time.Minute))
	w.wantAnswer("the plain token", second.Text, works)
	w.wantAnswer("the forced token", forced.Text, works)
}

func TestToken_IsolatedPerAccount(t *testing.T) {
	w := newWorld(t)
	a, b := w.mini("wxa"), w.mini("WXA")
	plain, stable := w.plain(a), w.stable(a, false)
	w.plain(b)
	w.plain(b)
	w.stable(b, true)
	w.set(begin.Add(time.Hour))
	w.wantAnswer("the plain token", plain.Text, works)
	same(t, "the stable token", w.stable(a, false).Text, stable.Text)
}

func TestStableToken_OperatorWithoutSecret(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	got, err := w.OperatorToken(t.Context(), "wxa")
	require.NoError(t, err)
	same(t, "the token of the account", w.stable(c, false), got)
	assert.True(t, assert.ErrorOf(w.OperatorToken(t.Context(), "wxnobody")) != nil, "nobody has a token")
}

// Contract: rules 3.1. From line to line one fault is mended.
func TestTokenCall_ErrorPrecedence(t *testing.T) {
	w := newWorld(t)
	w.put(accounts.Registration{Account: accounts.Account{AppID: "wxa", SecretFrozen: true, IPAllowlist: []string{"10.0.0.0/8"}},
		Secret: "right"})
	require.NoError(t, w.PutComponent(t.Context(), accounts.Component{AppID: "wxc"}, "right", "t", aesKey))
	changes := map[string]func(*accounts.Account){"unfreeze": func(a *accounts.Account) { a.SecretFrozen = false },
		"no secret": func(a *accounts.Account) { a.SecretHash = "" }}
	fill := strings.NewReplacer("LONGEST", strings.Repeat("x", 256), "LONG", strings.Repeat("x", 257))
	for _, c := range testtable.Rows(t, "testdata/token_calls.txt", 8) {
		t.Run(c[0], func(t *testing.T) {
			if change := changes[c[5]]; change != nil {
				_, err := w.Change(t.Context(), "wxa", func(a *accounts.Account) error { change(a); return nil })
				require.NoError(t, err)
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
				same(t, series, fmt.Sprint(code(err)), c[6])
				assert.True(t, err == nil || issued == (accounts.Issued{}), "%s: a token comes with the error", series)
				if row, _ := errcode.FromError(err); c[7] != "" {
					same(t, series+", text", row.Text, c[7])
				}
			}
		})
	}
}

func TestToken_IPAllowlist(t *testing.T) {
	w := newWorld(t)
	for _, c := range testtable.Rows(t, "testdata/allowlists.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			account := accounts.Account{AppID: "wxa", IPAllowlist: testtable.List(c[1])}
			w.put(accounts.Registration{Account: account, Secret: "secret of wxa"})
			given := credentials("wxa")
			given.IP = netip.MustParseAddr(c[2])
			_, err := w.StableToken(t.Context(), given, false)
			same(t, "code", fmt.Sprint(code(err)), c[3])
		})
	}
}

// fetchAtOnce makes n calls that start together.
func fetchAtOnce(t *testing.T, n int, fetch func(context.Context) (accounts.Issued, error)) []accounts.Issued {
	t.Helper()
	got := make([]accounts.Issued, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			var err error
			got[i], err = fetch(t.Context())
			assert.NoError(t, err)
		})
	}
	close(start)
	wg.Wait()
	return got
}

func distinct(list []accounts.Issued) map[string]int {
	texts := map[string]int{}
	for _, issued := range list {
		texts[issued.Text]++
	}
	return texts
}

func TestStableToken_ConcurrentCallsShareOne(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	fetch := func(force bool) func(context.Context) (accounts.Issued, error) {
		return func(ctx context.Context) (accounts.Issued, error) { return w.StableToken(ctx, c, force) }
	}
	same(t, "tokens of the first calls", len(distinct(fetchAtOnce(t, 32, fetch(false)))), 1)
	w.set(begin.Add(accounts.TokenLife - accounts.TokenOverlap))
	same(t, "tokens of the renewal", len(distinct(fetchAtOnce(t, 32, fetch(false)))), 1)
	w.set(begin.Add(accounts.TokenLife))
	forced := distinct(fetchAtOnce(t, 32, fetch(true)))
	same(t, "tokens of the forced refresh", len(forced), 1)
	require.NoError(t, w.store.ViewAccounts(t.Context(), func(tx accounts.Tx) error {
		n, err := tx.Count(t.Context(), "wxa", "/cgi-bin/stable_token force", settings.Defaults().Day(begin))
		same(t, "forced refreshes that count", n, 1)
		return err
	}))
}

func TestToken_ConcurrentIssueLastSurvives(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	all := distinct(fetchAtOnce(t, 32, func(ctx context.Context) (accounts.Issued, error) { return w.IssueToken(ctx, c) }))
	same(t, "tokens", len(all), 32)
	alive := func() (n int) {
		t.Helper()
		for text := range all {
			if w.answers(text) == works {
				n++
			}
		}
		return n
	}
	around(accounts.TokenOverlap, func(since time.Duration) {
		w.set(begin.Add(since))
		same(t, fmt.Sprint("alive after ", since), alive(), before(since, accounts.TokenOverlap, 32, 1))
	})
}

func TestToken_ConcurrentPlainAndStable(t *testing.T) {
	w := newWorld(t)
	c := w.mini("wxa")
	var mu sync.Mutex
	n := 0
	got := fetchAtOnce(t, 32, func(ctx context.Context) (accounts.Issued, error) {
		mu.Lock()
		n++
		odd := n%2 == 1
		mu.Unlock()
		if odd {
			return w.StableToken(ctx, c, false)
		}
		return w.IssueToken(ctx, c)
	})
	texts := distinct(got)
	same(t, "tokens", len(texts), 17)
	same(t, "calls that got the stable one", texts[w.stable(c, false).Text], 16)
	for text := range texts {
		w.wantAnswer("a token", text, works)
	}
}
