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
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[accounts.Account](t)
		none, empty := emptied(full, true), emptied(full, false)
		none.AppID, empty.AppID = "none", "empty"
		zero := accounts.Account{AppID: "zero"}
		for _, a := range []accounts.Account{full, none, empty, zero} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Account(ctx, a.AppID)
				want(t, a.AppID, got, a)
				return err
			})
		}
		// A replacement reaches every column too.
		zero.AppID = full.AppID
		for _, a := range []accounts.Account{zero, full} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Account(ctx, a.AppID)
				want(t, "replaced", got, a)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Account(ctx, "nobody")), accounts.ErrNoAccount, "an account that is not there")
			return nil
		})
	})
}

func TestDeleteAccount_Cascades(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, appid := range []string{"wxservice", "wxmini", "wxother"} {
				if err := tx.accounts().PutAccount(ctx, accounts.Account{AppID: appid}); err != nil {
					return err
				}
				token := accounts.Token{Hash: "hash of " + appid, AppID: appid, Kind: accounts.Plain, IssuedAt: at,
					ExpiresAt: at.Add(time.Hour)}
				if err := tx.accounts().PutToken(ctx, token); err != nil {
					return err
				}
			}
			if err := tx.accounts().PutLink(ctx, "wxservice", "wxmini", at); err != nil {
				return err
			}
			if err := tx.accounts().PutLink(ctx, "wxservice", "wxother", at); err != nil {
				return err
			}
			return tx.accounts().PutComponent(ctx, accounts.Component{AppID: "wxc",
				Grants: []accounts.Grant{{AppID: "wxmini"}, {AppID: "wxother"}}})
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxmini") })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Account(ctx, "wxmini")), accounts.ErrNoAccount, "the account")
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Token(ctx, "hash of wxmini")), accounts.ErrNoToken, "its token")
			assert.NoErrorf(t, assert.ErrorOf(tx.accounts().Token(ctx, "hash of wxother")), "another's token")
			links, err := tx.accounts().Links(ctx, "wxservice")
			want(t, "links", links, []string{"wxother"})
			if err != nil {
				return err
			}
			c, err := tx.accounts().Component(ctx, "wxc")
			want(t, "grants", c.Grants, []accounts.Grant{{AppID: "wxother"}})
			return err
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxservice") })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			linked, err := tx.accounts().Linked(ctx, "wxservice", "wxother")
			want(t, "linked", linked, false)
			return err
		})
	})
}

func TestAccountLink_AddTwiceAndDelete(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.accounts().PutLink(ctx, "wxs", "wxm", at); err != nil {
				return err
			}
			return tx.accounts().PutLink(ctx, "wxs", "wxm", at.Add(time.Hour))
		})
		is := func(service, mini string, wanted bool) {
			t.Helper()
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Linked(ctx, service, mini)
				want(t, service+" with "+mini, got, wanted)
				return err
			})
		}
		is("wxs", "wxm", true)
		is("wxm", "wxs", false)
		is("wxS", "wxm", false)
		want(t, "rows", number(t, s, `SELECT COUNT(*) FROM links`), int64(1))
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
		is("wxs", "wxm", false)
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteLink(ctx, "wxs", "wxm") })
	})
}

func TestComponent_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[accounts.Component](t)
		none, empty := emptied(full, true), emptied(full, false)
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
		want(t, "full", put(full), full)
		want(t, "empty lists", put(empty), empty)
		got := put(none)
		want(t, "no grants", len(got.Grants), 0)
		got.Grants = nil
		want(t, "nil lists", got, none)

		other := emptied(filled[accounts.Component](t), false)
		other.AppID, other.SecretHash, other.CreatedAt = full.AppID, "another", at.Add(time.Hour)
		other.Grants = []accounts.Grant{{AppID: "wxnew", PermissionSets: []int{18}}, full.Grants[1]}
		got = put(other)
		other.CreatedAt = full.CreatedAt // the first day stays
		other.Grants = []accounts.Grant{full.Grants[1], {AppID: "wxnew", PermissionSets: []int{18}}}
		want(t, "replaced, grants included", got, other)

		view(t, s, func(ctx context.Context, tx *Tx) error {
			_, err := tx.accounts().Component(ctx, "nobody")
			assert.ErrorIs(t, err, accounts.ErrNoComponent, "a component that is not there")
			return nil
		})
	})
}

func TestToken_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[accounts.Token](t)
		fresh := accounts.Token{Hash: "h", AppID: "wxa", Kind: accounts.Stable, IssuedAt: at, ExpiresAt: at.Add(accounts.TokenLife)}
		for _, k := range []accounts.Token{full, fresh} {
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutToken(ctx, k) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.accounts().Token(ctx, k.Hash)
				want(t, "token", got, k)
				if err != nil {
					return err
				}
				got, err = tx.accounts().LatestToken(ctx, k.AppID, k.Kind)
				want(t, "latest token", got, k)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			assert.ErrorIs(t, assert.ErrorOf(tx.accounts().Token(ctx, "H")), accounts.ErrNoToken, "a token that is not there")
			_, err := tx.accounts().LatestToken(ctx, "wxa", accounts.Plain)
			assert.ErrorIs(t, err, accounts.ErrNoToken, "a series without token")
			return nil
		})
	})
}

func TestToken_RevokedByAccountAndSeries(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		token := func(hash, appid string, series accounts.TokenKind, issued time.Duration) accounts.Token {
			return accounts.Token{Hash: hash, AppID: appid, Kind: series, IssuedAt: at.Add(issued),
				ExpiresAt: at.Add(issued + accounts.TokenLife)}
		}
		all := []accounts.Token{
			token("old", "wxa", accounts.Plain, 0),
			token("new", "wxa", accounts.Plain, time.Minute),
			token("stable", "wxa", accounts.Stable, 0),
			token("other", "wxb", accounts.Plain, 0),
		}
		cuts := func() map[string]time.Time {
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
		cut := func(d time.Duration) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.accounts().ShortenTokens(ctx, "wxa", accounts.Plain, at.Add(d))
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
			want(t, "latest", latest.Hash, "new")
			return err
		})
		cut(10 * time.Minute)
		ten := at.Add(10 * time.Minute)
		want(t, "cut", cuts(), map[string]time.Time{"old": ten, "new": ten, "stable": {}, "other": {}})
		cut(20 * time.Minute)
		want(t, "a later cut lengthens nothing", cuts(), map[string]time.Time{"old": ten, "new": ten, "stable": {}, "other": {}})
		cut(5 * time.Minute)
		five := at.Add(5 * time.Minute)
		want(t, "an earlier cut shortens", cuts(), map[string]time.Time{"old": five, "new": five, "stable": {}, "other": {}})

		// A clock that was set back: what was not replaced is the latest.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().PutToken(ctx, token("back", "wxa", accounts.Plain, -time.Hour))
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			latest, err := tx.accounts().LatestToken(ctx, "wxa", accounts.Plain)
			want(t, "latest after the clock went back", latest.Hash, "back")
			return err
		})

		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.accounts().ForgetTokens(ctx, "wxa", at.Add(time.Minute+accounts.TokenLife))
		})
		want(t, "forgotten", cuts(), map[string]time.Time{"new": five, "other": {}})
	})
}

func TestCounters_ByAccountThingAndDay(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, c := range []struct {
				appid, what string
				day         int64
				want        int
			}{{"wxa", "x", 1, 1}, {"wxa", "x", 1, 2}, {"wxa", "x", 2, 1}, {"wxa", "y", 1, 1}, {"WXA", "x", 1, 1}, {"wxa", "x", 1, 3}} {
				n, err := tx.accounts().AddCount(ctx, c.appid, c.what, c.day)
				if err != nil {
					return err
				}
				want(t, fmt.Sprint(c), n, c.want)
			}
			return nil
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for day, wanted := range []int{0, 3, 1, 0} {
				n, err := tx.accounts().Count(ctx, "wxa", "x", int64(day))
				if err != nil {
					return err
				}
				want(t, fmt.Sprint("day ", day), n, wanted)
			}
			return nil
		})
	})
}

// noise is a text of n bytes that no database can compress.
func noise(n int) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~"
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b strings.Builder
	for range n {
		b.WriteByte(letters[r.IntN(len(letters))])
	}
	return b.String()
}

func TestRule_RoundTrip(t *testing.T) {
	longest := func(start string) string { return start + noise(rules.MaxPrefix-len(start)) }
	host := strings.Repeat("a123456789.", 22) + "example"
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[rules.Rule](t)
		list := []rules.Rule{full, emptied(full, true), emptied(full, false), {Kind: rules.Ordinary},
			{Kind: rules.KindService, Owner: "wxs", Target: "wxm"}}
		list[1].Prefix = prefixOf(t, "https://nil.example", rules.Ordinary)
		list[2].Prefix = prefixOf(t, "https://empty.example/%E6%89%AB?a='b'&c=$1;--", rules.Ordinary)
		list[3].Prefix = prefixOf(t, longest("https://h.example/"), rules.Ordinary)
		list[4].Prefix = prefixOf(t, longest("http://weixin.qq.com/q/"), rules.KindService)
		for _, text := range []string{longest("https://" + host + "/"), longest("https://h.example?"), "http://[::1]:8080/x/",
			"https://h.example#" + noise(100),
			"https://h.example/x", "https://h.example/X", "https://h.example/x/", "http://h.example/x"} {
			list = append(list, aRule(t, "wxa", text))
		}
		added := addRules(t, s, list...)
		for i, r := range list {
			r.ID = int64(i + 1)
			want(t, "added", added[i], r)
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Rule(ctx, r.Prefix.Key)
				want(t, "read", got, r)
				return err
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, key := range []string{"https://h.example/y", "HTTPS://h.example/x", "https://h.example/x//", ""} {
				assert.ErrorIs(t, assert.ErrorOf(tx.rules().Rule(ctx, key)), rules.ErrNoRule, "%q, which is no rule", key)
			}
			return nil
		})
	})
}

func TestUpdateRule_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		plain := addRules(t, s, aRule(t, "wxa", "https://h.example/"), aRule(t, "wxa", "https://h.example/other"))
		changed := filled[rules.Rule](t)
		// These belong to the rule for life.
		changed.ID, changed.Owner, changed.Kind, changed.Prefix, changed.CreatedAt = plain[0].ID, plain[0].Owner, plain[0].Kind,
			plain[0].Prefix, plain[0].CreatedAt
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, changed, someone) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Rule(ctx, changed.Prefix.Key)
			want(t, "changed", got, changed)
			if err != nil {
				return err
			}
			got, err = tx.rules().Rule(ctx, plain[1].Prefix.Key)
			want(t, "its neighbour", got, plain[1])
			return err
		})
		gone := changed
		gone.ID = 99
		for did, f := range map[string]func(context.Context, *Tx) error{
			"put":    func(ctx context.Context, tx *Tx) error { return tx.rules().PutRule(ctx, gone, someone) },
			"delete": func(ctx context.Context, tx *Tx) error { return tx.rules().DeleteRule(ctx, gone, someone) },
		} {
			err := s.update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) })
			assert.ErrorIs(t, err, rules.ErrNoRule, "%s of a rule that is gone", did)
		}
	})
}

// The alarms of a moved account get numbers of this cell; rows of the state "watch", which have negative ids, do not become alarms.
func TestMovedAlarms_NewNumbers(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			change, err := tx.forThisCell(ctx, "alarms", renumbered["alarms"].columns, nil)
			require.NoError(t, err)
			alarm, watched := []any{int64(5), int64(7), int64(0), int64(0)}, []any{int64(-5), int64(0), int64(0), int64(0)}
			require.NoError(t, errors.Join(change(alarm), change(watched)))
			assert.Equal(t, fmt.Sprint(alarm, watched), "[1 2 0 0] [-5 0 0 0]", "the numbers")
			return nil
		})
	})
}

func TestDomain_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		d := filled[rules.Domain](t)
		put := func(d rules.Domain) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutDomain(ctx, d) })
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Domains(ctx, "", 0)
				want(t, "domains", got, []rules.Domain{d})
				return err
			})
		}
		put(d)
		put(rules.Domain{Host: d.Host, Status: rules.NoICP, At: at})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().DeleteDomain(ctx, d.Host) })
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().Domains(ctx, "", 0)
			want(t, "domains after the delete", got, []rules.Domain{})
			return err
		})
	})
}

func TestConfirmation_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		full := filled[rules.Confirmation](t)
		none, empty := emptied(full, true), emptied(full, false)
		none.RID, none.OK, empty.RID, empty.At = "none", false, "empty", full.At.Add(time.Millisecond)
		put := func(c rules.Confirmation) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.rules().PutConfirmation(ctx, c) })
		}
		var ofPrefix, failed, found []string
		for _, c := range []rules.Confirmation{empty, none, full} {
			if c.Prefix == full.Prefix {
				ofPrefix = append(ofPrefix, c.RID)
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
				want(t, c.RID, got, []rules.Confirmation{c})
				return err
			})
		}
		again := full
		again.Reason = "another"
		put(again)
		list := func(q rules.VerificationQuery) (rids []string) {
			t.Helper()
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().Confirmations(ctx, q)
				for _, c := range got {
					rids = append(rids, c.RID)
					assert.True(t, c.Reason != "another", "a call's record was replaced")
				}
				return err
			})
			return rids
		}
		want(t, "newest first, then by rid", list(rules.VerificationQuery{Limit: 10}), []string{"empty", "none", full.RID})
		want(t, "limited", list(rules.VerificationQuery{Limit: 1}), []string{"empty"})
		wantSame(t, "of another owner", list(rules.VerificationQuery{Owner: "wxz", Limit: 10}), []string{})
		want(t, "of the owner", list(rules.VerificationQuery{Owner: full.Owner, Limit: 10}), []string{"empty", "none", full.RID})

		want(t, "of the prefix", list(rules.VerificationQuery{Prefix: full.Prefix, Limit: 10}), ofPrefix)
		wantSame(t, "of another prefix", list(rules.VerificationQuery{Prefix: full.Prefix + "x", Limit: 10}), []string{})
		want(t, "that failed", list(rules.VerificationQuery{Failed: true, Limit: 10}), failed)
		want(t, "that found the file", list(rules.VerificationQuery{Found: true, Owner: full.Owner, Limit: 10}), found)

		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.rules().ForgetConfirmations(ctx, full.At.Add(time.Millisecond))
		})
		want(t, "without the old ones", list(rules.VerificationQuery{Limit: 10}), []string{"empty"})
	})
}

func TestScanKey_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		k := filled[accounts.ScanKey](t)
		put := func(k accounts.ScanKey) {
			t.Helper()
			require.NoError(t, s.PutScanKey(ctx, k))
			got, err := s.ScanKeys(ctx)
			require.NoError(t, err)
			i := slices.IndexFunc(got, func(found accounts.ScanKey) bool { return found.Hash == k.Hash })
			require.True(t, i >= 0, "key %q is not among %v", k.Hash, got)
			want(t, "key", got[i], k)
		}
		put(k)
		second := k
		second.Hash, second.CreatedAt, second.Namespace = "another", k.CreatedAt.Add(time.Second), "n"
		put(second)
		first := accounts.ScanKey{Hash: "z", Name: "first", Namespace: "n", CreatedAt: at.Add(-time.Hour)}
		put(first)
		got, err := s.ScanKeys(ctx)
		require.NoError(t, err)
		want(t, "keys, oldest first", got, []accounts.ScanKey{first, second})
		require.NoError(t, s.DeleteScanKey(ctx, second.Name))
		got, err = s.ScanKeys(ctx)
		require.NoError(t, err)
		want(t, "keys after the delete", got, []accounts.ScanKey{first})
	})
}

func TestNamedValues_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		text := func(f func(context.Context, string) (string, error), name, wanted string) {
			t.Helper()
			got, err := f(ctx, name)
			require.NoError(t, err)
			want(t, name, got, wanted)
		}
		text(s.Meta, "settings", "")
		text(s.SealedKey, "data", "")
		for _, value := range []string{spice, "", noise(1 << 20)} {
			require.NoError(t, s.PutMeta(ctx, "settings", value))
			text(s.Meta, "settings", value)
			text(s.Meta, "Settings", "")
		}
		for _, first := range []string{spice, "second"} {
			text(func(ctx context.Context, name string) (string, error) { return s.FirstSealedKey(ctx, name, first) }, "data", spice)
		}
		text(s.SealedKey, "data", spice)

		seeded := func(wanted bool) {
			t.Helper()
			got, err := s.Seeded(ctx, "hash")
			require.NoError(t, err)
			want(t, "seeded", got, wanted)
		}
		seeded(false)
		for range 2 {
			require.NoError(t, s.PutSeeded(ctx, "hash", at))
			seeded(true)
		}
	})
}
