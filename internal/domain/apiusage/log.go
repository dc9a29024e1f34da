package apiusage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// Call is one entry of the call log; it contains no secrets. Nodes of different versions read each other's entries, so a JSON field
// never changes its name or meaning.
type Call struct {
	RID        string        `json:"rid"`
	Account    string        `json:"account"`     // account that made the call
	OccurredAt time.Time     `json:"occurred_at"` // stored in whole milliseconds
	Duration   time.Duration `json:"duration_ns"` // stored in whole milliseconds
	Path       string        `json:"path"`
	Query      string        `json:"query,omitempty"`
	Request    string        `json:"request,omitempty"`
	Response   string        `json:"response,omitempty"`
	ClientIP   string        `json:"ip,omitempty"`
	ErrCode    int           `json:"errcode,omitempty"`
	Detail     string        `json:"detail,omitempty"` // detail text of the error
	// Behaviours lists the IDs of the behaviours on which the result of the call depends, see package behaviour.
	Behaviours []string `json:"behaviours,omitempty"`
}

const (
	// Retention is the retention period of logged calls. Contract: rules §3.1.
	Retention = 7 * 24 * time.Hour
	// MaxText is the maximum number of bytes that are stored of a body.
	MaxText = 4 << 10
	// waitingMax is the capacity of the queue of calls; waitingMany is the length at which the queue is written before the end of
	// the Window.
	waitingMax  = 10_000
	waitingMany = waitingMax / 4
)

// queue holds the calls that are not written to the store yet.
type queue struct {
	writing     sync.Mutex // held by the goroutine that writes calls to the store
	writeBuffer []Call     // buffer for the calls that are being written

	mu      sync.Mutex // guards the following fields; never held during a store operation
	waiting []Call     // oldest first
	first   int64      // the sequence number of waiting[0]
	dropped int64
	nudge   waker
}

func (q *queue) reset() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.first += int64(len(q.waiting))
	q.waiting = nil
}

// removeOldest removes the n oldest calls from the queue.
func (q *queue) removeOldest(n int) {
	clear(q.waiting[:n])
	q.waiting = q.waiting[n:]
	q.first += int64(n)
}

// Record queues a call for the call log. Record never blocks: if the store is slower than the calls, the oldest waiting calls are
// dropped and counted.
func (s *Service) Record(c Call) {
	if s.Settings.Get().CallLogMaxRows == 0 {
		return
	}
	for _, text := range []*string{&c.Path, &c.Query, &c.Request, &c.Response, &c.ClientIP, &c.Detail} {
		*text = storable(*text)
	}
	c.OccurredAt, c.Duration = c.OccurredAt.UTC().Truncate(time.Millisecond), c.Duration.Truncate(time.Millisecond)
	if c.OccurredAt.Year() > 9999 { // an emulated clock can reach the year 10000, which JSON times cannot represent
		c.OccurredAt = time.Time{}
	}
	q := &s.calls
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == waitingMax {
		q.removeOldest(1)
		q.dropped++
	}
	q.waiting = append(q.waiting, c)
	if len(q.waiting) >= waitingMany {
		q.nudge.poke()
	}
}

// storable truncates a text and removes characters that a database rejects, which would prevent the writing of all waiting calls.
func storable(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

// Dropped returns the number of calls that this process dropped without writing them.
func (s *Service) Dropped() int64 {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return s.calls.dropped
}

// Waiting returns the number of calls that are not written yet.
func (s *Service) Waiting() int {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	return len(s.calls.waiting)
}

// For n new blocks, at most n + forgetMore old blocks are deleted.
const forgetMore = 100

// flushCalls writes all waiting calls in one transaction.
func (s *Service) flushCalls(ctx context.Context) error {
	q := &s.calls
	q.writing.Lock()
	defer q.writing.Unlock()
	q.mu.Lock()
	calls := append(q.writeBuffer[:0], q.waiting...)
	end := q.first + int64(len(calls))
	q.mu.Unlock()
	if len(calls) == 0 {
		return nil
	}
	defer func() { clear(calls); q.writeBuffer = calls }()
	rows := s.Settings.Get().CallLogMaxRows
	blocks := blocksOf(calls[max(0, len(calls)-rows):])
	oldest := s.Now().Add(-Retention).Unix()
	if !s.mayForget() {
		oldest = math.MinInt64
	}
	err := s.Store.Update(ctx, func(tx Tx) error {
		newest, err := tx.AddCalls(ctx, blocks)
		if err != nil {
			return err
		}
		// More blocks are deleted than were added, so that the log shrinks after its limit was reduced. Only a few (forgetMore) additional
		// blocks are deleted, so that other transactions do not wait long.
		return tx.ForgetCalls(ctx, newest-int64(rows), oldest, len(blocks)+forgetMore)
	})
	if err != nil {
		return fmt.Errorf("writing the call log: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	// Some calls may have been dropped from the queue during the write. The remaining calls move to the front of the buffer, to
	// make room for new calls.
	written := int(max(0, end-q.first))
	left := copy(q.waiting, q.waiting[written:])
	clear(q.waiting[left:])
	q.waiting, q.first = q.waiting[:left], q.first+int64(written)
	return nil
}

// Find returns a logged call of an account. The errors are 76002 for a malformed request ID, 76004 for a request ID older than seven days,
// 76001 for a call that is not in the log, and 76003 for another account's call. Contract: rules §3.1.
func (s *Service) Find(ctx context.Context, account, rid string) (Call, error) {
	t, ok := ridTime(rid)
	if !ok {
		return Call{}, errcode.RIDInvalid.WithDetail(behaviour.RIDForm, "%.40q does not have the form of a request id", rid)
	}
	if s.Now().Sub(t) > Retention {
		return Call{}, errcode.RIDTooOld.WithDetail(behaviour.RIDOld, "%s is of %s", rid, t.UTC().Format(time.RFC3339))
	}
	c, err := s.Get(ctx, rid)
	switch {
	case errors.Is(err, ErrNoCall):
		return Call{}, errcode.RIDNotFound.WithDetail(behaviour.RIDUnknown, "no call of a known account has the request id %s", rid)
	case err != nil:
		return Call{}, err
	case strings.HasPrefix(c.Path, "/sns/"):
		return Call{}, errcode.RIDNotFound.WithDetail(behaviour.RIDUnknown, "%s is the request id of a call to %s, which rid/get does not return", rid, c.Path)
	case c.Account != account:
		return Call{}, errcode.RIDForbidden.WithDetail(behaviour.RIDOther, "%s is a call of %s, not of %s", rid, c.Account, account)
	}
	return c, nil
}

// Get returns the call of any account for the operator, or ErrNoCall. It searches the queue first and then the store, because calls move
// from the queue to the store.
func (s *Service) Get(ctx context.Context, rid string) (Call, error) {
	s.calls.mu.Lock()
	i := slices.IndexFunc(s.calls.waiting, func(c Call) bool { return c.RID == rid })
	if i >= 0 {
		defer s.calls.mu.Unlock()
		return s.calls.waiting[i], nil
	}
	s.calls.mu.Unlock()
	var c Call
	err := s.Store.View(ctx, func(tx Tx) error {
		blocks, err := tx.Calls(ctx, ridSecond(rid))
		if err != nil {
			return err
		}
		for _, block := range blocks {
			var ok bool
			if c, ok, err = block.find(rid); ok || err != nil {
				return err
			}
		}
		return ErrNoCall
	})
	return c, err
}

// ridSecond returns the second that a request ID starts with, 0 for any other text. Contract: rules §0.
func ridSecond(rid string) int64 {
	t, ok := ridTime(rid)
	if !ok {
		return 0
	}
	return t.Unix()
}

var ridForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)

// ridTime returns the time in a request ID; ok is false for any other text.
func ridTime(rid string) (t time.Time, ok bool) {
	if !ridForm.MatchString(rid) {
		return time.Time{}, false
	}
	second, err := strconv.ParseInt(rid[:8], 16, 64)
	return time.Unix(second, 0), err == nil
}
