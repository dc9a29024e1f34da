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

// answer is what a token leads to, in one text that can be compared.
func answer(d *accounts.Service, t *testing.T, text string) (string, *accounts.Caller) {
	caller, err := d.Identify(t.Context(), text)
	if err != nil {
		return fmt.Sprint(code(err)), nil
	}
	return "works", &caller
}

// A directory that remembers answers at every moment as one that asks the store each time, whatever was done in between.
func TestIdentityCache_EqualsStore(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			ctx := t.Context()
			asks := &accounts.Service{Store: w.store, Key: w.Key, Settings: w.Settings, Random: w.Random, Now: w.Now}
			apps, platforms := []string{"wxa", "wxb", "wxd"}, []string{"wxp", "wxq"}
			for _, app := range apps {
				w.mini(app)
			}
			isv := map[string]accounts.PlatformCredentials{}
			for _, p := range platforms {
				isv[p] = w.platform(p, "")
			}
			var tokens []string
			now := begin
			pick := func(list []string) string { return list[random.IntN(len(list))] }
			steps := []struct {
				name string
				do   func() error
			}{
				{"time goes on", func() error {
					now = now.Add([]time.Duration{time.Second, 4 * time.Minute, 31 * time.Minute, 121 * time.Minute}[random.IntN(4)])
					w.set(now)
					return nil
				}},
				{"the clock goes back", func() error {
					now = now.Add(-10 * time.Minute)
					w.set(now)
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
					text, err := w.agree(p, app, true, [][]int{{18}, {30}, {18, 30}}[random.IntN(3)]...)
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
					w.mini(app)
					return nil
				}},
				{"a transaction that fails", func() error {
					app := pick(apps)
					return w.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error {
						if err := tx.ShortenTokens(ctx, app, accounts.Plain, now); err != nil {
							return err
						}
						return fmt.Errorf("no")
					})
				}},
			}
			worked, kept := 0, 0
			var told []string
			for range 60 {
				i := random.IntN(len(steps))
				if steps[i].name == "an account is deleted" && random.IntN(4) > 0 {
					continue // most accounts stay
				}
				err := steps[i].do()
				told = append(told, fmt.Sprint(steps[i].name, " ", err))
				for _, app := range apps {
					var answers []string
					for _, d := range []*accounts.Service{w.Service, w.Service, asks} { // the second time from memory
						issued, err := d.StableToken(ctx, credentials(app), false)
						answers = append(answers, fmt.Sprint(issued, " ", code(err)))
					}
					require.True(t, answers[0] == answers[2] && answers[1] == answers[2],
						"after %q: the stable token of %s: %q", told, app, answers)
					kept += strings.Count(answers[1], " 0")
				}
				tokens = slices.DeleteFunc(tokens, func(s string) bool { return s == "" })
				for _, text := range tokens[max(0, len(tokens)-12):] {
					for range 2 { // from the store, and from memory
						got, caller := answer(w.Service, t, text)
						want, whose := answer(asks, t, text)
						require.True(t, got == want && cmp.Equal(caller, whose, cmp.AllowUnexported(accounts.Caller{})),
							"after %q: remembered: %s %+v, stored: %s %+v", told, got, caller, want, whose)
						if caller != nil {
							worked++
						}
					}
				}
			}
			assert.True(t, worked >= 50 && kept >= 50, "only %d tokens worked, %d stable ones came: the test shows little", worked, kept)
		})
	}
}

// A call after a change was acknowledged meets it: eight callers never rest while one token after another is ended.
func TestIdentityCache_RevokedTokenRejected(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.mini("wxa")
	w.platform("wxp", "")
	now := begin
	type life struct {
		text string
		want string      // what it answers after its end
		over atomic.Bool // its end was acknowledged
	}
	var current atomic.Pointer[life]
	var passed atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for ; ctx.Err() == nil; runtime.Gosched() { // others have work to do
				l := current.Load()
				if l == nil {
					continue
				}
				over := l.over.Load() // before the call
				_, err := w.AuthenticateWithin(context.WithoutCancel(ctx), l.text, nil)
				switch {
				case over && err == nil: // what else it answers then, later rounds change
					t.Error("a token passes after its end")
					return
				case err == nil:
					passed.Add(1)
				}
			}
		})
	}
	for round := range 20 {
		l := &life{}
		var end func() error
		if round%2 == 0 {
			l.text, l.want = must[accounts.Authorization](t)(w.TradeAuthCode(ctx, "wxp", w.agreed("wxp", "wxa", 18))).Token.Text, "61003"
			end = func() error { return w.Revoke(ctx, "wxp", "wxa") }
		} else {
			now = now.Add(2 * accounts.ForceInterval)
			if round%18 == 1 {
				now = now.Add(24 * time.Hour) // for the refreshes of another day
			}
			w.set(now)
			l.text, l.want = must[accounts.Issued](t)(w.StableToken(ctx, credentials("wxa"), false)).Text, "40001"
			end = func() error {
				_, err := w.StableToken(ctx, credentials("wxa"), true)
				return err
			}
		}
		before := passed.Load()
		current.Store(l)
		for passed.Load() < before+20 && !t.Failed() {
			runtime.Gosched() // until it is remembered
		}
		require.NoError(t, end())
		l.over.Store(true)
		got, _ := answer(w.Service, t, l.text)
		require.Equal(t, got, l.want, "round %d", round)
	}
	stop()
	callers.Wait()
}

// An identity that is read while a change is being stored is not remembered.
func TestIdentityCache_SkipsReadDuringChange(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	text := w.plain(w.mini("wxa")).Text
	require.NoError(t, w.Store.UpdateAccounts(ctx, func(tx accounts.Tx) error {
		w.wantAnswer("before the change is stored", text, works)
		w.wantAnswer("before the change is stored, remembered", text, works)
		return tx.DeleteAccount(ctx, "wxa")
	}))
	w.wantAnswer("after it", text, replaced)
}

// counted is a store in which every token is valid, and counts what is read.
type counted struct {
	accounts.Store
	accounts.Tx
	reads int
}

func (s *counted) ViewAccounts(_ context.Context, f func(accounts.Tx) error) error {
	s.reads++
	return f(s)
}

func (s *counted) Bearer(context.Context, string, string, *accounts.Rate) (accounts.Token, accounts.Account, error) {
	return accounts.Token{ExpiresAt: begin.Add(time.Hour)}, accounts.Account{}, nil
}

// newCounted returns a directory on a counted store.
func newCounted(t testing.TB) (*accounts.Service, *counted) {
	s := &counted{}
	return &accounts.Service{Store: s, Epochs: new(accounts.Epochs), Key: newKey(t), Now: func() time.Time { return begin }}, s
}

func TestIdentityCache_Eviction(t *testing.T) {
	d, s := newCounted(t)
	const capacity, more = 1 << 13, 1000
	for range 2 {
		s.reads = 0
		for n := range capacity + more {
			require.NoError(t, assert.ErrorOf(d.Identify(t.Context(), fmt.Sprintf("1_%064d", n))))
		}
	}
	assert.True(t, s.reads >= more && s.reads < capacity+more, "%d tokens were read again, want at least %d", s.reads, more)
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
		d, s := newCounted(t)
		_, err := d.Identify(t.Context(), text)
		assert.True(t, (s.reads == 1 && err == nil) == shape.MatchString(text) && s.reads < 2, "%q: %v, %d reads", text, err, s.reads)
	})
}

func TestIdentityCache_FollowsGrants(t *testing.T) {
	w := newWorld(t)
	w.mini("wxa")
	w.platform("wxp", "")
	text := must[accounts.Authorization](t)(w.TradeAuthCode(t.Context(), "wxp", w.agreed("wxp", "wxa", 18))).Token.Text
	granted := func(set int) int {
		t.Helper()
		return code(must[accounts.Caller](t)(w.AuthenticateWithin(t.Context(), text, nil)).Granted(set))
	}
	for _, step := range []struct {
		sets []int
		want int // of set 30
	}{{nil, 61007}, {[]int{18, 30}, works}, {[]int{18}, 61007}} {
		if step.sets != nil {
			before := text
			text = must[accounts.Authorization](t)(w.TradeAuthCode(t.Context(), "wxp", w.agreed("wxp", "wxa", step.sets...))).Token.Text
			w.wantAnswer("the token from before", before, 40001)
		}
		same(t, "set 18", granted(18), works)
		same(t, "set 30", granted(30), step.want)
	}
}
