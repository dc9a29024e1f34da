//go:build unix

package stats_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// BenchmarkCounting measures the processor time for counting a scan of a journal, including the write of the users; other load on the
// machine does not affect it.
//
//	go test ./internal/domain/stats -run - -bench Counting -benchtime 1x
func BenchmarkCounting(b *testing.B) {
	const scans = 500_000
	rule := func(e *scanlog.Event, id int64, user uint64) {
		e.Source, e.Client, e.Action, e.Kind, e.App, e.Version = "scan", "bench/1", "open_mini_program", "rule", "wxminiprogram0001",
			"release"
		e.RuleID, e.Text = id, "https://coffee.example/t/7?from=door"
		if user > 0 {
			binary.BigEndian.PutUint64(e.User[:], user)
		}
	}
	for _, bench := range []struct {
		name  string
		rules int // of 200 accounts, which the counter looks up
		fill  func(r *rand.Rand, firstRule int64) func(e *scanlog.Event)
	}{
		{"100k rules by Zipf, 2k users", 100_000, func(r *rand.Rand, first int64) func(e *scanlog.Event) {
			zipf := rand.NewZipf(r, 1.1, 1, 99_999)
			return func(e *scanlog.Event) { rule(e, first+int64(zipf.Uint64()), 1+r.Uint64N(2000)) }
		}},
		{"100k rules, 2k users", 100_000, func(r *rand.Rand, first int64) func(e *scanlog.Event) {
			return func(e *scanlog.Event) { rule(e, first+r.Int64N(100_000), 1+r.Uint64N(2000)) }
		}},
		{"1M rules, anonymous", 1_000_000, func(r *rand.Rand, first int64) func(e *scanlog.Event) {
			return func(e *scanlog.Event) { rule(e, first+r.Int64N(1_000_000), 0) }
		}},
		{"codes", 0, func(r *rand.Rand, _ int64) func(e *scanlog.Event) {
			return func(e *scanlog.Event) {
				rule(e, 0, 1+r.Uint64N(100_000))
				e.Kind, e.Batch, e.Index, e.Activation, e.Text = "code", 500_000_001, r.Int64N(1_000_000), 1+r.Int64N(50), ""
			}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := require.Value(store.Open(b.Context(), store.Target{Dir: b.TempDir()}))(b)
			defer s.Close()
			j, err := scanlog.OpenJournal(filepath.Join(b.TempDir(), "scans"), scanlog.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
			require.NoError(b, err)
			defer j.Close()
			r := rand.New(rand.NewPCG(1, 2))
			fill, now := bench.fill(r, addRules(b, s, bench.rules)), began
			c := scantest.NewAggregator(s, j)
			var spent time.Duration
			n := 0
			for b.Loop() {
				events := make([]scanlog.Event, scans/100)
				for range 100 {
					for i := range events {
						now = now.Add(50 * time.Microsecond)
						events[i] = scanlog.Event{ID: scantest.ID(now, r), OccurredAt: now.Truncate(time.Millisecond)}
						fill(&events[i])
					}
					require.NoError(b, j.Append(b.Context(), events))
				}
				n += scans
				runtime.GC()
				before := cpuTime(b)
				require.NoError(b, c.CatchUp(b.Context()))
				require.NoError(b, c.CatchUpAndSave(b.Context()))
				spent += cpuTime(b) - before
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "cpu-ns/scan")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// addRules adds n rules of 200 accounts and returns the ID of the first.
func addRules(b *testing.B, s *store.Store, n int) (first int64) {
	require.NoError(b, s.UpdateRules(b.Context(), func(tx rules.Tx) (err error) {
		if first, err = tx.NextChange(b.Context()); err != nil {
			return err
		}
		for i := 0; i < n; i += 500 {
			chunk := make([]rules.Rule, 500)
			for j := range chunk {
				p, err := rules.ParsePrefix(fmt.Sprintf("https://h%d.example/%d", (i+j)%100, i+j), rules.Ordinary, true)
				if err != nil {
					return err
				}
				owner := fmt.Sprintf("wx%d", (i+j)%200)
				chunk[j] = rules.Rule{Kind: rules.Ordinary, Owner: owner, Target: owner, Prefix: p, Path: "p",
					OpenVersion: rules.OpenRelease, CreatedAt: began, UpdatedAt: began}
			}
			if err := tx.AddRules(b.Context(), chunk, rules.ChangeMeta{At: began, Action: "add"}); err != nil {
				return err
			}
		}
		return nil
	}))
	return first
}

func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
