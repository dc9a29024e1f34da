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
	forEachBackend(t, func(t *testing.T, s *Store) {
		var list []rules.Rule
		for i := range 1100 {
			list = append(list, newRule(t, "wxa", fmt.Sprintf("https://h.example/%d", i)))
		}
		list = addRules(t, s, list...)
		var keys []string
		for i := range 2000 { // every second key has no rule
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
				check(t, fmt.Sprint("rules of ", n, " keys"), got, wanted)
				return err
			})
		}
	})
}

func TestRulesAt_LongestPrefix(t *testing.T) {
	longest := "https://h.example/?" + randomText(rules.MaxPrefix-19)
	forEachBackend(t, func(t *testing.T, s *Store) {
		list := addRules(t, s, newRule(t, "wxa", longest), newRule(t, "wxb", longest[:len(longest)-1]),
			newRule(t, "wxc", "https://h.example/"))
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.rules().RulesAt(ctx, list[0].Prefix.Ends())
			slices.SortFunc(got, func(a, b rules.Rule) int { return int(a.ID - b.ID) })
			check(t, "rules", got, list)
			return err
		})
	})
}

func TestAllRules_OldestFirst(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var list []rules.Rule
		for i := range 500 {
			list = append(list, newRule(t, "wxa", fmt.Sprintf("https://h.example/%d", 500-i)))
		}
		list = addRules(t, s, list...)
		var got []rules.Rule
		for r, err := range s.AllRules(t.Context()) {
			require.NoError(t, err)
			got = append(got, r)
			if len(got) == 1 {
				// A write does not wait for the end of the stream.
				addRules(t, s, newRule(t, "wxb", "https://h.example/later"))
			}
		}
		check(t, "rules at the start of the stream", got, list)

		// A reader that stops early releases its connection, of which there are at most 32.
		for range 64 {
			for _, err := range s.AllRules(t.Context()) {
				require.NoError(t, err)
				break
			}
		}
		s.ending.Wait()
		check(t, "connections in use", s.read.Stats().InUse, 0)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n := 0
		for _, err := range s.AllRules(ctx) {
			n++
			assert.True(t, err != nil, "AllRules() yields a rule after cancellation")
		}
		check(t, "errors", n, 1)
	})
}

func TestAllRules_UnreadableRuleEndsStream(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s, newRule(t, "wxa", "https://h.example/1"), newRule(t, "wxa", "https://h.example/2"),
			newRule(t, "wxa", "https://h.example/3"))
		mustExec(t, s, `UPDATE rules SET prefix = 'damaged' WHERE id = 2`)
		var got []string
		for r, err := range s.AllRules(t.Context()) {
			if err != nil {
				got = append(got, "error")
				continue
			}
			got = append(got, r.Prefix.Text)
		}
		check(t, "stream", got, []string{"https://h.example/1", "error"})
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
		{"another host is denied", entries{"other.example": rules.Denied}, "shop.example", ""},
		{"the host itself is denied", entries{"shop.example": rules.Denied}, "shop.example", rules.Denied},
		{"denied covers subdomains", entries{"example": rules.Denied}, "a.b.shop.example", rules.Denied},
		{"denied does not cover a host with the same suffix", entries{"shop.example": rules.Denied}, "myshop.example", ""},
		{"denied does not cover the parent domain", entries{"a.shop.example": rules.Denied}, "shop.example", ""},
		{"no ICP record covers subdomains", entries{"shop.example": rules.NoICP}, "a.shop.example", rules.NoICP},
		{"the longer entry wins", entries{"example": rules.Denied, "shop.example": rules.NoICP}, "a.shop.example", rules.NoICP},
		{"the longer denied entry wins", entries{"example": rules.NoICP, "shop.example": rules.Denied}, "a.shop.example",
			rules.Denied},
		{"trusted covers the host", entries{"shop.example": rules.Trusted}, "shop.example", rules.Trusted},
		{"trusted does not cover subdomains", entries{"shop.example": rules.Trusted}, "a.shop.example", ""},
		{"trusted below denied", entries{"example": rules.Denied, "shop.example": rules.Trusted}, "shop.example", rules.Trusted},
		{"below a trusted host below denied", entries{"example": rules.Denied, "shop.example": rules.Trusted},
			"a.shop.example", rules.Denied},
		{"a port of a denied host is denied", entries{"shop.example": rules.Denied}, "shop.example:8080", rules.Denied},
		{"a port below a denied host is denied", entries{"example": rules.Denied}, "shop.example:8080", rules.Denied},
		{"an entry with a port covers that port only", entries{"shop.example:8080": rules.Denied}, "shop.example:8081", ""},
		{"an entry with a port wins over one without", entries{"shop.example:8080": rules.Trusted, "shop.example": rules.Denied},
			"shop.example:8080", rules.Trusted},
		{"trusted does not cover ports", entries{"shop.example": rules.Trusted}, "shop.example:8080", ""},
		{"a host of one label", entries{"localhost": rules.Denied}, "localhost:1", rules.Denied},
		{"an IP address", entries{"127.0.0.1": rules.Denied}, "127.0.0.1", rules.Denied},
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				update(t, s, func(ctx context.Context, tx *Tx) error {
					if _, err := tx.exec(ctx, `DELETE FROM domains`); err != nil {
						return err
					}
					for host, status := range c.entries {
						if err := tx.rules().PutDomain(ctx, rules.Domain{Host: host, Status: status, At: t0}); err != nil {
							return err
						}
					}
					return nil
				})
				view(t, s, func(ctx context.Context, tx *Tx) error {
					got, err := tx.rules().Domain(ctx, c.host)
					check(t, c.host, got, c.status)
					return err
				})
			})
		}
	})
}

func TestNear_Ranking(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		addRules(t, s,
			newRule(t, "wxa", "https://h.example/a/"),      // 1
			newRule(t, "wxa", "https://h.example/a/b"),     // 2
			newRule(t, "wxa", "http://h.example/a/c?x=1"),  // 3: another scheme
			newRule(t, "wxa", "https://h.example/A/"),      // 4: another segment
			newRule(t, "wxa", "https://h.example/ab/"),     // 5: another segment
			newRule(t, "wxa", "https://i.example/a/b"),     // 6: the path on another host
			newRule(t, "wxa", "https://i.example/a/b?x=1"), // 7: the path on another host
			newRule(t, "wxa", "https://i.example/a/b/"),    // 8: another path
			newRule(t, "wxa", "https://h.example/"),        // 9: another segment
		)
		for limit, wanted := range map[int][]int64{0: nil, 1: {2, 3, 6}, 2: {1, 2, 3, 6, 7}, 50: {1, 2, 3, 6, 7}} {
			link, _ := rules.ParseLink("HTTPS://H.example/a/b?y=2")
			view(t, s, func(ctx context.Context, tx *Tx) error {
				near, err := tx.rules().NearestRules(ctx, link, limit)
				got := mapSlice(near, ruleID)
				slices.Sort(got)
				check(t, fmt.Sprintf("NearestRules() with limit %d", limit), got, wanted)
				return err
			})
		}
	})
}

func TestLookup_InvalidTextNotFound(t *testing.T) {
	for name, text := range map[string]string{"NUL": "https://h.example/\x00", "invalid UTF-8": "https://h.example/\xff",
		"cut UTF-8": "https://h.example/\xe6\x89"} {
		t.Run(name, func(t *testing.T) {
			forEachBackend(t, func(t *testing.T, s *Store) {
				list := addRules(t, s, newRule(t, "wxa", "https://h.example/"))
				link, _ := rules.ParseLink(text)
				view(t, s, func(ctx context.Context, tx *Tx) error {
					_, err := tx.rules().Rule(ctx, text)
					assert.True(t, err == rules.ErrNoRule, "error of Rule() = %v", err)
					_, err = tx.accounts().Account(ctx, text)
					assert.True(t, err == accounts.ErrNoAccount, "error of Account() = %v", err)
					_, err = tx.accounts().Component(ctx, text)
					assert.True(t, err == accounts.ErrNoComponent, "error of Component() = %v", err)
					_, err = tx.accounts().Token(ctx, text)
					assert.True(t, err == accounts.ErrNoToken, "error of Token() = %v", err)
					found, err := tx.rules().RulesAt(ctx, []string{text, "https://h.example/", text})
					check(t, "rules at", found, list)
					assert.NoError(t, err)
					listed, total, err := tx.rules().List(ctx, rules.Query{Owner: text, Limit: 10})
					check(t, "list", len(listed)+total, 0)
					assert.NoError(t, err)
					page, err := tx.accounts().Accounts(ctx, text, 10)
					check(t, "accounts", len(page), 0)
					assert.NoError(t, err)
					linked, err := tx.accounts().Linked(ctx, text, text)
					check(t, "linked", linked, false)
					assert.NoError(t, err)
					status, err := tx.rules().Domain(ctx, text)
					check(t, "domain", status, "")
					assert.NoError(t, err)
					changes, err := tx.rules().Changes(ctx, text, 10)
					check(t, "changes", len(changes), 0)
					assert.NoError(t, err)
					confirmations, err := tx.rules().Confirmations(ctx, rules.VerificationQuery{RID: text, Owner: text, Limit: 10})
					check(t, "domain_verifications", len(confirmations), 0)
					assert.NoError(t, err)
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
				for kind, f := range map[string]func(ctx context.Context, tx *Tx) error{
					"account": func(ctx context.Context, tx *Tx) error {
						return tx.accounts().PutAccount(ctx, accounts.Account{AppID: text})
					},
					"component": func(ctx context.Context, tx *Tx) error {
						return tx.accounts().PutComponent(ctx, accounts.Component{AppID: text})
					},
					"domain": func(ctx context.Context, tx *Tx) error { return tx.rules().PutDomain(ctx, rules.Domain{Host: text}) },
					"link":   func(ctx context.Context, tx *Tx) error { return tx.accounts().PutLink(ctx, "wxs", text, t0) },
					"counter": func(ctx context.Context, tx *Tx) error {
						_, err := tx.accounts().AddCount(ctx, text, "x", 1)
						return err
					},
					"confirmation": func(ctx context.Context, tx *Tx) error {
						return tx.rules().PutConfirmation(ctx, rules.Confirmation{RID: "r", At: t0, Reason: text})
					},
					"path": func(ctx context.Context, tx *Tx) error {
						r := list[0]
						r.Path = text
						return tx.rules().PutRule(ctx, r, addMeta)
					},
				} {
					assert.True(t, s.update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) }) != nil,
						"an invalid %s is stored", kind)
				}
			})
		})
	}
}
