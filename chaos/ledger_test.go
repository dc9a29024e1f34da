package chaos_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// ledgerChild says what a process does that writes scans into a ledger and counts them.
type ledgerChild struct {
	Dir, Database string
	Seed          uint64
	From, To      int // which scans of the stream it writes
}

// scanStream makes scans that depend on their numbers alone: activities,
// brands, places, repeats of codes and users, late ones.
type scanStream struct {
	seed  uint64
	total int
}

const (
	streamDays   = 30
	streamCodes  = 400_000
	streamUsers  = 300_000
	streamBatch  = 500000001
	streamActive = 40 // activations
)

var streamBegan = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func (s scanStream) event(n int) scanlog.Event {
	r := rand.New(rand.NewPCG(s.seed, uint64(n)))
	at := streamBegan.Add(time.Duration(n) * (streamDays * 24 * time.Hour / time.Duration(s.total))).Truncate(time.Millisecond)
	if r.IntN(50) == 0 { // it arrives late
		at = at.Add(-time.Duration(r.IntN(3*24*3600)) * time.Second)
	}
	e := scanlog.Event{OccurredAt: at, Source: []string{"scan", "scan", "scan", "press", "album"}[r.IntN(5)], Action: "open_mini_program",
		App: fmt.Sprintf("wxapp%d", r.IntN(5)), Version: "release"}
	binary.BigEndian.PutUint64(e.ID[:], uint64(at.UnixMilli())<<16|r.Uint64N(1<<16))
	binary.BigEndian.PutUint64(e.ID[8:], r.Uint64())
	if user := s.user(r); user > 0 {
		binary.BigEndian.PutUint64(e.User[:], uint64(user))
	}
	place := r.IntN(20)
	e.Region = fmt.Sprintf("CN-%d", 11+place)
	e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(place), byte(r.IntN(250)), 0}), 24)
	switch k := r.IntN(10); {
	case k < 4:
		e.Kind, e.Batch, e.Index = "code", streamBatch, int64(streamCodes*r.Float64()*r.Float64())
		e.Activation = 1 + e.Index*streamActive/streamCodes
	case k < 5:
		e.Action, e.App, e.Reason, e.Batch, e.Index = "show_message", "", "frozen", streamBatch, r.Int64N(streamCodes)
	case k < 9:
		e.Kind, e.RuleID, e.Text = "rule", 1+r.Int64N(200), "https://shop.example/t/1"
	default:
		e.Action, e.App, e.Text = "open_url", "", fmt.Sprintf("https://nobody.example/p%d/x", r.IntN(3000))
	}
	return e
}

// user is 0 for nobody, and some of them much more often than others.
func (s scanStream) user(r *rand.Rand) int { return int(streamUsers * r.Float64() * r.Float64()) }

// childBatch is how many scans are made durable together.
const childBatch = 2000

// writeLedger writes and counts until everything is counted.
func writeLedger(ctx context.Context, c ledgerChild) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l, err := openLedger(ctx, c.Dir, c.Database)
	if err != nil {
		return err
	}
	defer l.close()
	go l.counter.Run(ctx)
	stream := scanStream{c.Seed, c.To}
	// What was under way may be there or not: nobody was told.
	end, err := l.journal.End(ctx)
	if err != nil || int(end) < c.From {
		return errors.Join(err, fmt.Errorf("%d of %d acknowledged scans are there", end, c.From))
	}
	// All of it may be there, and only the line that said so was lost with the process.
	fmt.Println(end)
	for n := int(end); n < c.To; {
		var list []scanlog.Event
		for len(list) < childBatch && n < c.To {
			list = append(list, stream.event(n))
			n++
		}
		if err := l.journal.Append(ctx, list); err != nil {
			return err
		}
		fmt.Println(n)
		// The counting runs beside the writing, not after it.
		if part := c.To / 4; n/part != (n-childBatch)/part {
			if err := l.counter.CatchUp(ctx); err != nil {
				return err
			}
		}
	}
	if err := l.counter.CatchUp(ctx); err != nil {
		return err
	}
	fmt.Println("counted")
	return nil
}

// openedLedger is a journal, a store and who counts.
type openedLedger struct {
	store   *store.Store
	journal *scanlog.Journal
	counter *stats.Aggregator
}

func openLedger(ctx context.Context, dir, database string) (*openedLedger, error) {
	s, err := store.Open(ctx, store.Target{URL: database, Dir: dir})
	if err != nil {
		return nil, err
	}
	j, err := scanlog.OpenJournal(filepath.Join(dir, "scans"), scanlog.JournalOptions{Random: &mortal{left: 1 << 62}})
	if err != nil {
		return nil, err
	}
	return &openedLedger{s, j, &stats.Aggregator{Log: j, SingleNode: true, Store: s, Alarms: scantest.Alarms(s),
		Settings: settings.NewLive(settings.Defaults()), Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}}, nil
}

func (l *openedLedger) close() {
	l.journal.Close()
	l.store.Close()
}

// TestLedger_ExactlyOnceAfterKill writes scans into a ledger and counts them, while kill -9 ends
// the process again and again. What was acknowledged counts once, and so does what
// is there of a batch that was under way. SCANS=10000000 KILLS=20 is the large run.
func TestLedger_ExactlyOnceAfterKill(t *testing.T) {
	seed := testdiag.Seed(t)
	eachBackend(t, func(t *testing.T, database string) {
		total, kills := number(t, "SCANS", amount(200_000, 40_000)), number(t, "KILLS", amount(5, 3))
		if database != "" && os.Getenv("SCANS") == "" {
			total /= 2
		}
		t.Logf("%d scans, %d kills", total, kills)
		dir := t.TempDir()
		stream := scanStream{seed, total}
		plantActivations(t, dir, database)
		r := rand.New(rand.NewPCG(seed, 99))
		acked := 0
		for kill := range kills + 1 {
			killAt := -1
			if kill < kills {
				killAt = acked + r.IntN(max(1, 2*(total-acked)/(kills-kill+1))+1)
			}
			acked = writeUntil(t, ledgerChild{dir, database, seed, acked, total}, killAt)
			endSessions(t, database)
		}
		require.True(t, acked == total, "%d of %d scans were written", acked, total)
		l, err := openLedger(t.Context(), dir, database)
		require.NoError(t, err)
		defer l.close()
		type key struct {
			day      int64
			activity string
		}
		want := map[key]stats.Count{}
		seen := make([]bool, streamCodes)
		users, sketches := map[int64][]bool{}, map[int64]*hyperloglog.Users{}
		for n := range stream.total {
			e := stream.event(n)
			hour := timebucket.Hour(e.OccurredAt)
			k := key{timebucket.Day(hour, 8), activityOf(e.Activation)}
			c := want[k]
			c.Scans++
			if e.Batch != 0 && !seen[e.Index] {
				seen[e.Index] = true
				c.FirstScans++
			}
			want[k] = c
			if users[k.day] == nil {
				users[k.day], sketches[k.day] = make([]bool, streamUsers), &hyperloglog.Users{}
			}
			users[k.day][binary.BigEndian.Uint64(e.User[:])] = true
			sketches[k.day].Add(e.User)
		}
		from, to := streamBegan.AddDate(0, 0, -10), streamBegan.AddDate(0, 0, streamDays+10)
		got := 0
		for offset := 0; ; offset += stats.MaxAnswers {
			a, err := l.counter.Execute(t.Context(), stats.Question{From: from, To: to, Interval: stats.ByDay, Group: stats.Activity,
				Metric: stats.Scans,
				Limit:  stats.MaxAnswers, Offset: offset})
			require.NoError(t, err)
			require.True(t, a.Scans == int64(stream.total), "%d scans are counted, want %d", a.Scans, stream.total)
			for _, row := range a.Rows {
				if k := (key{row.Bucket, row.Value}); row.Count != want[k] {
					t.Errorf("%+v: %+v, want %+v", k, row.Count, want[k])
				}
				got++
			}
			if !a.More {
				break
			}
		}
		assert.Equal(t, got, len(want), "numbers")
		a, err := l.counter.Execute(t.Context(), stats.Question{From: from, To: to, Interval: stats.ByDay, Metric: stats.Users,
			Limit: stats.MaxAnswers})
		require.NoError(t, err)
		assert.True(t, len(a.Rows) == len(users), "users of %d days, want %d", len(a.Rows), len(users))
		for _, row := range a.Rows {
			exact := int64(0)
			for user, was := range users[row.Bucket] {
				if was && user > 0 {
					exact++
				}
			}
			// The answer of a sketch depends on its users alone. 1 % is five standard errors
			// at these numbers: one run in 50,000 misses it.
			sketch := sketches[row.Bucket].Count()
			if off := row.Users - exact; row.Users != sketch || 100*max(off, -off) > exact {
				t.Errorf("day %d: %d users, want %d: a sketch of %d within 1 %%", row.Bucket, row.Users, sketch, exact)
			}
		}
		found, err := verify.Recounter{Counter: l.counter}.Run(t.Context())
		require.NoError(t, err)
		if found.Differences > 0 || found.Scans != int64(stream.total) {
			t.Errorf("a recount of %d scans: %d of %d numbers differ: %+v", found.Scans, found.Differences, found.Compared,
				found.Shown[:min(10, len(found.Shown))])
		}
		t.Logf("%d scans are counted; %d numbers compared with a recount, %d differ", found.Scans, found.Compared, found.Differences)
	})
}

// writeUntil lets a process write and kills it when so many scans are
// acknowledged; -1 = it ends by itself. It returns how many were.
func writeUntil(t *testing.T, c ledgerChild, killAt int) (acked int) {
	t.Helper()
	p := proctest.Start(t, proctest.Command("ledger", c))
	acked = c.From
	done := false
	for line, more := p.Line(); more; line, more = p.Line() {
		if done = line == "counted"; !done {
			if _, err := fmt.Sscan(line, &acked); err != nil {
				t.Fatalf("the process wrote %q", line)
			}
		}
		if killAt >= 0 && (acked >= killAt || done) {
			require.NoError(t, p.Process.Kill())
			killAt = 1 << 62 // what it wrote before it died is acknowledged too
		}
	}
	if err := p.Wait(); err != nil && killAt < 0 || killAt < 0 && !done {
		t.Fatalf("the process ended by itself: %v\n%s", err, p.Log())
	}
	return acked
}

// plantActivations makes the activations that the scans count for.
func plantActivations(t *testing.T, dir, database string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Target{URL: database, Dir: dir})
	require.NoError(t, err)
	defer s.Close()
	err = s.UpdateCodes(t.Context(), func(tx codes.Tx) error {
		for n := range int64(streamActive) {
			from := n * streamCodes / streamActive
			e, err := tx.AddEvent(t.Context(), codes.Event{Batch: streamBatch, Action: codes.Activate,
				Codes: codes.NewSet(codes.Range{From: from, To: from + 1}), OccurredAt: streamBegan, From: streamBegan,
				Binding: codes.Binding{ActivityName: activityOf(n + 1), ProductBrand: fmt.Sprint("brand ", n%7),
					ProductCode: fmt.Sprint(6900000000000 + n%11), WxaAppID: "wxapp0", WxaPath: "p"}})
			if err != nil || e.Seq != n+1 {
				return fmt.Errorf("activation %d has number %d: %w", n, e.Seq, err)
			}
		}
		return nil
	})
	require.NoError(t, err)
}

func activityOf(activation int64) string {
	if activation == 0 {
		return ""
	}
	return fmt.Sprint("activity ", activation%13)
}
