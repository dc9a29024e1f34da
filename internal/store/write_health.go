package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// writeHealth stores the last outage error with which a change failed, until Ping has made a change successfully.
type writeHealth struct {
	last    atomic.Pointer[errcode.Unavailable] // nil = none
	refused func(cause string)                  // called for each change that fails because of an outage; nil = no call

	mu      sync.Mutex
	running *attempt // the attempt that a call of share is making; nil = none
}

// attempt is one attempt to make a change that has no effect. Concurrent callers share the result of the attempt.
type attempt struct {
	done chan struct{} // closed when the result is known
	err  error
	cut  bool // the attempt was cut short: the context of its caller ended
}

// share calls try and returns its result; if an attempt of another caller is already running, share returns the result of that attempt. If
// the context of the running attempt ends, share waits for the next attempt or makes the next attempt itself.
func (t *writeHealth) share(ctx context.Context, try func() error) error {
	for {
		t.mu.Lock()
		running := t.running
		if running == nil {
			break
		}
		t.mu.Unlock()
		select {
		case <-running.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !running.cut {
			return running.err
		}
	}
	own := &attempt{done: make(chan struct{})}
	t.running = own
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.running = nil
		t.mu.Unlock()
		close(own.done)
	}()
	own.err = try()
	own.cut = ctx.Err() != nil
	return own.err
}

// record returns err, and stores err if it is an outage; it does not store a lock timeout, after which the next change may succeed.
func (t *writeHealth) record(err error) error {
	out, is := errors.AsType[*errcode.Unavailable](err)
	if is && t.refused != nil {
		t.refused(causeOf(out.Condition))
	}
	if is && !isLocked(err) {
		t.last.Store(out)
	}
	return err
}

// Ping returns nil if the database responds and accepts changes, and otherwise an errcode.Unavailable. After a change has failed,
// Ping makes a change without effect, because only a commit proves that the disk and the replica store changes. Ping does not wait
// for a lock of another transaction, and returns nil if the lock is not free.
func (s *Store) Ping(ctx context.Context) error {
	var off bool
	err := s.onLive(ctx, s.read, func() error {
		return single(ctx, s.read.QueryRowContext(ctx, s.engine.readOnlyQuery).Scan(&off))
	})
	if err == nil && off {
		err = errReadOnly
	}
	if err != nil {
		return s.outage(err)
	}
	last := s.health.last.Load()
	if last == nil {
		return nil
	}
	switch err := s.health.share(ctx, func() error { return s.tryChange(ctx, last) }); {
	case isLocked(err):
		return nil // the lock of another transaction is no fault of the database
	case err != nil:
		return last
	}
	s.health.last.CompareAndSwap(last, nil)
	return nil
}

// tryChange makes a change without effect. If the last error concerned the disk, tryChange first tests whether the disk has free space.
func (s *Store) tryChange(ctx context.Context, last *errcode.Unavailable) error {
	if slices.Contains([]string{fullDatabase, unwritableDatabase, brokenDatabase}, last.Condition) {
		cause := errors.New("free disk space")
		err := s.run(ctx, s.write, false, func(tx *Tx) error {
			if err := s.engine.room(ctx, tx); err != nil {
				return err
			}
			return cause // rolls back the transaction, which only tests the free space
		})
		if !errors.Is(err, cause) {
			return err
		}
	}
	_, err := s.write.ExecContext(ctx, s.engine.sameHead)
	return s.outage(err)
}

// isLocked reports whether err is an outage error for a lock timeout.
func isLocked(err error) bool {
	out, is := errors.AsType[*errcode.Unavailable](err)
	return is && out.Condition == lockedDatabase
}

// IntegrityCheck describes the damage in the file of an embedded database; "" = no damage, or PostgreSQL, which checks its own
// files. IntegrityCheck reads the whole file, which takes seconds per gigabyte.
func (s *Store) IntegrityCheck(ctx context.Context) (fault string, err error) {
	if s.Engine() != "sqlite" {
		return "", nil
	}
	err = single(ctx, s.read.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&fault))
	if err != nil {
		return "", fmt.Errorf("reading the database file: %w", s.outage(err))
	}
	if fault == "ok" {
		fault = ""
	}
	return fault, nil
}
