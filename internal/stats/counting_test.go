//go:build unix

package stats_test

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/scantest"
)

// BenchmarkCounting is what it costs the processor to count a scan of a
// journal, the write of the users included. It is told in CPU time, so that a
// busy machine does not change it.
//
//	go test ./internal/stats -run - -bench Counting -benchtime 1x
func BenchmarkCounting(b *testing.B) {
	const scans = 500_000
	rule := func(e *ledger.Event, id int64, user uint64) {
		e.Source, e.Client, e.Action, e.Kind, e.App, e.Version = "scan", "bench/1", "open_mini_program", "rule", "wxminiprogram0001",
			"release"
		e.RuleID, e.Text = id, "https://coffee.example/t/7?from=door"
		if user > 0 {
			binary.BigEndian.PutUint64(e.User[:], user)
		}
	}
	for _, one := range []struct {
		name string
		make func(r *rand.Rand) func(e *ledger.Event)
	}{
		{"100k rules by Zipf, 2k users", func(r *rand.Rand) func(e *ledger.Event) {
			zipf := rand.NewZipf(r, 1.1, 1, 99_999)
			return func(e *ledger.Event) { rule(e, int64(1+zipf.Uint64()), 1+r.Uint64N(2000)) }
		}},
		{"100k rules, 2k users", func(r *rand.Rand) func(e *ledger.Event) {
			return func(e *ledger.Event) { rule(e, 1+r.Int64N(100_000), 1+r.Uint64N(2000)) }
		}},
		{"1M rules, anonymous", func(r *rand.Rand) func(e *ledger.Event) {
			return func(e *ledger.Event) { rule(e, 1+r.Int64N(1_000_000), 0) }
		}},
		{"codes", func(r *rand.Rand) func(e *ledger.Event) {
			return func(e *ledger.Event) {
				rule(e, 0, 1+r.Uint64N(100_000))
				e.Kind, e.Batch, e.Index, e.Activation, e.Text = "code", 500_000_001, r.Int64N(1_000_000), 1+r.Int64N(50), ""
			}
		}},
	} {
		b.Run(one.name, func(b *testing.B) {
			s, err := store.Open(b.Context(), store.Target{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			j, err := ledger.OpenJournal(filepath.Join(b.TempDir(), "scans"), ledger.JournalOptions{Random: rand.NewChaCha8([32]byte{1})})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			r := rand.New(rand.NewPCG(1, 2))
			next, now := one.make(r), began
			c := scantest.NewCounter(s, j)
			var spent time.Duration
			n := 0
			for b.Loop() {
				events := make([]ledger.Event, scans/100)
				for range 100 {
					for i := range events {
						now = now.Add(50 * time.Microsecond)
						events[i] = ledger.Event{ID: scantest.ID(now, r), At: now.Truncate(time.Millisecond)}
						next(&events[i])
					}
					if err := j.Append(b.Context(), events); err != nil {
						b.Fatal(err)
					}
				}
				n += scans
				runtime.GC()
				before := cpuTime(b)
				if err := c.CatchUp(b.Context()); err != nil {
					b.Fatal(err)
				}
				if err := c.CatchUpAndSave(b.Context()); err != nil {
					b.Fatal(err)
				}
				spent += cpuTime(b) - before
			}
			b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "cpu-ns/scan")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
