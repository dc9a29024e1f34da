package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// mixedTexts are texts whose order differs between languages and bytes: upper and lower case, digits, "_", "-" and ".", other scripts.
var mixedTexts = []string{"A", "B", "Z", "a", "a b", "a!", "a-", "a-b", "a.", "a1", "a10", "a2", "a_", "a_b", "aa", "aB", "ab", "b", "é",
	"e",
	"E", "ß", "ss", "wx", "wx-1", "WX-1", "wx_1", "wx1", "WX1", "Ä", "ö", "扫", "码", "1", "10", "2", "~", "-", "_", "'", "😀", "\uFFFD"}

func sortBytes(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

func shuffle(texts []string) []string {
	texts = slices.Clone(texts)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
	return texts
}

func TestAccountList_ByteOrderPaging(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, appid := range shuffle(mixedTexts) {
				if err := tx.accounts().PutAccount(ctx, accounts.Account{AppID: appid}); err != nil {
					return err
				}
			}
			return nil
		})
		for size := 1; size <= len(mixedTexts)+1; size++ {
			var got []string
			view(t, s, func(ctx context.Context, tx *Tx) error {
				for after := ""; ; after = got[len(got)-1] {
					page, err := tx.accounts().Accounts(ctx, after, size)
					if err != nil || len(page) == 0 {
						return err
					}
					require.True(t, len(page) <= size, "a page has %d accounts, want at most %d", len(page), size)
					for _, a := range page {
						got = append(got, a.AppID)
					}
				}
			})
			check(t, fmt.Sprintf("accounts in pages of %d", size), got, sortBytes(mixedTexts))
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			page, err := tx.accounts().Accounts(ctx, "b-unknown", 3)
			got := mapSlice(page, func(a accounts.Account) string { return a.AppID })
			check(t, "page after an unknown account", got, []string{"e", "ss", "wx"})
			return err
		})
	})
}

func TestTextLists_ByteOrder(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			c := accounts.Component{AppID: "wxc"}
			for _, text := range shuffle(mixedTexts) {
				c.Grants = append(c.Grants, accounts.Grant{AppID: text})
				if err := tx.accounts().PutLink(ctx, "wxs", text, t0); err != nil {
					return err
				}
				if err := tx.rules().PutDomain(ctx, rules.Domain{Host: text, Status: rules.Denied}); err != nil {
					return err
				}
				if err := tx.rules().PutConfirmation(ctx, rules.Confirmation{RID: text, At: t0}); err != nil {
					return err
				}
			}
			return tx.accounts().PutComponent(ctx, c)
		})
		for i, text := range shuffle(mixedTexts) {
			require.NoError(t, s.PutScanKey(t.Context(), accounts.ScanKey{Hash: text, Name: fmt.Sprint(i), CreatedAt: t0}))
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			c, err := tx.accounts().Component(ctx, "wxc")
			if err != nil {
				return err
			}
			links, err := tx.accounts().Links(ctx, "wxs")
			if err != nil {
				return err
			}
			domains, err := tx.rules().Domains(ctx, "", 0)
			if err != nil {
				return err
			}
			confirmations, err := tx.rules().Confirmations(ctx, rules.VerificationQuery{Limit: 1000})
			if err != nil {
				return err
			}
			keys, err := s.ScanKeys(ctx)
			if err != nil {
				return err
			}
			check(t, "grants", mapSlice(c.Grants, func(g accounts.Grant) string { return g.AppID }), sortBytes(mixedTexts))
			check(t, "links with equal times", links, sortBytes(mixedTexts))
			check(t, "domains", mapSlice(domains, func(d rules.Domain) string { return d.Host }), sortBytes(mixedTexts))
			check(t, "confirmations with equal times", mapSlice(confirmations, func(c rules.Confirmation) string { return c.RID }),
				sortBytes(mixedTexts))
			check(t, "scan keys with equal times", mapSlice(keys, func(k accounts.ScanKey) string { return k.Hash }), sortBytes(mixedTexts))
			return nil
		})
	})
}

func TestLinkList_CreationOrder(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		list := shuffle(mixedTexts)
		for i, mini := range list {
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.accounts().PutLink(ctx, "wxs", mini, t0.Add(time.Duration(i)*time.Millisecond))
			})
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.accounts().Links(ctx, "wxs")
			check(t, "links", got, list)
			return err
		})
	})
}

func TestRuleList_InsertionOrder(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		var list []rules.Rule
		for i, c := range []string{"b", "a", "B", "-", "_", "1", "10", "2", "aa", "A"} {
			r := newRule(t, "wx"+string("ab"[i%2]), "https://h.example/"+c)
			if i%5 == 4 {
				r.Kind, r.Owner = rules.KindService, "wxs"
				r.Prefix = parsePrefix(t, fmt.Sprint("http://weixin.qq.com/q/", i), rules.KindService)
			}
			list = append(list, r)
		}
		list = addRules(t, s, list...)
		listIDs := func(q rules.Query) (ids []int64, total int) {
			t.Helper()
			view(t, s, func(ctx context.Context, tx *Tx) error {
				found, n, err := tx.rules().List(ctx, q)
				ids, total = mapSlice(found, ruleID), n
				return err
			})
			return ids, total
		}
		keys := func(indexes ...int) (keys []string) {
			for _, i := range indexes {
				keys = append(keys, list[i].Prefix.Key)
			}
			return keys
		}
		for _, c := range []struct {
			name  string
			q     rules.Query
			ids   []int64
			total int
		}{
			{"all, oldest first", rules.Query{Limit: 100}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 10},
			{"all, newest first", rules.Query{Limit: 100, Newest: true}, []int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 10},
			{"by owner", rules.Query{Owner: "wxa", Limit: 100}, []int64{1, 3, 7, 9}, 4},
			{"by an unknown owner", rules.Query{Owner: "WXA", Limit: 100}, nil, 0},
			{"a page", rules.Query{Limit: 3, Offset: 3}, []int64{4, 5, 6}, 10},
			{"the newest page of an owner", rules.Query{Owner: "wxa", Limit: 2, Offset: 1, Newest: true}, []int64{7, 3}, 4},
			{"a page after the last", rules.Query{Limit: 3, Offset: 1 << 50}, nil, 10},
			{"after a rule", rules.Query{AfterID: 8, Limit: 100}, []int64{9, 10}, 10},
			{"no total", rules.Query{NoTotal: true, Limit: 1}, []int64{1}, 0},
			{"by key", rules.Query{Owner: "wxa", Keys: keys(8, 0, 0, 1), Limit: 100}, []int64{1, 9}, 4},
			{"by no key", rules.Query{Keys: []string{}, Limit: 100}, nil, 10},
			{"by target", rules.Query{Target: "wxa", Limit: 100}, []int64{1, 3, 5, 7, 9}, 5},
			{"by owner, target and key", rules.Query{Owner: "wxs", Target: "wxa", Keys: keys(0, 4), Limit: 100}, []int64{5}, 1},
		} {
			got, total := listIDs(c.q)
			check(t, c.name, got, c.ids)
			check(t, c.name+", total", total, c.total)
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			owned, err := tx.rules().CountOwned(ctx, "wxa")
			if err != nil {
				return err
			}
			check(t, "owned", owned, 4)
			targeted, err := tx.rules().CountTargeted(ctx, "wxa")
			check(t, "service rules with the target", targeted, 1)
			return err
		})
	})
}
