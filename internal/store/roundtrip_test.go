package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestAccount_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[accounts.Account](t)
		none, empty := withEmptyLists(full, true), withEmptyLists(full, false)
		none.AppID, empty.AppID = "none", "empty"
		zero := accounts.Account{AppID: "zero"}
		for _, a := range []accounts.Account{full, none, empty, zero} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Account(ctx, a.AppID)
				check(t, a.AppID, got, a)
				return err
			})
		}
		// An update writes every column too.
		zero.AppID = full.AppID
		for _, a := range []accounts.Account{zero, full} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Account(ctx, a.AppID)
				check(t, "updated account", got, a)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Account(ctx, "nobody")), accounts.ErrNoAccount, "an unknown account")
			return nil
		})
	})
}

func TestDeleteAccount_Cascades(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, appid := range []string{"wxservice", "wxmini", "wxother"} {
				if err := tx.accounts().PutAccount(ctx, accounts.Account{AppID: appid}); err != nil {
					return err
				}
				token := accounts.Token{Hash: "hash of " + appid, AppID: appid, Kind: accounts.Plain, IssuedAt: t0,
					ExpiresAt: t0.Add(time.Hour)}
				if err := tx.accounts().PutToken(ctx, token); err != nil {
					return err
				}
			}
			if err := tx.accounts().PutLink(ctx, "wxservice", "wxmini", t0); err != nil {
				return err
			}
			if err := tx.accounts().PutLink(ctx, "wxservice", "wxother", t0); err != nil {
				return err
			}
			return tx.accounts().PutComponent(ctx, accounts.Component{AppID: "wxc",
				Grants: []accounts.Grant{{AppID: "wxmini"}, {AppID: "wxother"}}})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxmini") })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Account(ctx, "wxmini")), accounts.ErrNoAccount, "a deleted account")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Token(ctx, "hash of wxmini")), accounts.ErrNoToken,
				"a token of the deleted account")
			assert.NoErrorf(t, assert.ErrorOf(tx.accounts().Token(ctx, "hash of wxother")), "a token of another account")
			links, err := tx.accounts().Links(ctx, "wxservice")
			check(t, "links", links, []string{"wxother"})
			if err != nil {
				return err
			}
			c, err := tx.accounts().Component(ctx, "wxc")
			check(t, "grants", c.Grants, []accounts.Grant{{AppID: "wxother"}})
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxservice") })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			linked, err := tx.accounts().Linked(ctx, "wxservice", "wxother")
			check(t, "linked", linked, false)
			return err
		})
	})
}

func TestAccountLink_AddTwiceAndDelete(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.accounts().PutLink(ctx, "wxs", "wxm", t0); err != nil {
				return err
			}
			return tx.accounts().PutLink(ctx, "wxs", "wxm", t0.Add(time.Hour))
		})
		checkLinked := func(service, mini string, wanted bool) {
			t.Helper()
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Linked(ctx, service, mini)
				check(t, service+" with "+mini, got, wanted)
				return err
			})
		}
		checkLinked("wxs", "wxm", true)
		checkLinked("wxm", "wxs", false)
		checkLinked("wxS", "wxm", false)
		check(t, "rows", queryInt(t, s, `SELECT COUNT(*) FROM links`), int64(1))
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
		checkLinked("wxs", "wxm", false)
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
	})
}

func TestComponent_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[accounts.Component](t)
		none, empty := withEmptyLists(full, true), withEmptyLists(full, false)
		none.AppID, empty.AppID = "none", "empty"
		empty.Grants = []accounts.Grant{{AppID: "a", PermissionSets: nil}, {AppID: "b", PermissionSets: []int{}}}
		put := func(c accounts.Component) (got accounts.Component) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutComponent(ctx, c) })
			view(t, s, func(ctx context.Context, tx *Tx) (err error) {
				got, err = tx.accounts().Component(ctx, c.AppID)
				return err
			})
			return got
		}
		check(t, "component", put(full), full)
		check(t, "component with empty lists", put(empty), empty)
		got := put(none)
		check(t, "grants", len(got.Grants), 0)
		got.Grants = nil
		check(t, "component with nil lists", got, none)

		changed := withEmptyLists(newFilled[accounts.Component](t), false)
		changed.AppID, changed.SecretHash, changed.CreatedAt = full.AppID, "another", t0.Add(time.Hour)
		changed.Grants = []accounts.Grant{{AppID: "wxnew", PermissionSets: []int{18}}, full.Grants[1]}
		got = put(changed)
		changed.CreatedAt = full.CreatedAt // an update keeps CreatedAt
		changed.Grants = []accounts.Grant{full.Grants[1], {AppID: "wxnew", PermissionSets: []int{18}}}
		check(t, "updated component with grants", got, changed)

		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Component(ctx, "nobody")), accounts.ErrNoComponent, "an unknown component")
			return nil
		})
	})
}

func TestToken_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[accounts.Token](t)
		fresh := accounts.Token{Hash: "h", AppID: "wxa", Kind: accounts.Stable, IssuedAt: t0, ExpiresAt: t0.Add(accounts.TokenLife)}
		for _, k := range []accounts.Token{full, fresh} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutToken(ctx, k) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Token(ctx, k.Hash)
				check(t, "token", got, k)
				if err != nil {
					return err
				}
				got, err = tx.accounts().LatestToken(ctx, k.AppID, k.Kind)
				check(t, "latest token", got, k)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Token(ctx, "H")), accounts.ErrNoToken, "an unknown token")
			_, err := tx.accounts().LatestToken(ctx, "wxa", accounts.Plain)
			assert.ErrorIs(t, err, accounts.ErrNoToken, "a kind without tokens")
			return nil
		})
	})
}

func TestToken_RevokedByAccountAndSeries(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		token := func(hash, appid string, series accounts.TokenKind, issued time.Duration) accounts.Token {
			return accounts.Token{Hash: hash, AppID: appid, Kind: series, IssuedAt: t0.Add(issued),
				ExpiresAt: t0.Add(issued + accounts.TokenLife)}
		}
		all := []accounts.Token{
			token("old", "wxa", accounts.Plain, 0),
			token("new", "wxa", accounts.Plain, time.Minute),
			token("stable", "wxa", accounts.Stable, 0),
			token("expired", "wxa", accounts.Plain, 9*time.Minute-accounts.TokenLife),
			token("other", "wxb", accounts.Plain, 0),
		}
		supersededAt := func() map[string]time.Time {
			t.Helper()
			got := map[string]time.Time{}
			view(t, s, func(ctx context.Context, tx *Tx) error {
				for _, k := range all {
					k, err := tx.accounts().Token(ctx, k.Hash)
					if errors.Is(err, accounts.ErrNoToken) {
						continue
					}
					if err != nil {
						return err
					}
					got[k.Hash] = k.SupersededAt
				}
				return nil
			})
			return got
		}
		ten := t0.Add(10 * time.Minute)
		shorten := func(d time.Duration) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.accounts().ShortenTokens(ctx, accounts.Token{AppID: "wxa", Kind: accounts.Plain, IssuedAt: ten}, t0.Add(d))
			})
		}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, k := range all {
				if err := tx.accounts().PutToken(ctx, k); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			latest, err := tx.accounts().LatestToken(ctx, "wxa", accounts.Plain)
			check(t, "latest", latest.Hash, "new")
			return err
		})
		shorten(10 * time.Minute)
		check(t, "tokens superseded after 10 minutes", supersededAt(),
			map[string]time.Time{"old": ten, "new": ten, "stable": {}, "expired": {}, "other": {}})
		shorten(20 * time.Minute)
		check(t, "tokens after a later end", supersededAt(),
			map[string]time.Time{"old": ten, "new": ten, "stable": {}, "expired": {}, "other": {}})
		shorten(5 * time.Minute)
		five := t0.Add(5 * time.Minute)
		check(t, "tokens after an earlier end", supersededAt(),
			map[string]time.Time{"old": five, "new": five, "stable": {}, "expired": {}, "other": {}})

		// After the clock is set back, the latest token is the one that is not superseded.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().PutToken(ctx, token("back", "wxa", accounts.Plain, -time.Hour))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			latest, err := tx.accounts().LatestToken(ctx, "wxa", accounts.Plain)
			check(t, "latest after the clock went back", latest.Hash, "back")
			return err
		})

		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().ForgetTokens(ctx, "wxa", t0.Add(time.Minute+accounts.TokenLife))
		})
		check(t, "tokens after ForgetTokens", supersededAt(), map[string]time.Time{"new": five, "other": {}})
	})
}

func TestCounters_ByAccountThingAndDay(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, c := range []struct {
				appid, name string
				day         int64
				want        int
			}{{"wxa", "x", 1, 1}, {"wxa", "x", 1, 2}, {"wxa", "x", 2, 1}, {"wxa", "y", 1, 1}, {"WXA", "x", 1, 1}, {"wxa", "x", 1, 3}} {
				n, err := tx.accounts().AddCount(ctx, c.appid, c.name, c.day)
				if err != nil {
					return err
				}
				check(t, fmt.Sprint(c), n, c.want)
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for day, wanted := range []int{0, 3, 1, 0} {
				n, err := tx.accounts().Count(ctx, "wxa", "x", int64(day))
				if err != nil {
					return err
				}
				check(t, fmt.Sprint("day ", day), n, wanted)
			}
			return nil
		})
	})
}

// randomText returns a text of n bytes that a database cannot compress.
func randomText(n int) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~"
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b strings.Builder
	for range n {
		b.WriteByte(letters[r.IntN(len(letters))])
	}
	return b.String()
}

func TestRule_RoundTrip(t *testing.T) {
	pad := func(start string) string { return start + randomText(rules.MaxPrefix-len(start)) }
	host := strings.Repeat("a123456789.", 22) + "example"
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[rules.Rule](t)
		list := []rules.Rule{full, withEmptyLists(full, true), withEmptyLists(full, false), {Kind: rules.Ordinary},
			{Kind: rules.KindService, Owner: "wxs", Target: "wxm"}}
		list[1].Prefix = parsePrefix(t, "https://nil.example", rules.Ordinary)
		list[2].Prefix = parsePrefix(t, "https://empty.example/%E6%89%AB?a='b'&c=$1;--", rules.Ordinary)
		list[3].Prefix = parsePrefix(t, pad("https://h.example/"), rules.Ordinary)
		list[4].Prefix = parsePrefix(t, pad("http://weixin.qq.com/q/"), rules.KindService)
		for _, text := range []string{pad("https://" + host + "/"), pad("https://h.example?"), "http://[::1]:8080/x/",
			"https://h.example#" + randomText(100),
			"https://h.example/x", "https://h.example/X", "https://h.example/x/", "http://h.example/x"} {
			list = append(list, newRule(t, "wxa", text))
		}
		added := addRules(t, s, list...)
		for i, r := range list {
			r.ID = int64(i + 1)
			check(t, "added rule", added[i], r)
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Rule(ctx, r.Prefix.Key)
				check(t, "stored rule", got, r)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, key := range []string{"https://h.example/y", "HTTPS://h.example/x", "https://h.example/x//", ""} {
				assert.ErrorIs(t, assert.ErrorOf(tx.rules().Rule(ctx, key)), rules.ErrNoRule, "Rule(%q)", key)
			}
			return nil
		})
	})
}

func TestUpdateRule_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		plain := addRules(t, s, newRule(t, "wxa", "https://h.example/"), newRule(t, "wxa", "https://h.example/other"))
		changed := newFilled[rules.Rule](t)
		// Fields that an update does not change.
		changed.ID, changed.Owner, changed.Kind, changed.Prefix, changed.CreatedAt = plain[0].ID, plain[0].Owner, plain[0].Kind,
			plain[0].Prefix, plain[0].CreatedAt
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, changed, addMeta) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Rule(ctx, changed.Prefix.Key)
			check(t, "updated rule", got, changed)
			if err != nil {
				return err
			}
			got, err = tx.rules().Rule(ctx, plain[1].Prefix.Key)
			check(t, "other rule", got, plain[1])
			return err
		})
		unknown := changed
		unknown.ID = 99
		for action, f := range map[string]func(context.Context, *Tx) error{
			"put":    func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, unknown, addMeta) },
			"delete": func(ctx context.Context, tx *Tx) error { return tx.rules().DeleteRule(ctx, unknown, addMeta) },
		} {
			err := s.update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) })
			assert.ErrorIs(t, err, rules.ErrNoRule, "%s of an unknown rule", action)
		}
	})
}

// TestMovedAlarms_NewNumbers verifies that alarms of a moved account get IDs of this cell, and that rows with negative IDs, which hold the
// state "watch", keep them.
func TestMovedAlarms_NewNumbers(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			change := require.Value(tx.forThisCell(ctx, "alarms", renumbered["alarms"].columns, nil))(t)
			alarm, watched := []any{int64(5), int64(7), int64(0), int64(0)}, []any{int64(-5), int64(0), int64(0), int64(0)}
			require.NoError(t, errors.Join(change(alarm), change(watched)))
			assert.Equal(t, fmt.Sprint(alarm, watched), "[1 2 0 0] [-5 0 0 0]", "columns of an alarm and a state")
			return nil
		})
	})
}

func TestDomain_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		d := newFilled[rules.Domain](t)
		put := func(d rules.Domain) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutDomain(ctx, d) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Domains(ctx, "", 0)
				check(t, "domains", got, []rules.Domain{d})
				return err
			})
		}
		put(d)
		put(rules.Domain{Host: d.Host, Status: rules.NoICP, At: t0})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().DeleteDomain(ctx, d.Host) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Domains(ctx, "", 0)
			check(t, "domains after the delete", got, []rules.Domain{})
			return err
		})
	})
}

func TestConfirmation_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		full := newFilled[rules.Confirmation](t)
		none, empty := withEmptyLists(full, true), withEmptyLists(full, false)
		none.RID, none.OK, empty.RID, empty.At = "none", false, "empty", full.At.Add(time.Millisecond)
		put := func(c rules.Confirmation) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutConfirmation(ctx, c) })
		}
		var withPrefix, failed, found []string
		for _, c := range []rules.Confirmation{empty, none, full} {
			if c.Prefix == full.Prefix {
				withPrefix = append(withPrefix, c.RID)
			}
			if c.OK {
				found = append(found, c.RID)
			} else {
				failed = append(failed, c.RID)
			}
		}
		for _, c := range []rules.Confirmation{full, none, empty} {
			put(c)
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Confirmations(ctx, rules.VerificationQuery{RID: c.RID, Limit: 10})
				check(t, c.RID, got, []rules.Confirmation{c})
				return err
			})
		}
		repeated := full
		repeated.Reason = "another"
		put(repeated)
		list := func(q rules.VerificationQuery) (rids []string) {
			t.Helper()
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Confirmations(ctx, q)
				for _, c := range got {
					rids = append(rids, c.RID)
					assert.True(t, c.Reason != "another", "the confirmation of %s is replaced", c.RID)
				}
				return err
			})
			return rids
		}
		check(t, "confirmations, newest first, then by RID", list(rules.VerificationQuery{Limit: 10}), []string{"empty", "none", full.RID})
		check(t, "first confirmation", list(rules.VerificationQuery{Limit: 1}), []string{"empty"})
		checkList(t, "confirmations of another owner", list(rules.VerificationQuery{Owner: "wxz", Limit: 10}), []string{})
		check(t, "confirmations of the owner", list(rules.VerificationQuery{Owner: full.Owner, Limit: 10}),
			[]string{"empty", "none", full.RID})

		check(t, "confirmations of the prefix", list(rules.VerificationQuery{Prefix: full.Prefix, Limit: 10}), withPrefix)
		checkList(t, "confirmations of another prefix", list(rules.VerificationQuery{Prefix: full.Prefix + "x", Limit: 10}), []string{})
		check(t, "failed confirmations", list(rules.VerificationQuery{Failed: true, Limit: 10}), failed)
		check(t, "successful confirmations", list(rules.VerificationQuery{Found: true, Owner: full.Owner, Limit: 10}), found)

		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.rules().ForgetConfirmations(ctx, full.At.Add(time.Millisecond))
		})
		check(t, "recent confirmations", list(rules.VerificationQuery{Limit: 10}), []string{"empty"})
	})
}

func TestScanKey_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		k := newFilled[accounts.ScanKey](t)
		put := func(k accounts.ScanKey) {
			t.Helper()
			require.NoError(t, s.PutScanKey(ctx, k))
			got := require.Value(s.ScanKeys(ctx))(t)
			i := slices.IndexFunc(got, func(found accounts.ScanKey) bool { return found.Hash == k.Hash })
			require.True(t, i >= 0, "ScanKeys() = %v, want key %q", got, k.Hash)
			check(t, "key", got[i], k)
		}
		put(k)
		second := k
		second.Hash, second.CreatedAt, second.Namespace = "another", k.CreatedAt.Add(time.Second), "n"
		put(second)
		first := accounts.ScanKey{Hash: "z", Name: "first", Namespace: "n", CreatedAt: t0.Add(-time.Hour)}
		put(first)
		got, err := s.ScanKeys(ctx)
		require.NoError(t, err)
		check(t, "keys, oldest first", got, []accounts.ScanKey{first, second})
		require.NoError(t, s.DeleteScanKey(ctx, second.Name))
		got = require.Value(s.ScanKeys(ctx))(t)
		check(t, "keys after the delete", got, []accounts.ScanKey{first})
	})
}

func TestNamedValues_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		checkText := func(f func(context.Context, string) (string, error), name, wanted string) {
			t.Helper()
			got := require.Value(f(ctx, name))(t)
			check(t, name, got, wanted)
		}
		checkText(s.Meta, "settings", "")
		checkText(s.SealedKey, "data", "")
		for _, value := range []string{special, "", randomText(1 << 20)} {
			require.NoError(t, s.PutMeta(ctx, "settings", value))
			checkText(s.Meta, "settings", value)
			checkText(s.Meta, "Settings", "")
		}
		for _, first := range []string{special, "second"} {
			checkText(func(ctx context.Context, name string) (string, error) { return s.FirstSealedKey(ctx, name, first) }, "data", special)
		}
		checkText(s.SealedKey, "data", special)

		checkSeeded := func(wanted bool) {
			t.Helper()
			got := require.Value(s.Seeded(ctx, "hash"))(t)
			check(t, "seeded", got, wanted)
		}
		checkSeeded(false)
		for range 2 {
			require.NoError(t, s.PutSeeded(ctx, "hash", t0))
			checkSeeded(true)
		}
	})
}
