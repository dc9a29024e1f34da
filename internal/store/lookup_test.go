package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestRulesAt_ThousandsOfKeys(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var list []rules.Rule
		for i := range 1100 {
			list = append(list, aRule(t, "wxa", fmt.Sprintf("https://h.example/%d", i)))
		}
		list = addRules(t, s, list...)
		var keys []string
		for i := range 2000 { // every second is nobody's
			keys = append(keys, fmt.Sprintf("https://h.example/%d", i/2+i%2*5000))
		}
		for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 2000} {
			var wanted []rules.Rule
			for i := range n {
				if i%2 == 0 {
					wanted = append(wanted, list[i/2])
				}
			}
			view(t, s, func(ctx context.Context, tx *Tx) error {
				got, err := tx.rules().RulesAt(ctx, keys[:n])
				slices.SortFunc(got, func(a, b rules.Rule) int { return int(a.ID - b.ID) })
				want(t, fmt.Sprint(n, " keys"), got, wanted)
				return err
			})
		}
	})
}

func TestRulesAt_LongestPrefix(t *testing.T) {
	longest := "https://h.example/?" + noise(rules.MaxPrefix-19)
	eachBackend(t, func(t *testing.T, s *Store) {
		list := addRules(t, s, aRule(t, "wxa", longest), aRule(t, "wxb", longest[:len(longest)-1]), aRule(t, "wxc", "https://h.example/"))
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().RulesAt(ctx, list[0].Prefix.Ends())
			slices.SortFunc(got, func(a, b rules.Rule) int { return int(a.ID - b.ID) })
			want(t, "rules", got, list)
			return err
		})
	})
}

func TestAllRules_OldestFirst(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		var list []rules.Rule
		for i := range 500 {
			list = append(list, aRule(t, "wxa", fmt.Sprintf("https://h.example/%d", 500-i)))
		}
		list = addRules(t, s, list...)
		var got []rules.Rule
		for r, err := range s.AllRules(t.Context()) {
			require.NoError(t, err)
			got = append(got, r)
			if len(got) == 1 {
				// A writer does not wait for the reader of the stream.
				addRules(t, s, aRule(t, "wxb", "https://h.example/later"))
			}
		}
		want(t, "rules of the moment when the stream began", got, list)

		// A reader that stops early leaves no connection behind: there are at most 32.
		for range 64 {
			for _, err := range s.AllRules(t.Context()) {
				require.NoError(t, err)
				break
			}
		}
		s.ending.Wait()
		want(t, "connections in use", s.read.Stats().InUse, 0)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n := 0
		for _, err := range s.AllRules(ctx) {
			n++
			assert.True(t, err != nil, "a stream of a caller who went away goes on")
		}
		want(t, "errors", n, 1)
	})
}

func TestAllRules_UnreadableRuleEndsStream(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, aRule(t, "wxa", "https://h.example/1"), aRule(t, "wxa", "https://h.example/2"),
			aRule(t, "wxa", "https://h.example/3"))
		require.NoError(t, assert.ErrorOf(s.write.ExecContext(t.Context(), `UPDATE rules SET prefix = 'damaged' WHERE id = 2`)))
		var got []string
		for r, err := range s.AllRules(t.Context()) {
			if err != nil {
				got = append(got, "error")
				continue
			}
			got = append(got, r.Prefix.Text)
		}
		want(t, "stream", got, []string{"https://h.example/1", "error"})
	})
}

func TestDomainStatus_LongestEntryWins(t *testing.T) {
	type entries map[string]rules.DomainStatus
	cases := []struct {
		name    string
		entries entries
		host    string
		status  rules.DomainStatus
	}{
		{"nothing was said", entries{"other.example": rules.Denied}, "shop.example", ""},
		{"the host itself is denied", entries{"shop.example": rules.Denied}, "shop.example", rules.Denied},
		{"denied covers what lies below", entries{"example": rules.Denied}, "a.b.shop.example", rules.Denied},
		{"denied does not cover what only ends alike", entries{"shop.example": rules.Denied}, "myshop.example", ""},
		{"denied does not cover what lies above", entries{"a.shop.example": rules.Denied}, "shop.example", ""},
		{"without ICP record, below", entries{"shop.example": rules.NoICP}, "a.shop.example", rules.NoICP},
		{"the longer entry wins", entries{"example": rules.Denied, "shop.example": rules.NoICP}, "a.shop.example", rules.NoICP},
		{"the longer entry wins the other way round", entries{"example": rules.NoICP, "shop.example": rules.Denied}, "a.shop.example",
			rules.Denied},
		{"trusted counts for the very host", entries{"shop.example": rules.Trusted}, "shop.example", rules.Trusted},
		{"trusted does not count below", entries{"shop.example": rules.Trusted}, "a.shop.example", ""},
		{"trusted below denied", entries{"example": rules.Denied, "shop.example": rules.Trusted}, "shop.example", rules.Trusted},
		{"below a trusted host that lies below a denied one", entries{"example": rules.Denied, "shop.example": rules.Trusted},
			"a.shop.example", rules.Denied},
		{"a port of a denied host is denied", entries{"shop.example": rules.Denied}, "shop.example:8080", rules.Denied},
		{"a port below a denied host is denied", entries{"example": rules.Denied}, "shop.example:8080", rules.Denied},
		{"an entry with a port is for that port", entries{"shop.example:8080": rules.Denied}, "shop.example:8081", ""},
		{"an entry with a port is longer than one without", entries{"shop.example:8080": rules.Trusted, "shop.example": rules.Denied},
			"shop.example:8080", rules.Trusted},
		{"a trusted host is not trusted on other ports", entries{"shop.example": rules.Trusted}, "shop.example:8080", ""},
		{"one label", entries{"localhost": rules.Denied}, "localhost:1", rules.Denied},
		{"an address", entries{"127.0.0.1": rules.Denied}, "127.0.0.1", rules.Denied},
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				update(t, s, func(ctx context.Context, tx *Tx) error {
					if _, err := tx.exec(ctx, `DELETE FROM domains`); err != nil {
						return err
					}
					for host, status := range c.entries {
						if err := tx.rules().PutDomain(ctx, rules.Domain{Host: host, Status: status, At: at}); err != nil {
							return err
						}
					}
					return nil
				})
				view(t, s, func(ctx context.Context, tx *Tx) error {
					got, err := tx.rules().Domain(ctx, c.host)
					want(t, c.host, got, c.status)
					return err
				})
			})
		}
	})
}

func TestNear_Ranking(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s,
			aRule(t, "wxa", "https://h.example/a/"),      // 1
			aRule(t, "wxa", "https://h.example/a/b"),     // 2
			aRule(t, "wxa", "http://h.example/a/c?x=1"),  // 3: another scheme
			aRule(t, "wxa", "https://h.example/A/"),      // 4: another segment
			aRule(t, "wxa", "https://h.example/ab/"),     // 5: another segment
			aRule(t, "wxa", "https://i.example/a/b"),     // 6: the path elsewhere
			aRule(t, "wxa", "https://i.example/a/b?x=1"), // 7: the path elsewhere
			aRule(t, "wxa", "https://i.example/a/b/"),    // 8: another path
			aRule(t, "wxa", "https://h.example/"),        // 9: another segment
		)
		for limit, wanted := range map[int][]int64{0: nil, 1: {2, 3, 6}, 2: {1, 2, 3, 6, 7}, 50: {1, 2, 3, 6, 7}} {
			link, _ := rules.ParseLink("HTTPS://H.example/a/b?y=2")
			view(t, s, func(ctx context.Context, tx *Tx) error {
				near, err := tx.rules().NearestRules(ctx, link, limit)
				var got []int64
				for _, r := range near {
					got = append(got, r.ID)
				}
				slices.Sort(got)
				want(t, fmt.Sprint("at most ", limit), got, wanted)
				return err
			})
		}
	})
}

func TestLookup_InvalidTextNotFound(t *testing.T) {
	for name, text := range map[string]string{"NUL": "https://h.example/\x00", "invalid UTF-8": "https://h.example/\xff",
		"cut UTF-8": "https://h.example/\xe6\x89"} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, s *Store) {
				list := addRules(t, s, aRule(t, "wxa", "https://h.example/"))
				link, _ := rules.ParseLink(text)
				view(t, s, func(ctx context.Context, tx *Tx) error {
					_, err := tx.rules().Rule(ctx, text)
					assert.True(t, err == rules.ErrNoRule, "rule: %v", err)
					_, err = tx.accounts().Account(ctx, text)
					assert.True(t, err == accounts.ErrNoAccount, "account: %v", err)
					_, err = tx.accounts().Component(ctx, text)
					assert.True(t, err == accounts.ErrNoComponent, "component: %v", err)
					_, err = tx.accounts().Token(ctx, text)
					assert.True(t, err == accounts.ErrNoToken, "token: %v", err)
					found, err := tx.rules().RulesAt(ctx, []string{text, "https://h.example/", text})
					want(t, "rules at", found, list)
					assert.True(t, err == nil, "%v", err)
					listed, total, err := tx.rules().List(ctx, rules.Query{Owner: text, Limit: 10})
					want(t, "list", len(listed)+total, 0)
					assert.True(t, err == nil, "%v", err)
					page, err := tx.accounts().Accounts(ctx, text, 10)
					want(t, "accounts", len(page), 0)
					assert.True(t, err == nil, "%v", err)
					linked, err := tx.accounts().Linked(ctx, text, text)
					want(t, "linked", linked, false)
					assert.True(t, err == nil, "%v", err)
					status, err := tx.rules().Domain(ctx, text)
					want(t, "domain", status, "")
					assert.True(t, err == nil, "%v", err)
					changes, err := tx.rules().Changes(ctx, text, 10)
					want(t, "changes", len(changes), 0)
					assert.True(t, err == nil, "%v", err)
					confirmations, err := tx.rules().Confirmations(ctx, rules.VerificationQuery{RID: text, Owner: text, Limit: 10})
					want(t, "domain_verifications", len(confirmations), 0)
					assert.True(t, err == nil, "%v", err)
					_, err = tx.rules().NearestRules(ctx, link, 10)
					return err
				})
				update(t, s, func(ctx context.Context, tx *Tx) error {
					if err := tx.accounts().DeleteLink(ctx, "wxs", text); err != nil {
						return err
					}
					return tx.LockOwner(ctx, text)
				})
				err := s.update(t.Context(), func(tx *Tx) error { return tx.rules().DeleteDomain(t.Context(), text) })
				assert.True(t, errors.Is(err, rules.ErrNoDomain), "DeleteDomain(%q) = %v, want %v", text, err, rules.ErrNoDomain)
				for what, f := range map[string]func(ctx context.Context, tx *Tx) error{
					"account": func(ctx context.Context, tx *Tx) error {
						return tx.accounts().PutAccount(ctx, accounts.Account{AppID: text})
					},
					"component": func(ctx context.Context, tx *Tx) error {
						return tx.accounts().PutComponent(ctx, accounts.Component{AppID: text})
					},
					"domain": func(ctx context.Context, tx *Tx) error { return tx.rules().PutDomain(ctx, rules.Domain{Host: text}) },
					"link":   func(ctx context.Context, tx *Tx) error { return tx.accounts().PutLink(ctx, "wxs", text, at) },
					"counter": func(ctx context.Context, tx *Tx) error {
						_, err := tx.accounts().AddCount(ctx, text, "x", 1)
						return err
					},
					"confirmation": func(ctx context.Context, tx *Tx) error {
						return tx.rules().PutConfirmation(ctx, rules.Confirmation{RID: "r", At: at, Reason: text})
					},
					"path": func(ctx context.Context, tx *Tx) error {
						r := list[0]
						r.Path = text
						return tx.rules().PutRule(ctx, r, someone)
					},
				} {
					assert.True(t, s.update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) }) != nil, "%s: stored", what)
				}
			})
		})
	}
}
