package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// fullBatch returns a generated batch with all fields set.
func fullBatch() codes.Batch {
	return codes.Batch{Account: "svc" + special, ISV: "isv" + special, Count: 2_000_000_000, Start: codes.Space - 1,
		Prefix: "HTTPS://B.EXAMPLE/$/", Version: '$',
		Segment: 50_000, FirstCode: "0123456$-", FirstText: "text" + special, CreatedAt: t0, IsProof: true,
		Template: "t{digits:20}" + special}
}

// checkNoZeroField reports an error for a field that is zero, for which a round trip would prove nothing.
func checkNoZeroField(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for field, value := range v.Fields() {
		switch {
		case value.IsZero():
			t.Errorf("%s.%s is zero", path, field.Name)
		case value.Kind() == reflect.Struct && value.Type() != reflect.TypeFor[time.Time]():
			checkNoZeroField(t, value, path+"."+field.Name)
		}
	}
}

func addBatch(t *testing.T, s *Store, b codes.Batch) codes.Batch {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		b, err = tx.codes().AddBatch(ctx, b)
		return err
	})
	return b
}

func addEvent(t *testing.T, s *Store, e codes.Event) codes.Event {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *Tx) (err error) {
		e, err = tx.codes().AddEvent(accounts.WithActor(ctx, accounts.Actor{ActorID: e.Actor, RID: e.RID}), e)
		return err
	})
	return e
}

func TestCodeBatch_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		first := addBatch(t, s, fullBatch())
		full := first
		full.Imported = true // tested by the second batch, as an imported batch has no start
		checkNoZeroField(t, reflect.ValueOf(full), "batch")
		assert.Equal(t, first.ID, 500_000_001, "ID of the first application")
		b := fullBatch()
		b.Account, b.Start, b.Prefix, b.Imported = "other", 0, "", true
		second := addBatch(t, s, b)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, b := range []codes.Batch{first, second} {
				got, err := tx.codes().Batch(ctx, b.ID)
				if err != nil {
					return err
				}
				check(t, "batch with the ID", got, b)
				if got, err = tx.codes().BatchByISV(ctx, b.Account, b.ISV); err != nil {
					return err
				}
				check(t, "batch with the ISV", got, b)
			}
			assert.ErrorIs(t, assert.ErrorOf(tx.codes().Batch(ctx, 7)), codes.ErrNoBatch, "Batch(7)")
			for _, key := range [][2]string{{"other", "x"}, {"x", b.ISV}, {"OTHER", b.ISV}, {"other", strings.ToUpper(b.ISV)},
				{"other", "a\x00"}} {
				assert.ErrorIs(t, assert.ErrorOf(tx.codes().BatchByISV(ctx, key[0], key[1])), codes.ErrNoBatch, "BatchByISV(%q)", key)
			}
			return nil
		})
		check(t, "batches", require.All(t, s.Batches(t.Context())), []codes.Batch{first, second})
		// The ISV and the start of a batch are unique.
		for name, change := range map[string]func(*codes.Batch){"the same ISV": func(b *codes.Batch) { b.Start = 99 },
			"the same start": func(b *codes.Batch) { b.ISV = "y" }} {
			b := second
			change(&b)
			assert.True(t, s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
				_, err := tx.AddBatch(t.Context(), b)
				return err
			}) != nil, "a second batch with %s is stored", name)
		}
		check(t, "batches", queryInt(t, s, `SELECT COUNT(*) FROM batches`), 2)
	})
}

func TestCodeEvent_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		b := addBatch(t, s, fullBatch())
		first := addEvent(t, s, codes.Event{Batch: b.ID, Action: codes.Activate,
			Codes: codes.NewSet(codes.Range{From: 0, To: 7}, codes.Range{From: 1_999_999_998, To: 1_999_999_999}), OccurredAt: t0,
			From: t0.Add(1001 * time.Millisecond),
			Binding: codes.Binding{ActivityName: "a" + special, ProductBrand: "b" + special, ProductTitle: "t" + special,
				ProductCode: "c" + special, WxaAppID: "wx" + special, WxaPath: "p" + special, WxaType: 2},
			Renews: &codes.Range{From: 0, To: 1_999_999_999}, Actor: "actor" + special, RID: "rid" + special, Note: "note" + special})
		checkNoZeroField(t, reflect.ValueOf(first), "event")
		second := addEvent(t, s, codes.Event{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{From: 3, To: 3}),
			OccurredAt: t0.Add(time.Second), From: t0.Add(time.Second), Actor: "op"})
		third := addEvent(t, s, codes.Event{Batch: b.ID + 1, Action: codes.Void, Codes: codes.NewSet(codes.Range{From: 0, To: 9}),
			OccurredAt: t0, From: t0, Actor: "op"})
		read := func(batch, after int64) (list []codes.Event) {
			for e, err := range s.Events(t.Context(), batch, after) {
				require.NoError(t, err)
				list = append(list, e)
			}
			return list
		}
		check(t, "all events", read(0, 0), []codes.Event{first, second, third})
		check(t, "events of a batch", read(b.ID, 0), []codes.Event{first, second})
		check(t, "later events of a batch", read(b.ID, first.Seq), []codes.Event{second})
		check(t, "all later events", read(0, second.Seq), []codes.Event{third})
		for e := range s.Events(t.Context(), 0, 0) { // a reader may stop
			check(t, "first event", e, first)
			break
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().EventsAfter(ctx, b.ID, first.Seq)
			checkList(t, "EventsAfter()", got, []codes.Event{second})
			if err != nil {
				return err
			}
			for _, c := range []struct {
				index, before int64
				limit         int
				want          []codes.Event
			}{
				{3, 0, 9, []codes.Event{second, first}}, {3, 0, 1, []codes.Event{second}}, {3, second.Seq, 9, []codes.Event{first}},
				{3, first.Seq, 9, nil},
				{4, 0, 9, []codes.Event{first}}, {1_999_999_999, 0, 9, []codes.Event{first}}, {2_000_000_000, 0, 9, nil},
			} {
				got, err := tx.codes().EventsAt(ctx, b.ID, c.index, c.before, c.limit)
				if err != nil {
					return err
				}
				checkList(t, fmt.Sprintf("EventsAt(%d) before %d", c.index, c.before), got, c.want)
			}
			for batch, last := range map[int64]time.Time{b.ID: second.OccurredAt, b.ID + 1: third.OccurredAt, 7: {}} {
				got, err := tx.codes().LastEventAt(ctx, batch)
				assert.True(t, err == nil && got.Equal(last), "LastEventAt(%d) = %s, %v, want %s", batch, got, err, last)
			}
			return nil
		})
	})
}

func forgetLoginsAndTickets(ctx context.Context, tx *Tx, logins, tickets time.Time) error {
	_, first := tx.codes().ForgetLogins(ctx, logins, 10)
	_, second := tx.codes().ForgetTickets(ctx, tickets, 10)
	return errors.Join(first, second)
}

func TestTicketsAndLogins_RoundTrip(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ticket, login := newFilled[codes.Ticket](t), newFilled[codes.Login](t)
		checkNoZeroField(t, reflect.ValueOf(ticket), "ticket")
		checkNoZeroField(t, reflect.ValueOf(login), "login")
		old := login
		old.Hash, old.Used, old.ExpiresAt = "old", false, t0
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.codes().PutTickets(ctx, []codes.Ticket{ticket}), tx.codes().PutLogin(ctx, login),
				tx.codes().PutLogin(ctx, old))
		})
		ticket.ScannedAt, ticket.ExpiresAt, login.ExpiresAt = ticket.ScannedAt.UTC(), ticket.ExpiresAt.UTC(), login.ExpiresAt.UTC()
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Ticket(ctx, ticket.Hash)
			check(t, "ticket", got, ticket)
			gotLogin, errLogin := tx.codes().Login(ctx, login.Hash)
			check(t, "login", gotLogin, login)
			_, errNone := tx.codes().Ticket(ctx, "none")
			_, errNoLogin := tx.codes().Login(ctx, "none")
			assert.True(t, errors.Is(errNone, codes.ErrNoTicket) && errors.Is(errNoLogin, codes.ErrNoLogin),
				"errors of an unknown ticket and login = %v, %v", errNone, errNoLogin)
			return errors.Join(err, errLogin)
		})
		// Storing a ticket is idempotent. A different ticket with the same hash is rejected.
		put := func(k codes.Ticket) error {
			return s.UpdateCodes(t.Context(), func(tx codes.Tx) error { return tx.PutTickets(t.Context(), []codes.Ticket{k}) })
		}
		assert.NoErrorf(t, put(ticket), "storing the same ticket again")
		another := ticket
		another.AppUserID = "another"
		assert.True(t, put(another) != nil, "storing another ticket with the hash = nil, want an error")
		// An update of a login changes Used only.
		used := old
		used.Used, used.OpenID, used.AppID = true, "another", "another"
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().PutLogin(ctx, used) })
		update(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Login(ctx, "old")
			old.Used = true
			check(t, "used", got, old)
			if err != nil {
				return err
			}
			// Rows that expired before the time are deleted, those that expire at the time are kept.
			if err := forgetLoginsAndTickets(ctx, tx, t0, ticket.ExpiresAt); err != nil {
				return err
			}
			_, errLogin := tx.codes().Login(ctx, "old")
			_, errTicket := tx.codes().Ticket(ctx, ticket.Hash)
			if err := errors.Join(errLogin, errTicket); err != nil {
				return err
			}
			if err := forgetLoginsAndTickets(ctx, tx, t0.Add(time.Millisecond), ticket.ExpiresAt.Add(time.Millisecond)); err != nil {
				return err
			}
			_, errLogin = tx.codes().Login(ctx, "old")
			_, errTicket = tx.codes().Ticket(ctx, ticket.Hash)
			assert.True(t, errors.Is(errLogin, codes.ErrNoLogin) && errors.Is(errTicket, codes.ErrNoTicket),
				"errors of a deleted login and ticket = %v, %v", errLogin, errTicket)
			return nil
		})
	})
}

// TestCodeCounter_RollbackAfterFailure verifies that a failed transaction does not advance the counter, so that no number is lost or used
// twice.
func TestCodeCounter_RollbackAfterFailure(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		take := func(n uint64, fail bool) (start uint64) {
			err := s.UpdateCodes(t.Context(), func(tx codes.Tx) (err error) {
				if start, err = tx.LockCounter(t.Context()); err != nil {
					return err
				}
				if err := tx.SetCounter(t.Context(), start+n); err != nil {
					return err
				}
				if fail {
					return errcode.InvalidArgs
				}
				return nil
			})
			require.True(t, (err != nil) == fail, "UpdateCodes() = %v, want an error: %v", err, fail)
			return start
		}
		check(t, "first start", take(10, false), 0)
		check(t, "start of the failed transaction", take(10, true), 10)
		check(t, "start after the failed transaction", take(codes.Space-10, false), 10)
		check(t, "end of the counter", take(0, false), codes.Space)
	})
}

// newCodeServices returns the code services of two nodes.
func newCodeServices(t *testing.T, nodes [2]*Store) (p [2]*codes.Service) {
	t.Helper()
	code := require.Value(codes.NewCodeKey([]byte(strings.Repeat("c", 32))))(t)
	text := require.Value(codes.NewTextKey([]byte(strings.Repeat("t", 32))))(t)
	key := require.Value(sealer.NewKey([]byte(strings.Repeat("k", 32))))(t)
	for i, s := range nodes {
		p[i] = &codes.Service{Store: s, Vault: key, Memory: codes.NewMemory(s), Settings: settings.NewLive(settings.Defaults()),
			Now:    func() time.Time { return t0 },
			Keys:   codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
			Prefix: codes.DefaultPrefix}
		p[i].Changed = func(ctx context.Context, id int64) { assert.NoError(t, p[i].Memory.Changed(ctx, id)) }
	}
	return p
}

// shopBinding binds codes to the Mini Program shop.
var shopBinding = codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "shop", WxaPath: "p"}

func addServiceAccount(t *testing.T, s *Store) accounts.Account {
	t.Helper()
	a := accounts.Account{AppID: "svc", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true,
		Features: []string{codes.Feature}, CreatedAt: t0}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
	return a
}

// TestCodeApplication_ConcurrentOnTwoNodes makes more concurrent calls than there are connections. Calls with the same ISV get one batch,
// calls with different ISVs get disjoint blocks.
func TestCodeApplication_ConcurrentOnTwoNodes(t *testing.T) {
	t.Parallel()
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		ids := make([]int64, 40)
		for _, err := range race(len(ids), func(i int) error {
			b, err := p[i%2].Apply(t.Context(), call, codes.Application{ISV: "same", Count: 10_000})
			ids[i] = b.ID
			return err
		}) {
			require.NoError(t, err)
		}
		if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
			t.Errorf("batches of one ISV = %v, want one", slices.Compact(ids))
		}
		list := make([]codes.Batch, 60)
		for _, err := range race(len(list), func(i int) (err error) {
			list[i], err = p[i%2].Apply(t.Context(), call, codes.Application{ISV: fmt.Sprint(i), Count: 10_000})
			return err
		}) {
			require.NoError(t, err)
		}
		slices.SortFunc(list, func(a, b codes.Batch) int { return int(a.ID - b.ID) })
		for i, b := range list {
			want := uint64(10_000 * (i + 1))
			assert.Equal(t, b.Start, want, "start of block %d", i)
		}
		check(t, "counted calls", queryInt(t, nodes[0], `SELECT value FROM counters WHERE appid = 'svc'`), 100)
	})
}

// TestRedeem_OnceAcrossNodes redeems a code on two nodes with more concurrent calls than there are connections. One call succeeds.
func TestRedeem_OnceAcrossNodes(t *testing.T) {
	t.Parallel()
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		b := require.Value(p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000}))(t)
		require.NoError(t, p[1].Memory.Changed(t.Context(), b.ID))
		for index := range testscope.Select[int64](4, 2) {
			redeemed := 0
			for _, err := range race(72, func(i int) error {
				return assert.ErrorOf(p[i%2].Change(accounts.WithActor(t.Context(), accounts.Actor{ActorID: fmt.Sprint("till ", i)}),
					codes.Change{Batch: b.ID, Action: codes.Redeem, Codes: codes.NewSet(codes.Range{From: index, To: index})}))
			}) {
				if err == nil {
					redeemed++
				} else if !isConflict(err) {
					t.Fatalf("Change() = %v, want a conflict", err)
				}
			}
			check(t, "successful calls", redeemed, 1)
		}
		check(t, "events", queryInt(t, nodes[0], `SELECT COUNT(*) FROM code_events`), testscope.Select[int64](4, 2))
	})
}

// TestActivate_NumberedInCommitOrder activates overlapping ranges on two nodes. The events are in commit order, and both nodes have the
// state of the last event of each code.
func TestActivate_NumberedInCommitOrder(t *testing.T) {
	t.Parallel()
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		addMiniProgram(t, nodes[0], "shop")
		for n := range p {
			s := p[n].Settings.Get()
			s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
			p[n].Settings.Set(s)
		}
		b := require.Value(p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000}))(t)
		require.NoError(t, p[1].Memory.Changed(t.Context(), b.ID))
		for _, err := range race(80, func(i int) error {
			return p[i%2].Activate(t.Context(), call,
				codes.Activation{Batch: b.ID, Range: codes.Range{From: int64(i), To: int64(i + 40)}, Binding: codes.Binding{
					ActivityName: fmt.Sprint(i), ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "shop", WxaPath: "p"}})
		}) {
			require.NoError(t, err)
		}
		activity := map[int64]string{}
		seq := int64(0)
		for e, err := range nodes[0].Events(t.Context(), b.ID, 0) {
			require.NoError(t, err)
			assert.True(t, e.Seq > seq, "event %d follows event %d", e.Seq, seq)
			seq = e.Seq
			for i := e.Codes[0].From; i <= e.Codes[0].To; i++ {
				activity[i] = e.Binding.ActivityName
			}
		}
		for n := range p {
			require.NoError(t, p[n].Memory.Changed(t.Context(), b.ID))
			for i := range int64(130) {
				got := ""
				if activation := p[n].Memory.State(b.ID, i, t0).Activation; activation != nil {
					got = activation.Binding.ActivityName
				}
				assert.Equal(t, got, activity[i], "activity of code %d on node %d", i, n)
			}
		}
	})
}

// TestActivate_OverlapOneWins activates overlapping ranges on two nodes, whose memory may be stale. One activation succeeds.
func TestActivate_OverlapOneWins(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		addMiniProgram(t, nodes[0], "shop")
		b := require.Value(p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000}))(t)
		const rounds, calls = 8, 12
		for round := range int64(rounds) {
			activated := 0
			for i, err := range race(calls, func(i int) error {
				// All ranges of a round overlap, and no two are equal.
				return p[i%2].Activate(t.Context(), call, codes.Activation{Batch: b.ID, Binding: shopBinding,
					Range: codes.Range{From: 1000*round + int64(i), To: 1000*round + 500 + int64(i)}})
			}) {
				if err == nil {
					activated++
				} else if !errors.Is(err, errcode.ActivationOverlaps) {
					t.Errorf("Activate() %d = %v, want nil or %v", i, err, errcode.ActivationOverlaps)
				}
			}
			check(t, "successful activations", activated, 1)
		}
		check(t, "events", queryInt(t, nodes[0], `SELECT COUNT(*) FROM code_events`), rounds)
		// An activation of the same range replaces the first, on either node.
		for e, err := range nodes[0].Events(t.Context(), b.ID, 0) {
			require.NoError(t, err)
			assert.NoError(t, p[1].Activate(t.Context(), call, codes.Activation{Batch: b.ID, Range: e.Codes.Bounds(), Binding: e.Binding}))
		}
	})
}

// TestCodeBatch_VisibleOnOtherNode verifies that a call on one node sees all changes that another node acknowledged, before its memory is
// refreshed: clients change nodes between calls.
func TestCodeBatch_VisibleOnOtherNode(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		addMiniProgram(t, nodes[0], "shop")
		newBatch := func(isv string) codes.Batch {
			t.Helper()
			b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: isv, Count: 10_000})
			if err == nil {
				err = p[0].Activate(t.Context(), call,
					codes.Activation{Batch: b.ID, Range: codes.Range{From: 0, To: 9}, Binding: shopBinding})
			}
			require.NoError(t, err)
			return b
		}
		for name, call := range map[string]func(codes.Batch) error{
			"applycodequery": func(b codes.Batch) error {
				_, err := p[1].Query(t.Context(), call, codes.BatchKey{ID: b.ID})
				return err
			},
			"codeactive": func(b codes.Batch) error {
				return p[1].Activate(t.Context(), call,
					codes.Activation{Batch: b.ID, Range: codes.Range{From: 10, To: 14}, Binding: shopBinding})
			},
			"codeactivequery": func(b codes.Batch) error {
				f, err := p[1].Get(t.Context(), call, codes.CodeName{ID: b.ID, HasIndex: true})
				assert.True(t, err != nil || f.State.Activation != nil, "codeactivequery: the code is not active")
				return err
			},
			"a change by the operator": func(b codes.Batch) error {
				return assert.ErrorOf(p[1].Change(t.Context(),
					codes.Change{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{From: 0, To: 0})}))
			},
		} {
			assert.NoErrorf(t, call(newBatch(name)), "%s", name)
		}
		p[1].Shared = true // as with two processes
		b := newBatch("shared")
		for n, action := range []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Void} {
			f, err := p[1].Get(t.Context(), call, codes.CodeName{ID: b.ID, Index: 3, HasIndex: true})
			assert.True(t, err == nil && f.State.Frozen == (n == 1) && !f.State.Void, "state before %s = %+v, %v", action, f.State, err)
			require.NoError(t, assert.ErrorOf(p[0].Change(t.Context(), codes.Change{Batch: b.ID, Action: action,
				Codes: codes.NewSet(codes.Range{From: 3, To: 3})})))
		}
		_, err := p[1].Query(t.Context(), call, codes.BatchKey{ID: 1})
		assert.ErrorIs(t, err, errcode.NoApplication, "a query of an unknown application")
	})
}

// TestCodeEvents_LookupBounded verifies EventsAt, and that its query searches an index. A second redemption runs it in a transaction that
// blocks others, so that its cost must not grow with the events of the batch.
func TestCodeEvents_LookupBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	forEachBackend(t, func(t *testing.T, s *Store) {
		events := testscope.Select[int64](3_000, 1_100)
		set := func(from, to int64) codes.Set { return codes.NewSet(codes.Range{From: from, To: to}) }
		want := map[int64][]int64{} // the seqs of the events by index, newest first
		update(t, s, func(ctx context.Context, tx *Tx) error {
			clear(want)
			b, err := tx.codes().AddBatch(ctx, codes.Batch{Account: "svc", ISV: "x", Count: 1_000_000, Version: '0', CreatedAt: t0})
			if err != nil {
				return err
			}
			for n := range events {
				e := codes.Event{Batch: b.ID, Action: codes.Redeem, Codes: set(n%1_000, n%1_000), OccurredAt: t0, From: t0}
				if n%100 == 0 {
					e.Action, e.Codes = codes.Freeze, set(n%1_000, n%1_000+20)
				}
				if e, err = tx.codes().AddEvent(ctx, e); err != nil {
					return err
				}
				for _, i := range []int64{0, 5, 20, 21, 999} {
					if e.Codes.Contains(i) {
						want[i] = append([]int64{e.Seq}, want[i]...)
					}
				}
			}
			for i, seqs := range want {
				var got []int64
				for before := int64(0); ; {
					page, err := tx.codes().EventsAt(ctx, b.ID, i, before, 2)
					if err != nil {
						return err
					}
					for _, e := range page {
						got, before = append(got, e.Seq), e.Seq
					}
					if len(page) < 2 {
						break
					}
				}
				assert.True(t, slices.Equal(got, seqs), "index %d: events %v, want %v", i, got, seqs)
			}
			return nil
		})
		if s.Engine() != "sqlite" {
			return // the plan of PostgreSQL depends on its statistics
		}
		plan := strings.Join(queryPlan(t, s, eventsAt, 1, math.MaxInt64, 5, 1_000, 80, 1, 2, 3, 4, 5, 6, 7, 8), "\n")
		n := strings.Count(plan, "idx_code_events_batch_block_seq (batch=? AND <expr>=? AND seq<?)")
		assert.True(t, n == eventLevels, "%d of %d blocks are searched by the index:\n%s", n, eventLevels, plan)
	})
}

// TestTemplateTexts_StoredWithApplication verifies that all nodes print and find the texts of a template, and that altered texts are
// rejected.
func TestTemplateTexts_StoredWithApplication(t *testing.T) {
	t.Parallel()
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		for i, order := range []codes.TemplateOrder{
			{Text: "https://id.brand.example/01/{gtin}/21/{serial}?98={secret}", GTIN: "9506000134352"},
			{Text: "https://id.brand.example/01/{gtin}/21/{serial}?98={secret}", GTIN: "9506000134369"},
			{Text: "https://id.brand.example/01/{gtin}/21/{number:0042000}?98={secret}", GTIN: "9506000134369"},
			{Text: "{given:11}{digits:21}", Digits: "12345678901"},
			{Text: "品种 A\n单元识别代码：{digits:20}\r\nhttps://t.example/{serial}"},
			{Text: "{given:5}{digits:15}", Digits: "81234", Weak: true},
			{Text: "{prefix}{secret}"},
		} {
			order.Count = 10_000
			template := require.Value(p[0].FillTemplate(order))(t)
			a := codes.Application{ISV: fmt.Sprint("order ", i), Count: order.Count, Template: template}
			b := require.Value(p[0].Apply(t.Context(), call, a))(t)
			a.Template = "x{secret}"
			_, err := p[0].Apply(t.Context(), call, a)
			assert.ErrorIs(t, err, errcode.ApplicationExists, "applying with the same ISV and another template than %q", template)
			assert.Equal(t, b.Weak(), order.Weak, "Weak() of %q", template)
			text := p[0].Text(b, 77)
			require.NoError(t, assert.ErrorOf(p[1].Memory.BatchOrLoad(t.Context(), b.ID)))
			// The texts that a reader may give for the printed text.
			spellings := []string{text, strings.ReplaceAll(text, "\n", "\r\n"), strings.ToUpper(text)}
			if rest, https := strings.CutPrefix(text, "https://"); https {
				spellings = append(spellings, "http://"+rest, rest)
			}
			if data, err := gs1.Parse(text); err == nil && !data.Key.IsZero() {
				spellings = append(spellings, data.Bracketed(), data.ElementString())
			}
			for _, node := range p {
				for _, spelling := range spellings {
					s, ok := node.Scan(spelling, "", noAccount)
					assert.True(t, ok && s.Batch.ID == b.ID && s.Index == 77 && s.Reason == codes.NotActive,
						"Scan(%q) = code %d of %d, %t, %q, want code %d of %d", spelling, s.Index, s.Batch.ID, ok, s.Reason, 77, b.ID)
					assert.True(t, node.MayBeCode(spelling), "MayBeCode(%q) = false, want true", spelling)
					f, err := node.Lookup(t.Context(), codes.CodeName{URL: spelling})
					assert.True(t, err == nil && f.Batch.ID == b.ID && f.Index == 77,
						"Lookup(%q) = code %d of %d, %v", spelling, f.Index, f.Batch.ID, err)
				}
			}
			checkAlteredTexts(t, p[1], text)
			checkRedacted(t, p[1], b.Template, text)
		}
	})
}

// checkRedacted reports an error if Redact keeps a part of the secret of a text that is embedded in another text, as in a log.
func checkRedacted(t *testing.T, p *codes.Service, template, text string) {
	t.Helper()
	filled := strings.ReplaceAll(template, "{serial}", "123456789")
	secret := max(strings.Index(filled, "{secret}"), strings.Index(filled, "{digits:"))
	if secret < 0 {
		return
	}
	escaped := strings.NewReplacer("5", "%35", ".", "%2e", "K", "%4b").Replace(text)
	for input, maxLen := range map[string]int{"https://x.example/go?u=" + text + "&from=1": len("https://x.example/go?u=") + secret,
		text + "/": secret, "9" + text + "9": 1 + secret, escaped + " ": len(escaped) - 15} {
		got := p.Redact(input)
		assert.True(t, len(got) <= maxLen && strings.HasPrefix(input, got), "Redact(%q) = %q, want at most %d bytes", input, got, maxLen)
	}
}

// checkAlteredTexts reports an error if a text with one altered character is a valid code.
func checkAlteredTexts(t *testing.T, p *codes.Service, text string) {
	t.Helper()
	for i := range len(text) {
		for _, c := range []byte("7K") {
			if text[i] == c {
				continue
			}
			altered := text[:i] + string(c) + text[i+1:]
			if s, ok := p.Scan(altered, "", noAccount); ok && s.Reason != codes.UnknownCode {
				t.Errorf("Scan(%q), altered from %q, = code %d of %d, %q", altered, text, s.Index, s.Batch.ID, s.Reason)
			}
		}
	}
	digit := strings.LastIndexAny(text, "0123456789")
	altered := text[:digit] + string('0'+(text[digit]-'0'+1)%10) + text[digit+1:]
	s, ok := p.Scan(altered, "", noAccount)
	assert.True(t, ok && s.Reason == codes.UnknownCode,
		"Scan(%q), altered from %q, = %t, %q, want an unknown code", altered, text, ok, s.Reason)
}

// TestCheckPIN_FiveWrongOnTwoNodes checks twenty wrong PINs of a code concurrently on two nodes. The fifth and later ones exhaust the code,
// whose right PIN is then rejected too. Right PINs do not count.
func TestCheckPIN_FiveWrongOnTwoNodes(t *testing.T) {
	t.Parallel()
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := newCodeServices(t, nodes), addServiceAccount(t, nodes[0])
		_, err := p[0].FillTemplate(codes.TemplateOrder{Text: "{serial}{secret}{digits:4}", Count: 10_000})
		assert.True(t, err != nil && strings.Contains(err.Error(), "whose texts are links"),
			"FillTemplate() of a PIN without a link = %v, want an error", err)
		b := require.Value(p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000,
			Template: "https://q.example/{serial}{digits:4}"}))(t)
		right := func(index uint64) string { return codes.PINs(p[1].Vault, b)(index) }
		wrong := string('0'+(right(7)[0]-'0'+1)%10) + right(7)[1:]
		pinResult := func(node int, index int64, typed string) codes.PINResult {
			result, err := codes.PINCheck{Service: p[node]}.Check(t.Context(), b, index, typed)
			assert.NoError(t, err)
			return result
		}
		results := make([]codes.PINResult, 20)
		race(len(results), func(i int) error { results[i] = pinResult(i%2, 7, wrong); return nil })
		n := map[codes.PINResult]int{}
		for _, r := range results {
			n[r]++
		}
		assert.True(t, n[codes.WrongPIN] == codes.MaxWrongPINs-1 && n[codes.PINExhausted] == 16, "results of 20 wrong PINs = %v", n)
		check(t, "right PIN of the exhausted code", pinResult(1, 7, right(7)), codes.PINExhausted)
		check(t, "no PIN of the exhausted code", pinResult(0, 7, ""), codes.PINExhausted)
		for _, c := range []struct {
			typed string
			want  codes.PINResult
		}{{right(8), codes.RightPIN}, {"", codes.NoPIN}, {"12345", codes.NoPIN}, {"12x4", codes.NoPIN}, {right(8), codes.RightPIN},
			{fullWidth.Replace(right(8)), codes.RightPIN}, {right(8)[:2] + " " + right(8)[2:], codes.RightPIN}} {
			check(t, fmt.Sprintf("PIN %q of another code", c.typed), pinResult(0, 8, c.typed), c.want)
		}
		events, err := p[0].History(t.Context(), b.ID, 7)
		assert.True(t, err == nil && len(events) == 5 && events[0].Action == codes.EnterWrongPIN && events[0].Actor == "buyer",
			"History() = %+v, %v, want 5 wrong PINs", events, err)
	})
}

var fullWidth = strings.NewReplacer("0", "０", "1", "１", "2", "２", "3", "３", "4", "４", "5", "５", "6", "６", "7", "７", "8", "８", "9", "９")
