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

// newUsageService returns the API usage service of a process.
func newUsageService(s *Store) *apiusage.Service {
	return &apiusage.Service{Store: s.Calls(), Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return t0 },
		Log:        slog.New(slog.DiscardHandler),
		Interfaces: []string{"/a", "/b", "/exact"},
		Exact:      map[string]func(settings.Settings) int{"/exact": func(settings.Settings) int { return 7 }}}
}

func newRID(n int) string { return newRIDAt(t0, n) }

func newRIDAt(t time.Time, n int) string { return fmt.Sprintf("%08x-%08x-%08x", t.Unix(), n, 0) }

func TestCallLog_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		c := newFilled[apiusage.Call](t)
		c.RID, c.Duration, c.OccurredAt, c.Behaviours = newRID(1), 1234*time.Millisecond, t0, []string{"wire.number.text",
			"rules.add.edit_flag"}
		lookup := apiusage.Call{RID: newRID(0), Account: "another", Request: `{"rid":"` + c.RID + `"}`}
		b := newUsageService(s)
		b.Record(lookup)
		b.Record(c)
		b.Record(apiusage.Call{RID: c.RID, Account: "another"}) // changes nothing
		check(t, "flush", b.Flush(t.Context()), nil)
		got, err := b.Get(t.Context(), c.RID)
		check(t, "error of Get()", err, nil)
		check(t, "call", got, c)
		assert.ErrorIs(t, assert.ErrorOf(b.Get(t.Context(), newRID(2))), apiusage.ErrNoCall, "an unknown call")
	})
}

// TestCallLog_CallsShareRows verifies that the calls of a second share a row of the log, up to a size.
func TestCallLog_CallsShareRows(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := newUsageService(s)
		for n := range 2000 { // calls of two seconds
			b.Record(apiusage.Call{RID: newRIDAt(t0.Add(time.Duration(n%2)*time.Second), n), Account: "a"})
		}
		check(t, "flush", b.Flush(t.Context()), nil)
		check(t, "rows", queryInt(t, s, `SELECT COUNT(*) FROM call_blocks`), 2)
		check(t, "calls", queryInt(t, s, `SELECT SUM(calls) FROM call_blocks`), 2000)
		// The size of a row is limited.
		for n := range 10 {
			b.Record(apiusage.Call{RID: newRIDAt(t0.Add(time.Minute), n), Account: "a", Request: strings.Repeat("x", apiusage.MaxText)})
		}
		for range 15 {
			b.Record(apiusage.Call{RID: newRIDAt(t0.Add(time.Minute), 10), Account: "a", Request: strings.Repeat("\x01", apiusage.MaxText)})
		}
		check(t, "flush", b.Flush(t.Context()), nil)
		check(t, "rows", queryInt(t, s, `SELECT COUNT(*) FROM call_blocks`), 4)
	})
}

func TestCallLog_EvictOldestFirst(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := newUsageService(s)
		add := func(from, to int) { // two calls a second
			t.Helper()
			for n := from; n < to; n++ {
				b.Record(apiusage.Call{RID: newRIDAt(t0.Add(time.Duration(n/2)*time.Second), n), Account: "a"})
			}
			check(t, "flush", b.Flush(t.Context()), nil)
		}
		forget := func(upTo int64, before, limit int) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.accounts().ForgetCalls(ctx, upTo, t0.Add(time.Duration(before)*time.Second).Unix(), limit)
			})
		}
		checkCalls := func(name string, from, to, rows int) {
			t.Helper()
			for n := range to + 1 {
				_, err := b.Get(t.Context(), newRIDAt(t0.Add(time.Duration(n/2)*time.Second), n))
				exists := n >= from && n < to
				require.True(t, exists == (err == nil) && (exists || errors.Is(err, apiusage.ErrNoCall)),
					"%s: Get() of call %d = %v, want it to exist: %v", name, n, err, exists)
			}
			check(t, name+": rows", queryInt(t, s, `SELECT COUNT(*) FROM call_blocks`), int64(rows))
		}
		add(0, 250)
		checkCalls("all", 0, 250, 125)
		forget(0, 0, 1000)
		checkCalls("nothing to forget", 0, 250, 125)
		forget(20, 0, 1000)
		checkCalls("up to a number", 20, 250, 115)
		forget(100, 0, 30)
		checkCalls("rows up to the limit", 100, 250, 85)
		forget(101, 0, 1000)
		checkCalls("a part of a row", 101, 250, 75)
		forget(50, 0, 1000)
		checkCalls("a smaller number", 101, 250, 75)
		forget(0, 60, 1000)
		checkCalls("before a second", 120, 250, 65)
		forget(0, 100, 5)
		checkCalls("rows before a second up to the limit", 130, 250, 60)
		add(250, 260)
		check(t, "last seq", queryInt(t, s, `SELECT MAX(seq) FROM call_blocks`), 260)
	})
}

func TestCallCounts_SumAndExpiry(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, step := range []struct{ day, n, want int }{{5, 3, 3}, {5, 4, 7}, {6, 1, 1}} {
				got, err := tx.accounts().AddCounts(ctx, "a", "/x", int64(step.day), step.n)
				if err != nil {
					return err
				}
				check(t, "sum", got, step.want)
			}
			sum, err := tx.accounts().AddCount(ctx, "a", "/x", 5)
			check(t, "sum after AddCount", sum, 8)
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
				check(t, fmt.Sprint("day ", day), got, n)
			}
			return nil
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetCounts(ctx, 6) })
		check(t, "counters", queryInt(t, s, `SELECT COUNT(*) FROM counters`), 0)
	})
}

// TestCallCounts_SummedAcrossProcesses counts calls in two processes, which write their counts at different times. Both have the sum.
func TestCallCounts_SummedAcrossProcesses(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{newUsageService(nodes[0]), newUsageService(nodes[1])}
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
			q := require.Value(b.Quota(t.Context(), "wxa", "/a"))(t)
			check(t, fmt.Sprint("quota in process ", i), q, apiusage.Quota{Limit: apiusage.PerDay, Used: 3200})
		}
	})
}

// TestClearQuota_TenAcrossNodes clears the quota of an account concurrently on two nodes. Exactly ClearsPerMonth calls succeed.
func TestClearQuota_TenAcrossNodes(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{newUsageService(nodes[0]), newUsageService(nodes[1])}
		errs := race(32, func(i int) error { return books[i%2].Clear(t.Context(), "wxa", []string{"", "/a"}[i/2%2]) })
		check(t, "successful calls", countSuccesses(t, errs, errcode.ClearLimit), apiusage.ClearsPerMonth)
		assert.NoErrorf(t, books[0].Clear(t.Context(), "wxb", ""), "another account")
	})
}

// TestClearQuota_SeenByOtherNode verifies that a node accepts calls again after the quota is cleared on another node.
func TestClearQuota_SeenByOtherNode(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*apiusage.Service{newUsageService(nodes[0]), newUsageService(nodes[1])}
		for _, b := range books {
			s := settings.Defaults()
			s.DailyLimits = settings.Limits{"/a": 3}
			b.Settings.Set(s)
		}
		for n, want := range []error{nil, nil, nil, errcode.DailyLimit} {
			require.ErrorIs(t, books[0].Spend(t.Context(), "wxa", "/a"), want, "call %d", n+1)
		}
		// The other node reads the written count.
		require.NoError(t, books[0].Flush(t.Context()))
		assert.ErrorIs(t, books[1].Spend(t.Context(), "wxa", "/a"), errcode.DailyLimit, "a call on the other node")
		require.NoError(t, books[1].Clear(t.Context(), "wxa", "/a"))
		for i, b := range slices.Backward(books[:]) {
			assert.NoErrorf(t, b.Spend(t.Context(), "wxa", "/a"), "a call on node %d after the clear", i)
		}
	})
}

// TestDeviations_MergedAcrossProcesses verifies that deviations of two processes are summed, with the earliest and the latest call, in any
// order of the writes.
func TestDeviations_MergedAcrossProcesses(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		deviation := func(account string, times int64, first, last int) apiusage.Deviation {
			second := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
			return apiusage.Deviation{Account: account, Endpoint: "/a", Behaviour: "wire.number.text", Times: times,
				FirstRID: newRID(first), FirstAt: second(first), LastRID: newRID(last), LastAt: second(last)}
		}
		add := func(s *Store, list ...apiusage.Deviation) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().AddDeviations(ctx, list) })
		}
		read := func(account string, limit int) (list []apiusage.Deviation) {
			t.Helper()
			view(t, nodes[0], func(ctx context.Context, tx *Tx) (err error) {
				list, err = tx.accounts().Deviations(ctx, account, limit)
				return err
			})
			return list
		}
		add(nodes[0], deviation("wxa", 3, 5, 7), deviation("wxb", 1, 6, 6))
		checkList(t, "deviations", read("", 9), []apiusage.Deviation{deviation("wxa", 3, 5, 7), deviation("wxb", 1, 6, 6)})
		add(nodes[1], deviation("wxa", 2, 1, 4))
		checkList(t, "deviations after earlier ones", read("wxa", 9), []apiusage.Deviation{deviation("wxa", 5, 1, 7)})
		add(nodes[1], deviation("wxa", 2, 8, 9))
		checkList(t, "deviations after later ones", read("wxa", 9), []apiusage.Deviation{deviation("wxa", 7, 1, 9)})
		checkList(t, "first deviation", read("", 1), []apiusage.Deviation{deviation("wxa", 7, 1, 9)})
		update(t, nodes[1], func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetDeviations(ctx, "wxa") })
		checkList(t, "deviations of other accounts", read("", 9), []apiusage.Deviation{deviation("wxb", 1, 6, 6)})
		update(t, nodes[1], func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetDeviations(ctx, "") })
		check(t, "deviations after all are deleted", len(read("", 9)), 0)
	})
}

// TestCallLog_NewestFirstPaging lists calls page by page, newest first, over several blocks. No call is missing or repeated.
func TestCallLog_NewestFirstPaging(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		first, second := newUsageService(s), newUsageService(s)
		var all []string // newest first
		add := func(b *apiusage.Service, n int) {
			t.Helper()
			c := apiusage.Call{RID: newRIDAt(t0.Add(time.Duration(n/7)*time.Second), n), Account: fmt.Sprint("a", n%3),
				Path: fmt.Sprint("/p", n%2), Request: `{"account":"a1","errcode":40097}`}
			if n%5 == 0 {
				c.ErrCode = 40097
			}
			b.Record(c)
			all = slices.Insert(all, 0, c.RID)
		}
		for n := range 40 {
			if add(first, n); n%10 == 9 {
				check(t, "flush", first.Flush(t.Context()), nil)
			}
		}
		for n := 40; n < 60; n++ {
			add(second, n)
		}
		check(t, "flush", second.Flush(t.Context()), nil)
		for n := 60; n < 65; n++ { // not flushed before the calls are listed
			add(first, n)
		}
		read := func(search apiusage.Search, limit int) (rids []string, searched int) {
			t.Helper()
			for {
				page, stats, err := first.List(t.Context(), search, limit)
				check(t, "list", err, nil)
				for _, c := range page {
					rids = append(rids, c.RID)
				}
				searched += stats.Calls
				if stats.Next == 0 {
					return rids, searched
				}
				search.Before = stats.Next
			}
		}
		for _, limit := range []int{1, 3, 7, 100} {
			rids, searched := read(apiusage.Search{}, limit)
			check(t, fmt.Sprint("all calls in pages of ", limit), rids, all)
			check(t, "searched calls", searched, len(all))
		}
		filter := func(keep func(apiusage.Call) bool) (rids []string) {
			for _, rid := range all {
				c, err := first.Get(t.Context(), rid)
				check(t, "error of Get()", err, nil)
				if keep(c) {
					rids = append(rids, rid)
				}
			}
			return rids
		}
		rids, searched := read(apiusage.Search{Account: "a1", Path: "/p0"}, 2)
		check(t, "calls by account and path", rids, filter(func(c apiusage.Call) bool { return c.Account == "a1" && c.Path == "/p0" }))
		check(t, "searched calls", searched, len(all))
		rids, _ = read(apiusage.Search{Failed: true}, 4)
		check(t, "failed calls", rids, filter(func(c apiusage.Call) bool { return c.ErrCode != 0 }))
		rids, _ = read(apiusage.Search{ErrCode: -1}, 4)
		check(t, "calls with an unknown error code", len(rids), 0)
		rids, _ = read(apiusage.Search{RID: all[3]}, 4)
		check(t, "call by RID", rids, all[3:4])
		rids, _ = read(apiusage.Search{RID: all[3], Account: "none"}, 4)
		check(t, "call by RID and another account", len(rids), 0)

		groups, stats, err := second.Failures(t.Context(), apiusage.Search{})
		check(t, "error of Failures()", err, nil)
		check(t, "groups", len(groups), 2)
		check(t, "calls of the first group", groups[0].Times, 7)
		check(t, "calls of the second group", groups[1].Times, 6)
		check(t, "last call of the second group", groups[1].Last.RID, newRIDAt(t0.Add(55/7*time.Second), 55))
		check(t, "since", stats.Since, t0.UTC().Truncate(time.Second))

		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetCalls(ctx, 13, 0, 1) })
		rids, _ = read(apiusage.Search{}, 9)
		check(t, "calls after 13 are deleted", rids, all[:len(all)-13])
	})
}

// TestCallLog_SearchBounded verifies that a search without results reads a limited number of blocks for each page, and all blocks in total.
func TestCallLog_SearchBounded(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := newUsageService(s)
		const all = 5000
		for from := 0; from < all; from += 1000 { // a block for each call
			for n := from; n < from+1000; n++ {
				b.Record(apiusage.Call{RID: newRIDAt(t0.Add(time.Duration(n)*time.Second), n), Account: "a"})
			}
			check(t, "flush", b.Flush(t.Context()), nil)
		}
		search, pages, searched := apiusage.Search{Account: "nobody"}, 0, 0
		for {
			list, stats, err := b.List(t.Context(), search, 50)
			check(t, "error of List()", err, nil)
			check(t, "calls found", len(list), 0)
			require.True(t, stats.Calls <= 2100, "a page searches %d blocks, want at most 2100", stats.Calls)
			pages, searched = pages+1, searched+stats.Calls
			if search.Before = stats.Next; stats.Next == 0 {
				break
			}
		}
		check(t, "searched calls", searched, all)
		check(t, "pages", pages, 3)
		// Large calls count by their size.
		for n := range 4000 {
			b.Record(apiusage.Call{RID: newRID(n), Account: "b", Request: strings.Repeat("x", apiusage.MaxText),
				Response: strings.Repeat("y", apiusage.MaxText)})
		}
		_, stats, err := b.List(t.Context(), apiusage.Search{Account: "nobody"}, 50)
		check(t, "error of List()", err, nil)
		assert.True(t, stats.Next != 0 && stats.Calls <= 2500, "a page searches %d calls of 8 KiB, want at most 2500", stats.Calls)
	})
}
