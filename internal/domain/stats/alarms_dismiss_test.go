package stats_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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

// codeTraffic generates scans of one code, each by another user in another network.
type codeTraffic struct {
	name  alarms.CodeName
	count uint64
}

func (c *codeTraffic) scans(n int, start time.Time) (list []scanlog.Event) {
	for range n {
		c.count++
		e := scanlog.Event{OccurredAt: start.Add(time.Duration(len(list)) * time.Second), Batch: c.name.Batch, Index: c.name.Index,
			Kind: "code", Action: "open_mini_program",
			Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(c.count >> 8), byte(c.count), 0}), 24)}
		binary.BigEndian.PutUint64(e.ID[:], uint64(c.name.Index)<<32+c.count)
		binary.BigEndian.PutUint64(e.User[:], uint64(c.name.Index)<<32+c.count)
		list = append(list, e)
	}
	return list
}

// nodePair consists of two nodes that count the same log into the same store. They share a clock that the test sets.
type nodePair struct {
	t    *testing.T
	log  *scantest.Memory
	now  time.Time
	a, b *stats.Aggregator
}

func newNodePair(t *testing.T, s *store.Store) *nodePair {
	n := &nodePair{t: t, log: &scantest.Memory{}, now: began}
	n.a, n.b = scantest.NewAggregator(s, n.log), scantest.NewAggregator(s, n.log)
	n.a.Alarms.Now, n.b.Alarms.Now = func() time.Time { return n.now }, func() time.Time { return n.now }
	return n
}

func (n *nodePair) count(by *stats.Aggregator, events []scanlog.Event) {
	n.t.Helper()
	require.NoError(n.t, n.log.Append(n.t.Context(), events))
	require.NoError(n.t, by.CatchUp(n.t.Context()))
}

// openAlarm returns the ID of the open alarm of a code, 0 if there is none. Both nodes must agree.
func (n *nodePair) openAlarm(name alarms.CodeName) int64 {
	n.t.Helper()
	var ids []int64
	for _, c := range []*stats.Aggregator{n.a, n.b} {
		found, err := c.Alarms.Alarm(n.t.Context(), name)
		require.True(n.t, err == nil || errors.Is(err, alarms.ErrNoAlarm), "Alarm(%v) = %v, want an alarm or ErrNoAlarm", name, err)
		ids = append(ids, found.ID)
	}
	assert.Equal(n.t, ids[1], ids[0], "open alarm of the second node")
	return ids[0]
}

// TestAlarmDismiss_RaisedByLaterScansOnly dismisses an alarm on one node. It must be closed on both nodes, and scans from before the
// dismissal must not raise another alarm, even if they are counted later.
func TestAlarmDismiss_RaisedByLaterScansOnly(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n := newNodePair(t, s)
		users := &codeTraffic{name: alarms.CodeName{Batch: 7, Index: 3}}
		n.count(n.a, users.scans(40, began))
		require.Equal(t, n.openAlarm(users.name), 1, "open alarm after scans by 40 users")
		n.now = began.Add(time.Hour)
		for _, by := range []string{"eve", "mallory"} { // a second dismissal changes nothing
			a, err := n.b.Alarms.Dismiss(t.Context(), 1, by, "by "+by)
			require.True(t, err == nil && a.DismissedBy == "eve" && a.Note == "by eve" && a.DismissedAt.Equal(n.now) && a.Dismissal == 2,
				"Dismiss(1) by %s = %+v, %v, want dismissal 2 by eve", by, a, err)
		}
		assert.ErrorIs(t, assert.ErrorOf(n.a.Alarms.Dismiss(t.Context(), 9, "eve", "none")), alarms.ErrNoAlarm, "Dismiss(9)")
		n.count(n.b, users.scans(60, began.Add(30*time.Minute))) // late scans of a node that was partitioned
		n.count(n.a, users.scans(12, n.now.Add(time.Minute)))
		assert.Equal(t, n.openAlarm(users.name), 0, "open alarm after 12 users since the dismissal")
		known, err := n.a.Alarms.Code(t.Context(), users.name)
		assert.True(t, err == nil && known.Scans == 112 && known.AlarmScore() < 100 && known.Score() >= 200 &&
			known.DismissedAt.Equal(n.now), "code = %+v, %v with alarm score %d and score %d, want 112 scans, below 100, 200 or more",
			known, err, known.AlarmScore(), known.Score())
		// An erased user stays counted, also among the users since the dismissal.
		require.NoError(t, assert.ErrorOf(n.a.Erase(t.Context(), scanlog.UserHash(n.log.Entries[105].User))))
		n.count(n.b, users.scans(40, n.now.Add(time.Hour)))
		id := n.openAlarm(users.name)
		list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{After: 1, Limit: 10, Code: &users.name})
		assert.True(t, err == nil && len(list) == 1 && list[0].ID == id && list[0].Details.Users >= 13 && list[0].Details.Users <= 20 &&
			list[0].Score >= 100 && list[0].Score <= 130, "alarms after 1 = %+v, %v, want %d with 13 to 20 users", list, err, id)
		changes, err := n.a.Alarms.StateChanges(t.Context(), 0, 10)
		assert.True(t, err == nil && len(changes) == 3 && changes[0].Decision == "" && changes[1].Decision == alarms.Dismiss &&
			changes[1].ID == 1 && changes[1].Number == 2 && changes[2].ID == 3,
			"StateChanges(0) = %+v, %v, want a new alarm, its dismissal and alarm 3", changes, err)
		last, err := s.LastAlarm(t.Context())
		assert.True(t, err == nil && last == 3, "LastAlarm() = %d, %v, want 3", last, err)
		// The number of an assignment to a case stays used after the alarm left the case, so that readers of alarm events do not rewind.
		c := require.Value(n.a.Alarms.SaveCase(t.Context(), alarms.Case{Title: "stall"}, []int64{3}, "eve", nil))(t)
		require.NoError(t, assert.ErrorOf(n.a.Alarms.SaveCase(t.Context(), alarms.Case{ID: c.ID, Title: "stall"}, []int64{}, "eve", nil)))
		last, err = s.LastAlarm(t.Context())
		assert.True(t, err == nil && last == 4, "LastAlarm() after an alarm left its case = %d, %v, want 4", last, err)
		changes, err = n.a.Alarms.StateChanges(t.Context(), 1, 1)
		assert.True(t, err == nil && len(changes) == 1 && changes[0].Number == 2, "StateChanges(1) = %+v, %v, want number 2", changes, err)
		r, err := (verify.Recounter{Counter: n.a}).Run(t.Context())
		assert.True(t, err == nil && r.Differences == 0, "recount = %+v, %v, want no difference", r, err)
	})
}

// TestAlarmThreshold_PerBatch verifies that each change of a threshold applies to later scans on all nodes.
func TestAlarmThreshold_PerBatch(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n := newNodePair(t, s)
		set := func(batch int64, score *int64) {
			t.Helper()
			require.NoError(t, n.b.Alarms.SetThreshold(t.Context(), batch, score))
		}
		checkAlarm := func(name string, c *codeTraffic, want bool) {
			t.Helper()
			n.count(n.a, c.scans(1, n.now))
			id := n.openAlarm(c.name)
			assert.True(t, (id != 0) == want, "%s: open alarm = %d, want an alarm: %v", name, id, want)
		}
		off, high := int64(alarms.NoAlarm), int64(1000)
		restaurant := &codeTraffic{name: alarms.CodeName{Batch: 7, Index: 1}}
		shop := &codeTraffic{name: alarms.CodeName{Batch: 8, Index: 2}}
		set(7, &off)
		n.count(n.a, append(restaurant.scans(40, n.now), shop.scans(40, n.now)...))
		checkAlarm("alarms off", restaurant, false)
		checkAlarm("default threshold", shop, true)
		set(7, &high)
		checkAlarm("high threshold", restaurant, false)
		threshold, err := n.a.Alarms.Threshold(t.Context(), 7)
		assert.True(t, err == nil && threshold == (alarms.Threshold{Score: 1000, HasOwnThreshold: true}),
			"Threshold(7) = %+v, %v, want 1000 of its own", threshold, err)
		set(7, nil)
		checkAlarm("default threshold restored", restaurant, true)
		threshold, err = n.a.Alarms.Threshold(t.Context(), 7)
		assert.True(t, err == nil && threshold == (alarms.Threshold{Score: 100}), "Threshold(7) = %+v, %v, want 100", threshold, err)
	})
}

// TestAlarmReplay_MatchesThreshold verifies that a replay of a threshold predicts the alarms that the threshold raises.
func TestAlarmReplay_MatchesThreshold(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n := newNodePair(t, s)
		var all []scanlog.Event
		for i := range int64(30) { // code i is scanned by 10+i users
			c := &codeTraffic{name: alarms.CodeName{Batch: 7, Index: i}}
			list := c.scans(10+int(i), began.AddDate(0, 0, -int(4*i))) // from code 23 on: before the last 90 days
			slices.Reverse(list)                                       // scans may arrive after later scans
			all = append(all, list...)
		}
		n.count(n.a, all)
		n.now = began.Add(time.Hour)
		for _, threshold := range []int64{100, 120, 60} {
			counted := require.Value(n.b.Reached(t.Context()))(t)
			r := require.Value(n.b.Alarms.Replay(t.Context(), counted, 7, threshold))(t)
			want, stillDismissed := 0, int64(0)
			for i := range int64(23) { // scanned in the last 88 days
				code := require.Value(n.a.Alarms.Code(t.Context(), alarms.CodeName{Batch: 7, Index: i}))(t)
				if int64(code.Score()) >= threshold {
					if want++; i == 22 {
						stillDismissed = 1
					}
				}
			}
			assert.True(t, r.Alarms == int64(want) && len(r.First) == want && r.Scanned == 23 && r.Since.IsZero() &&
				(threshold == 100 || r.Dismissed == 1 && r.StillDismissed == stillDismissed),
				"Replay(%d) = %+v, want %d alarms of 23 scanned codes", threshold, r, want)
			if threshold == 100 {
				assert.Equal(t, r.Raised, r.Alarms, "alarms that the default threshold raised")
				a, err := n.a.Alarms.Alarm(t.Context(), alarms.CodeName{Batch: 7, Index: 22})
				if err == nil {
					_, err = n.a.Alarms.Dismiss(t.Context(), a.ID, "eve", "a campaign")
				}
				require.NoError(t, err)
			}
		}
	})
}

// TestAlarmDismiss_ConcurrentRaise dismisses alarms while scans raise new ones. At most one alarm must be open, alarms and dismissals must
// have distinct numbers, and an alarm must be later than the dismissal of the previous one.
func TestAlarmDismiss_ConcurrentRaise(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n := newNodePair(t, s)
		users := &codeTraffic{name: alarms.CodeName{Batch: 7, Index: 3}}
		var clock sync.Mutex
		now := began
		n.a.Alarms.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
		n.b.Alarms.Now = n.a.Alarms.Now
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var operators sync.WaitGroup
		for _, c := range []*stats.Aggregator{n.a, n.b} {
			operators.Go(func() {
				for ctx.Err() == nil {
					a, err := c.Alarms.Alarm(t.Context(), users.name)
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
		for range testscope.Select(20, 4) {
			clock.Lock()
			now = now.Add(time.Hour)
			hour := now
			clock.Unlock()
			n.count(n.a, users.scans(30, hour.Add(-time.Minute))) // some before, some after a dismissal of this hour
			n.count(n.b, users.scans(30, hour.Add(time.Minute)))
			for { // until the alarm is dismissed, so that the scans of the next hour can raise another
				if _, err := n.a.Alarms.Alarm(t.Context(), users.name); errors.Is(err, alarms.ErrNoAlarm) || t.Failed() {
					break
				}
			}
		}
		stop()
		operators.Wait()
		list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{Limit: 1000})
		require.True(t, err == nil && len(list) >= 2, "%d alarms, %v, want at least 2", len(list), err)
		numbers := map[int64]bool{}
		for i, a := range list {
			for _, number := range []int64{a.ID, a.Dismissal} {
				assert.True(t, number == 0 || !numbers[number], "number %d is used twice, want distinct numbers", number)
				numbers[number] = true
			}
			assert.True(t, i == 0 || !list[i-1].DismissedAt.IsZero() && a.CreatedAt.After(list[i-1].DismissedAt),
				"alarm %d is of %v, want it after the dismissal of the previous alarm: %+v", a.ID, a.CreatedAt, list[max(i-1, 0)])
		}
	})
}

func TestAlarmOfCode_OpenOrDismissed(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		c := &alarms.Service{Store: s, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
		name := alarms.CodeName{Batch: 7, Index: 3}
		err := s.UpdateStatistics(t.Context(), func(tx stats.Tx) error {
			_, _, err := tx.AddAlarm(t.Context(), alarms.Alarm{Kind: alarms.Copied, CodeName: name, Scan: "s", Score: 120})
			return err
		})
		require.NoError(t, err)
		for _, acknowledgedBy := range []string{"", "eve"} {
			a, err := c.Alarm(t.Context(), name)
			assert.True(t, err == nil && a.CodeName == name && a.AcknowledgedBy == acknowledgedBy,
				"Alarm(%+v) = %+v, %v, want it acknowledged by %q", name, a, err, acknowledgedBy)
			for _, other := range []alarms.CodeName{{Batch: 7, Index: 4}, {Batch: 8, Index: 3}} {
				assert.ErrorIs(t, assert.ErrorOf(c.Alarm(t.Context(), other)), alarms.ErrNoAlarm, "Alarm(%+v)", other)
			}
			require.NoError(t, assert.ErrorOf(c.Acknowledge(t.Context(), 1, "eve", alarms.Acknowledgement{})))
		}
	})
}

// TestAlarmList_BothDirectionsAndCount lists alarms in both directions, acknowledges, confirms and dismisses them, and counts open alarms.
func TestAlarmList_BothDirectionsAndCount(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		c := &alarms.Service{Store: s, Now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
		err := s.UpdateStatistics(t.Context(), func(tx stats.Tx) error {
			for i := range int64(4) {
				alarm := alarms.Alarm{Kind: alarms.Copied, CodeName: alarms.CodeName{Batch: 7, Index: i}}
				if _, _, err := tx.AddAlarm(t.Context(), alarm); err != nil {
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
		assert.True(t, err == nil && a.Kind == alarms.AfterRedemption, "Alarm() = %+v, %v, want kind %v", a, err, alarms.AfterRedemption)
		for range 2 { // the second confirmation changes nothing
			a, err := c.Acknowledge(t.Context(), 6, "eve", alarms.Acknowledgement{Confirm: true})
			require.True(t, err == nil && a.Confirmation == 7 && a.ConfirmedBy == "eve" && a.AcknowledgedBy == "eve" &&
				a.State() == alarms.StateConfirmed, "Acknowledge(6) = %+v, %v, want confirmation 7 by eve", a, err)
		}
		a, err = c.Alarm(t.Context(), name)
		assert.True(t, err == nil && a.ID == 6, "Alarm() = %+v, %v, want the confirmed alarm 6", a, err)
		list, err := c.Alarms(t.Context(), alarms.Query{State: alarms.StateConfirmed, Limit: 9})
		assert.True(t, err == nil && len(list) == 1 && list[0].ID == 6, "confirmed alarms = %+v, %v, want alarm 6", list, err)
		changes, err := c.StateChanges(t.Context(), 4, 9)
		assert.True(t, err == nil && len(changes) == 3 && changes[0].Decision == alarms.Dismiss && changes[1].ID == 6 &&
			changes[2].ID == 6 && changes[2].Decision == alarms.Confirm,
			"StateChanges(4) = %+v, %v, want a dismissal, alarm 6 and its confirmation", changes, err)
		group := require.Value(c.SaveCase(t.Context(), alarms.Case{Title: "market stall", Assignee: "Li Na"}, []int64{1}, "eve", nil))(t)
		note := "bought two"
		change := alarms.Acknowledgement{Case: &group.ID, Note: &note}
		for _, id := range []int64{1, 6} {
			a, err = c.Acknowledge(t.Context(), id, "eve", change)
			assert.True(t, err == nil && a.Case.ID == group.ID && a.Case.Assignee == "Li Na" && a.Note == note,
				"Acknowledge(%d) = %+v, %v, want case %d with a note", id, a, err, group.ID)
		}
		a, err = c.Acknowledge(t.Context(), 6, "eve", alarms.Acknowledgement{Confirm: true})
		require.True(t, err == nil && a.Case.Title == group.Title && a.Note == note, "Acknowledge(6) = %+v, %v, want the same case", a, err)
		list, err = c.Alarms(t.Context(), alarms.Query{Case: group.ID, Assignee: "Li Na", Limit: 9})
		assert.True(t, err == nil && len(list) == 2, "alarms of the case = %+v, %v, want 2", list, err)
		a, err = c.Dismiss(t.Context(), 6, "eve", "a mistake")
		assert.True(t, err == nil && a.State() == alarms.StateDismissed, "Dismiss(6) = %+v, %v, want the alarm dismissed", a, err)
		a, err = c.Acknowledge(t.Context(), 6, "eve", change)
		assert.True(t, err == nil && a.Note == "a mistake", "Acknowledge() of a dismissed alarm = %+v, %v, want its note unchanged", a, err)
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
		assert.True(t, n == 2 && err == nil, "Unacknowledged(nil) = %d, %v, want 2", n, err)
		n, err = c.Unacknowledged(t.Context(), []string{"nobody"})
		assert.True(t, n == 0 && err == nil, "Unacknowledged(nobody) = %d, %v, want 0", n, err)
		err = s.ViewAlarms(t.Context(), func(tx alarms.Tx) error {
			n, err := tx.UnacknowledgedAlarms(t.Context(), nil, 1)
			assert.True(t, n == 1 && err == nil, "UnacknowledgedAlarms(limit 1) = %d, %v, want 1", n, err)
			return nil
		})
		assert.NoError(t, err)
	})
}

// TestAlarmPlaces_Retained verifies the stored locations of a code, with the number of scans and of networks first observed in each.
func TestAlarmPlaces_Retained(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n, users := newNodePair(t, s), &codeTraffic{name: alarms.CodeName{Batch: 7, Index: 3}}
		for _, region := range []string{"CN-SH", "CN-BJ", "CN-SH", ""} {
			list := users.scans(2, n.now)
			for i := range list {
				list[i].Region = region
			}
			n.count(n.a, list)
		}
		code, err := n.b.Alarms.Code(t.Context(), users.name)
		want := []alarms.Location{{Place: alarms.Place{Region: "CN-SH"}, Scans: 4, Networks: 4},
			{Place: alarms.Place{Region: "CN-BJ"}, Scans: 2, Networks: 2}}
		assert.True(t, err == nil && fmt.Sprint(code.Locations) == fmt.Sprint(want) && code.Scans == 8,
			"code has %d scans in %+v, %v, want 8 in %+v", code.Scans, code.Locations, err, want)
	})
}

// TestPropose_FirstWeeks verifies that Propose uses the scores of codes four weeks after their first scans, and returns no threshold for
// fewer than 3,000 codes.
func TestPropose_FirstWeeks(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n, users, weeks := newNodePair(t, s), &codeTraffic{name: alarms.CodeName{Batch: 7, Index: 3}}, 28*24*time.Hour
		n.count(n.a, users.scans(12, began))
		n.count(n.b, append(users.scans(1, began.Add(weeks-time.Second)), users.scans(40, began.Add(weeks))...))
		n.count(n.a, users.scans(40, began.Add(2*weeks)))
		update := func(f func(tx alarms.Tx) error) {
			t.Helper()
			require.NoError(t, s.UpdateAlarms(t.Context(), f))
		}
		update(func(tx alarms.Tx) error {
			scores, err := tx.FirstScores(t.Context(), 7, weeks, 10)
			assert.Equal(t, fmt.Sprint(scores), "[90]", "FirstScores() after scans by 13 users")
			return err
		})
		for _, c := range []struct {
			codes, other   int // number of codes with a first score in their batch, and of codes first scanned later
			high, score    int // number of codes with a high first score, and this score
			want, wantFrom int
		}{{codes: 2999, other: 9, high: 9, score: 160, wantFrom: 2999}, {codes: 3000, high: 3, score: 160, want: 85, wantFrom: 3000},
			{codes: 3000, other: 9, high: 4, score: 164, want: 165, wantFrom: 3000},
			{codes: 4000, high: 5, score: 165, want: 170, wantFrom: 4000}} {
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
			assert.True(t, err == nil && threshold == int64(c.want) && from == c.wantFrom,
				"%+v: Propose() = %d from %d codes, %v, want %d from %d", c, threshold, from, err, c.want, c.wantFrom)
		}
	})
}

// TestAlarmsWindow_SeveralNodes verifies that a node that starts to count within an hour continues the window of that hour, that an alarm
// is raised once, and that an erasure replaces the user's number in the alarm.
func TestAlarmsWindow_SeveralNodes(t *testing.T) {
	scantest.ForEachStore(t, func(t *testing.T, s *store.Store) {
		n, user := newNodePair(t, s), scanlog.UserHash{1}
		scans := func(from, to int64) (list []scanlog.Event) {
			for i := from; i < to; i++ {
				e := scanlog.Event{OccurredAt: n.now, User: user, Batch: 7, Index: i, Kind: "code"}
				binary.BigEndian.PutUint64(e.ID[:], uint64(n.now.UnixMilli())<<16)
				binary.BigEndian.PutUint64(e.ID[8:], uint64(i))
				list = append(list, e)
			}
			return list
		}
		requireAlarms := func(want int) []alarms.Alarm {
			list, err := n.a.Alarms.Alarms(t.Context(), alarms.Query{Limit: 10})
			require.True(t, err == nil && len(list) == want, "%d alarms, want %d; %v: %+v", len(list), want, err, list)
			return list
		}
		n.count(n.a, scans(0, 31))
		requireAlarms(0)
		n.count(n.b, scans(31, 32)) // as after a restart
		n.count(n.a, scans(32, 40))
		assert.Equal(t, requireAlarms(1)[0].Details.Codes, 32, "codes of the alarm")
		n.now = n.now.Add(time.Minute)
		require.NoError(t, assert.ErrorOf(n.a.Alarms.Dismiss(t.Context(), 1, "eve", "stocktaking")))
		n.count(scantest.NewAggregator(s, n.log), scans(40, 60))
		requireAlarms(1)
		n.now = n.now.Add(time.Hour)
		n.count(n.b, scans(0, 32))
		before := requireAlarms(2)[1]
		require.NoError(t, assert.ErrorOf(n.a.Erase(t.Context(), user)))
		after := requireAlarms(2)[1]
		assert.True(t, before.Index < 0 && after.Index < 0 && before.Index != after.Index,
			"user number = %d, after the erasure %d, want two different negative numbers", before.Index, after.Index)
	})
}
