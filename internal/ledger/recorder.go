package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Window is the most that is lost in a power cut of what was answered before it
// was durable. A caller that answers so asks Late first.
const Window = time.Second

// ErrFull is returned by Enqueue while the disk is too far behind.
var ErrFull = errors.New("ledger: too many scans wait for the disk")

// Pauses before a flush. A flush costs the processor much the same for one scan
// and for a hundred, so fewer are better while nobody waits longer than he would
// notice beside the flush itself.
const (
	// gather is how long a group is held open for scans that are expected: as many
	// as there were of late. On a slow disk it is half of what the last flush
	// took, at most slowGather.
	gather     = 500 * time.Microsecond
	slowGather = 5 * time.Millisecond
	// unhurried is how long a group is held open that nobody waits for.
	unhurried = 20 * time.Millisecond
	// heavy is how many bytes of events are flushed without a pause.
	heavy = 256 << 10
)

// Recorder makes scans durable in groups: all that come while one flush is
// under way are the next group, with those that come shortly after.
type Recorder struct {
	journal  *Journal
	now      func() time.Time
	maxBytes int
	maxCount int

	mu     sync.Mutex
	open   *Group // that takes events; nil while there is none
	spare  *batch
	oldest time.Time // when the first event came that is not durable yet; zero = all are
	taken  time.Time // when the first one of open came
	busy   bool      // a flush is under way, or a pause before it
	wanted int       // the scans for which the pause ends; 0 = there is no pause
	expect int       // how many scans the next group may be waited for
	closed bool
	last   error // of the last flush
	// unheard are events of flushes that failed after the last that succeeded, for which nobody waited: whoever answers
	// before it is durable has told of them.
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
	awaited bool // somebody waits
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

// Enqueue takes a copy of an event and returns the group that it becomes
// durable with. It never waits for the disk. ErrFull, ErrClosed: the event is
// not taken.
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

// Wait returns nil once the group is durable, or why it is not: nobody knows of
// each of its events whether it was stored, so none may be acknowledged.
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

// Then lets f be called with what Wait returns, once, on another goroutine: with
// others, so it must not block. It costs less than a goroutine that waits. False
// where the answer is there already; then f is not called.
func (g *Group) Then(f func(error)) bool {
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

// hurry says that somebody waits.
func (g *Group) hurry() {
	g.recorder.mu.Lock()
	poke := !g.ended && g.await()
	g.recorder.mu.Unlock()
	if poke {
		g.recorder.poke()
	}
}

// await notes that somebody waits, and reports whether that ends a pause.
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
			then := g.then
			r.mu.Unlock()
			close(g.done)
			callAll(then, g.err)
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

// share is how many one goroutine calls.
const share = 128

// callAll gives the result of a group to all that wait for it.
func callAll(then []func(error), err error) {
	for len(then) > 0 {
		some := then[:min(share, len(then))]
		then = then[len(some):]
		go func() {
			for _, f := range some {
				f(err)
			}
		}()
	}
}

// nextGroup closes the open group, when it is time for it; nil where there is none.
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

// Close writes what waits and stops. ErrClosed is what Enqueue answers from
// then on. An error says that events are lost for which nobody waited; those that
// waited have theirs.
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

// Late reports whether an event that is answered before it is durable could be
// lost beyond Window: the last flush failed, or the oldest event that waits has
// done so for half of it. Then the answer has to wait for its group.
func (r *Recorder) Late() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil || !r.oldest.IsZero() && r.now().Sub(r.oldest) > Window/2
}

// Waiting is how many events are not durable yet.
func (r *Recorder) Waiting() int64 { return r.waiting.Load() }

// Dropped is how many events were not taken because too many waited.
func (r *Recorder) Dropped() int64 { return r.dropped.Load() }

// Lost is how many events were enqueued and could not be written; a caller that waited for
// them got the error.
func (r *Recorder) Lost() int64 { return r.lost.Load() }

// Recorded is how many events were made durable.
func (r *Recorder) Recorded() int64 { return r.events.Load() }

// Flushes is how often the disk was written to.
func (r *Recorder) Flushes() int64 { return r.flushes.Load() }

// LastError is the error of the last flush; nil when it succeeded.
func (r *Recorder) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
