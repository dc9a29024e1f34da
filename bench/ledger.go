package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qrjump/qrjump/bench/rulegen"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// recordSize is the number of bytes that the anchor appends for a scan.
const recordSize = 256

// groupCommit is the anchor: append adds a record to the buffer of the next flush and blocks until that flush is
// durable.
type groupCommit struct {
	mu     sync.Mutex
	buf    []byte
	flush  chan struct{} // closed when the records in buf are durable
	wake   chan struct{}
	closed bool
	done   chan struct{}
	err    error
}

func newGroupCommit(path string) (*groupCommit, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	g := &groupCommit{flush: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(g.done)
		defer f.Close()
		var spare []byte
		for range g.wake {
			for {
				g.mu.Lock()
				if len(g.buf) == 0 {
					closed := g.closed
					g.mu.Unlock()
					if closed {
						return
					}
					break
				}
				group, flush := g.buf, g.flush
				g.buf, g.flush = spare[:0], make(chan struct{})
				g.mu.Unlock()
				if _, err := f.Write(group); err != nil {
					g.err = err
				}
				if err := unix.Fdatasync(int(f.Fd())); err != nil {
					g.err = err
				}
				spare = group
				close(flush)
				// Let waiting clients append their next records, which makes larger groups.
				runtime.Gosched()
			}
		}
	}()
	return g, nil
}

func (g *groupCommit) append(record []byte) {
	g.mu.Lock()
	g.buf = append(g.buf, record...)
	flush := g.flush
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	<-flush
}

func (g *groupCommit) close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	<-g.done
	return g.err
}

// rate runs each in a loop on a number of concurrent clients for a duration and returns the calls per second.
func rate(clients int, duration time.Duration, each func(client int)) float64 {
	var stop atomic.Bool
	var total atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for i := range clients {
		all.Go(func() {
			n := int64(0)
			for !stop.Load() {
				each(i)
				n++
			}
			total.Add(n)
		})
	}
	time.Sleep(duration)
	stop.Store(true)
	all.Wait()
	return float64(total.Load()) / time.Since(began).Seconds()
}

// sampleEvents returns scans like those that resolve records.
func sampleEvents(n int) []scanlog.Event {
	set := rulegen.New(10_000, 1)
	events := make([]scanlog.Event, n)
	for i, text := range rulegen.Take(set.Links(false, 61), n) {
		e := &events[i]
		rand.Read(e.ID[:])
		rand.Read(e.User[:])
		e.OccurredAt, e.Source, e.Action, e.Kind, e.App, e.Version, e.RuleID, e.Text = time.Now().Truncate(time.Millisecond), "scan", "open_mini_program", "rule", rulegen.AppID(i), "release", int64(i), text
	}
	return events
}

// ledger measures how many scans per second become durable before they are acknowledged.
func (b *bench) ledger(ctx context.Context) error {
	b.peer("a bare group commit in Go, which appends 256 bytes a record, calls fdatasync and wakes the waiters")
	events := sampleEvents(4096)
	duration := 2 * time.Second
	for _, clients := range []int{64, 256, 1024} {
		var ours, bare []float64
		var flushes float64
		for round := range b.rounds + 1 {
			measureOurs := func() error {
				journal, err := scanlog.OpenJournal(filepath.Join(b.work, fmt.Sprintf("journal-%d-%d", clients, round)), scanlog.JournalOptions{Random: rand.Reader})
				if err != nil {
					return err
				}
				recorder := scanlog.NewRecorder(journal, scanlog.RecorderOptions{})
				var failed atomic.Pointer[error]
				var next atomic.Int64
				value := rate(clients, duration, func(client int) {
					e := events[(next.Add(1))%int64(len(events))]
					group, err := recorder.Enqueue(&e)
					if err == nil {
						err = group.Wait(ctx)
					}
					if err != nil {
						failed.Store(&err)
					}
				})
				if err := failed.Load(); err != nil {
					return *err
				}
				if err := recorder.Close(); err != nil {
					return err
				}
				flushes = float64(recorder.Recorded()) / float64(recorder.Flushes())
				ours = append(ours, value)
				return journal.Close()
			}
			measureBare := func() error {
				g, err := newGroupCommit(filepath.Join(b.work, "bare"))
				if err != nil {
					return err
				}
				record := make([]byte, recordSize)
				value := rate(clients, duration, func(int) { g.append(record) })
				if err := g.close(); err != nil {
					return err
				}
				bare = append(bare, value)
				return os.Remove(filepath.Join(b.work, "bare"))
			}
			order := []func() error{measureOurs, measureBare}
			for i := range order {
				if err := order[(i+round)%2](); err != nil {
					return err
				}
			}
			if round == 0 {
				ours, bare = nil, nil
			}
			os.RemoveAll(filepath.Join(b.work, fmt.Sprintf("journal-%d-%d", clients, round)))
		}
		r := ratios(ours, bare)
		b.row(Row{What: fmt.Sprintf("scans made durable, %d waiting", clients), Anchor: "bare group commit, the same number waiting", Target: target(clients <= 256, 0.75), AtLeast: true, Values: r, Main: clients <= 256})
		b.point("ledger", "qrjump", "waiting clients", "scans made durable a second / bare group commit", float64(clients), quantile(r, 0.5))
		b.note("With %d waiting clients, %.0f scans shared a flush on average in the last round.", clients, flushes)
	}
	// Durable scans must be readable.
	if err := b.readBack(ctx, events); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := b.recordingCost(ctx, self); err != nil {
		return fmt.Errorf("what recording costs: %w", err)
	}
	return b.ledgerOverHTTP(ctx)
}

// readBack verifies that every acknowledged scan is in the journal exactly once.
func (b *bench) readBack(ctx context.Context, events []scanlog.Event) error {
	dir := filepath.Join(b.work, "readback")
	journal, err := scanlog.OpenJournal(dir, scanlog.JournalOptions{Random: rand.Reader})
	if err != nil {
		return err
	}
	recorder := scanlog.NewRecorder(journal, scanlog.RecorderOptions{})
	var next atomic.Int64
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 64 {
		all.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(events)) {
					return
				}
				group, err := recorder.Enqueue(&events[i])
				if err == nil {
					err = group.Wait(ctx)
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	if err := recorder.Close(); err != nil {
		return err
	}
	if err := journal.Close(); err != nil {
		return err
	}
	if journal, err = scanlog.OpenJournal(dir, scanlog.JournalOptions{Random: rand.Reader}); err != nil {
		return err
	}
	defer journal.Close()
	wanted := map[scanlog.ScanID]string{}
	for _, e := range events {
		wanted[e.ID] = e.Text
	}
	for e, err := range journal.Read(ctx, 0) {
		if err != nil {
			return err
		}
		if wanted[e.ID] != e.Text {
			return fmt.Errorf("scan %s is in the journal as %q", e.ID, e.Text)
		}
		delete(wanted, e.ID)
	}
	if len(wanted) > 0 {
		return fmt.Errorf("%d acknowledged scans are not in the journal", len(wanted))
	}
	b.check("All %d acknowledged scans were read back from the journal, each exactly once and unchanged.", len(events))
	return nil
}

// ledgerOverHTTP measures acknowledged scans through the scan listener, with one core for the server and one for the load
// generator.
func (b *bench) ledgerOverHTTP(ctx context.Context) error {
	set := rulegen.New(10_000, 1)
	kept, err := b.dataFolder(ctx, set)
	if err != nil {
		return err
	}
	data, err := b.copyData(kept, "ledger-http")
	if err != nil {
		return err
	}
	q, err := b.serve(ctx, serve{data: data, fast: true, core: serverCore})
	if err != nil {
		return err
	}
	defer q.stop()
	key, err := q.scanKey(ctx)
	if err != nil {
		return err
	}
	if _, err := q.metric(ctx, "qrjump_scans_recorded_total"); err != nil {
		b.missing("scans acknowledged over HTTP, because this server records none")
		return nil
	}
	bodies, err := b.linesFile("ledger-bodies", rulegen.Take(set.Links(false, 71), 20_000), scanBody)
	if err != nil {
		return err
	}
	for _, clients := range []int{64, 256} {
		var ours, bare []float64
		for range b.rounds {
			before, err := q.metric(ctx, "qrjump_scans_recorded_total")
			if err != nil {
				return err
			}
			r, err := b.wrk(ctx, load{url: q.scanURL, file: bodies, method: "POST", path: "/scan/v1/resolve", token: key, pid: q.pid(), connections: clients, duration: 2 * time.Second})
			if err != nil {
				return err
			}
			after, err := q.metric(ctx, "qrjump_scans_recorded_total")
			if err != nil {
				return err
			}
			if after-before < r.requests {
				return fmt.Errorf("%.0f scans were acknowledged and %.0f recorded", r.requests, after-before)
			}
			ours = append(ours, r.requests/r.seconds)
			g, err := newGroupCommit(filepath.Join(b.work, "bare"))
			if err != nil {
				return err
			}
			record := make([]byte, recordSize)
			bare = append(bare, rate(clients, 2*time.Second, func(int) { g.append(record) }))
			if err := g.close(); err != nil {
				return err
			}
			os.Remove(filepath.Join(b.work, "bare"))
		}
		b.row(Row{What: fmt.Sprintf("scans acknowledged durable over HTTP, %d connections, one core", clients), Anchor: "bare group commit in memory, the same number waiting, two cores", Values: ratios(ours, bare)})
	}
	b.check("In each round over HTTP, the server recorded at least as many scans as it acknowledged.")
	return nil
}
