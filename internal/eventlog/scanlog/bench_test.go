package scanlog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// minimalCommitter is a minimal group commit, the baseline of the benchmark: it appends records and flushes once for all waiting callers.
type minimalCommitter struct {
	f     *os.File
	mu    sync.Mutex
	buf   []byte
	done  chan struct{}
	wake  chan struct{}
	ended chan struct{}
}

func newMinimalCommitter(t testing.TB, dir string) *minimalCommitter {
	f := require.Value(os.Create(filepath.Join(dir, "bare")))(t)
	b := &minimalCommitter{f: f, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		var spare []byte
		for range b.wake {
			b.mu.Lock()
			buf, done := b.buf, b.done
			b.buf, b.done = spare[:0], nil
			b.mu.Unlock()
			if done == nil {
				continue
			}
			if _, err := f.Write(buf); err != nil {
				panic(err)
			}
			if err := (realFile{f}).sync(); err != nil {
				panic(err)
			}
			spare = buf
			close(done)
		}
	}()
	return b
}

func (b *minimalCommitter) append(record []byte) {
	b.mu.Lock()
	b.buf = append(b.buf, record...)
	if b.done == nil {
		b.done = make(chan struct{})
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	done := b.done
	b.mu.Unlock()
	<-done
}

// BenchmarkGroupCommit alternates between the recorder and a minimal group commit with the same number of clients, and reports the ratio
// of their rates.
//
//	go test ./internal/eventlog/scanlog -run - -bench GroupCommit -benchtime 1x
func BenchmarkGroupCommit(b *testing.B) {
	for _, clients := range []int{64, 256} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			dir := b.TempDir()
			j := openJournal(b, filepath.Join(dir, "scans"), JournalOptions{})
			r := NewRecorder(j, RecorderOptions{})
			defer r.Close()
			minimal := newMinimalCommitter(b, dir)
			record := make([]byte, 256)
			run := func(commit func(n int64)) float64 {
				const window = 400 * time.Millisecond
				var wg sync.WaitGroup
				counts := make([]int64, clients*16)
				start := time.Now()
				for c := range clients {
					wg.Go(func() {
						for n := int64(0); time.Since(start) < window; n++ {
							commit(n)
							counts[c*16]++
						}
					})
				}
				wg.Wait()
				total := int64(0)
				for _, n := range counts {
					total += n
				}
				return float64(total) / time.Since(start).Seconds()
			}
			var ratios, rates []float64
			for b.Loop() {
				for range 9 {
					baseline := run(func(int64) { minimal.append(record) })
					rate := run(func(n int64) {
						e := newEvent(n)
						g, err := r.Enqueue(&e)
						if err == nil {
							err = g.Wait(context.Background())
						}
						if err != nil {
							panic(err)
						}
					})
					ratios, rates = append(ratios, rate/baseline), append(rates, rate)
				}
			}
			close(minimal.wake)
			<-minimal.ended
			slices.Sort(ratios)
			slices.Sort(rates)
			b.ReportMetric(ratios[0], "min-of-bare")
			b.ReportMetric(ratios[len(ratios)/2], "of-bare")
			b.ReportMetric(ratios[len(ratios)-1], "max-of-bare")
			b.ReportMetric(rates[len(rates)/2], "scans/s")
			b.ReportMetric(float64(r.Recorded())/float64(r.Flushes()), "scans/flush")
			b.ReportMetric(0, "ns/op")
		})
	}
}
