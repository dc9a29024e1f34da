package store

import (
	"context"
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
)

var kinds = []outbox.Kind{outbox.Pushes, outbox.Messages, outbox.Deliveries}

// addRows adds rows of a kind and webhooks as their receivers.
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

func listRows(t *testing.T, s *Store, kind outbox.Kind, q outbox.Query) (list []outbox.Row) {
	t.Helper()
	q.Limit = 1000
	view(t, s, func(ctx context.Context, tx *Tx) (err error) {
		list, err = tx.webhooks().Rows(ctx, kind, q)
		return err
	})
	return list
}

// claimRows claims rows for a minute that begins after t0.
func claimRows(t *testing.T, s *Store, kind outbox.Kind, receiver string, after time.Duration, limit int) (rows []outbox.Row,
	until time.Time) {
	t.Helper()
	until = t0.Add(after + time.Minute)
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		rows, err = tx.webhooks().ClaimRows(ctx, kind, receiver, t0.Add(after), until, limit)
		return err
	})
	return rows, until
}

func listReceivers(t *testing.T, s *Store, kind outbox.Kind, after time.Duration) (list []string) {
	t.Helper()
	view(t, s, func(ctx context.Context, tx *Tx) (err error) {
		list, err = tx.webhooks().Receivers(ctx, kind, t0.Add(after), 100)
		return err
	})
	return list
}

func saveRow(t *testing.T, s *Store, kind outbox.Kind, r outbox.Row, leaseEnd time.Time) (saved bool) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		saved, err = tx.webhooks().SaveRow(ctx, kind, r, leaseEnd)
		return err
	})
	return saved
}

func rowID(r outbox.Row) int64 { return r.ID }

func rowEvent(r outbox.Row) string { return r.Event }

func TestOutboxRow_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			full := newFilled[outbox.Row](t)
			full.Receiver, full.CreatedAt, full.NextAt, full.SentAt, full.DeliveredAt = "7", t0, t0.Add(time.Second), t0.Add(2*time.Second),
				t0.Add(2*time.Second)
			zero := outbox.Row{ID: 1 << 40, Receiver: "7"}
			addRows(t, s, kind, full, zero)
			check(t, "newest first", listRows(t, s, kind, outbox.Query{Receiver: "7"}), []outbox.Row{zero, full})
			check(t, "row with the ID", listRows(t, s, kind, outbox.Query{ID: full.ID}), []outbox.Row{full})
			check(t, "rows before the ID", listRows(t, s, kind, outbox.Query{Before: full.ID}), []outbox.Row{})
			check(t, "row with the event", listRows(t, s, kind, outbox.Query{Event: full.Event}), []outbox.Row{full})
			changed := full
			changed.CreatedAt, changed.Attempts, changed.NextAt, changed.SentAt, changed.DeliveredAt = t0.Add(time.Hour), 9,
				t0.Add(time.Hour), t0.Add(time.Minute), time.Time{}
			changed.Status, changed.Error, changed.URL, changed.Response = 99, "another fault", "another address", "another answer"
			for _, c := range []struct {
				leaseEnd time.Time
				want     bool
			}{{t0, false}, {full.NextAt, true}, {full.NextAt, false}} {
				check(t, "saved", saveRow(t, s, kind, changed, c.leaseEnd), c.want)
			}
			check(t, "row after SaveRow", listRows(t, s, kind, outbox.Query{ID: full.ID}), []outbox.Row{changed})
		}
	})
}

// TestOutboxRow_Finished verifies that delivered messages are removed, and that other delivered rows remain, pushes without their body.
func TestOutboxRow_Finished(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for kind, body := range map[outbox.Kind]string{outbox.Pushes: "", outbox.Messages: "removed", outbox.Deliveries: "body"} {
			addRows(t, s, kind, outbox.Row{Receiver: "7", Event: "e", Body: "body", CreatedAt: t0, NextAt: t0})
			rows, until := claimRows(t, s, kind, "7", 0, 1)
			r := rows[0]
			r.NextAt, r.SentAt, r.DeliveredAt = time.Time{}, t0, t0
			check(t, "saved", saveRow(t, s, kind, r, until), true)
			list := listRows(t, s, kind, outbox.Query{})
			if len(list) == 0 {
				list = []outbox.Row{{Body: "removed"}}
			} else {
				check(t, "state", list[0].State(), outbox.Delivered)
			}
			check(t, string(kind), list[0].Body, body)
		}
	})
}

func TestOutboxRow_DueByTime(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range []outbox.Kind{outbox.Pushes, outbox.Deliveries} {
			var rows []outbox.Row
			for i := range 10 {
				r := outbox.Row{ID: int64(i + 1), Receiver: "3", Event: fmt.Sprint("e", i)}
				if i%3 == 0 {
					r.NextAt = t0.Add(time.Duration(9-i) * time.Second)
				}
				rows = append(rows, r)
			}
			// The next attempt of the last row was set by a clock that was ahead.
			addRows(t, s, kind, append(rows, outbox.Row{ID: 100, Receiver: "4", NextAt: t0},
				outbox.Row{ID: 101, Receiver: "5", NextAt: t0.AddDate(1, 0, 0)})...)
			for after, wanted := range map[time.Duration][]string{-time.Millisecond: {"5"}, 0: {"3", "4", "5"}} {
				check(t, fmt.Sprint("receivers due after ", after), listReceivers(t, s, kind, after), wanted)
			}
			for _, c := range []struct {
				after  time.Duration
				wanted []int64
			}{{-time.Millisecond, nil}, {0, []int64{10}}, {6 * time.Second, []int64{4, 7}}, {8 * time.Second, nil},
				{time.Minute, []int64{1, 10}}, {time.Minute, nil}} {
				got, _ := claimRows(t, s, kind, "3", c.after, 10)
				checkList(t, fmt.Sprint(kind, " claimed after ", c.after), mapSlice(got, rowID), c.wanted)
			}
			got, _ := claimRows(t, s, kind, "5", 0, 10)
			check(t, "row of a clock that was ahead", mapSlice(got, rowID), []int64{101})
			pending := listRows(t, s, kind, outbox.Query{Receiver: "3", State: outbox.Pending})
			check(t, "pending rows", mapSlice(pending, rowID), []int64{10, 7, 4, 1})
			check(t, "failed rows", len(listRows(t, s, kind, outbox.Query{Receiver: "3", State: outbox.Failed})), 6)
		}
		// The newest three and the pending rows remain.
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().ForgetPushes(ctx, "3", 3) })
		remaining := listRows(t, s, outbox.Pushes, outbox.Query{Receiver: "3"})
		check(t, "remaining rows", mapSlice(remaining, rowID), []int64{10, 9, 8, 7, 4, 1})
		// A disabled webhook is not due.
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return tx.webhooks().PutWebhook(ctx, webhooks.Webhook{ID: 3, URL: "x"})
		})
		check(t, "receivers without the disabled webhook", listReceivers(t, s, outbox.Deliveries, time.Hour), []string{"4", "5"})
	})
}

// TestOutboxRow_OrderPerAccount verifies that a message is claimed after the older messages of its account, also while an older one is
// claimed or waits for its next attempt.
func TestOutboxRow_OrderPerAccount(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		message := func(account, body string, after time.Duration) outbox.Row {
			return outbox.Row{Receiver: account, Body: body, CreatedAt: t0, NextAt: t0.Add(after)}
		}
		addRows(t, nodes[0], outbox.Messages, message("wxa", "first", 0), message("wxa", "second", 0),
			message("wxb", "of another", time.Second))
		check(t, "receivers", listReceivers(t, nodes[1], outbox.Messages, 0), []string{"wxa"})
		first, until := claimRows(t, nodes[0], outbox.Messages, "wxa", 0, 10)
		check(t, "first claim", []string{first[0].Body, fmt.Sprint(len(first))}, []string{"first", "1"})
		checkBlocked := func(when string, after time.Duration) {
			t.Helper()
			got, _ := claimRows(t, nodes[1], outbox.Messages, "wxa", after, 10)
			check(t, "rows claimed "+when, len(got), 0)
			check(t, "receivers "+when, listReceivers(t, nodes[1], outbox.Messages, after), []string{"wxb"})
		}
		checkBlocked("while the first message is claimed", time.Minute-time.Millisecond)
		retried := first[0]
		retried.Attempts, retried.NextAt = 1, t0.Add(time.Hour)
		check(t, "saved", saveRow(t, nodes[0], outbox.Messages, retried, until), true)
		checkBlocked("before the next attempt of the first message", time.Hour-time.Millisecond)
		claimed, until := claimRows(t, nodes[1], outbox.Messages, "wxa", time.Hour, 10)
		check(t, "attempts", claimed[0].Attempts, 1)
		claimed[0].NextAt = time.Time{}
		check(t, "saved", saveRow(t, nodes[1], outbox.Messages, claimed[0], until), true)
		second, _ := claimRows(t, nodes[0], outbox.Messages, "wxa", time.Hour, 10)
		check(t, "body", second[0].Body, "second")
		update(t, nodes[0], func(ctx context.Context, tx *Tx) error { return tx.accounts().DeleteAccount(ctx, "wxa") })
		check(t, "messages after the account is deleted", len(listRows(t, nodes[0], outbox.Messages, outbox.Query{})), 1)
	})
}

// TestOutboxRow_ClaimedOnce claims rows concurrently on two nodes. A row is claimed once, and one message of an account at a time.
func TestOutboxRow_ClaimedOnce(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 40 {
				rows = append(rows, outbox.Row{Receiver: "7", Event: fmt.Sprint("e", n), CreatedAt: t0, NextAt: t0})
			}
			addRows(t, nodes[0], kind, rows...)
			var claimed [8][]int64
			for i, err := range race(8, func(i int) error {
				return nodes[i%2].update(t.Context(), func(tx *Tx) error {
					got, err := tx.webhooks().ClaimRows(t.Context(), kind, "7", t0, t0.Add(time.Minute), 10)
					claimed[i] = mapSlice(got, rowID)
					return err
				})
			}) {
				assert.NoErrorf(t, err, "claim %d", i)
			}
			all := slices.Concat(claimed[:]...)
			slices.Sort(all)
			if kind == outbox.Messages {
				check(t, "messages", len(all), 1)
			} else if n := len(slices.Compact(slices.Clone(all))); n != len(all) || n == 0 {
				t.Errorf("%s: claimed rows = %v, want each once", kind, all)
			}
		}
	})
}

// TestOutboxRow_ExpiredLeaseFenced saves rows whose lease expired and which another node has claimed. Of the
// expired lease, only the delivery of a row that the other node gave up is accepted, and none of messages.
func TestOutboxRow_ExpiredLeaseFenced(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		for _, kind := range kinds {
			addRows(t, nodes[0], kind, outbox.Row{Receiver: "7", Event: "e", CreatedAt: t0, NextAt: t0})
			expired, expiredUntil := claimRows(t, nodes[0], kind, "7", 0, 1)
			current, until := claimRows(t, nodes[1], kind, "7", time.Minute, 1)
			failed, delivered := expired[0], expired[0]
			failed.NextAt, failed.Error = time.Time{}, "the node was stopped"
			delivered.NextAt, delivered.SentAt, delivered.DeliveredAt = time.Time{}, t0, t0
			check(t, "failure saved during the lease of the other node", saveRow(t, nodes[0], kind, failed, expiredUntil), false)
			check(t, "delivery saved during the lease of the other node", saveRow(t, nodes[0], kind, delivered, expiredUntil), false)
			current[0].NextAt, current[0].Error = time.Time{}, "given up"
			check(t, "saved by the lease holder", saveRow(t, nodes[1], kind, current[0], until), true)
			check(t, "failure saved after a result", saveRow(t, nodes[0], kind, failed, expiredUntil), false)
			accepted := kind != outbox.Messages
			check(t, "delivery saved after a failure", saveRow(t, nodes[0], kind, delivered, expiredUntil), accepted)
			delivered.Status = 9
			check(t, "delivery saved after a delivery", saveRow(t, nodes[0], kind, delivered, expiredUntil), false)
			if list := listRows(t, nodes[0], kind, outbox.Query{}); accepted {
				check(t, "state", list[0].State(), outbox.Delivered)
			}
		}
	})
}

// TestClaimRows_OrderKey verifies that a delivery is claimed only together with the older pending deliveries of its code.
func TestClaimRows_OrderKey(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		row := func(event, key string) outbox.Row {
			return outbox.Row{Receiver: "7", Event: event, OrderKey: key, CreatedAt: t0, NextAt: t0}
		}
		addRows(t, nodes[0], outbox.Deliveries, row("a1", "a"), row("none", ""), row("a2", "a"), row("b1", "b"), row("a3", "a"))
		first, until := claimRows(t, nodes[0], outbox.Deliveries, "7", 0, 1)
		check(t, "first claim", mapSlice(first, rowEvent), []string{"a1"})
		others, othersUntil := claimRows(t, nodes[1], outbox.Deliveries, "7", 0, 10)
		check(t, "claim of the other node", mapSlice(others, rowEvent), []string{"none", "b1"})
		first[0].NextAt = t0.Add(10 * time.Second) // its next attempt
		check(t, "saved", saveRow(t, nodes[0], outbox.Deliveries, first[0], until), true)
		others[0].NextAt, others[0].DeliveredAt = time.Time{}, t0
		check(t, "saved", saveRow(t, nodes[1], outbox.Deliveries, others[0], othersUntil), true)
		early, _ := claimRows(t, nodes[1], outbox.Deliveries, "7", 5*time.Second, 10)
		check(t, "claim before the next attempt", len(early), 0)
		second, until := claimRows(t, nodes[1], outbox.Deliveries, "7", 20*time.Second, 2)
		check(t, "claim at the next attempt", mapSlice(second, rowEvent), []string{"a1", "a2"})
		for _, r := range second {
			r.NextAt, r.Error = time.Time{}, "given up"
			check(t, "saved", saveRow(t, nodes[1], outbox.Deliveries, r, until), true)
		}
		third, _ := claimRows(t, nodes[0], outbox.Deliveries, "7", 20*time.Second, 10)
		check(t, "claim after the older deliveries failed", mapSlice(third, rowEvent), []string{"a3"})
	})
}

// TestClaimRows_Concurrent verifies that a claim that runs concurrently with another does not get a later delivery of the same code.
func TestClaimRows_Concurrent(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		row := func(event string) outbox.Row {
			return outbox.Row{Receiver: "7", Event: event, OrderKey: "a", CreatedAt: t0, NextAt: t0}
		}
		addRows(t, nodes[0], outbox.Deliveries, row("a1"))
		claimed, second := make(chan struct{}), make(chan struct{})
		signal := sync.OnceFunc(func() { close(claimed) })
		queued := nodes[1].write.Stats().WaitCount
		var wait sync.WaitGroup
		wait.Go(func() {
			err := nodes[0].update(t.Context(), func(tx *Tx) error {
				_, err := tx.webhooks().ClaimRows(t.Context(), outbox.Deliveries, "7", t0, t0.Add(time.Minute), 10)
				signal()
				// Until the other node waits for this transaction, or has claimed rows if there is no lock.
				waitFor(t, "the other claim", func() bool {
					return isClosed(second) || nodes[1].write.Stats().WaitCount > queued || countLockWaiters(t, nodes[1]) > 0
				})
				return err
			})
			assert.NoError(t, err)
		})
		<-claimed
		addRows(t, nodes[1], outbox.Deliveries, row("a2"))
		rows, _ := claimRows(t, nodes[1], outbox.Deliveries, "7", 0, 10)
		close(second)
		wait.Wait()
		check(t, "deliveries of the second claim", len(rows), 0)
	})
}

// TestSender_OrderPerCode sends from two nodes to a receiver that rejects every third request. It receives the deliveries of each code in
// order, including those that are added concurrently.
func TestSender_OrderPerCode(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		const codes, each = 5, 24
		var mu sync.Mutex
		received, requests := map[string][]int{}, 0
		sent := [2]int{}
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
					assert.NoError(t, err)
					received[key] = append(received[key], number)
					if sent[i]++; sent[0]+sent[1] == codes*each {
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
					CreatedAt: t0, NextAt: t0})
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
			got := received[key]
			assert.True(t, len(got) == each && slices.IsSorted(got), "deliveries of %s = %v, want %d in order", key, got, each)
		}
		if sent[0] == 0 || sent[1] == 0 {
			t.Logf("deliveries of the nodes: %v", sent)
		}
	})
}

func TestOutboxRow_EvictOldest(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 300 {
				rows = append(rows, outbox.Row{Receiver: fmt.Sprint(1 + n%2), Event: fmt.Sprint("e", n), Body: "{}", CreatedAt: t0,
					NextAt: t0})
			}
			addRows(t, s, kind, rows...)
			for _, c := range []struct{ keep, gaveUp int }{{300, 0}, {150, 0}, {140, 10}, {140, 0}} {
				update(t, s, func(ctx context.Context, tx *Tx) error {
					n, err := tx.webhooks().DeadLetterRows(ctx, kind, "1", c.keep, "too many")
					check(t, fmt.Sprint(kind, " rows given up above ", c.keep), n, c.gaveUp)
					return err
				})
			}
			check(t, "rows of the other receiver", len(listRows(t, s, kind, outbox.Query{Receiver: "2", State: outbox.Pending})), 150)
			pending := listRows(t, s, kind, outbox.Query{Receiver: "1", State: outbox.Pending})
			check(t, "pending rows", []any{len(pending), pending[139].ID}, []any{140, int64(21)})
			if kind == outbox.Messages {
				continue
			}
			failed := listRows(t, s, kind, outbox.Query{State: outbox.Failed})
			check(t, "failed rows", []any{len(failed), failed[0].ID, failed[0].Receiver, failed[0].Error},
				[]any{10, int64(19), "1", "too many"})
		}
	})
}

// TestOutboxRow_DueQuerySkipsDelivered verifies that the queries for due rows, which run every second, do not read delivered rows.
func TestOutboxRow_DueQuerySkipsDelivered(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		for _, kind := range kinds {
			var rows []outbox.Row
			for n := range 3000 {
				r := outbox.Row{Receiver: "7", Event: fmt.Sprint("e", n), CreatedAt: t0, SentAt: t0, DeliveredAt: t0}
				if kind == outbox.Messages || n >= 2990 { // delivered messages are removed
					r.NextAt = t0.Add(time.Hour)
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
					plan := queryPlan(t, s, query, 1, 2, 3, 4, 5)
					for _, step := range plan {
						// Each step on the table searches the pending rows, or one row, by an index.
						words := strings.Fields(step)
						index := slices.Index(words, "INDEX") + 1
						indexed := index > 0 && strings.Contains(indexes, words[index]) ||
							strings.Contains(step, "sqlite_autoindex_"+string(kind)+"_1 (id=?)")
						onTable := slices.Contains(words, string(kind)) || slices.Contains(words, "older")
						assert.True(t, (!onTable || indexed) && !strings.Contains(step, "TEMP B-TREE"),
							"plan of %s: step %q without an index search:\n%s", kind, step, strings.Join(plan, "\n"))
					}
				}
				continue
			}
			analyzeTables(t, s, string(kind))
			scanned, plan := 0., explainAnalyze(t, s, receiversQuery(kind), t0.UnixMilli(), t0.Add(outbox.Farthest).UnixMilli(), 10)
			for _, n := range plan {
				scanned += (n.Rows + n.Removed) * n.Loops
			}
			assert.True(t, !(scanned > 20), "%s: %v rows are read, want at most 20: %+v", kind, scanned, plan)
		}
	})
}
