package stats_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// crowd makes scans of one code, each by another user in another network.
type crowd struct {
	name alarms.CodeName
	made uint64
}

func (c *crowd) scans(n int, at time.Time) (list []scanlog.Event) {
	for range n {
		c.made++
		e := scanlog.Event{OccurredAt: at.Add(time.Duration(len(list)) * time.Second), Batch: c.name.Batch, Index: c.name.Index,
			Kind:   "code",
			Action: "open_mini_program", Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(c.made >> 8), byte(c.made), 0}), 24)}
		binary.BigEndian.PutUint64(e.ID[:], uint64(c.name.Index)<<32+c.made)
		binary.BigEndian.PutUint64(e.User[:], uint64(c.name.Index)<<32+c.made)
		list = append(list, e)
	}
	return list
}

// nodes are two that count the same log into the same store. Their clock is moved by hand.
type nodes struct {
	t    *testing.T
	log  *scantest.Memory
	now  time.Time
	a, b *stats.Aggregator
}

func twoNodes(t *testing.T, s *store.Store) *nodes {
	n := &nodes{t: t, log: &scantest.Memory{}, now: began}
	n.a, n.b = scantest.NewCounter(s, n.log), scantest.NewCounter(s, n.log)
	n.a.Alarms.Now, n.b.Alarms.Now = func() time.Time { return n.now }, func() time.Time { return n.now }
	return n
}

func (n *nodes) count(by *stats.Aggregator, events []scanlog.Event) {
	n.t.Helper()
	require.NoError(n.t, n.log.Append(n.t.Context(), events))
	require.NoError(n.t, by.CatchUp(n.t.Context()))
}

// stands is the number of the alarm that stands for a code by what each node says; 0 = none.
func (n *nodes) stands(name alarms.CodeName) (id int64) {
	n.t.Helper()
	for i, c := range []*stats.Aggregator{n.a, n.b} {
		found, err := c.Alarms.Alarm(n.t.Context(), name)
		require.True(n.t, err == nil || errors.Is(err, alarms.ErrNoAlarm), "%v", err)
		if i == 0 {
			id = found.ID
		} else if found.ID != id {
			n.t.Errorf("one node says that alarm %d stands, the other %d", id, found.ID)
		}
	}
	return id
}

// Issue 28, 2: an alarm was for ever. Dismissed on one node it stands on none, and the scans that were made before are
// no reason for another, however late they are counted.
func TestAlarmDismiss_RaisedByLaterScansOnly(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n := twoNodes(t, s)
		people := &crowd{name: alarms.CodeName{Batch: 7, Index: 3}}
		n.count(n.a, people.scans(40, began))
		require.Equal(t, n.stands(people.name), 1, "40 people scanned it")
		n.now = began.Add(time.Hour)
		for _, by := range []string{"eve", "mallory"} { // the first one stays
			a, err := n.b.Alarms.Dismiss(t.Context(), 1, by, "by "+by)
			require.True(t, err == nil && a.DismissedBy == "eve" && a.Note == "by eve" && a.DismissedAt.Equal(n.now) && a.Dismissal == 2,
				"dismissed by %s: %+v, %v", by, a, err)
		}
		assert.ErrorIs(t, assert.ErrorOf(n.a.Alarms.Dismiss(t.Context(), 9, "eve", "none")), alarms.ErrNoAlarm, "an alarm that is none")
		n.count(n.b, people.scans(60, began.Add(30*time.Minute))) // by a node that was cut off
		n.count(n.a, people.scans(12, n.now.Add(time.Minute)))
		assert.Equal(t, n.stands(people.name), 0, "12 people scanned it since")
		known, err := n.a.Alarms.Code(t.Context(), people.name)
		if err != nil || known.Scans != 112 || known.AlarmScore() >= 100 || known.Score() < 200 || !known.DismissedAt.Equal(n.now) {
			t.Errorf("the code: %+v, a score of %d for alarms and %d in all, %v", known, known.AlarmScore(), known.Score(), err)
		}
		// Whoever is erased meanwhile stays counted, there too.
		require.NoError(t, assert.ErrorOf(n.a.Erase(t.Context(), scanlog.UserHash(n.log.Entries[105].User))))
		n.count(n.b, people.scans(40, n.now.Add(time.Hour)))
		id := n.stands(people.name)
		list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{After: 1, Limit: 10, Code: &people.name})
		assert.True(t, err == nil && len(list) == 1 && list[0].ID == id && list[0].Details.Users >= 13 && list[0].Details.Users <= 20 &&
			list[0].Score >= 100 && list[0].Score <= 130, "12 and more people since: alarm %d, %+v, %v", id, list, err)
		news, err := n.a.Alarms.StateChanges(t.Context(), 0, 10)
		assert.True(t, err == nil && len(news) == 3 && news[0].Decision == "" && news[1].Decision == alarms.Dismiss &&
			news[1].ID == 1 && news[1].Number == 2 && news[2].ID == 3, "what happened to alarms: %+v, %v", news, err)
		last, err := s.LastAlarm(t.Context())
		assert.True(t, err == nil && last == 3, "the last number: %d, %v", last, err)
		rest, err := n.a.Alarms.StateChanges(t.Context(), 1, 1)
		assert.True(t, err == nil && len(rest) == 1 && rest[0].Number == 2, "one after the first: %+v, %v", rest, err)
		r, err := (verify.Recounter{Counter: n.a}).Run(t.Context())
		assert.True(t, err == nil && r.Differences == 0, "a recount: %+v, %v", r, err)
	})
}

// A threshold counts for what is counted from then on, on any node, whichever way it is changed.
func TestAlarmThreshold_PerBatch(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n := twoNodes(t, s)
		set := func(batch int64, score *int64) {
			t.Helper()
			require.NoError(t, n.b.Alarms.SetThreshold(t.Context(), batch, score))
		}
		stands := func(what string, c *crowd, want bool) {
			t.Helper()
			n.count(n.a, c.scans(1, n.now))
			id := n.stands(c.name)
			assert.True(t, (id != 0) == want, "%s: alarm %d stands", what, id)
		}
		off, high := int64(alarms.NoAlarm), int64(1000)
		restaurant, shop := &crowd{name: alarms.CodeName{Batch: 7, Index: 1}}, &crowd{name: alarms.CodeName{Batch: 8, Index: 2}}
		set(7, &off)
		n.count(n.a, append(restaurant.scans(40, n.now), shop.scans(40, n.now)...))
		stands("off", restaurant, false)
		stands("as the server", shop, true)
		set(7, &high)
		stands("out of reach", restaurant, false)
		threshold, err := n.a.Alarms.Threshold(t.Context(), 7)
		assert.True(t, err == nil && threshold == (alarms.Threshold{Score: 1000, HasOwnThreshold: true}), "%+v, %v", threshold, err)
		set(7, nil)
		stands("as the server again", restaurant, true)
		threshold, err = n.a.Alarms.Threshold(t.Context(), 7)
		assert.True(t, err == nil && threshold == (alarms.Threshold{Score: 100}), "the threshold of the server: %+v, %v", threshold, err)
	})
}

// What a threshold would have given is what it gives.
func TestAlarmReplay_MatchesThreshold(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n := twoNodes(t, s)
		var all []scanlog.Event
		for i := range int64(30) { // of one more person each
			c := &crowd{name: alarms.CodeName{Batch: 7, Index: i}}
			all = append(all, c.scans(10+int(i), began.AddDate(0, 0, -int(4*i)))...) // the last were scanned before the 90 days
		}
		n.count(n.a, all)
		n.now = began.Add(time.Hour)
		for _, threshold := range []int64{100, 120, 60} {
			counted, err := n.b.Reached(t.Context())
			require.NoError(t, err)
			r, err := n.b.Alarms.Replay(t.Context(), counted, 7, threshold)
			require.NoError(t, err)
			want, still := 0, int64(0)
			for i := range int64(23) { // 88 days ago at most
				one, err := n.a.Alarms.Code(t.Context(), alarms.CodeName{Batch: 7, Index: i})
				require.NoError(t, err)
				if int64(one.Score()) >= threshold {
					if want++; i == 22 {
						still = 1
					}
				}
			}
			assert.True(t, r.Alarms == int64(want) && len(r.First) == want && r.Scanned == 23 && r.Since.IsZero() &&
				(threshold == 100 || r.Dismissed == 1 && r.StillDismissed == still), "at %d: %+v; want %d alarms", threshold, r, want)
			if threshold == 100 {
				assert.True(t, r.Raised == r.Alarms, "at %d there were %d alarms, and would be %d", threshold, r.Raised, r.Alarms)
				a, err := n.a.Alarms.Alarm(t.Context(), alarms.CodeName{Batch: 7, Index: 22})
				if err == nil {
					_, err = n.a.Alarms.Dismiss(t.Context(), a.ID, "eve", "a campaign")
				}
				require.NoError(t, err)
			}
		}
	})
}

// A scan raises the alarm while it is dismissed: one alarm stands at most, each dismissal has a number of its own, and no
// alarm rests on a scan from before the dismissal of the one before it.
func TestAlarmDismiss_ConcurrentRaise(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n := twoNodes(t, s)
		people := &crowd{name: alarms.CodeName{Batch: 7, Index: 3}}
		var clock sync.Mutex
		now := began
		n.a.Alarms.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
		n.b.Alarms.Now = n.a.Alarms.Now
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var hands sync.WaitGroup
		for _, c := range []*stats.Aggregator{n.a, n.b} {
			hands.Go(func() {
				for ctx.Err() == nil {
					a, err := c.Alarms.Alarm(t.Context(), people.name)
					if err == nil {
						_, err = c.Alarms.Dismiss(t.Context(), a.ID, "eve", "no copy")
					}
					if err != nil && !errors.Is(err, alarms.ErrNoAlarm) {
						t.Error(err)
						return
					}
				}
			})
		}
		for range testscope.Choose(20, 4) {
			clock.Lock()
			now = now.Add(time.Hour)
			at := now
			clock.Unlock()
			n.count(n.a, people.scans(30, at.Add(-time.Minute))) // some before, some after a dismissal of this hour
			n.count(n.b, people.scans(30, at.Add(time.Minute)))
			for { // the hands have taken back what stood, so that the next hour's scans can alarm again
				if _, err := n.a.Alarms.Alarm(t.Context(), people.name); errors.Is(err, alarms.ErrNoAlarm) || t.Failed() {
					break
				}
			}
		}
		stop()
		hands.Wait()
		list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{Limit: 1000})
		require.True(t, err == nil && len(list) >= 2, "%d alarms, %v", len(list), err)
		numbers := map[string]bool{}
		for i, a := range list {
			for _, number := range []int64{a.ID, a.Dismissal} {
				if key := fmt.Sprint(number); number != 0 && numbers[key] {
					t.Errorf("the number %s is there twice", key)
				} else {
					numbers[key] = true
				}
			}
			if i > 0 && (list[i-1].DismissedAt.IsZero() || !a.CreatedAt.After(list[i-1].DismissedAt)) {
				t.Errorf("alarm %d rests on a scan of %v, the one before it was dismissed at %v", a.ID, a.CreatedAt, list[i-1].DismissedAt)
			}
		}
	})
}

func TestAlarmOfCode_OpenOrDismissed(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		c := &alarms.Service{Store: s, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
		name := alarms.CodeName{Batch: 7, Index: 3}
		err := s.UpdateStatistics(t.Context(), func(tx stats.Tx) error {
			_, _, err := tx.AddAlarm(t.Context(), alarms.Alarm{Kind: alarms.Copied, CodeName: name, Scan: "s", Score: 120})
			return err
		})
		require.NoError(t, err)
		for _, seen := range []string{"", "eve"} {
			a, err := c.Alarm(t.Context(), name)
			assert.True(t, err == nil && a.CodeName == name && a.AcknowledgedBy == seen, "the alarm, seen by %q: %+v, %v", seen, a, err)
			for _, other := range []alarms.CodeName{{Batch: 7, Index: 4}, {Batch: 8, Index: 3}} {
				a, err := c.Alarm(t.Context(), other)
				assert.ErrorIs(t, err, alarms.ErrNoAlarm, "an alarm of %+v: %+v", other, a)
			}
			require.NoError(t, assert.ErrorOf(c.Acknowledge(t.Context(), 1, "eve", alarms.Acknowledgement{})))
		}
	})
}

// Alarms are listed from either end, and those that are open are counted, up to a number.
func TestAlarmList_BothDirectionsAndCount(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		c := &alarms.Service{Store: s, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
		err := s.UpdateStatistics(t.Context(), func(tx stats.Tx) error {
			for i := range int64(4) {
				one := alarms.Alarm{Kind: alarms.Copied, CodeName: alarms.CodeName{Batch: 7, Index: i}}
				if _, _, err := tx.AddAlarm(t.Context(), one); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			_, err = c.Acknowledge(t.Context(), 1, "eve", alarms.Acknowledgement{})
		}
		if err == nil {
			_, err = c.Dismiss(t.Context(), 4, "eve", "a fair")
		}
		require.NoError(t, err)
		// An open alarm of any kind changes the page of its code.
		name := alarms.CodeName{Batch: 9, Index: 1}
		require.NoError(t, s.UpdateAlarms(t.Context(), func(tx alarms.Tx) error {
			_, _, err := tx.AddAlarm(t.Context(), alarms.Alarm{Kind: alarms.AfterRedemption, CodeName: name})
			return err
		}))
		a, err := c.Alarm(t.Context(), name)
		assert.True(t, err == nil && a.Kind == alarms.AfterRedemption, "the alarm of the page: %+v, %v", a, err)
		for range 2 { // the second confirmation changes nothing
			a, err := c.Acknowledge(t.Context(), 6, "eve", alarms.Acknowledgement{Confirm: true})
			require.True(t, err == nil && a.Confirmation == 7 && a.ConfirmedBy == "eve" && a.AcknowledgedBy == "eve" &&
				a.State() == alarms.StateConfirmed, "a confirmation: %+v, %v", a, err)
		}
		a, err = c.Alarm(t.Context(), name)
		assert.True(t, err == nil && a.ID == 6, "the confirmed alarm: %+v, %v", a, err)
		list, err := c.Alarms(t.Context(), alarms.Query{State: alarms.StateConfirmed, Limit: 9})
		assert.True(t, err == nil && len(list) == 1 && list[0].ID == 6, "the confirmed alarms: %+v, %v", list, err)
		changes, err := c.StateChanges(t.Context(), 4, 9)
		assert.True(t, err == nil && len(changes) == 3 && changes[0].Decision == alarms.Dismiss && changes[1].ID == 6 &&
			changes[2].ID == 6 && changes[2].Decision == alarms.Confirm, "the changes: %+v, %v", changes, err)
		group, err := c.SaveCase(t.Context(), alarms.Case{Title: "market stall", Assignee: "Li Na"}, []int64{1}, "eve", nil)
		require.NoError(t, err)
		note := "bought two"
		change := alarms.Acknowledgement{Case: &group.ID, Note: &note}
		for _, id := range []int64{1, 6} {
			a, err = c.Acknowledge(t.Context(), id, "eve", change)
			assert.True(t, err == nil && a.Case.ID == group.ID && a.Case.Assignee == "Li Na" && a.Note == note, "in a case: %v", err)
		}
		a, err = c.Acknowledge(t.Context(), 6, "eve", alarms.Acknowledgement{Confirm: true})
		require.True(t, err == nil && a.Case.Title == group.Title && a.Note == note, "acknowledged again: %+v, %v", a, err)
		list, err = c.Alarms(t.Context(), alarms.Query{Case: group.ID, Assignee: "Li Na", Limit: 9})
		assert.True(t, err == nil && len(list) == 2, "the alarms of the case: %+v, %v", list, err)
		a, err = c.Dismiss(t.Context(), 6, "eve", "a mistake")
		assert.True(t, err == nil && a.State() == alarms.StateDismissed, "dismissing a confirmed alarm: %+v, %v", a, err)
		a, err = c.Acknowledge(t.Context(), 6, "eve", change)
		assert.True(t, err == nil && a.Note == "a mistake", "the note of a dismissed alarm in a case: %+v, %v", a, err)
		for want, q := range map[string]alarms.Query{"[4 3]": {Newest: true, Batch: 7, Limit: 2},
			"[2 1]": {Newest: true, Before: 3, Limit: 9},
			"[2]":   {After: 1, Before: 3, Limit: 9}, "[3 2]": {Newest: true, State: alarms.StateOpen, Acknowledged: "false", Limit: 9},
			"[1 2 3]": {State: alarms.StateOpen, Limit: 9}, "[4 6]": {State: alarms.StateDismissed, Limit: 9},
			"[1 6]": {Acknowledged: "true", Limit: 9}, "[6]": {State: alarms.StateDismissed, Acknowledged: "true", Limit: 9}} {
			list, err := c.Alarms(t.Context(), q)
			var got []int64
			for _, a := range list {
				got = append(got, a.ID)
			}
			assert.True(t, fmt.Sprint(got) == want && err == nil, "%+v: %v, %v, want %s", q, got, err, want)
		}
		n, err := c.Unacknowledged(t.Context(), nil)
		assert.True(t, n == 2 && err == nil, "%d alarms are open, %v", n, err)
		n, err = c.Unacknowledged(t.Context(), []string{"nobody"})
		assert.True(t, n == 0 && err == nil, "%d alarms of nobody are open, %v", n, err)
		err = s.ViewAlarms(t.Context(), func(tx alarms.Tx) error {
			n, err := tx.UnacknowledgedAlarms(t.Context(), nil, 1)
			assert.True(t, n == 1 && err == nil, "counted up to 1: %d, %v", n, err)
			return nil
		})
		assert.True(t, err == nil, "%v", err)
	})
}

// What is known of a code says about where it was scanned, each place with the networks that were first seen there.
func TestAlarmPlaces_Retained(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n, people := twoNodes(t, s), &crowd{name: alarms.CodeName{Batch: 7, Index: 3}}
		for _, region := range []string{"CN-SH", "CN-BJ", "CN-SH", ""} {
			list := people.scans(2, n.now)
			for i := range list {
				list[i].Region = region
			}
			n.count(n.a, list)
		}
		code, err := n.b.Alarms.Code(t.Context(), people.name)
		want := []alarms.Location{{Region: "CN-SH", Scans: 4, Networks: 4}, {Region: "CN-BJ", Scans: 2, Networks: 2}}
		assert.True(t, err == nil && fmt.Sprint(code.Locations) == fmt.Sprint(want) && code.Scans == 8,
			"%d scans, in %+v, %v", code.Scans, code.Locations, err)
	})
}

// A threshold is proposed from the scores that the codes had four weeks after their first scans, and not from fewer than 3,000 codes.
func TestPropose_FirstWeeks(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n, people, weeks := twoNodes(t, s), &crowd{name: alarms.CodeName{Batch: 7, Index: 3}}, 28*24*time.Hour
		n.count(n.a, people.scans(12, began))
		n.count(n.b, append(people.scans(1, began.Add(weeks-time.Second)), people.scans(40, began.Add(weeks))...))
		n.count(n.a, people.scans(40, began.Add(2*weeks)))
		update := func(f func(tx alarms.Tx) error) {
			t.Helper()
			require.NoError(t, s.UpdateAlarms(t.Context(), f))
		}
		update(func(tx alarms.Tx) error {
			scores, err := tx.FirstScores(t.Context(), 7, weeks, 10)
			assert.Equal(t, fmt.Sprint(scores), "[90]", "the score of 13 users")
			return err
		})
		for _, c := range []struct {
			codes, other     int // number of codes with a first score in their batch, and of codes first scanned later
			high, score      int // number of codes with a high first score, and this score
			want, wantedFrom int
		}{{codes: 2999, other: 9, high: 9, score: 160, wantedFrom: 2999}, {codes: 3000, high: 3, score: 160, want: 85, wantedFrom: 3000},
			{codes: 3000, other: 9, high: 4, score: 164, want: 165, wantedFrom: 3000},
			{codes: 4000, high: 5, score: 165, want: 170, wantedFrom: 4000}} {
			batch := int64(c.codes*100 + c.high)
			update(func(tx alarms.Tx) error {
				rows := make([]alarms.Row, c.codes+c.other)
				for i := range rows {
					rows[i] = alarms.Row{CodeName: alarms.CodeName{Batch: batch, Index: int64(i)}, FirstAt: began, State: "{}", Score: 500}
					if i >= c.codes {
						rows[i].FirstAt = began.Add(weeks)
					}
					if i < c.high || i >= c.codes {
						rows[i].FirstScore = int64(c.score)
					}
				}
				return tx.PutCodes(t.Context(), rows)
			})
			threshold, from, err := n.a.Alarms.Propose(t.Context(), batch)
			assert.True(t, err == nil && threshold == int64(c.want) && from == c.wantedFrom, "%+v: Propose = %d from %d codes, %v", c,
				threshold, from, err)
		}
	})
}

// A node that starts to count within an hour continues the window of that hour, an alarm is raised once, and an erasure replaces the
// number of the user in the alarm.
func TestAlarmsWindow_SeveralNodes(t *testing.T) {
	scantest.EachStore(t, func(t *testing.T, s *store.Store) {
		n, user := twoNodes(t, s), scanlog.UserHash{1}
		scans := func(from, to int64) (list []scanlog.Event) {
			for i := from; i < to; i++ {
				e := scanlog.Event{OccurredAt: n.now, User: user, Batch: 7, Index: i, Kind: "code"}
				binary.BigEndian.PutUint64(e.ID[:], uint64(n.now.UnixMilli())<<16)
				binary.BigEndian.PutUint64(e.ID[8:], uint64(i))
				list = append(list, e)
			}
			return list
		}
		raised := func(want int) []alarms.Alarm {
			list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{Limit: 10})
			require.True(t, err == nil && len(list) == want, "%d alarms, want %d; %v: %+v", len(list), want, err, list)
			return list
		}
		n.count(n.a, scans(0, 31))
		raised(0)
		n.count(n.b, scans(31, 32)) // as after a restart
		n.count(n.a, scans(32, 40))
		assert.Equal(t, raised(1)[0].Details.Codes, 32, "codes of the alarm")
		n.now = n.now.Add(time.Minute)
		require.NoError(t, assert.ErrorOf(n.a.Alarms.Dismiss(t.Context(), 1, "eve", "stocktaking")))
		n.count(scantest.NewCounter(s, n.log), scans(40, 60))
		raised(1)
		n.now = n.now.Add(time.Hour)
		n.count(n.b, scans(0, 32))
		before := raised(2)[1]
		require.NoError(t, assert.ErrorOf(n.a.Erase(t.Context(), user)))
		after := raised(2)[1]
		assert.True(t, before.Index < 0 && after.Index < 0 && before.Index != after.Index, "%d, erased: %d", before.Index, after.Index)
	})
}
