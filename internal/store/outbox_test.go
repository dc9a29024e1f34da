package store

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var kinds = []outbox.Kind{outbox.Pushes, outbox.Messages, outbox.Deliveries}

// addRows adds rows of a kind, and the webhooks that are their receivers.
func addRows(t *testing.T, s *Store, kind outbox.Kind, rows ...outbox.Row) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) error {
		for id := range int64(10) {
			if err := tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: id, URL: "x", Enabled: true}); err != nil {
				return err
			}
		}
		return tx.webhooks().AddRows(ctx, kind, rows)
	})
}

func boxRows(t *testing.T, s *Store, kind outbox.Kind, q outbox.Query) (list []outbox.Row) {
	t.Helper()
	q.Limit = 1000
	view(t, s, func(ctx context.Context, tx *Tx) (err error) {
		list, err = tx.webhooks().Rows(ctx, kind, q)
		return err
	})
	return list
}

// claim claims rows for a minute from a moment after at on.
func claim(t *testing.T, s *Store, kind outbox.Kind, receiver string, after time.Duration, limit int) (rows []outbox.Row, until time.Time) {
	t.Helper()
	until = at.Add(after + time.Minute)
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		rows, err = tx.webhooks().ClaimRows(ctx, kind, receiver, at.Add(after), until, limit)
		return err
	})
	return rows, until
}

func receivers(t *testing.T, s *Store, kind outbox.Kind, after time.Duration) (list []string) {
	t.Helper()
	view(t, s, func(ctx context.Context, tx *Tx) (err error) {
		list, err = tx.webhooks().Receivers(ctx, kind, at.Add(after), 100)
		return err
	})
	return list
}

func save(t *testing.T, s *Store, kind outbox.Kind, r outbox.Row, was time.Time) (saved bool) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		saved, err = tx.webhooks().SaveRow(ctx, kind, r, was)
		return err
	})
	return saved
}

func ids(rows []outbox.Row) (list []int64) {
	for _, r := range rows {
		list = append(list, r.ID)
	}
	return list
}

func TestOutboxRow_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			full := filled[outbox.Row](t)
			full.Receiver, full.CreatedAt, full.NextAt, full.SentAt, full.DeliveredAt = "7", at, at.Add(time.Second), at.Add(2*time.Second),
				at.Add(2*time.Second)
			zero := outbox.Row{ID: 1 << 40, Receiver: "7"}
			addRows(t, s, kind, full, zero)
			want(t, "newest first", boxRows(t, s, kind, outbox.Query{Receiver: "7"}), []outbox.Row{zero, full})
			want(t, "by its id", boxRows(t, s, kind, outbox.Query{ID: full.ID}), []outbox.Row{full})
			want(t, "below it", boxRows(t, s, kind, outbox.Query{Before: full.ID}), []outbox.Row{})
			want(t, "by its event", boxRows(t, s, kind, outbox.Query{Event: full.Event}), []outbox.Row{full})
			changed := full
			changed.CreatedAt, changed.Attempts, changed.NextAt, changed.SentAt, changed.DeliveredAt = at.Add(time.Hour), 9,
				at.Add(time.Hour), at.Add(time.Minute), time.Time{}
			changed.Status, changed.Error, changed.URL, changed.Response = 99, "another fault", "another address", "another answer"
			for _, c := range []struct {
				was  time.Time
				want bool
			}{{at, false}, {full.NextAt, true}, {full.NextAt, false}} {
				want(t, "saved", save(t, s, kind, changed, c.was), c.want)
			}
			want(t, "changed", boxRows(t, s, kind, outbox.Query{ID: full.ID}), []outbox.Row{changed})
		}
	})
}

// A row that is over is kept for a look, without its secrets, or is removed.
func TestOutboxRow_Finished(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for kind, left := range map[outbox.Kind]string{outbox.Pushes: "", outbox.Messages: "removed", outbox.Deliveries: "body"} {
			addRows(t, s, kind, outbox.Row{Receiver: "7", Event: "e", Body: "body", CreatedAt: at, NextAt: at})
			rows, until := claim(t, s, kind, "7", 0, 1)
			r := rows[0]
			r.NextAt, r.SentAt, r.DeliveredAt = time.Time{}, at, at
			want(t, "saved", save(t, s, kind, r, until), true)
			list := boxRows(t, s, kind, outbox.Query{})
			if len(list) == 0 {
				list = []outbox.Row{{Body: "removed"}}
			} else {
				want(t, "state", list[0].State(), outbox.Delivered)
			}
			want(t, string(kind), list[0].Body, left)
		}
	})
}

func TestOutboxRow_DueByTime(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range []outbox.Kind{outbox.Pushes, outbox.Deliveries} {
			var rows []outbox.Row
			for i := range 10 {
				r := outbox.Row{ID: int64(i + 1), Receiver: "3", Event: fmt.Sprint("e", i)}
				if i%3 == 0 {
					r.NextAt = at.Add(time.Duration(9-i) * time.Second)
				}
				rows = append(rows, r)
			}
			// The last was put off by a clock that was ahead.
			addRows(t, s, kind, append(rows, outbox.Row{ID: 100, Receiver: "4", NextAt: at},
				outbox.Row{ID: 101, Receiver: "5", NextAt: at.AddDate(1, 0, 0)})...)
			for d, wanted := range map[time.Duration][]string{-time.Millisecond: {"5"}, 0: {"3", "4", "5"}} {
				want(t, fmt.Sprint("due at ", d), receivers(t, s, kind, d), wanted)
			}
			for _, c := range []struct {
				after  time.Duration
				wanted []int64
			}{{-time.Millisecond, nil}, {0, []int64{10}}, {6 * time.Second, []int64{4, 7}}, {8 * time.Second, nil},
				{time.Minute, []int64{1, 10}}, {time.Minute, nil}} {
				got, _ := claim(t, s, kind, "3", c.after, 10)
				wantSame(t, fmt.Sprint(kind, " claimed at ", c.after), ids(got), c.wanted)
			}
			got, _ := claim(t, s, kind, "5", 0, 10)
			want(t, "from a clock that was ahead", ids(got), []int64{101})
			want(t, "waiting", ids(boxRows(t, s, kind, outbox.Query{Receiver: "3", State: outbox.Pending})), []int64{10, 7, 4, 1})
			want(t, "failed", len(boxRows(t, s, kind, outbox.Query{Receiver: "3", State: outbox.Failed})), 6)
		}
		// The newest stay, and what waits.
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetPushes(ctx, "3", 3) })
		want(t, "left", ids(boxRows(t, s, outbox.Pushes, outbox.Query{Receiver: "3"})), []int64{10, 9, 8, 7, 4, 1})
		// A webhook that is switched off gets nothing.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 3, URL: "x"})
		})
		want(t, "without it", receivers(t, s, outbox.Deliveries, time.Hour), []string{"4", "5"})
	})
}

// A message waits for the older ones of its account, also while one of them is put off or on its way.
func TestOutboxRow_OrderPerAccount(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		message := func(account, body string, after time.Duration) outbox.Row {
			return outbox.Row{Receiver: account, Body: body, CreatedAt: at, NextAt: at.Add(after)}
		}
		addRows(t, nodes[0], outbox.Messages, message("wxa", "first", 0), message("wxa", "second", 0),
			message("wxb", "of another", time.Second))
		want(t, "accounts", receivers(t, nodes[1], outbox.Messages, 0), []string{"wxa"})
		first, until := claim(t, nodes[0], outbox.Messages, "wxa", 0, 10)
		want(t, "the first alone", []string{first[0].Body, fmt.Sprint(len(first))}, []string{"first", "1"})
		nobody := func(what string, after time.Duration) {
			t.Helper()
			got, _ := claim(t, nodes[1], outbox.Messages, "wxa", after, 10)
			wantSame(t, what, ids(got), nil)
			want(t, what, receivers(t, nodes[1], outbox.Messages, after), []string{"wxb"})
		}
		nobody("while it is on its way", time.Minute-time.Millisecond)
		put := first[0]
		put.Attempts, put.NextAt = 1, at.Add(time.Hour)
		want(t, "put off", save(t, nodes[0], outbox.Messages, put, until), true)
		nobody("while it is put off", time.Hour-time.Millisecond)
		again, until := claim(t, nodes[1], outbox.Messages, "wxa", time.Hour, 10)
		want(t, "again", again[0].Attempts, 1)
		again[0].NextAt = time.Time{}
		want(t, "taken", save(t, nodes[1], outbox.Messages, again[0], until), true)
		second, _ := claim(t, nodes[0], outbox.Messages, "wxa", time.Hour, 10)
		want(t, "then", second[0].Body, "second")
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxa") })
		want(t, "left", len(boxRows(t, nodes[0], outbox.Messages, outbox.Query{})), 1)
	})
}

// However many nodes ask, a row is one node's, and of messages one at a time.
func TestOutboxRow_ClaimedOnce(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 40 {
				rows = append(rows, outbox.Row{Receiver: "7", Event: fmt.Sprint("e", n), CreatedAt: at, NextAt: at})
			}
			addRows(t, nodes[0], kind, rows...)
			var claimed [8][]int64
			for i, err := range race(8, func(i int) error {
				return nodes[i%2].update(t.Context(), func(tx *Tx) error {
					got, err := tx.webhooks().ClaimRows(t.Context(), kind, "7", at, at.Add(time.Minute), 10)
					claimed[i] = ids(got)
					return err
				})
			}) {
				assert.True(t, err == nil, "%d: %v", i, err)
			}
			all := slices.Concat(claimed[:]...)
			slices.Sort(all)
			if kind == outbox.Messages {
				want(t, "messages", len(all), 1)
			} else if n := len(slices.Compact(slices.Clone(all))); n != len(all) || n == 0 {
				t.Errorf("%s: claimed twice: %v", kind, all)
			}
		}
	})
}

// A node that was stopped while another took its rows over changes nothing, but that a row was delivered which was given up meanwhile.
func TestOutboxRow_ExpiredLeaseFenced(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for _, kind := range kinds {
			addRows(t, nodes[0], kind, outbox.Row{Receiver: "7", Event: "e", CreatedAt: at, NextAt: at})
			late, lateUntil := claim(t, nodes[0], kind, "7", 0, 1)
			now, until := claim(t, nodes[1], kind, "7", time.Minute, 1)
			failed, delivered := late[0], late[0]
			failed.NextAt, failed.Error = time.Time{}, "the node was stopped"
			delivered.NextAt, delivered.SentAt, delivered.DeliveredAt = time.Time{}, at, at
			want(t, "over another's lease", save(t, nodes[0], kind, failed, lateUntil), false)
			want(t, "over another's lease", save(t, nodes[0], kind, delivered, lateUntil), false)
			now[0].NextAt, now[0].Error = time.Time{}, "given up"
			want(t, "the result", save(t, nodes[1], kind, now[0], until), true)
			want(t, "over another's result", save(t, nodes[0], kind, failed, lateUntil), false)
			kept := kind != outbox.Messages
			want(t, "delivered all the same", save(t, nodes[0], kind, delivered, lateUntil), kept)
			delivered.Status = 9
			want(t, "over what was delivered", save(t, nodes[0], kind, delivered, lateUntil), false)
			if list := boxRows(t, nodes[0], kind, outbox.Query{}); kept {
				want(t, "state", list[0].State(), outbox.Delivered)
			}
		}
	})
}

// TestClaimRows_OrderKey: a delivery is claimed only together with the older ones of its code that wait.
func TestClaimRows_OrderKey(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		row := func(event, key string) outbox.Row {
			return outbox.Row{Receiver: "7", Event: event, OrderKey: key, CreatedAt: at, NextAt: at}
		}
		addRows(t, nodes[0], outbox.Deliveries, row("a1", "a"), row("none", ""), row("a2", "a"), row("b1", "b"), row("a3", "a"))
		events := func(rows []outbox.Row) (list []string) {
			for _, r := range rows {
				list = append(list, r.Event)
			}
			return list
		}
		first, until := claim(t, nodes[0], outbox.Deliveries, "7", 0, 1)
		want(t, "first claim", events(first), []string{"a1"})
		other, otherUntil := claim(t, nodes[1], outbox.Deliveries, "7", 0, 10)
		want(t, "claim of the other node", events(other), []string{"none", "b1"})
		first[0].NextAt = at.Add(10 * time.Second) // its next attempt
		want(t, "saved", save(t, nodes[0], outbox.Deliveries, first[0], until), true)
		other[0].NextAt, other[0].DeliveredAt = time.Time{}, at
		want(t, "saved", save(t, nodes[1], outbox.Deliveries, other[0], otherUntil), true)
		early, _ := claim(t, nodes[1], outbox.Deliveries, "7", 5*time.Second, 10)
		want(t, "claim before the next attempt", len(early), 0)
		second, until := claim(t, nodes[1], outbox.Deliveries, "7", 20*time.Second, 2)
		want(t, "claim at the next attempt", events(second), []string{"a1", "a2"})
		for _, r := range second {
			r.NextAt, r.Error = time.Time{}, "given up"
			want(t, "saved", save(t, nodes[1], outbox.Deliveries, r, until), true)
		}
		third, _ := claim(t, nodes[0], outbox.Deliveries, "7", 20*time.Second, 10)
		want(t, "claim after the end of the older ones", events(third), []string{"a3"})
	})
}

// TestClaimRows_Concurrent: a claim that begins beside another one takes no delivery that is younger than those of the other.
func TestClaimRows_Concurrent(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		row := func(event string) outbox.Row {
			return outbox.Row{Receiver: "7", Event: event, OrderKey: "a", CreatedAt: at, NextAt: at}
		}
		addRows(t, nodes[0], outbox.Deliveries, row("a1"))
		claimed, second := make(chan struct{}), make(chan struct{})
		signal := sync.OnceFunc(func() { close(claimed) })
		queued := nodes[1].write.Stats().WaitCount
		var wait sync.WaitGroup
		wait.Go(func() {
			err := nodes[0].update(t.Context(), func(tx *Tx) error {
				_, err := tx.webhooks().ClaimRows(t.Context(), outbox.Deliveries, "7", at, at.Add(time.Minute), 10)
				signal()
				// Until the other node waits for this transaction, or, without a lock, has claimed.
				waitFor(t, "the other claim", func() bool {
					return isClosed(second) || nodes[1].write.Stats().WaitCount > queued || sessionsThatWait(t, nodes[1]) > 0
				})
				return err
			})
			assert.True(t, err == nil, "%v", err)
		})
		<-claimed
		addRows(t, nodes[1], outbox.Deliveries, row("a2"))
		rows, _ := claim(t, nodes[1], outbox.Deliveries, "7", 0, 10)
		close(second)
		wait.Wait()
		want(t, "deliveries of the second claim", len(rows), 0)
	})
}

// TestSender_OrderPerCode: two nodes send to a receiver that refuses every third request. It takes the deliveries of a code in order,
// also those that are added meanwhile.
func TestSender_OrderPerCode(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const codes, each = 5, 24
		var mu sync.Mutex
		taken, requests := map[string][]int{}, 0
		by := [2]int{}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		finished := make(chan struct{})
		var wait sync.WaitGroup
		for i, node := range nodes {
			sender := outbox.New(outbox.Policy{Kind: outbox.Deliveries, Batch: 4, Lease: time.Minute, Parallel: 4,
				Open: func(context.Context, string) (func(*outbox.Row) (safehttp.Request, error), error) {
					return func(r *outbox.Row) (safehttp.Request, error) { return safehttp.Request{Body: []byte(r.Body)}, nil }, nil
				},
				Refusal: func(_ *outbox.Row, a safehttp.Answer, _ error) string {
					return map[bool]string{true: "refused"}[a.Status != 204]
				},
				NextAttempt: func(_ outbox.Row, _, ended time.Time) time.Time { return ended.Add(10 * time.Millisecond) },
			}, node, outbox.Options{Now: time.Now, RealNow: time.Now, Log: slog.New(slog.DiscardHandler),
				Post: func(_ context.Context, r safehttp.Request) (safehttp.Answer, error) {
					mu.Lock()
					defer mu.Unlock()
					if requests++; requests%3 == 0 {
						return safehttp.Answer{Status: 503}, nil
					}
					key, n, _ := strings.Cut(string(r.Body), " ")
					number, err := strconv.Atoi(n)
					assert.True(t, err == nil, "%v", err)
					taken[key] = append(taken[key], number)
					if by[i]++; by[0]+by[1] == codes*each {
						close(finished)
					}
					return safehttp.Answer{Status: 204}, nil
				}})
			wait.Go(func() { sender.Run(ctx, 2*time.Millisecond) })
		}
		for n := range each {
			var rows []outbox.Row
			for code := range codes {
				key := fmt.Sprint("code", code)
				rows = append(rows, outbox.Row{Receiver: "7", Event: fmt.Sprint(key, n), OrderKey: key, Body: fmt.Sprint(key, " ", n),
					CreatedAt: at, NextAt: at})
			}
			addRows(t, nodes[n%2], outbox.Deliveries, rows...)
		}
		select {
		case <-finished:
		case <-time.After(time.Minute):
		}
		stop()
		wait.Wait()
		for code := range codes {
			key := fmt.Sprint("code", code)
			got := taken[key]
			assert.True(t, len(got) == each && slices.IsSorted(got), "deliveries of %s = %v, want %d in order", key, got, each)
		}
		if by[0] == 0 || by[1] == 0 {
			t.Logf("one node sent everything: %v", by)
		}
	})
}

func TestOutboxRow_EvictOldest(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 300 {
				rows = append(rows, outbox.Row{Receiver: fmt.Sprint(1 + n%2), Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: at,
					NextAt: at})
			}
			addRows(t, s, kind, rows...)
			for _, c := range []struct{ keep, gaveUp int }{{300, 0}, {150, 0}, {140, 10}, {140, 0}} {
				update(t, s, func(ctx context.Context, tx *Tx) error {
					n, err := tx.webhooks().DeadLetterRows(ctx, kind, "1", c.keep, "too many")
					want(t, fmt.Sprint(kind, " given up above ", c.keep), n, c.gaveUp)
					return err
				})
			}
			want(t, "of the other", len(boxRows(t, s, kind, outbox.Query{Receiver: "2", State: outbox.Pending})), 150)
			left := boxRows(t, s, kind, outbox.Query{Receiver: "1", State: outbox.Pending})
			want(t, "left", []any{len(left), left[139].ID}, []any{140, int64(21)})
			if kind == outbox.Messages {
				continue
			}
			failed := boxRows(t, s, kind, outbox.Query{State: outbox.Failed})
			want(t, "failed", []any{len(failed), failed[0].ID, failed[0].Receiver, failed[0].Error}, []any{10, int64(19), "1", "too many"})
		}
	})
}

// A look at what is due reads what waits alone, however much was sent before.
// (Issue 14: an enabled webhook read all its deliveries every second.)
func TestOutboxRow_DueQuerySkipsDelivered(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 3000 {
				r := outbox.Row{Receiver: "7", Event: fmt.Sprint("e", n), CreatedAt: at, SentAt: at, DeliveredAt: at}
				if kind == outbox.Messages || n >= 2990 { // of messages nothing is kept
					r.NextAt = at.Add(time.Hour)
				}
				rows = append(rows, r)
			}
			addRows(t, s, kind, rows...)
			if s.Engine() == "sqlite" {
				indexes := map[outbox.Kind]string{
					outbox.Pushes:   "idx_pushes_component_next_attempt_at idx_pushes_component_id",
					outbox.Messages: "idx_messages_account_id",
					outbox.Deliveries: "idx_deliveries_webhook_next_attempt_at idx_deliveries_webhook_id_next_attempt_at_order_key " +
						"idx_deliveries_webhook_order_key_id",
				}[kind]
				for _, query := range []string{receiversQuery(kind), claimQuery(rowTables[kind])} {
					plan := plans(t, s, query, 1, 2, 3, 4, 5)
					for _, step := range plan {
						// Each look at the table is a search of what waits, or of one row, by an index.
						words := strings.Fields(step)
						index := slices.Index(words, "INDEX") + 1
						found := index > 0 && strings.Contains(indexes, words[index]) ||
							strings.Contains(step, "sqlite_autoindex_"+string(kind)+"_1 (id=?)")
						named := slices.Contains(words, string(kind)) || slices.Contains(words, "older")
						assert.True(t, (!named || found) && !strings.Contains(step, "TEMP B-TREE"),
							"%s: %s:\n%s", kind, step, strings.Join(plan, "\n"))
					}
				}
				continue
			}
			settled(t, s, string(kind))
			var text string
			require.NoError(t, s.read.QueryRowContext(t.Context(), `EXPLAIN (ANALYZE, FORMAT JSON) `+receiversQuery(kind), at.UnixMilli(),
				at.Add(outbox.Farthest).UnixMilli(), 10).Scan(&text))
			var plan []struct{ Plan node }
			require.NoError(t, json.Unmarshal([]byte(text), &plan))
			n := plan[0].Plan.read()
			assert.True(t, !(n > 20), "%s: %v rows were read:\n%s", kind, n, text)
		}
	})
}

// node is a part of a plan of PostgreSQL.
type node struct {
	Rows    float64 `json:"Actual Rows"`
	Loops   float64 `json:"Actual Loops"`
	Removed float64 `json:"Rows Removed by Filter"`
	Plans   []node
}

// read is how many rows all parts have read.
func (n node) read() float64 {
	all := (n.Rows + n.Removed) * n.Loops
	for _, p := range n.Plans {
		all += p.read()
	}
	return all
}

// plans is how SQLite goes about a query.
func plans(t *testing.T, s *Store, query string, args ...any) (list []string) {
	t.Helper()
	rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
		list = append(list, detail)
	}
	return list
}
