package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/errcode"
)

// Call is one call as it is kept: nothing in it lets anybody in.
type Call struct {
	RID      string
	Account  string // who made it
	At       time.Time
	Took     time.Duration // whole milliseconds are kept
	Path     string
	Query    string
	Request  string
	Response string
	ClientIP string
	ErrCode  int
	Detail   string // what exactly was wrong
	// Behaviours are the ids of the rows that decided, see package behaviour.
	Behaviours []string
}

const (
	// Kept is how long a call can be asked for. Contract: rules 3.1.
	Kept = 7 * 24 * time.Hour
	// MaxText is how much of a body is kept, in bytes.
	MaxText = 4 << 10
	// waitingMax is how many calls may wait to be written.
	waitingMax = 10_000
)

// queue holds the calls that are not written yet.
type queue struct {
	writing sync.Mutex // held by the one who writes

	mu      sync.Mutex // guards what follows; never held while the store works
	waiting []Call     // oldest first
	first   int64      // the number of waiting[0]
	dropped int64
	nudge   nudge
}

func (q *queue) filling() <-chan struct{} { return q.nudge.wait() }

func (q *queue) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.first += int64(len(q.waiting))
	q.waiting = nil
}

// removeOldest removes the n oldest.
func (q *queue) removeOldest(n int) {
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	q.first += int64(n)
}

// Record puts a call on its way into the log. It never waits: when the store is
// slower than the calls, the oldest that wait are dropped and counted.
func (b *Book) Record(c Call) {
	if b.Settings.Get().RIDLogRows == 0 {
		return
	}
	for _, text := range []*string{&c.Path, &c.Query, &c.Request, &c.Response, &c.ClientIP, &c.Detail} {
		*text = storable(*text)
	}
	q := &b.calls
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == waitingMax {
		q.removeOldest(1)
		q.dropped++
	}
	q.waiting = append(q.waiting, c)
	if len(q.waiting) >= batch {
		q.nudge.poke()
	}
}

// storable cuts a text and takes out what a database refuses: one call must not
// keep the others from being written.
func storable(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText] + "…"
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// Dropped is how many calls this process could not write.
func (b *Book) Dropped() int64 {
	b.calls.mu.Lock()
	defer b.calls.mu.Unlock()
	return b.calls.dropped
}

// Waiting is how many calls are not written yet.
func (b *Book) Waiting() int {
	b.calls.mu.Lock()
	defer b.calls.mu.Unlock()
	return len(b.calls.waiting)
}

func (b *Book) flushCalls(ctx context.Context) error {
	q := &b.calls
	q.writing.Lock()
	defer q.writing.Unlock()
	for {
		q.mu.Lock()
		calls := slices.Clone(q.waiting[:min(len(q.waiting), batch)])
		end := q.first + int64(len(calls))
		q.mu.Unlock()
		if len(calls) == 0 {
			return nil
		}
		rows := int64(b.Settings.Get().RIDLogRows)
		oldest := ridPrefix(b.Now().Add(-Kept))
		if !b.mayForget() {
			oldest = "" // nothing sorts before it
		}
		err := b.Store.UpdateCalls(ctx, func(tx Tx) error {
			newest, err := tx.AddCalls(ctx, calls)
			if err != nil {
				return err
			}
			// More than came in, so that a smaller bound is reached in the end, and
			// not so much that others wait long.
			return tx.ForgetCalls(ctx, newest-rows, oldest, 2*batch)
		})
		if err != nil {
			return err
		}
		q.mu.Lock()
		// Some may have been dropped meanwhile.
		q.removeOldest(int(max(0, end-q.first)))
		q.mu.Unlock()
	}
}

// Look returns a call to the operator; ErrNoCall.
func (b *Book) Look(ctx context.Context, rid string) (Call, error) { return b.find(ctx, rid) }

// Find returns a call to the account that made it: 76002 for a text that is no
// request id, 76004 for one that is older than seven days, 76001 for one that
// is not in the log, 76003 for another account's. Contract: rules 3.1.
func (b *Book) Find(ctx context.Context, account, rid string) (Call, error) {
	at, ok := ridTime(rid)
	if !ok {
		return Call{}, errcode.RIDInvalid.With(behaviour.RIDForm, "%.40q has not the form of a request id", rid)
	}
	if b.Now().Sub(at) > Kept {
		return Call{}, errcode.RIDTooOld.With(behaviour.RIDOld, "%s is of %s", rid, at.UTC().Format(time.RFC3339))
	}
	c, err := b.find(ctx, rid)
	switch {
	case errors.Is(err, ErrNoCall):
		return Call{}, errcode.RIDNotFound.With(behaviour.RIDUnknown, "no call of a known account has the request id %s", rid)
	case err != nil:
		return Call{}, err
	case c.Account != account:
		return Call{}, errcode.RIDForbidden.With(behaviour.RIDOther, "%s is a call of %s, not of %s", rid, c.Account, account)
	}
	return c, nil
}

// find looks among what waits, then in the store: a call that leaves the first
// is in the second.
func (b *Book) find(ctx context.Context, rid string) (Call, error) {
	b.calls.mu.Lock()
	i := slices.IndexFunc(b.calls.waiting, func(c Call) bool { return c.RID == rid })
	if i >= 0 {
		defer b.calls.mu.Unlock()
		return b.calls.waiting[i], nil
	}
	b.calls.mu.Unlock()
	var c Call
	err := b.Store.ViewCalls(ctx, func(tx Tx) (err error) {
		c, err = tx.Call(ctx, rid)
		return err
	})
	return c, err
}

// ridPrefix is what the request ids of a second begin with. Contract: rules 0.
func ridPrefix(at time.Time) string { return fmt.Sprintf("%08x", uint32(at.Unix())) }

// ridTime is the second in a request id; ok is false for another text.
func ridTime(rid string) (at time.Time, ok bool) {
	if len(rid) != 26 {
		return time.Time{}, false
	}
	for i, c := range []byte(rid) {
		switch {
		case i == 8 || i == 17:
			ok = c == '-'
		default:
			ok = c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		}
		if !ok {
			return time.Time{}, false
		}
	}
	second, err := strconv.ParseInt(rid[:8], 16, 64)
	return time.Unix(second, 0), err == nil
}
