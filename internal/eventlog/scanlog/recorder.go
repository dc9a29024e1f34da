package scanlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Window bounds what a power cut may lose of scans that were answered before they were durable:
// those of this time. A caller that answers so asks Late first.
const Window = time.Second

// ErrFull is returned by Enqueue while the disk is too far behind.
var ErrFull = errors.New("ledger: too many scans wait for the disk")

// Pauses before a flush. A flush costs the processor about as much for one scan as for a hundred.
// So a few flushes are better than many, as long as a caller waits hardly longer than for the flush
// alone.
const (
	// gather is the time for which a group is held open for as many scans as came lately. On a slow disk it is half of the time of
	// the last flush, at most slowGather.
	gather     = 500 * time.Microsecond
	slowGather = 5 * time.Millisecond
	// unhurried is the time for which a group without waiting callers is held open.
	unhurried = 20 * time.Millisecond
	// heavy is the number of bytes of events that are flushed without a pause.
	heavy = 256 << 10
)

// Recorder makes scans durable in groups. The scans that come during a flush, and shortly after it,
// are the next group.
type Recorder struct {
	journal  *Journal
	now      func() time.Time
	maxBytes int
	maxCount int

	mu     sync.Mutex
	open   *Group // the group that takes events; nil while there is none
	spare  *batch
	oldest time.Time // when the first event came that is not durable yet; zero = all are
	taken  time.Time // when the first event of open came
	busy   bool      // a flush is under way, or a pause before it
	wanted int       // the scans for which the pause ends; 0 = there is no pause
	expect int       // how many scans the next group may be waited for
	closed bool
	last   error // of the last flush
	// unheard is the number of events of failed flushes without a waiting caller, since the last flush that succeeded: their
	// callers were answered before the events were durable.
	unheard int64

	patience time.Duration // how long the next group is held open; the flusher's own

	wake chan struct{} // something is in open, or the recorder is closed
	done chan struct{}

	waiting atomic.Int64
	dropped atomic.Int64
	lost    atomic.Int64
	flushes atomic.Int64
	events  atomic.Int64
}

// Group is a number of scans that become durable together.
type Group struct {
	recorder *Recorder
	batch    *batch
	done     chan struct{}
	err      error

	// Under the recorder's lock:
	awaited bool // a caller waits
	ended   bool
	then    []func(error)
}

// RecorderOptions bound what may wait. The zero value is ready.
type RecorderOptions struct {
	// MaxBytes and MaxCount are how much may wait for a flush; 0 = 8 MiB, 65,536.
	MaxBytes, MaxCount int
	// Now is the real time, for Late only; nil = time.Now.
	Now func() time.Time
}

// NewRecorder starts a recorder; it runs until Close. The journal stays open.
func NewRecorder(j *Journal, o RecorderOptions) *Recorder {
	r := &Recorder{journal: j, now: o.Now, maxBytes: o.MaxBytes, maxCount: o.MaxCount, spare: &batch{}, wake: make(chan struct{}, 1),
		done: make(chan struct{}), patience: gather}
	if r.now == nil {
		r.now = time.Now
	}
	if r.maxBytes <= 0 {
		r.maxBytes = 8 << 20
	}
	r.maxBytes = min(r.maxBytes, maxGroup-maxRecord)
	if r.maxCount <= 0 {
		r.maxCount = 1 << 16
	}
	go r.run()
	return r
}

// Enqueue takes a copy of an event and returns the group with which it becomes durable. It never
// waits for the disk. After ErrFull or ErrClosed the event was not taken.
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
		r.open, r.taken = g, r.now()
		if r.oldest.IsZero() {
			r.oldest = r.taken
		}
	} else if g.batch.n >= r.maxCount || len(g.batch.buf)+maxRecord > r.maxBytes {
		r.mu.Unlock()
		r.dropped.Add(1)
		return nil, ErrFull
	}
	g.batch.add(e)
	begin := g.batch.n == 1 && !r.busy || r.wanted > 0 && (g.awaited && g.batch.n >= r.wanted || len(g.batch.buf) > heavy)
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

// Wait returns nil once the group is durable. After an error any of its events may be stored or
// not, so none may be acknowledged.
func (g *Group) Wait(ctx context.Context) error {
	g.hurry()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when Wait has an answer.
func (g *Group) Done() <-chan struct{} {
	g.hurry()
	return g.done
}

// OnDurable makes f be called once with the result of Wait. The goroutine that calls f also calls those
// of others, so f must not block. This costs less than a goroutine that waits. Then returns false,
// and does not call f, where the result is known already.
func (g *Group) OnDurable(f func(error)) bool {
	r := g.recorder
	r.mu.Lock()
	if g.ended {
		r.mu.Unlock()
		return false
	}
	g.then = append(g.then, f)
	poke := g.await()
	r.mu.Unlock()
	if poke {
		r.poke()
	}
	return true
}

// hurry notes a waiting caller.
func (g *Group) hurry() {
	g.recorder.mu.Lock()
	poke := !g.ended && g.await()
	g.recorder.mu.Unlock()
	if poke {
		g.recorder.poke()
	}
}

// await notes a waiting caller, and reports whether the pause ends by that.
func (g *Group) await() bool {
	r := g.recorder
	if g.awaited || g != r.open {
		return false
	}
	g.awaited = true
	return r.wanted > 0
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
				r.unheard = 0
			} else if !g.awaited {
				r.unheard += int64(n)
			}
			if r.open != nil {
				r.oldest = r.taken
				r.expect += r.open.batch.n
			}
			g.ended = true
			pastFns := g.then
			r.mu.Unlock()
			close(g.done)
			callAll(pastFns, g.err)
			if n > 1 {
				// The callers that waited have the next scans ready: let them in first.
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

// share is the number of functions that one goroutine calls.
const share = 128

// callAll gives the result of a group to all that wait for it.
func callAll(pastFns []func(error), err error) {
	for len(pastFns) > 0 {
		fns := pastFns[:min(share, len(pastFns))]
		pastFns = pastFns[len(fns):]
		go func() {
			for _, f := range fns {
				f(err)
			}
		}()
	}
}

// nextGroup waits until it is time to flush the open group, and closes that; nil where there is
// none.
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
		r.wanted = max(1, r.expect)
		r.mu.Unlock()
		pause.Reset(until.Sub(now))
		select {
		case <-pause.C:
		case <-r.wake:
			pause.Stop()
		}
		r.mu.Lock()
		r.wanted = 0
	}
	r.open, r.oldest = nil, r.taken
	return g
}

// Close writes what waits and stops. ErrClosed is what Enqueue answers from then on. An error says that events were lost without a
// waiting caller; a caller that waited has got its own error.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.poke()
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unheard > 0 {
		return fmt.Errorf("scans that nobody waited for are lost (%d): %w", r.unheard, r.last)
	}
	return nil
}

// IsLate reports whether an event that is answered before it is durable might break the promise of
// Window: the last flush failed, or the oldest event has waited for half of Window. Then the answer
// has to wait for its group.
func (r *Recorder) IsLate() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil || !r.oldest.IsZero() && r.now().Sub(r.oldest) > Window/2
}

// Waiting returns the number of events that are not durable yet.
func (r *Recorder) Waiting() int64 { return r.waiting.Load() }

// Dropped returns the number of events that were rejected because too many waited.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Lost returns the number of events that were enqueued and could not be written; a caller that waited for them got the error.
func (r *Recorder) Lost() int64 { return r.lost.Load() }

// Recorded returns the number of events that were made durable.
func (r *Recorder) Recorded() int64 { return r.events.Load() }

// Flushes returns the number of fsyncs.
func (r *Recorder) Flushes() int64 { return r.flushes.Load() }

// LastError returns the error of the last flush; nil when it succeeded.
func (r *Recorder) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
