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
)

// full is a batch in which no field is empty.
func fullBatch() codes.Batch {
	return codes.Batch{Account: "svc" + spice, ISV: "isv" + spice, Count: 2_000_000_000, Start: codes.Space - 1,
		Prefix: "HTTPS://B.EXAMPLE/$/", Version: '$',
		Segment: 50_000, FirstCode: "0123456$-", FirstText: "text" + spice, CreatedAt: at, IsProof: true, Template: "t{digits:20}" + spice}
}

// noField fails the test for an empty field: a column without a value proves nothing.
func noField(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for field, value := range v.Fields() {
		switch {
		case value.IsZero():
			t.Errorf("%s.%s is empty", path, field.Name)
		case value.Kind() == reflect.Struct && value.Type() != reflect.TypeFor[time.Time]():
			noField(t, value, path+"."+field.Name)
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
	eachBackend(t, func(t *testing.T, s *Store) {
		first := addBatch(t, s, fullBatch())
		full := first
		full.Imported = true // the second one: such a batch has no start
		noField(t, reflect.ValueOf(full), "batch")
		assert.Equal(t, first.ID, 500_000_001, "the first application")
		b := fullBatch()
		b.Account, b.Start, b.Prefix, b.Imported = "other", 0, "", true
		second := addBatch(t, s, b)
		view(t, s, func(ctx context.Context, tx *Tx) error {
			for _, b := range []codes.Batch{first, second} {
				got, err := tx.codes().Batch(ctx, b.ID)
				if err != nil {
					return err
				}
				want(t, "by id", got, b)
				if got, err = tx.codes().BatchByISV(ctx, b.Account, b.ISV); err != nil {
					return err
				}
				want(t, "by its order number", got, b)
			}
			assert.ErrorIs(t, assert.ErrorOf(tx.codes().Batch(ctx, 7)), codes.ErrNoBatch, "no such batch")
			for _, key := range [][2]string{{"other", "x"}, {"x", b.ISV}, {"OTHER", b.ISV}, {"other", strings.ToUpper(b.ISV)},
				{"other", "a\x00"}} {
				assert.ErrorIs(t, assert.ErrorOf(tx.codes().BatchByISV(ctx, key[0], key[1])), codes.ErrNoBatch, "%q", key)
			}
			return nil
		})
		list := require.All(t, s.Batches(t.Context()))
		want(t, "all", list, []codes.Batch{first, second})
		// An order number makes one batch, and a block belongs to one.
		for name, change := range map[string]func(*codes.Batch){"the same number": func(b *codes.Batch) { b.Start = 99 },
			"the same block": func(b *codes.Batch) { b.ISV = "y" }} {
			b := second
			change(&b)
			assert.True(t, s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
				_,
					err := tx.AddBatch(t.Context(), b)
				return err
			}) != nil, "%s: stored twice", name)
		}
		want(t, "batches", number(t, s, `SELECT COUNT(*) FROM batches`), 2)
	})
}

func TestCodeEvent_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		b := addBatch(t, s, fullBatch())
		first := addEvent(t, s, codes.Event{Batch: b.ID, Action: codes.Activate,
			Codes: codes.NewSet(codes.Range{From: 0, To: 7}, codes.Range{From: 1_999_999_998, To: 1_999_999_999}), OccurredAt: at,
			From: at.Add(1001 * time.Millisecond),
			Binding: codes.Binding{ActivityName: "a" + spice, ProductBrand: "b" + spice, ProductTitle: "t" + spice,
				ProductCode: "c" + spice, WxaAppID: "wx" + spice, WxaPath: "p" + spice, WxaType: 2},
			Renews: &codes.Range{From: 0, To: 1_999_999_999}, Actor: "actor" + spice, RID: "rid" + spice, Note: "note" + spice})
		noField(t, reflect.ValueOf(first), "event")
		second := addEvent(t, s, codes.Event{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{From: 3, To: 3}),
			OccurredAt: at.Add(time.Second), From: at.Add(time.Second), Actor: "op"})
		third := addEvent(t, s, codes.Event{Batch: b.ID + 1, Action: codes.Void, Codes: codes.NewSet(codes.Range{From: 0, To: 9}),
			OccurredAt: at, From: at, Actor: "op"})
		read := func(batch, after int64) (list []codes.Event) {
			for e, err := range s.Events(t.Context(), batch, after) {
				require.NoError(t, err)
				list = append(list, e)
			}
			return list
		}
		want(t, "all", read(0, 0), []codes.Event{first, second, third})
		want(t, "of a batch", read(b.ID, 0), []codes.Event{first, second})
		want(t, "after one", read(b.ID, first.Seq), []codes.Event{second})
		want(t, "all after one", read(0, second.Seq), []codes.Event{third})
		for e := range s.Events(t.Context(), 0, 0) { // a reader may stop
			want(t, "the first", e, first)
			break
		}
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().EventsAfter(ctx, b.ID, first.Seq)
			wantSame(t, "in a transaction", got, []codes.Event{second})
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
				wantSame(t, fmt.Sprintf("at %d before %d", c.index, c.before), got, c.want)
			}
			for batch, last := range map[int64]time.Time{b.ID: second.OccurredAt, b.ID + 1: third.OccurredAt, 7: {}} {
				got, err := tx.codes().LastEventAt(ctx, batch)
				assert.True(t, err == nil && got.Equal(last), "the last event of %d was %s, want %s: %v", batch, got, last, err)
			}
			return nil
		})
	})
}

func forget(ctx context.Context, tx *Tx, logins, tickets time.Time) error {
	_, first := tx.codes().ForgetLogins(ctx, logins, 10)
	_, second := tx.codes().ForgetTickets(ctx, tickets, 10)
	return errors.Join(first, second)
}

func TestTicketsAndLogins_RoundTrip(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ticket, login := filled[codes.Ticket](t), filled[codes.Login](t)
		noField(t, reflect.ValueOf(ticket), "ticket")
		noField(t, reflect.ValueOf(login), "login")
		old := login
		old.Hash, old.Used, old.ExpiresAt = "old", false, at
		update(t, s, func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.codes().PutTickets(ctx, []codes.Ticket{ticket}), tx.codes().PutLogin(ctx, login),
				tx.codes().PutLogin(ctx, old))
		})
		ticket.ScannedAt, ticket.ExpiresAt, login.ExpiresAt = ticket.ScannedAt.UTC(), ticket.ExpiresAt.UTC(), login.ExpiresAt.UTC()
		view(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Ticket(ctx, ticket.Hash)
			want(t, "ticket", got, ticket)
			gotLogin, errLogin := tx.codes().Login(ctx, login.Hash)
			want(t, "login", gotLogin, login)
			_, errNone := tx.codes().Ticket(ctx, "none")
			_, errNoLogin := tx.codes().Login(ctx, "none")
			assert.True(t, errors.Is(errNone, codes.ErrNoTicket) && errors.Is(errNoLogin, codes.ErrNoLogin),
				"what is not there: %v, %v", errNone, errNoLogin)
			return errors.Join(err, errLogin)
		})
		// Done twice is done once; another ticket with its hash would be a broken chance.
		put := func(k codes.Ticket) error {
			return s.UpdateCodes(t.Context(), func(tx codes.Tx) error { return tx.PutTickets(t.Context(), []codes.Ticket{k}) })
		}
		assert.NoErrorf(t, put(ticket), "the same ticket once more")
		another := ticket
		another.AppUserID = "another"
		assert.True(t, put(another) != nil, "a ticket was replaced")
		// A login that was used stays used: nothing else of it changes.
		other := old
		other.Used, other.OpenID, other.AppID = true, "another", "another"
		update(t, s, func(ctx context.Context, tx *Tx) error { return tx.codes().PutLogin(ctx, other) })
		update(t, s, func(ctx context.Context, tx *Tx) error {
			got, err := tx.codes().Login(ctx, "old")
			old.Used = true
			want(t, "used", got, old)
			if err != nil {
				return err
			}
			// Forgotten is what ended before a moment, not at it.
			if err := forget(ctx, tx, at, ticket.ExpiresAt); err != nil {
				return err
			}
			_, errLogin := tx.codes().Login(ctx, "old")
			_, errTicket := tx.codes().Ticket(ctx, ticket.Hash)
			if err := errors.Join(errLogin, errTicket); err != nil {
				return err
			}
			if err := forget(ctx, tx, at.Add(time.Millisecond), ticket.ExpiresAt.Add(time.Millisecond)); err != nil {
				return err
			}
			_, errLogin = tx.codes().Login(ctx, "old")
			_, errTicket = tx.codes().Ticket(ctx, ticket.Hash)
			assert.True(t, errors.Is(errLogin, codes.ErrNoLogin) && errors.Is(errTicket, codes.ErrNoTicket),
				"not forgotten: %v, %v", errLogin, errTicket)
			return nil
		})
	})
}

// A failed transaction gives nothing out, so no counter is lost or used twice.
func TestCodeCounter_RollbackAfterFailure(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
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
			require.True(t, (err != nil) == fail, "%v", err)
			return start
		}
		want(t, "the first", take(10, false), 0)
		want(t, "the second", take(10, true), 10)
		want(t, "again", take(codes.Space-10, false), 10)
		want(t, "the end", take(0, false), codes.Space)
	})
}

// presses are the codes as two nodes see them.
func presses(t *testing.T, nodes [2]*Store) (p [2]*codes.Service) {
	t.Helper()
	code, err := codes.NewCodeKey([]byte(strings.Repeat("c", 32)))
	require.NoError(t, err)
	text, err := codes.NewTextKey([]byte(strings.Repeat("t", 32)))
	require.NoError(t, err)
	key, err := sealer.NewKey([]byte(strings.Repeat("k", 32)))
	require.NoError(t, err)
	for i, s := range nodes {
		p[i] = &codes.Service{Store: s, Vault: key, Memory: codes.NewMemory(s), Settings: settings.NewLive(settings.Defaults()),
			Now:    func() time.Time { return at },
			Keys:   codes.Keys{Code: code, Text: map[byte]*codes.TextKey{codes.FirstVersion: text}, Current: codes.FirstVersion},
			Prefix: codes.DefaultPrefix}
		p[i].Changed = func(ctx context.Context, id int64) { assert.NoError(t, p[i].Memory.Changed(ctx, id)) }
	}
	return p
}

func serviceAccount(t *testing.T, s *Store) accounts.Account {
	t.Helper()
	a := accounts.Account{AppID: "svc", Kind: accounts.ServiceAccount, Subject: accounts.Company, Certified: true,
		Features: []string{codes.Feature}, CreatedAt: at}
	update(t, s, func(ctx context.Context, tx *Tx) error { return tx.accounts().PutAccount(ctx, a) })
	return a
}

// More calls at once than there are connections: of one order number on two nodes comes one batch, of many come blocks that are disjoint.
func TestCodeApplication_ConcurrentOnTwoNodes(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		ids := make([]int64, 40)
		for _, err := range race(len(ids), func(i int) error {
			b, err := p[i%2].Apply(t.Context(), call, codes.Application{ISV: "same", Count: 10_000})
			ids[i] = b.ID
			return err
		}) {
			require.NoError(t, err)
		}
		if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
			t.Errorf("one order number made %v", slices.Compact(ids))
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
			assert.Equal(t, b.Start, want, "block %d begins at", i)
		}
		want(t, "calls of the day", number(t, nodes[0], `SELECT value FROM counters WHERE appid = 'svc'`), 100)
	})
}

// One code is redeemed once, whatever node the till asks, and more tills may ask at once than there are connections.
func TestRedeem_OnceAcrossNodes(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000})
		require.NoError(t, err)
		require.NoError(t, p[1].Memory.Changed(t.Context(), b.ID))
		for index := range int64(4) {
			won := 0
			for _, err := range race(72, func(i int) error {
				return failure(p[i%2].Change(accounts.WithActor(t.Context(), accounts.Actor{ActorID: fmt.Sprint("till ", i)}),
					codes.Change{Batch: b.ID, Action: codes.Redeem, Codes: codes.NewSet(codes.Range{From: index, To: index})}))
			}) {
				if _, late := errors.AsType[codes.Conflict](err); err == nil {
					won++
				} else if !late {
					t.Fatal(err)
				}
			}
			want(t, "redeemed", won, 1)
		}
		want(t, "events", number(t, nodes[0], `SELECT COUNT(*) FROM code_events`), 4)
	})
}

// Activations on two nodes are numbered in the order of commits, and each node that reads on knows what the other did.
func TestActivate_NumberedInCommitOrder(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		miniProgram(t, nodes[0], "shop")
		for n := range p {
			s := p[n].Settings.Get()
			s.Behaviours = settings.Overrides{"codes.activate.overlap_taken": settings.Allow}
			p[n].Settings.Set(s)
		}
		b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000})
		require.NoError(t, err)
		require.NoError(t, p[1].Memory.Changed(t.Context(), b.ID))
		for _, err := range race(80, func(i int) error {
			return p[i%2].Activate(t.Context(), call,
				codes.Activation{Batch: b.ID, Range: codes.Range{From: int64(i), To: int64(i + 40)}, Binding: codes.Binding{
					ActivityName: fmt.Sprint(i), ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "shop", WxaPath: "p"}})
		}) {
			require.NoError(t, err)
		}
		governs := map[int64]string{}
		seq := int64(0)
		for e, err := range nodes[0].Events(t.Context(), b.ID, 0) {
			require.NoError(t, err)
			assert.True(t, e.Seq > seq, "event %d after %d", e.Seq, seq)
			seq = e.Seq
			for i := e.Codes[0].From; i <= e.Codes[0].To; i++ {
				governs[i] = e.Binding.ActivityName
			}
		}
		for n := range p {
			require.NoError(t, p[n].Memory.Changed(t.Context(), b.ID))
			for i := range int64(130) {
				got := ""
				if by := p[n].Memory.State(b.ID, i, at).Activation; by != nil {
					got = by.Binding.ActivityName
				}
				assert.Equal(t, got, governs[i], "node %d: index %d is governed by", n, i)
			}
		}
	})
}

// Of overlapping activations at once, on two nodes, one wins and the others learn it, whatever the nodes have followed. Issue 11, 2.
func TestActivate_OverlapOneWins(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		miniProgram(t, nodes[0], "shop")
		b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000})
		require.NoError(t, err)
		const rounds, calls = 8, 12
		for round := range int64(rounds) {
			won := 0
			for i, err := range race(calls, func(i int) error {
				// All hold the middle of the round's thousand, no two are the same range.
				return p[i%2].Activate(t.Context(), call,
					codes.Activation{Batch: b.ID, Range: codes.Range{From: 1000*round + int64(i), To: 1000*round + 500 + int64(i)},
						Binding: codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "shop",
							WxaPath: "p"}})
			}) {
				if err == nil {
					won++
				} else if !errors.Is(err, errcode.ActivationOverlaps) {
					t.Errorf("call %d: %v", i, err)
				}
			}
			want(t, "activations that won", won, 1)
		}
		want(t, "events", number(t, nodes[0], `SELECT COUNT(*) FROM code_events`), rounds)
		// The very same range replaces, on whatever node.
		for e, err := range nodes[0].Events(t.Context(), b.ID, 0) {
			require.NoError(t, err)
			assert.NoError(t, p[1].Activate(t.Context(), call, codes.Activation{Batch: b.ID, Range: e.Codes.Bounds(), Binding: e.Binding}))
		}
	})
}

// A call on one node knows at once all that another acknowledged, whether that node has followed or not: clients apply through one and go
// on through another.
func TestCodeBatch_VisibleOnOtherNode(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		miniProgram(t, nodes[0], "shop")
		binding := codes.Binding{ActivityName: "a", ProductBrand: "b", ProductTitle: "t", ProductCode: "c", WxaAppID: "shop", WxaPath: "p"}
		fresh := func(isv string) codes.Batch {
			t.Helper()
			b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: isv, Count: 10_000})
			if err == nil {
				err = p[0].Activate(t.Context(), call, codes.Activation{Batch: b.ID, Range: codes.Range{From: 0, To: 9}, Binding: binding})
			}
			require.NoError(t, err)
			return b
		}
		for name, does := range map[string]func(codes.Batch) error{
			"applycodequery": func(b codes.Batch) error {
				_, err := p[1].Query(t.Context(), call, codes.BatchKey{ID: b.ID})
				return err
			},
			"codeactive": func(b codes.Batch) error {
				return p[1].Activate(t.Context(), call,
					codes.Activation{Batch: b.ID, Range: codes.Range{From: 10, To: 14}, Binding: binding})
			},
			"codeactivequery": func(b codes.Batch) error {
				f, err := p[1].Get(t.Context(), call, codes.CodeName{ID: b.ID, HasIndex: true})
				assert.True(t, err != nil || f.State.Activation != nil, "codeactivequery: not active")
				return err
			},
			"a change by the operator": func(b codes.Batch) error {
				return failure(p[1].Change(t.Context(),
					codes.Change{Batch: b.ID, Action: codes.Freeze, Codes: codes.NewSet(codes.Range{From: 0, To: 0})}))
			},
		} {
			assert.NoErrorf(t, does(fresh(name)), "%s", name)
		}
		p[1].Shared = true // as where there are two processes
		b := fresh("again")
		for n, did := range []codes.EventType{codes.Freeze, codes.Unfreeze, codes.Void} {
			f, err := p[1].Get(t.Context(), call, codes.CodeName{ID: b.ID, Index: 3, HasIndex: true})
			assert.True(t, err == nil && f.State.Frozen == (n == 1) && !f.State.Void, "before %s: %+v, %v", did, f.State, err)
			require.NoError(t, assert.ErrorOf(p[0].Change(t.Context(), codes.Change{Batch: b.ID, Action: did,
				Codes: codes.NewSet(codes.Range{From: 3, To: 3})})))
		}
		_, err := p[1].Query(t.Context(), call, codes.BatchKey{ID: 1})
		assert.ErrorIs(t, err, errcode.NoApplication, "an application that nobody made")
	})
}

// A second redemption asks who was first, in a transaction that others wait for:
// what it reads must not grow with all that was ever redeemed of the batch.
func TestCodeEvents_LookupBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("a table, read by one goroutine")
	}
	eachBackend(t, func(t *testing.T, s *Store) {
		const events = 3_000
		set := func(from, to int64) codes.Set { return codes.NewSet(codes.Range{From: from, To: to}) }
		want := map[int64][]int64{} // the numbers of the events of an index, newest first
		update(t, s, func(ctx context.Context, tx *Tx) error {
			clear(want)
			b, err := tx.codes().AddBatch(ctx, codes.Batch{Account: "svc", ISV: "x", Count: 1_000_000, Version: '0', CreatedAt: at})
			if err != nil {
				return err
			}
			for n := range int64(events) {
				e := codes.Event{Batch: b.ID, Action: codes.Redeem, Codes: set(n%1_000, n%1_000), OccurredAt: at, From: at}
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
			return // PostgreSQL plans by what it counted, which it does when it likes
		}
		var plan strings.Builder
		rows, err := s.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+eventsAt, 1, math.MaxInt64, 5, 1_000,
			80, 1, 2, 3, 4, 5, 6, 7, 8)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			plan.WriteString(detail + "\n")
		}
		n := strings.Count(plan.String(), "idx_code_events_batch_block_seq (batch=? AND <expr>=? AND seq<?)")
		assert.True(t, n == eventLevels, "%d of %d blocks by the index:\n%s", n, eventLevels, plan.String())
	})
}

// failure leaves out how many codes were changed.
func failure(_ int64, err error) error { return err }

// Issue 34, 1: texts by template are stored with the application, written the same by each node, and only what was printed opens.
func TestTemplateTexts_StoredWithApplication(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
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
			template, err := p[0].FillTemplate(order)
			require.NoError(t, err)
			a := codes.Application{ISV: fmt.Sprint("order ", i), Count: order.Count, Template: template}
			b, err := p[0].Apply(t.Context(), call, a)
			require.NoError(t, err)
			a.Template = "x{secret}"
			_, err = p[0].Apply(t.Context(), call, a)
			assert.ErrorIs(t, err, errcode.ApplicationExists, "%q: the same order with another text", template)
			assert.Equal(t, b.Weak(), order.Weak, "%q", template)
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
			for _, press := range p {
				nobody := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
				for _, spelling := range spellings {
					s, ok := press.Scan(spelling, "", nobody)
					assert.True(t, ok && s.Batch.ID == b.ID && s.Index == 77 && s.Reason == codes.NotActive,
						"%q is code %d of %d (%t, %q), not %d of %d", spelling, s.Index, s.Batch.ID, ok, s.Reason, 77, b.ID)
					assert.True(t, press.MayBeCode(spelling), "%q may be a code", spelling)
					f, err := press.Lookup(t.Context(), codes.CodeName{URL: spelling})
					assert.True(t, err == nil && f.Batch.ID == b.ID && f.Index == 77,
						"%q is found as code %d of %d: %v", spelling, f.Index, f.Batch.ID, err)
				}
			}
			opensNot(t, p[1], text)
			withholds(t, p[1], b.Template, text)
		}
	})
}

// withholds sends a text with something around it, which is no code text, and could be written into a log: no secret may be left.
func withholds(t *testing.T, p *codes.Service, template, text string) {
	t.Helper()
	filled := strings.ReplaceAll(template, "{serial}", "123456789")
	secret := max(strings.Index(filled, "{secret}"), strings.Index(filled, "{digits:"))
	if secret < 0 {
		return
	}
	escaped := strings.NewReplacer("5", "%35", ".", "%2e", "K", "%4b").Replace(text)
	for around, most := range map[string]int{"https://x.example/go?u=" + text + "&from=1": len("https://x.example/go?u=") + secret,
		text + "/": secret, "9" + text + "9": 1 + secret, escaped + " ": len(escaped) - 15} {
		got := p.Redact(around)
		assert.True(t, len(got) <= most && strings.HasPrefix(around, got), "of %q is left %q", around, got)
	}
}

// opensNot changes each character of a text, one at a time.
func opensNot(t *testing.T, p *codes.Service, text string) {
	t.Helper()
	nobody := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
	for i := range len(text) {
		for _, by := range []byte("7K") {
			if text[i] == by {
				continue
			}
			wrong := text[:i] + string(by) + text[i+1:]
			if s, ok := p.Scan(wrong, "", nobody); ok && s.Reason != codes.UnknownCode {
				t.Errorf("%q in place of %q: code %d of %d, %q", wrong, text, s.Index, s.Batch.ID, s.Reason)
			}
		}
	}
	digit := strings.LastIndexAny(text, "0123456789") // of the secret, or beside it
	wrong := text[:digit] + string('0'+(text[digit]-'0'+1)%10) + text[digit+1:]
	s, ok := p.Scan(wrong, "", nobody)
	assert.True(t, ok && s.Reason == codes.UnknownCode, "%q in place of %q: %t, %q", wrong, text, ok, s.Reason)
}

// Twenty wrong PINs of one code arrive at once on two nodes: five are compared. The right PIN never counts, and is refused after that.
func TestCheckPIN_FiveWrongOnTwoNodes(t *testing.T) {
	t.Parallel()
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		p, call := presses(t, nodes), serviceAccount(t, nodes[0])
		_, err := p[0].FillTemplate(codes.TemplateOrder{Text: "{serial}{secret}{digits:4}", Count: 10_000})
		assert.True(t, err != nil && strings.Contains(err.Error(), "whose texts are links"), "a PIN beside a text that is no link: %v", err)
		b, err := p[0].Apply(t.Context(), call, codes.Application{ISV: "x", Count: 10_000,
			Template: "https://q.example/{serial}{digits:4}"})
		require.NoError(t, err)
		right := func(index uint64) string { return codes.PINs(p[1].Vault, b)(index) }
		wrong := string('0'+(right(7)[0]-'0'+1)%10) + right(7)[1:]
		check := func(node int, index int64, typed string) codes.PINResult {
			result, err := codes.PINCheck{Service: p[node]}.Check(t.Context(), b, index, typed)
			assert.NoError(t, err)
			return result
		}
		results := make([]codes.PINResult, 20)
		race(len(results), func(i int) error { results[i] = check(i%2, 7, wrong); return nil })
		n := map[codes.PINResult]int{}
		for _, r := range results {
			n[r]++
		}
		assert.True(t, n[codes.WrongPIN] == codes.MaxWrongPINs-1 && n[codes.PINExhausted] == 16, "of 20 wrong PINs: %v", n)
		want(t, "the right PIN after that", check(1, 7, right(7)), codes.PINExhausted)
		want(t, "no PIN after that", check(0, 7, ""), codes.PINExhausted)
		for _, c := range []struct {
			typed string
			want  codes.PINResult
		}{{right(8), codes.RightPIN}, {"", codes.NoPIN}, {"12345", codes.NoPIN}, {"12x4", codes.NoPIN}, {right(8), codes.RightPIN},
			{fullWidth.Replace(right(8)), codes.RightPIN}, {right(8)[:2] + " " + right(8)[2:], codes.RightPIN}} {
			want(t, fmt.Sprintf("PIN %q of another code", c.typed), check(0, 8, c.typed), c.want)
		}
		events, err := p[0].History(t.Context(), b.ID, 7)
		assert.True(t, err == nil && len(events) == 5 && events[0].Action == codes.EnterWrongPIN && events[0].Actor == "buyer",
			"events of the code: %+v, %v", events, err)
	})
}

var fullWidth = strings.NewReplacer("0", "０", "1", "１", "2", "２", "3", "３", "4", "４", "5", "５", "6", "６", "7", "７", "8", "８", "9", "９")
