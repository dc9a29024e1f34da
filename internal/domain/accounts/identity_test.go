package accounts_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// identify returns the error code of a token and no caller, or "works" and its caller.
func identify(d *accounts.Service, t *testing.T, text string) (string, *accounts.Caller) {
	caller, err := d.Identify(t.Context(), text)
	if err != nil {
		return fmt.Sprint(code(err)), nil
	}
	return "works", &caller
}

// TestIdentityCache_EqualsStore verifies that after random changes a Service with a cache returns the results of one that reads the store.
func TestIdentityCache_EqualsStore(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			w := newFixture(t)
			ctx := t.Context()
			uncached := &accounts.Service{Store: w.store, Key: w.Key, Settings: w.Settings, Random: w.Random, Now: w.Now}
			apps, platforms := []string{"wxa", "wxb", "wxd"}, []string{"wxp", "wxq"}
			for _, app := range apps {
				w.addMiniProgram(app)
			}
			isv := map[string]accounts.PlatformCredentials{}
			for _, p := range platforms {
				isv[p] = w.addPlatform(p, "")
			}
			var tokens []string
			now := begin
			pick := func(list []string) string { return list[random.IntN(len(list))] }
			steps := []struct {
				name string
				run  func() error
			}{
				{"time passes", func() error {
					now = now.Add([]time.Duration{time.Second, 4 * time.Minute, 31 * time.Minute, 121 * time.Minute}[random.IntN(4)])
					w.setTime(now)
					return nil
				}},
				{"the clock is set back", func() error {
					now = now.Add(-10 * time.Minute)
					w.setTime(now)
					return nil
				}},
				{"a plain token", func() error {
					issued, err := w.IssueToken(ctx, credentials(pick(apps)))
					tokens = append(tokens, issued.Text)
					return err
				}},
				{"a stable token", func() error {
					issued, err := w.StableToken(ctx, credentials(pick(apps)), random.IntN(2) == 0)
					tokens = append(tokens, issued.Text)
					return err
				}},
				{"a platform's token", func() error {
					p := pick(platforms)
					ticket, err := w.NewTicket(ctx, p)
					if err != nil {
						return err
					}
					issued, err := w.PlatformToken(ctx, isv[p], ticket)
					tokens = append(tokens, issued.Text)
					return err
				}},
				{"an authorisation", func() error {
					p, app := pick(platforms), pick(apps)
					text, err := w.authorize(p, app, true, [][]int{{18}, {30}, {18, 30}}[random.IntN(3)]...)
					if err != nil || random.IntN(2) == 0 {
						return err
					}
					a, err := w.TradeAuthCode(ctx, p, text)
					tokens = append(tokens, a.Token.Text)
					return err
				}},
				{"a revocation", func() error { return w.Revoke(ctx, pick(platforms), pick(apps)) }},
				{"an account is changed", func() error {
					_, err := w.Change(ctx, pick(apps), func(a *accounts.Account) error {
						a.Name = fmt.Sprint("name ", random.IntN(1000))
						return nil
					})
					return err
				}},
				{"an account's addresses are changed", func() error {
					_, err := w.Change(ctx, pick(apps), func(a *accounts.Account) error {
						a.IPAllowlist = [][]string{nil, {"10.0.0.0/8"}}[random.IntN(2)]
						return nil
					})
					return err
				}},
				{"a platform is changed", func() error {
					return w.PutComponent(ctx, accounts.Component{AppID: pick(platforms),
						IPAllowlist: []string{fmt.Sprintf("10.%d.0.0/16", random.IntN(200))}}, "", "tok", aesKey)
				}},
				{"an account is deleted", func() error {
					app := pick(apps)
					if err := w.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error { return tx.DeleteAccount(ctx, app) }); err != nil ||
						random.IntN(2) == 0 {
						return err
					}
					w.addMiniProgram(app)
					return nil
				}},
				{"a transaction that fails", func() error {
					app := pick(apps)
					return w.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error {
						if err := tx.ShortenTokens(ctx, accounts.Token{AppID: app, Kind: accounts.Plain, IssuedAt: now}, now); err != nil {
							return err
						}
						return fmt.Errorf("no")
					})
				}},
			}
			valid, cached := 0, 0
			var history []string
			for range 60 {
				i := random.IntN(len(steps))
				if steps[i].name == "an account is deleted" && random.IntN(4) > 0 {
					continue // most accounts stay
				}
				err := steps[i].run()
				history = append(history, fmt.Sprint(steps[i].name, " ", err))
				for _, app := range apps {
					var results []string
					for _, d := range []*accounts.Service{w.Service, w.Service, uncached} { // the second time from the cache
						issued, err := d.StableToken(ctx, credentials(app), false)
						results = append(results, fmt.Sprint(issued, " ", code(err)))
					}
					require.True(t, results[0] == results[2] && results[1] == results[2],
						"after %q: stable tokens of %s = %q, want equal tokens", history, app, results)
					cached += strings.Count(results[1], " 0")
				}
				tokens = slices.DeleteFunc(tokens, func(s string) bool { return s == "" })
				for _, text := range tokens[max(0, len(tokens)-12):] {
					for range 2 { // from the store and from the cache
						got, caller := identify(w.Service, t, text)
						want, wantCaller := identify(uncached, t, text)
						require.True(t, got == want && cmp.Equal(caller, wantCaller, cmp.AllowUnexported(accounts.Caller{})),
							"after %q: cached: %s %+v, stored: %s %+v", history, got, caller, want, wantCaller)
						if caller != nil {
							valid++
						}
					}
				}
			}
			assert.True(t, valid >= 50 && cached >= 50, "%d valid tokens, %d stable tokens, want at least 50 of each", valid, cached)
		})
	}
}

// TestIdentityCache_RevokedTokenRejected revokes one token after another during calls of eight goroutines and verifies that a call that
// starts after the revocation is rejected.
func TestIdentityCache_RevokedTokenRejected(t *testing.T) {
	w := newFixture(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.addMiniProgram("wxa")
	w.addPlatform("wxp", "")
	now := begin
	type token struct {
		text    string
		want    string      // the error code after the revocation
		revoked atomic.Bool // the revocation returned
	}
	var current atomic.Pointer[token]
	var accepted atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for ; ctx.Err() == nil; runtime.Gosched() {
				l := current.Load()
				if l == nil {
					continue
				}
				revoked := l.revoked.Load() // before the call
				_, err := w.AuthenticateWithin(context.WithoutCancel(ctx), l.text, nil)
				switch {
				case revoked && err == nil: // later rounds change the error code, so it is not checked
					t.Error("a revoked token was accepted")
					return
				case err == nil:
					accepted.Add(1)
				}
			}
		})
	}
	for round := range 20 {
		l := &token{}
		var revoke func() error
		if round%2 == 0 {
			l.text, l.want = require.Value(w.TradeAuthCode(ctx, "wxp",
				w.mustAuthorize("wxp", "wxa", 18)))(t).Token.Text, "61003"
			revoke = func() error { return w.Revoke(ctx, "wxp", "wxa") }
		} else {
			now = now.Add(2 * accounts.ForceInterval)
			if round%18 == 1 {
				now = now.Add(24 * time.Hour) // forced refreshes per day are limited
			}
			w.setTime(now)
			l.text, l.want = require.Value(w.StableToken(ctx, credentials("wxa"), false))(t).Text, "40001"
			revoke = func() error { return assert.ErrorOf(w.StableToken(ctx, credentials("wxa"), true)) }
		}
		before := accepted.Load()
		current.Store(l)
		for accepted.Load() < before+20 && !t.Failed() {
			runtime.Gosched() // until the token is cached
		}
		require.NoError(t, revoke())
		l.revoked.Store(true)
		got, _ := identify(w.Service, t, l.text)
		require.Equal(t, got, l.want, "round %d: code of the revoked token", round)
	}
	stop()
	callers.Wait()
}

// TestIdentityCache_SkipsReadDuringChange verifies that an identity that is read during a transaction that changes it is not cached.
func TestIdentityCache_SkipsReadDuringChange(t *testing.T) {
	w := newFixture(t)
	ctx := t.Context()
	text := w.mustIssueToken(w.addMiniProgram("wxa")).Text
	require.NoError(t, w.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error {
		w.assertTokenCode("the token before the commit", text, works)
		w.assertTokenCode("the token before the commit, again", text, works)
		return tx.DeleteAccount(ctx, "wxa")
	}))
	w.assertTokenCode("the token after the commit", text, replaced)
}

// tokenStore is a store in which every token is valid. It counts read transactions.
type tokenStore struct {
	accounts.Store
	accounts.Tx
	reads int
}

func (s *tokenStore) ViewAccounts(_ context.Context, f func(accounts.Tx) error) error {
	s.reads++
	return f(s)
}

func (s *tokenStore) Bearer(context.Context, string, string, *accounts.Rate) (accounts.Token, accounts.Account, error) {
	return accounts.Token{ExpiresAt: begin.Add(time.Hour)}, accounts.Account{}, nil
}

// newTokenStore returns a Service on a tokenStore.
func newTokenStore(t testing.TB) (*accounts.Service, *tokenStore) {
	s := &tokenStore{}
	return &accounts.Service{Store: s, Epochs: new(accounts.Epochs), Key: newKey(t), Now: func() time.Time { return begin }}, s
}

func TestIdentityCache_Eviction(t *testing.T) {
	d, s := newTokenStore(t)
	const capacity, excess = 1 << 13, 1000
	for range 2 {
		s.reads = 0
		for n := range capacity + excess {
			require.NoError(t, assert.ErrorOf(d.Identify(t.Context(), fmt.Sprintf("1_%064d", n))))
		}
	}
	assert.True(t, s.reads >= excess && s.reads < capacity+excess, "%d tokens were read again, want %d to %d", s.reads, excess,
		capacity+excess-1)
}

func FuzzTheShapeOfATokenIsThatOfTheContract(f *testing.F) {
	shape := regexp.MustCompile(`^[0-9]{1,10}_[0-9A-Za-z_-]{64,500}$`)
	for _, text := range []string{"1_" + strings.Repeat("a", 64), "1_" + strings.Repeat("_", 500), "_" + strings.Repeat("a", 64),
		"12345678901_" + strings.Repeat("a", 64),
		"1" + strings.Repeat("a", 64), "1_" + strings.Repeat("a", 63), "1_" + strings.Repeat("a", 64) + "\n", "1_" +
			strings.Repeat("a", 501), "1_" + strings.Repeat("é", 64), ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, s := newTokenStore(t)
		_, err := d.Identify(t.Context(), text)
		assert.True(t, (s.reads == 1 && err == nil) == shape.MatchString(text) && s.reads < 2, "%q: %v, %d reads", text, err, s.reads)
	})
}

func TestIdentityCache_FollowsGrants(t *testing.T) {
	w := newFixture(t)
	w.addMiniProgram("wxa")
	w.addPlatform("wxp", "")
	text := require.Value(w.TradeAuthCode(t.Context(), "wxp", w.mustAuthorize("wxp", "wxa", 18)))(t).Token.Text
	granted := func(set int) int {
		t.Helper()
		return code(require.Value(w.AuthenticateWithin(t.Context(), text, nil))(t).Granted(set))
	}
	for _, step := range []struct {
		sets []int
		want int // of set 30
	}{{nil, 61007}, {[]int{18, 30}, works}, {[]int{18}, 61007}} {
		if step.sets != nil {
			before := text
			text = require.Value(w.TradeAuthCode(t.Context(), "wxp",
				w.mustAuthorize("wxp", "wxa", step.sets...)))(t).Token.Text
			w.assertTokenCode("the previous token", before, 40001)
		}
		assertEqual(t, "set 18", granted(18), works)
		assertEqual(t, "set 30", granted(30), step.want)
	}
}
