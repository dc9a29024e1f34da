// Package scantest provides scans of many kinds, an in-memory scan log and an aggregator for tests.
package scantest

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/storetest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// Memory is a scan log in memory.
type Memory struct {
	scanlog.Log
	Name    string
	mu      sync.Mutex
	Entries []scanlog.Entry
	Gaps    *rand.Rand // nil = positions without gaps
	Reads   int        // calls of Read
	Yielded int        // entries that Read yielded
}

func (l *Memory) ID() string                                       { return "memory" + l.Name }
func (l *Memory) Lost(string) bool                                 { return false }
func (l *Memory) Missing(int64) int64                              { return 0 }
func (l *Memory) Announce(context.Context, scanlog.UserHash) error { return nil }

func (l *Memory) Append(_ context.Context, events []scanlog.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	position := int64(0)
	if n := len(l.Entries); n > 0 {
		position = l.Entries[n-1].Position
	}
	for _, e := range events {
		position++
		if l.Gaps != nil && l.Gaps.IntN(100) == 0 {
			position += l.Gaps.Int64N(50)
		}
		l.Entries = append(l.Entries, scanlog.Entry{Position: position, Event: e})
	}
	return nil
}

func (l *Memory) End(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.Entries) == 0 {
		return 0, nil
	}
	return l.Entries[len(l.Entries)-1].Position, nil
}

func (l *Memory) Read(_ context.Context, start int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		l.mu.Lock()
		all := l.Entries
		l.Reads++
		l.mu.Unlock()
		pos, found := slices.BinarySearchFunc(all, start, func(e scanlog.Entry, p int64) int { return int(e.Position - p) })
		if found {
			pos++
		}
		for _, e := range all[pos:] {
			l.mu.Lock()
			l.Yielded++
			l.mu.Unlock()
			if !yield(e, nil) {
				return
			}
		}
	}
}

// ListRange yields only entries in the time range, like the log in the database.
func (l *Memory) ListRange(ctx context.Context, start int64, from, to time.Time) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.Read(ctx, start) {
			if wanted := !e.OccurredAt.Before(from) && e.OccurredAt.Before(to); (wanted || err != nil) && !yield(e, err) {
				return
			}
		}
	}
}

func (l *Memory) ForUsers(ctx context.Context, users scanlog.Users, start int64) iter.Seq2[scanlog.Entry, error] {
	return ForUsers(l.Read(ctx, start), users)
}

// ForUsers yields the entries of a log that belong to users.
func ForUsers(all iter.Seq2[scanlog.Entry, error], users scanlog.Users) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range all {
			if users[e.User] && !yield(e, err) {
				return
			}
		}
	}
}

func (l *Memory) Find(_ context.Context, id scanlog.ScanID) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.Entries {
		if e.ID == id {
			return e.Position, nil
		}
	}
	return 0, scanlog.ErrNoScan
}

func (l *Memory) Erase(_ context.Context, users scanlog.Users, upTo int64) (n int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Entries = slices.Clone(l.Entries)
	for i := range l.Entries {
		if users[l.Entries[i].User] && l.Entries[i].Position <= upTo {
			// As in the real logs.
			l.Entries[i].User, l.Entries[i].Client, l.Entries[i].Network = scanlog.UserHash{}, "", netip.Prefix{}
			n++
		}
	}
	return n, nil
}

// PositionBefore returns 0, which is always correct.
func (l *Memory) PositionBefore(context.Context, time.Time) (int64, error) { return 0, nil }

// Forget removes the entries before a time. A journal removes complete files.
func (l *Memory) Forget(_ context.Context, before time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.Entries) && l.Entries[n].OccurredAt.Before(before) {
		n++
	}
	l.Entries = l.Entries[n:]
	return nil
}

// ID returns a random scan id with the time t.
func ID(t time.Time, r *rand.Rand) (id scanlog.ScanID) {
	binary.BigEndian.PutUint64(id[:], uint64(t.UnixMilli())<<16|r.Uint64N(1<<16))
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	return id
}

// Began is the time of the first scans.
var Began = time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)

// Traffic generates scans of all kinds, 10 % of them late.
type Traffic struct {
	Random *rand.Rand
	Now    time.Time
	Sent   []scanlog.Event
	Users  int
}

// Next returns the next scan.
func (s *Traffic) Next() scanlog.Event {
	s.Now = s.Now.Add(time.Duration(s.Random.IntN(90_000)) * time.Millisecond)
	t := s.Now
	if s.Random.IntN(10) == 0 { // late
		t = t.Add(-time.Duration(s.Random.IntN(72*3600)) * time.Second)
	}
	e := scanlog.Event{ID: ID(t, s.Random), OccurredAt: t, Source: []string{"scan", "press", "album"}[s.Random.IntN(3)],
		Action: "open_mini_program",
		App:    fmt.Sprintf("wx%d", s.Random.IntN(3))}
	if n := s.Random.IntN(s.Users); n > 0 {
		binary.BigEndian.PutUint64(e.User[:], uint64(n))
	}
	if s.Random.IntN(3) > 0 {
		e.Region = []string{"CN-31", "CN-11", "CN-44", "DE-BE"}[s.Random.IntN(4)]
		e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(s.Random.IntN(3)), byte(s.Random.IntN(50)), 0}), 24)
	}
	switch s.Random.IntN(4) {
	case 0:
		e.Kind, e.RuleID, e.Text = "rule", 1+s.Random.Int64N(5), "https://shop.example/t/1"
	case 1:
		e.Action, e.App, e.Text = "open_url", "", fmt.Sprintf("https://Host%d.example/p%d/x?y", s.Random.IntN(4), s.Random.IntN(3))
	case 2:
		e.Kind, e.Batch, e.Index, e.Activation = "code", 500000001+s.Random.Int64N(2), s.Random.Int64N(60), 1+s.Random.Int64N(3)
	case 3:
		e.Action, e.App, e.Reason, e.Batch, e.Index = "show_message", "", "frozen", 500000001, s.Random.Int64N(60)
		if e.Index%3 == 0 {
			e.Reason = "serial_only" // counts for the batch, but not for a code
		}
	}
	s.Sent = append(s.Sent, e)
	return e
}

// Take returns the next n scans.
func (s *Traffic) Take(n int) (list []scanlog.Event) {
	for range n {
		list = append(list, s.Next())
	}
	return list
}

// ForEachStore runs a test on a new store on each database. The package's TestMain must call dbtest.Run.
func ForEachStore(t *testing.T, f func(t *testing.T, s *store.Store)) {
	dbtest.ForEachDatabase(t, storetest.Postgres, func(t *testing.T, url string) {
		s := OpenStore(t, store.Target{URL: url, Dir: storetest.Folder(t)})
		AddOwners(t, s)
		f(t, s)
	})
}

// WithStore is ForEachStore for tests of aggregation, whose SQL other tests run on both databases: make test uses only SQLite.
func WithStore(t *testing.T, f func(t *testing.T, s *store.Store)) {
	if testscope.IsComplete() {
		ForEachStore(t, f)
		return
	}
	s := OpenStore(t, store.Target{Dir: storetest.Folder(t)})
	AddOwners(t, s)
	f(t, s)
}

// OwnerOf returns the owner of a scan of Traffic in a store of AddOwners.
func OwnerOf(e *scanlog.Event) string {
	switch {
	case e.RuleID != 0:
		return ruleOwners[e.RuleID-1]
	case e.Batch != 0:
		return batchOwners[e.Batch-500000001]
	}
	return ""
}

// ruleOwners are the owners of the rules of Traffic, the last of which is deleted. batchOwners are the owners of its batches.
var ruleOwners, batchOwners = []string{"wxa", "wxb", "wxa", "wxgone", "wxgone"}, []string{"wxa", "wxc"}

// AddOwners adds the rules and batches of the scans of Traffic to an empty store.
func AddOwners(t testing.TB, s *store.Store) {
	t.Helper()
	added := rules.ChangeMeta{At: Began, Action: "add"}
	err := s.UpdateRules(t.Context(), func(tx rules.Tx) error {
		for n, owner := range ruleOwners {
			prefix, err := rules.ParsePrefix(fmt.Sprintf("https://%s.example/r%d/", owner, n+1), rules.Ordinary, true)
			if err != nil {
				return err
			}
			r, err := tx.AddRule(t.Context(), rules.Rule{Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: prefix, Path: "p",
				OpenVersion: rules.OpenRelease, CreatedAt: Began, UpdatedAt: Began}, added)
			if err == nil && r.ID != int64(n+1) {
				err = fmt.Errorf("id of rule %d = %d, want its number", n+1, r.ID)
			}
			if err == nil && n == len(ruleOwners)-1 {
				err = tx.DeleteRule(t.Context(), r, rules.ChangeMeta{At: Began, Action: "delete"})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
			for n, account := range batchOwners {
				if _, err := tx.AddBatch(t.Context(), codes.Batch{ID: 500000001 + int64(n), Account: account, ISV: fmt.Sprint(n),
					Count: 100, Start: uint64(n), Version: '0', CreatedAt: Began}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, err)
}

// OpenStore opens a store and closes it when the test ends.
func OpenStore(t *testing.T, target store.Target) *store.Store {
	t.Helper()
	s := require.Value(store.Open(t.Context(), target))(t)
	t.Cleanup(func() { assert.NoErrorf(t, s.Close(), "closing the store") })
	return s
}

// NewAlarms returns the alarm service of a store.
func NewAlarms(s alarms.Store) *alarms.Service {
	return &alarms.Service{Store: s, Settings: settings.NewLive(settings.Defaults()), Now: func() time.Time { return Began },
		Logger: slog.New(slog.DiscardHandler)}
}

// NewAggregator returns an aggregator of the scans in a log.
func NewAggregator(s stats.Store, l scanlog.Log) *stats.Aggregator {
	_, journal := l.(*scanlog.Journal)
	return &stats.Aggregator{Log: l, SingleNode: journal, Store: s, Alarms: NewAlarms(s), Settings: settings.NewLive(settings.Defaults()),
		Now: func() time.Time { return Began }, Logger: slog.New(slog.DiscardHandler), MinRanked: 1}
}
