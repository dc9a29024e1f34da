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

// writeHealth remembers that a change failed by a fault of the database, until it is
// known that changes can be made again.
type writeHealth struct {
	last    atomic.Pointer[errcode.Unavailable] // nil = none
	refused func(cause string)                  // called for each change that failed so; nil = nothing is called

	mu   sync.Mutex
	look *look // that runs; nil = none does
}

// look is one try to make a change. All callers that ask meanwhile share its result.
type look struct {
	done chan struct{} // closed once the result is known
	err  error
	cut  bool // the caller that made the try ran out of time
}

// tried returns the result of try, or of a try that is running already; where that one is cut off,
// of the next.
func (t *writeHealth) tried(ctx context.Context, try func() error) error {
	for {
		t.mu.Lock()
		running := t.look
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
	localLook := &look{done: make(chan struct{})}
	t.look = localLook
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.look = nil
		t.mu.Unlock()
		close(localLook.done)
	}()
	localLook.err = try()
	localLook.cut = ctx.Err() != nil
	return localLook.err
}

// remember stores err if it is an outage, and returns it. Waiting for a lock says nothing about the
// next change.
func (t *writeHealth) remember(err error) error {
	out, is := errors.AsType[*errcode.Unavailable](err)
	if is && t.refused != nil {
		t.refused(causeOf(out.What))
	}
	if is && !isLocked(err) {
		t.last.Store(out)
	}
	return err
}

// Ping returns nil when the database answers and takes changes, or an errcode.Outage. After a change that failed it makes one that
// changes nothing, the only way to know: that waits for the disk and for the replica. It does not wait for a lock of another
// transaction, which is no fault of the database.
func (s *Store) Ping(ctx context.Context) error {
	var off bool
	err := s.onLive(ctx, s.read, func() error {
		return single(ctx, s.read.QueryRowContext(ctx, s.engine.readOnlyQuery()).Scan(&off))
	})
	if err == nil && off {
		err = errReadOnly
	}
	if err != nil {
		return s.outage(err)
	}
	last := s.trouble.last.Load()
	if last == nil {
		return nil
	}
	switch err := s.trouble.tried(ctx, func() error { return s.tryChange(ctx, last) }); {
	case isLocked(err):
		return nil // whether changes can be made is known when the lock is free
	case err != nil:
		return last
	}
	s.trouble.last.CompareAndSwap(last, nil)
	return nil
}

// tryChange makes a change that changes nothing. Where the disk was full, it also demands more room
// than that change takes.
func (s *Store) tryChange(ctx context.Context, last *errcode.Unavailable) error {
	if slices.Contains([]string{fullDatabase, unwritableDatabase, brokenDatabase}, last.What) {
		cause := errors.New("there is room")
		err := s.run(ctx, s.write, false, func(tx *Tx) error {
			if err := s.engine.room(ctx, tx); err != nil {
				return err
			}
			return cause // rolls back: it was only about the room
		})
		if !errors.Is(err, cause) {
			return err
		}
	}
	_, err := s.write.ExecContext(ctx, s.engine.sameHead())
	return s.outage(err)
}

// isLocked reports whether an outage is a lock that was not released in time.
func isLocked(err error) bool {
	out, is := errors.AsType[*errcode.Unavailable](err)
	return is && out.What == lockedDatabase
}

// IntegrityCheck says what is damaged in the file of an embedded database; "" = nothing, or
// it is another database, which looks after its own files. It reads the whole
// file, which takes seconds for each gigabyte.
func (s *Store) IntegrityCheck(ctx context.Context) (fault string, err error) {
	if s.Engine() != "sqlite" {
		return "", nil
	}
	err = single(ctx, s.read.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&fault))
	if err != nil {
		return "", fmt.Errorf("reading the file of the database: %w", s.outage(err))
	}
	if fault == "ok" {
		fault = ""
	}
	return fault, nil
}
