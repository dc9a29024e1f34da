package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// aBook is the book of calls of one process on a store.
func aBook(s *Store) *apiusage.Service {
	return &apiusage.Service{Store: s.Calls(), Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return at },
		Log:        slog.New(slog.DiscardHandler),
		Interfaces: []string{"/a", "/b", "/exact"},
		Exact:      map[string]func(settings.Settings) int{"/exact": func(settings.Settings) int { return 7 }}}
}

func aRID(n int) string { return ridAt(at, n) }

func ridAt(at time.Time, n int) string { return fmt.Sprintf("%08x-%08x-%08x", at.Unix(), n, 0) }

func TestCallLog_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		c := filled[apiusage.Call](t)
		c.RID, c.Duration, c.OccurredAt, c.Behaviours = aRID(1), 1234*time.Millisecond, at, []string{"wire.number.text",
			"rules.add.edit_flag"}
		asks := apiusage.Call{RID: aRID(0), Account: "another", Request: `{"rid":"` + c.RID + `"}`}
		b := aBook(s)
		b.Record(asks)
		b.Record(c)
		b.Record(apiusage.Call{RID: c.RID, Account: "another"}) // changes nothing
		want(t, "flush", b.Flush(t.Context()), nil)
		got, err := b.Get(t.Context(), c.RID)
		want(t, "found", err, nil)
		want(t, "call", got, c)
		assert.ErrorIs(t, assert.ErrorOf(b.Get(t.Context(), aRID(2))), apiusage.ErrNoCall, "an unknown one")
	})
}

// Issue 14, Build 4: calls share rows of the log.
func TestCallLog_CallsShareRows(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := aBook(s)
		for n := range 2000 { // of two seconds
			b.Record(apiusage.Call{RID: ridAt(at.Add(time.Duration(n%2)*time.Second), n), Account: "a"})
		}
		want(t, "flush", b.Flush(t.Context()), nil)
		want(t, "rows", number(t, s, `SELECT COUNT(*) FROM call_blocks`), 2)
		want(t, "calls", number(t, s, `SELECT SUM(calls) FROM call_blocks`), 2000)
		// A row does not grow without a bound.
		for n := range 10 {
			b.Record(apiusage.Call{RID: ridAt(at.Add(time.Minute), n), Account: "a", Request: strings.Repeat("x", apiusage.MaxText)})
		}
		for range 15 {
			b.Record(apiusage.Call{RID: ridAt(at.Add(time.Minute), 10), Account: "a", Request: strings.Repeat("\x01", apiusage.MaxText)})
		}
		want(t, "flush", b.Flush(t.Context()), nil)
		want(t, "rows", number(t, s, `SELECT COUNT(*) FROM call_blocks`), 4)
	})
}

func TestCallLog_EvictOldestFirst(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := aBook(s)
		add := func(from, to int) { // five seconds for each ten of them
			t.Helper()
			for n := from; n < to; n++ {
				b.Record(apiusage.Call{RID: ridAt(at.Add(time.Duration(n/2)*time.Second), n), Account: "a"})
			}
			want(t, "flush", b.Flush(t.Context()), nil)
		}
		forget := func(upTo int64, before, limit int) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.accounts().ForgetCalls(ctx, upTo, at.Add(time.Duration(before)*time.Second).Unix(), limit)
			})
		}
		left := func(what string, from, to, rows int) {
			t.Helper()
			for n := range to + 1 {
				_, err := b.Get(t.Context(), ridAt(at.Add(time.Duration(n/2)*time.Second), n))
				there := n >= from && n < to
				require.True(t, there == (err == nil) && (there || errors.Is(err, apiusage.ErrNoCall)), "%s: call %d: %v", what, n, err)
			}
			want(t, what+": rows", number(t, s, `SELECT COUNT(*) FROM call_blocks`), int64(rows))
		}
		add(0, 250)
		left("all", 0, 250, 125)
		forget(0, 0, 1000)
		left("nothing to forget", 0, 250, 125)
		forget(20, 0, 1000)
		left("up to a number", 20, 250, 115)
		forget(100, 0, 30)
		left("rows up to the limit", 100, 250, 85)
		forget(101, 0, 1000)
		left("a part of a row", 101, 250, 75)
		forget(50, 0, 1000)
		left("a smaller number", 101, 250, 75)
		forget(0, 60, 1000)
		left("before a second", 120, 250, 65)
		forget(0, 100, 5)
		left("rows before a second up to the limit", 130, 250, 60)
		add(250, 260)
		want(t, "the last number", number(t, s, `SELECT MAX(seq) FROM call_blocks`), 260)
	})
}

func TestCallCounts_SumAndExpiry(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, step := range []struct{ day, n, want int }{{5, 3, 3}, {5, 4, 7}, {6, 1, 1}} {
				got, err := tx.accounts().AddCounts(ctx, "a", "/x", int64(step.day), step.n)
				if err != nil {
					return err
				}
				want(t, "sum", got, step.want)
			}
			once, err := tx.accounts().AddCount(ctx, "a", "/x", 5)
			want(t, "with one more", once, 8)
			if err != nil {
				return err
			}
			if err := tx.accounts().ClearCount(ctx, "a", "/x", 6); err != nil {
				return err
			}
			return tx.accounts().ForgetCounts(ctx, 5)
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for day, n := range map[int64]int{4: 0, 5: 8, 6: 0} {
				got, err := tx.accounts().Count(ctx, "a", "/x", day)
				if err != nil {
					return err
				}
				want(t, fmt.Sprint("day ", day), got, n)
			}
			return nil
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetCounts(ctx, 6) })
		want(t, "what is left", number(t, s, `SELECT COUNT(*) FROM counters`), 0)
	})
}

// Two processes count for themselves and write what came since their last write: together they have it all, and each sees the other's.
func TestCallCounts_SummedAcrossProcesses(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{aBook(nodes[0]), aBook(nodes[1])}
		errs := race(64, func(i int) error {
			for n := range 50 {
				if err := books[i%2].Spend(t.Context(), "wxa", "/a"); err != nil {
					return err
				}
				if n%10 == i%10 {
					if err := books[i%2].Flush(t.Context()); err != nil {
						return err
					}
				}
			}
			return nil
		})
		require.NoError(t, errors.Join(errs...))
		for i, b := range books {
			require.NoErrorf(t, b.Flush(t.Context()), "%v", i)
		}
		for i, b := range books {
			q, err := b.Quota(t.Context(), "wxa", "/a")
			require.NoError(t, err)
			want(t, fmt.Sprint("used, as process ", i, " sees it"), q, apiusage.Quota{Limit: apiusage.PerDay, Used: 3200})
		}
	})
}

// Of many clears at once, on all nodes, exactly ten of an account succeed, and what another process has counted before does not come back.
func TestClearQuota_TenAcrossNodes(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{aBook(nodes[0]), aBook(nodes[1])}
		errs := race(32, func(i int) error { return books[i%2].Clear(t.Context(), "wxa", []string{"", "/a"}[i/2%2]) })
		done := 0
		for _, err := range errs {
			switch {
			case err == nil:
				done++
			case !errors.Is(err, errcode.ClearLimit):
				t.Error(err)
			}
		}
		want(t, "clears that succeeded", done, apiusage.ClearsPerMonth)
		assert.NoErrorf(t, books[0].Clear(t.Context(), "wxb", ""), "another account")
	})
}

// One process refuses because the day's calls are used up; a clear on the other opens them.
func TestClearQuota_SeenByOtherNode(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{aBook(nodes[0]), aBook(nodes[1])}
		for _, b := range books {
			s := settings.Defaults()
			s.DailyLimits = settings.Limits{"/a": 3}
			b.Settings.Set(s)
		}
		for n, want := range []error{nil, nil, nil, errcode.DailyLimit} {
			err := books[0].Spend(t.Context(), "wxa", "/a")
			require.ErrorIs(t, err, want, "call %d: %v, want %v", n+1, err, want)
		}
		// The other node counts from what was written.
		require.NoError(t, books[0].Flush(t.Context()))
		assert.ErrorIs(t, books[1].Spend(t.Context(), "wxa", "/a"), errcode.DailyLimit, "on the other node")
		require.NoError(t, books[1].Clear(t.Context(), "wxa", "/a"))
		for i, b := range slices.Backward(books[:]) {
			assert.NoErrorf(t, b.Spend(t.Context(), "wxa", "/a"), "node %d after the clear", i)
		}
	})
}

// Deviations of two processes add up; the first and the last call are the earliest and the latest, in any order of the writes.
func TestDeviations_MergedAcrossProcesses(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		one := func(account string, times int64, first, last int) apiusage.Deviation {
			second := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
			return apiusage.Deviation{Account: account, Endpoint: "/a", Behaviour: "wire.number.text", Times: times,
				FirstRID: aRID(first), FirstAt: second(first), LastRID: aRID(last), LastAt: second(last)}
		}
		add := func(s *Store, list ...apiusage.Deviation) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().AddDeviations(ctx, list) })
		}
		all := func(account string, limit int) (list []apiusage.Deviation) {
			t.Helper()
			view(t, nodes[0], func(ctx context.Context, tx *Tx) (err error) {
				list, err = tx.accounts().Deviations(ctx, account, limit)
				return err
			})
			return list
		}
		add(nodes[0], one("wxa", 3, 5, 7), one("wxb", 1, 6, 6))
		wantSame(t, "as they were written", all("", 9), []apiusage.Deviation{one("wxa", 3, 5, 7), one("wxb", 1, 6, 6)})
		add(nodes[1], one("wxa", 2, 1, 4))
		wantSame(t, "with earlier ones", all("wxa", 9), []apiusage.Deviation{one("wxa", 5, 1, 7)})
		add(nodes[1], one("wxa", 2, 8, 9))
		wantSame(t, "with later ones", all("wxa", 9), []apiusage.Deviation{one("wxa", 7, 1, 9)})
		wantSame(t, "the first alone", all("", 1), []apiusage.Deviation{one("wxa", 7, 1, 9)})
		update(t, nodes[1], func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetDeviations(ctx, "wxa") })
		wantSame(t, "without those of wxa", all("", 9), []apiusage.Deviation{one("wxb", 1, 6, 6)})
		update(t, nodes[1], func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetDeviations(ctx, "") })
		want(t, "what is left", len(all("", 9)), 0)
	})
}

// Issue 17: calls are listed newest first, over blocks, by pages that miss and repeat nothing.
func TestCallLog_NewestFirstPaging(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		one, other := aBook(s), aBook(s) // of two nodes
		var all []string                 // newest first
		add := func(b *apiusage.Service, n int) {
			t.Helper()
			c := apiusage.Call{RID: ridAt(at.Add(time.Duration(n/7)*time.Second), n), Account: fmt.Sprint("a", n%3),
				Path: fmt.Sprint("/p", n%2), Request: `{"account":"a1","errcode":40097}`}
			if n%5 == 0 {
				c.ErrCode = 40097
			}
			b.Record(c)
			all = slices.Insert(all, 0, c.RID)
		}
		for n := range 40 {
			if add(one, n); n%10 == 9 {
				want(t, "flush", one.Flush(t.Context()), nil)
			}
		}
		for n := 40; n < 60; n++ {
			add(other, n)
		}
		want(t, "flush", other.Flush(t.Context()), nil)
		for n := 60; n < 65; n++ { // not written when they are listed
			add(one, n)
		}
		read := func(search apiusage.Search, limit int) (rids []string, looked int) {
			t.Helper()
			for {
				page, seen, err := one.List(t.Context(), search, limit)
				want(t, "list", err, nil)
				for _, c := range page {
					rids = append(rids, c.RID)
				}
				looked += seen.Calls
				if seen.Next == 0 {
					return rids, looked
				}
				search.Before = seen.Next
			}
		}
		for _, limit := range []int{1, 3, 7, 100} {
			rids, looked := read(apiusage.Search{}, limit)
			want(t, fmt.Sprint("all by ", limit), rids, all)
			want(t, "looked at", looked, len(all))
		}
		chosen := func(keep func(apiusage.Call) bool) (rids []string) {
			for _, rid := range all {
				c, err := one.Get(t.Context(), rid)
				want(t, "look", err, nil)
				if keep(c) {
					rids = append(rids, rid)
				}
			}
			return rids
		}
		rids, looked := read(apiusage.Search{Account: "a1", Path: "/p0"}, 2)
		want(t, "of an account and an endpoint", rids, chosen(func(c apiusage.Call) bool { return c.Account == "a1" && c.Path == "/p0" }))
		want(t, "looked at", looked, len(all))
		rids, _ = read(apiusage.Search{Failed: true}, 4)
		want(t, "failed", rids, chosen(func(c apiusage.Call) bool { return c.ErrCode != 0 }))
		rids, _ = read(apiusage.Search{ErrCode: -1}, 4)
		want(t, "of no number", len(rids), 0)
		rids, _ = read(apiusage.Search{RID: all[3]}, 4)
		want(t, "one", rids, all[3:4])
		rids, _ = read(apiusage.Search{RID: all[3], Account: "none"}, 4)
		want(t, "one of another account", len(rids), 0)

		groups, seen, err := other.Failures(t.Context(), apiusage.Search{})
		want(t, "failures", err, nil)
		want(t, "groups", len(groups), 2)
		want(t, "of the first", groups[0].Times, 7)
		want(t, "of the second", groups[1].Times, 6)
		want(t, "the last of the second", groups[1].Last.RID, ridAt(at.Add(55/7*time.Second), 55))
		want(t, "since", seen.Since, at.UTC().Truncate(time.Second))

		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetCalls(ctx, 13, 0, 1) })
		rids, _ = read(apiusage.Search{}, 9)
		want(t, "after some are forgotten", rids, all[:len(all)-13])
	})
}

// A search that finds nothing reads a bounded number of blocks for each answer, and in the end all.
func TestCallLog_SearchBounded(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := aBook(s)
		const all = 5000
		for from := 0; from < all; from += 1000 { // a block for each call
			for n := from; n < from+1000; n++ {
				b.Record(apiusage.Call{RID: ridAt(at.Add(time.Duration(n)*time.Second), n), Account: "a"})
			}
			want(t, "flush", b.Flush(t.Context()), nil)
		}
		search, answers, looked := apiusage.Search{Account: "nobody"}, 0, 0
		for {
			list, seen, err := b.List(t.Context(), search, 50)
			want(t, "list", err, nil)
			want(t, "found", len(list), 0)
			require.True(t, seen.Calls <= 2100, "an answer looked at %d blocks", seen.Calls)
			answers, looked = answers+1, looked+seen.Calls
			if search.Before = seen.Next; seen.Next == 0 {
				break
			}
		}
		want(t, "looked at", looked, all)
		want(t, "answers", answers, 3)
		// Large ones count by their length.
		for n := range 4000 {
			b.Record(apiusage.Call{RID: aRID(n), Account: "b", Request: strings.Repeat("x", apiusage.MaxText),
				Response: strings.Repeat("y", apiusage.MaxText)})
		}
		_, seen, err := b.List(t.Context(), apiusage.Search{Account: "nobody"}, 50)
		want(t, "list", err, nil)
		assert.True(t, seen.Next != 0 && seen.Calls <= 2500, "an answer looked at %d calls of 8 KiB", seen.Calls)
	})
}
