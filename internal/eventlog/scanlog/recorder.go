package scanlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Window limits the loss in a power failure: only scans of the last second can be lost, if they were acknowledged before they were durable.
// A caller that acknowledges scans before they are durable must call IsLate first.
const Window = time.Second

// ErrFull is returned by Enqueue if too many events wait for the disk.
var ErrFull = errors.New("scanlog: the write queue is full")

// Pauses before an fsync. An fsync costs about as much processor time for one scan as for a hundred. A pause makes groups larger and fsyncs
// fewer, and it is so short that callers hardly wait longer than for the fsync alone.
const (
	// gather is the maximum time for which a group waits for as many scans as the last group had. On a slow disk a group waits for half the
	// duration of the last fsync, at most slowGather.
	gather     = 500 * time.Microsecond
	slowGather = 5 * time.Millisecond
	// unhurried is the time for which a group stays open while no caller waits.
	unhurried = 20 * time.Millisecond
	// heavy is the number of bytes of events above which a group is written without a pause.
	heavy = 256 << 10
)

// Recorder makes scans durable by group commit. Scans that arrive during an fsync, and shortly after it, form the next group.
type Recorder struct {
	journal  *Journal
	now      func() time.Time
	maxBytes int
	maxCount int

	mu       sync.Mutex
	open     *Group // the group that accepts events; nil if there is none
	writing  *Group // the group that is being written; nil if there is none
	spare    *batch
	oldest   time.Time // arrival time of the oldest event that is not durable yet; zero = all events are durable
	openedAt time.Time // arrival time of the first event in open
	busy     bool      // an fsync or the pause before an fsync is running
	fullAt   int       // number of scans that ends the pause before an fsync; 0 = no pause
	expect   int       // number of scans to expect for the next group
	closed   bool
	last     error // error of the last fsync
	// unreported counts the events that were lost since the last successful fsync and for which no caller waited: these events were
	// acknowledged before they were durable.
	unreported int64

	patience time.Duration // how long the next group stays open; used by the flusher only

	wake chan struct{} // signals that the field open holds events, or that the recorder is closed
	done chan struct{}

	waiting atomic.Int64
	lost    atomic.Int64
	flushes atomic.Int64
	events  atomic.Int64
}

// Group is a set of scans that become durable together.
type Group struct {
	recorder *Recorder
	batch    *batch
	done     chan struct{}
	err      error

	// The fields below are guarded by the recorder's lock:
	awaited   bool // a caller waits
	finished  bool
	callbacks []func(error)
}

// RecorderOptions limits the events that may wait. The zero value is valid.
type RecorderOptions struct {
	// MaxBytes and MaxCount limit the events that wait for an fsync; 0 = 8 MiB and 65,536.
	MaxBytes, MaxCount int
	// Now returns the real time, used by IsLate only; nil = time.Now.
	Now func() time.Time
}

// NewRecorder starts a recorder that runs until Close. Closing the recorder leaves the journal open.
func NewRecorder(j *Journal, o RecorderOptions) *Recorder {
	r := &Recorder{journal: j, now: o.Now, maxBytes: min(cmp.Or(o.MaxBytes, 8<<20), maxGroup-maxRecord),
		maxCount: cmp.Or(o.MaxCount, 1<<16), spare: &batch{}, wake: make(chan struct{}, 1), done: make(chan struct{}), patience: gather}
	if r.now == nil {
		r.now = time.Now
	}
	go r.run()
	return r
}

// Enqueue copies an event and returns the group with which the event becomes durable. Enqueue never waits for the disk. After
// ErrFull or ErrClosed, the event is not recorded.
func (r *Recorder) Enqueue(e *Event) (*Group, error) {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	g := r.open
	if g == nil {
		g = &Group{recorder: r, batch: r.spare, done: make(chan struct{})}
		if g.batch == nil {
			g.batch = &batch{}
		}
		r.spare = nil
		g.batch.reset()
		r.open, r.openedAt = g, r.now()
		if r.oldest.IsZero() {
			r.oldest = r.openedAt
		}
	} else if g.batch.n >= r.maxCount || len(g.batch.buf)+maxRecord > r.maxBytes {
		r.mu.Unlock()
		return nil, ErrFull
	}
	g.batch.add(e)
	begin := g.batch.n == 1 && !r.busy || r.fullAt > 0 && (g.awaited && g.batch.n >= r.fullAt || len(g.batch.buf) > heavy)
	r.waiting.Add(1)
	r.mu.Unlock()
	if begin {
		r.poke()
	}
	return g, nil
}

func (r *Recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Wait blocks until the group is durable, and then returns nil. After an error, the state of each event of the group is unknown, so
// the caller must not acknowledge any event.
func (g *Group) Wait(ctx context.Context) error {
	select {
	case <-g.Done():
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done records that a caller waits for the group, and returns a channel that is closed when the result of Wait is known.
func (g *Group) Done() <-chan struct{} {
	g.recorder.mu.Lock()
	poke := !g.finished && g.await()
	g.recorder.mu.Unlock()
	if poke {
		g.recorder.poke()
	}
	return g.done
}

// OnDurable registers f to be called once with the result of Wait. One goroutine calls the functions of many callers, so f must not block.
// A callback costs less than a waiting goroutine. If the result is already known, OnDurable returns false and does not call f.
func (g *Group) OnDurable(f func(error)) bool {
	r := g.recorder
	r.mu.Lock()
	if g.finished {
		r.mu.Unlock()
		return false
	}
	g.callbacks = append(g.callbacks, f)
	poke := g.await()
	r.mu.Unlock()
	if poke {
		r.poke()
	}
	return true
}

// await records that a caller waits, and reports whether that ends the pause before the fsync.
func (g *Group) await() bool {
	r := g.recorder
	if g.awaited || g != r.open {
		return false
	}
	g.awaited = true
	return r.fullAt > 0
}

func (r *Recorder) run() {
	defer close(r.done)
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	for range r.wake {
		for {
			g := r.nextGroup(pause)
			if g == nil {
				break
			}
			b, n := g.batch, g.batch.n
			began := time.Now()
			g.err = r.journal.write(b)
			r.patience = min(max(time.Since(began)/2, gather), slowGather)
			r.flushes.Add(1)
			if g.err == nil {
				r.events.Add(int64(n))
			} else {
				r.lost.Add(int64(n))
			}
			r.waiting.Add(-int64(n))
			g.batch = nil
			r.mu.Lock()
			r.last, r.spare = g.err, b
			r.oldest, r.expect = time.Time{}, n
			if g.err == nil {
				r.unreported = 0
			} else if !g.awaited {
				r.unreported += int64(n)
			}
			if r.open != nil {
				r.oldest = r.openedAt
				r.expect += r.open.batch.n
			}
			g.finished, r.writing = true, nil
			callbacks := g.callbacks
			r.mu.Unlock()
			close(g.done)
			callAll(callbacks, g.err)
			if n > 1 {
				// Callers that waited may have further scans ready: Gosched lets them enqueue these scans for the next group.
				runtime.Gosched()
			}
		}
		r.mu.Lock()
		closed := r.closed
		r.mu.Unlock()
		if closed {
			return
		}
	}
}

// share is the number of callbacks that one goroutine runs.
const share = 128

// callAll passes the result of a group to all registered callbacks.
func callAll(callbacks []func(error), err error) {
	for len(callbacks) > 0 {
		fns := callbacks[:min(share, len(callbacks))]
		callbacks = callbacks[len(fns):]
		go func() {
			for _, f := range fns {
				f(err)
			}
		}()
	}
}

// nextGroup waits until the open group is due for an fsync, closes the group and returns it; nil if there is no open group.
func (r *Recorder) nextGroup(pause *time.Timer) *Group {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.open
	if g == nil {
		r.busy = false
		return nil
	}
	r.busy = true
	until := time.Time{}
	for !r.closed && len(g.batch.buf) <= heavy {
		rest := unhurried
		if g.awaited {
			if g.batch.n >= r.expect {
				break
			}
			rest = r.patience
		}
		now := time.Now()
		if end := now.Add(rest); until.IsZero() || end.Before(until) {
			until = end
		}
		if !now.Before(until) {
			break
		}
		r.fullAt = max(1, r.expect)
		r.mu.Unlock()
		pause.Reset(until.Sub(now))
		select {
		case <-pause.C:
		case <-r.wake:
			pause.Stop()
		}
		r.mu.Lock()
		r.fullAt = 0
	}
	r.open, r.writing, r.oldest = nil, g, r.openedAt
	return g
}

// Sync blocks until each event that was enqueued before the call is durable or lost; its only error is that of ctx. Unlike a caller of
// Wait, a caller of Sync does not shorten the pause before an fsync, and Close reports lost events as if Sync had not been called. A nil
// Recorder has no events.
func (r *Recorder) Sync(ctx context.Context) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	last := cmp.Or(r.open, r.writing)
	r.mu.Unlock()
	if last == nil {
		return nil
	}
	select {
	case <-last.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close writes all waiting events and stops the recorder. After Close, Enqueue returns ErrClosed. An error means that events
// without a waiting caller were lost; waiting callers have received the error themselves.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.poke()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unreported > 0 {
		return fmt.Errorf("%d queued scans were lost: %w", r.unreported, r.last)
	}
	return nil
}

// IsLate reports whether acknowledging an event before it is durable might exceed the limit of Window: the last fsync failed, or
// the oldest event has waited for half of Window. If IsLate returns true, the caller must wait for the group before it responds.
func (r *Recorder) IsLate() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil || !r.oldest.IsZero() && r.now().Sub(r.oldest) > Window/2
}

// Waiting returns the number of events that are not durable yet.
func (r *Recorder) Waiting() int64 { return r.waiting.Load() }

// Lost returns the number of enqueued events that could not be written; waiting callers received the error.
func (r *Recorder) Lost() int64 { return r.lost.Load() }

// Recorded returns the number of events that were made durable.
func (r *Recorder) Recorded() int64 { return r.events.Load() }

// Flushes returns the number of fsyncs.
func (r *Recorder) Flushes() int64 { return r.flushes.Load() }

// LastError returns the error of the last fsync; nil = success.
func (r *Recorder) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
