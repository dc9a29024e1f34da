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

// scanLogConfig is the configuration of a process that writes scans to a scan log and counts them.
type scanLogConfig struct {
	Dir, Database string
	Seed          uint64
	From, To      int // the range of scans to write
}

// scanStream generates scans that depend only on their numbers: with activities, brands, regions, repeated codes and users, and late
// arrivals.
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
	occurredAt := streamBegan.Add(time.Duration(n) * (streamDays * 24 * time.Hour / time.Duration(s.total))).Truncate(time.Millisecond)
	if r.IntN(50) == 0 { // it arrives late
		occurredAt = occurredAt.Add(-time.Duration(r.IntN(3*24*3600)) * time.Second)
	}
	e := scanlog.Event{OccurredAt: occurredAt, Source: []string{"scan", "scan", "scan", "press", "album"}[r.IntN(5)],
		Action: "open_mini_program",
		App:    fmt.Sprintf("wxapp%d", r.IntN(5)), Version: "release"}
	binary.BigEndian.PutUint64(e.ID[:], uint64(occurredAt.UnixMilli())<<16|r.Uint64N(1<<16))
	binary.BigEndian.PutUint64(e.ID[8:], r.Uint64())
	if user := s.user(r); user > 0 {
		binary.BigEndian.PutUint64(e.User[:], uint64(user))
	}
	region := r.IntN(20)
	e.Region = fmt.Sprintf("CN-%d", 11+region)
	e.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(region), byte(r.IntN(250)), 0}), 24)
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

// user returns a user, or 0 for none; small numbers are more frequent.
func (s scanStream) user(r *rand.Rand) int { return int(streamUsers * r.Float64() * r.Float64()) }

// childBatch is the number of scans in one append.
const childBatch = 2000

// writeScanLog appends and counts scans until all are counted. It prints the number of acknowledged scans, and at the end "counted".
func writeScanLog(ctx context.Context, c scanLogConfig) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l, err := openScanLog(ctx, c.Dir, c.Database)
	if err != nil {
		return err
	}
	defer l.close()
	go l.counter.Run(ctx)
	stream := scanStream{c.Seed, c.To}
	// An interrupted append may be stored or not, because it was not acknowledged.
	end, err := l.journal.End(ctx)
	if err != nil || int(end) < c.From {
		return errors.Join(err, fmt.Errorf("%d of %d acknowledged scans are stored", end, c.From))
	}
	// Everything may be stored if only the last line of output was lost.
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
		// Counting runs concurrently with writing.
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

// openedScanLog is a journal with the store and the aggregator that counts its scans.
type openedScanLog struct {
	store   *store.Store
	journal *scanlog.Journal
	counter *stats.Aggregator
}

func openScanLog(ctx context.Context, dir, database string) (*openedScanLog, error) {
	s, err := store.Open(ctx, store.Target{URL: database, Dir: dir})
	if err != nil {
		return nil, err
	}
	j, err := scanlog.OpenJournal(filepath.Join(dir, "scans"), scanlog.JournalOptions{Random: &killingReader{left: 1 << 62}})
	if err != nil {
		return nil, err
	}
	return &openedScanLog{s, j, &stats.Aggregator{Log: j, SingleNode: true, Store: s, Alarms: scantest.NewAlarms(s),
		Settings: settings.NewLive(settings.Defaults()), Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}}, nil
}

func (l *openedScanLog) close() {
	l.journal.Close()
	l.store.Close()
}

// TestLedger_ExactlyOnceAfterKill kills a process repeatedly while it appends scans to a scan log and counts them. Every acknowledged scan
// must be counted once, and so must the stored part of an interrupted append. SCANS=10000000 KILLS=20 is the long run.
func TestLedger_ExactlyOnceAfterKill(t *testing.T) {
	seed := testdiag.Seed(t)
	runOnEachBackend(t, func(t *testing.T, database string) {
		total, kills := envNumber(t, "SCANS", choose(200_000, 15_000)), envNumber(t, "KILLS", choose(5, 3))
		if database != "" && os.Getenv("SCANS") == "" {
			total /= 2
		}
		t.Logf("%d scans, %d kills", total, kills)
		dir := t.TempDir()
		stream := scanStream{seed, total}
		createActivations(t, dir, database)
		r := rand.New(rand.NewPCG(seed, 99))
		acked := 0
		for kill := range kills + 1 {
			killAt := -1
			if kill < kills {
				killAt = acked + r.IntN(max(1, 2*(total-acked)/(kills-kill+1))+1)
			}
			acked = runUntilKill(t, scanLogConfig{dir, database, seed, acked, total}, killAt)
			terminateSessions(t, database)
		}
		require.True(t, acked == total, "%d of %d scans were appended", acked, total)
		l, err := openScanLog(t.Context(), dir, database)
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
		assert.Equal(t, got, len(want), "rows of scans by day and activity")
		a, err := l.counter.Execute(t.Context(), stats.Question{From: from, To: to, Interval: stats.ByDay, Metric: stats.Users,
			Limit: stats.MaxAnswers})
		require.NoError(t, err)
		assert.True(t, len(a.Rows) == len(users), "the users of %d days, want %d", len(a.Rows), len(users))
		for _, row := range a.Rows {
			exact := int64(0)
			for user, found := range users[row.Bucket] {
				if found && user > 0 {
					exact++
				}
			}
			// The count of a sketch depends only on its users. 1 % is five standard errors: one run in 50,000 exceeds it.
			sketch := sketches[row.Bucket].Count()
			if off := row.Users - exact; row.Users != sketch || 100*max(off, -off) > exact {
				t.Errorf("day %d: %d users, want %d, which is within 1 %% of %d", row.Bucket, row.Users, sketch, exact)
			}
		}
		found, err := verify.Recounter{Counter: l.counter}.Run(t.Context())
		require.NoError(t, err)
		if found.Differences > 0 || found.Scans != int64(stream.total) {
			t.Errorf("a recount of %d scans: %d of %d counts differ: %+v", found.Scans, found.Differences, found.Compared,
				found.Shown[:min(10, len(found.Shown))])
		}
		t.Logf("%d scans are counted; %d counts compared with a recount, %d differ", found.Scans, found.Compared, found.Differences)
	})
}

// runUntilKill runs a process and kills it when killAt scans are acknowledged; with -1 it runs to its end. It returns the number of
// acknowledged scans.
func runUntilKill(t *testing.T, c scanLogConfig, killAt int) (acked int) {
	t.Helper()
	p := proctest.Start(t, proctest.Command("scanlog", c))
	acked = c.From
	done := false
	for line, more := p.Line(); more; line, more = p.Line() {
		if done = line == "counted"; !done {
			if _, err := fmt.Sscan(line, &acked); err != nil {
				t.Fatalf("the process printed %q, want a number", line)
			}
		}
		if killAt >= 0 && (acked >= killAt || done) {
			require.NoError(t, p.Process.Kill())
			killAt = 1 << 62 // scans printed before the kill are acknowledged, too
		}
	}
	if err := p.Wait(); err != nil && killAt < 0 || killAt < 0 && !done {
		t.Fatalf("the process ended without a kill: %v\n%s", err, p.Log())
	}
	return acked
}

// createActivations creates the activations of the scanned codes.
func createActivations(t *testing.T, dir, database string) {
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
