package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/calls"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/settings"
)

// aBook is the book of calls of one process on a store.
func aBook(s *Store) *calls.Book {
	return &calls.Book{Store: s, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return at },
		Log:        slog.New(slog.DiscardHandler),
		Interfaces: []string{"/a", "/b", "/exact"},
		Exact:      map[string]func(settings.Settings) int{"/exact": func(settings.Settings) int { return 7 }}}
}

func aRID(n int) string { return fmt.Sprintf("%08x-%08x-%08x", at.Unix(), n, 0) }

func TestACallComesBackAsItWas(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		c := filled[calls.Call](t)
		c.Took, c.At, c.Behaviours = 1234*time.Millisecond, at, []string{"wire.number.text", "rules.add.edit_flag"}
		update(t, s, func(ctx context.Context, tx *Tx) error {
			newest, err := tx.AddCalls(ctx, []calls.Call{c})
			want(t, "its number", newest, 1)
			return err
		})
		// A second one with the same request id changes nothing.
		other := c
		other.Account = "another"
		update(t, s, func(ctx context.Context, tx *Tx) error {
			newest, err := tx.AddCalls(ctx, []calls.Call{other})
			want(t, "the next number", newest, 2)
			return err
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.Call(ctx, c.RID)
			want(t, "call", got, c)
			if err != nil {
				return err
			}
			if _, err := tx.Call(ctx, "another"); !errors.Is(err, calls.ErrNoCall) {
				t.Errorf("an unknown one: %v", err)
			}
			return nil
		})
	})
}

func TestCallsLeaveInOrder(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		add := func(from, to int) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error {
				var list []calls.Call
				for n := from; n < to; n++ {
					list = append(list, calls.Call{RID: aRID(n), Account: "a"})
				}
				_, err := tx.AddCalls(ctx, list)
				return err
			})
		}
		forget := func(upTo int64, rid string, limit int) {
			t.Helper()
			update(t, s, func(ctx context.Context, tx *Tx) error { return tx.ForgetCalls(ctx, upTo, rid, limit) })
		}
		left := func(what string, from, to int) {
			t.Helper()
			var rids []string
			for n := from; n < to; n++ {
				rids = append(rids, aRID(n))
			}
			wantSame(t, what, texts(t, s, `SELECT rid FROM calls ORDER BY seq`), rids)
		}
		add(0, 250) // more than one statement stores
		left("all", 0, 250)
		forget(0, "", 1000)
		left("nothing to forget", 0, 250)
		forget(20, "", 1000)
		left("up to a number", 20, 250)
		forget(100, "", 30)
		left("not more than the limit", 50, 250)
		forget(0, aRID(60), 1000)
		left("before a request id", 60, 250)
		forget(0, aRID(100), 5)
		left("not more than the limit before a request id", 65, 250)
		add(250, 260)
		want(t, "the last number", number(t, s, `SELECT MAX(seq) FROM calls`), 260)
	})
}

func TestCountsAddUpAndAreForgotten(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		update(t, s, func(ctx context.Context, tx *Tx) error {
			for _, step := range []struct{ day, n, want int }{{5, 3, 3}, {5, 4, 7}, {6, 1, 1}} {
				got, err := tx.AddCounts(ctx, "a", "/x", int64(step.day), step.n)
				if err != nil {
					return err
				}
				want(t, "sum", got, step.want)
			}
			once, err := tx.AddCount(ctx, "a", "/x", 5)
			want(t, "with one more", once, 8)
			if err != nil {
				return err
			}
			if err := tx.ClearCount(ctx, "a", "/x", 6); err != nil {
				return err
			}
			return tx.ForgetCounts(ctx, 5)
		})
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for day, n := range map[int64]int{4: 0, 5: 8, 6: 0} {
				got, err := tx.Count(ctx, "a", "/x", day)
				if err != nil {
					return err
				}
				want(t, fmt.Sprint("day ", day), got, n)
			}
			return nil
		})
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.ForgetCounts(ctx, 6) })
		want(t, "what is left", number(t, s, `SELECT COUNT(*) FROM counters`), 0)
	})
}

// Two processes count for themselves and write what came since their last
// write: together they have it all, and each sees the other's.
func TestProcessesAddUp(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*calls.Book{aBook(nodes[0]), aBook(nodes[1])}
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
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		for i, b := range books {
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(i, err)
			}
		}
		for i, b := range books {
			q, err := b.Quota(t.Context(), "wxa", "/a")
			if err != nil {
				t.Fatal(err)
			}
			want(t, fmt.Sprint("used, as process ", i, " sees it"), q, calls.Quota{Limit: calls.PerDay, Used: 3200})
		}
	})
}

// Of many clears at once, on all nodes, exactly ten of an account succeed, and
// what another process has counted before does not come back.
func TestTenClearsWhoeverAsks(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*calls.Book{aBook(nodes[0]), aBook(nodes[1])}
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
		want(t, "clears that succeeded", done, calls.ClearsPerMonth)
		if err := books[0].Clear(t.Context(), "wxb", ""); err != nil {
			t.Errorf("another account: %v", err)
		}
	})
}

// One process refuses because the day's calls are used up; a clear on the other
// opens them.
func TestAClearOnAnotherNodeCounts(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		books := [2]*calls.Book{aBook(nodes[0]), aBook(nodes[1])}
		for _, b := range books {
			s := settings.Defaults()
			s.DailyLimits = settings.Limits{"/a": 3}
			b.Settings.Set(s)
		}
		for n, want := range []error{nil, nil, nil, errcode.DailyLimit} {
			if err := books[0].Spend(t.Context(), "wxa", "/a"); !errors.Is(err, want) {
				t.Fatalf("call %d: %v, want %v", n+1, err, want)
			}
		}
		// The other node counts from what was written.
		if err := books[0].Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := books[1].Spend(t.Context(), "wxa", "/a"); !errors.Is(err, errcode.DailyLimit) {
			t.Errorf("on the other node: %v", err)
		}
		if err := books[1].Clear(t.Context(), "wxa", "/a"); err != nil {
			t.Fatal(err)
		}
		for i, b := range slices.Backward(books[:]) {
			if err := b.Spend(t.Context(), "wxa", "/a"); err != nil {
				t.Errorf("node %d after the clear: %v", i, err)
			}
		}
	})
}
