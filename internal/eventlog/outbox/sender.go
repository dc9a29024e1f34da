package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

const (
	// maxReceivers is the maximum number of receivers that are sent to at once.
	maxReceivers = 64
	// handTime is the time for which one goroutine sends to a receiver before other receivers have their turn. It is shorter than
	// any lease: rows that are not sent by then are put back.
	handTime = 30 * time.Second
	// patience is the number of failures in a row after which a receiver is taken for away.
	patience = 3
	// sayAgain is the interval at which the log reports rows that were given up unanswered.
	sayAgain = time.Minute
)

// Sender sends the rows of one kind. It keeps nothing that a restart could lose, since the rows are
// in the store: a crash, another node or a clock that was moved change only when a row is sent.
type Sender struct {
	Policy
	Store Store
	// Post sends a request.
	Post func(context.Context, safehttp.Request) (safehttp.Answer, error)
	Now  func() time.Time
	// RealNow measures how long a goroutine has had its rows.
	RealNow func() time.Time
	// OnTimeout is called for an attempt that was not answered in time; nil = nothing is called.
	OnTimeout func(Kind, Row)
	// OnAttempt is called for every attempt; nil = nothing is called.
	OnAttempt func(kind Kind, taken bool)
	Log       *slog.Logger

	awake   chan struct{}
	failing map[string]error // which parts of a look were last reported to fail
	wait    sync.WaitGroup
	mu      sync.Mutex
	busy    map[string]bool // receivers
	last    string          // the receiver that was started last
	given   map[string]givenUp
}

// givenUp counts rows that were given up unanswered since the log last said so.
type givenUp struct {
	n    int
	why  string
	said time.Time
}

// New returns a sender; Post and the clocks are set by the caller.
func New(p Policy, s Store, log *slog.Logger) *Sender {
	return &Sender{Policy: p, Store: s, Log: log, awake: make(chan struct{}, 1), busy: map[string]bool{}, given: map[string]givenUp{}}
}

// Wake makes the next look begin at once.
func (s *Sender) Wake() {
	select {
	case s.awake <- struct{}{}:
	default: // a wake-up waits already
	}
}

// Run sends until ctx ends, and returns once no request is under way. The server's clock, which may
// jump, says which rows are due; it looks for them every interval of real time.
func (s *Sender) Run(ctx context.Context, interval time.Duration) {
	defer s.wait.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.awake:
		}
	}
}

// RunOnce looks once for rows that are due, and returns when all that it began to send is done.
func (s *Sender) RunOnce(ctx context.Context) {
	s.round(ctx)
	s.wait.Wait()
}

// round looks once, and begins to send to the receivers that have rows that are due.
func (s *Sender) round(ctx context.Context) {
	var faults error
	if s.Before != nil {
		hasMore, err := s.Before(ctx)
		if faults = err; hasMore {
			s.Wake()
		}
	}
	s.sayGivenUp(ctx)
	var due []string
	err := s.Store.ViewOutbox(ctx, func(tx Tx) (err error) {
		due, err = tx.Receivers(ctx, s.Kind, s.Now(), 1000)
		return err
	})
	s.sayFaults(ctx, faultsOf(errors.Join(faults, WrapPart("what is due", err))))
	// It begins after the receiver that was started last, so that slow receivers cannot keep the
	// others from their turn for ever.
	slices.Sort(due)
	first, _ := slices.BinarySearch(due, s.last+"\x00")
	for i := range due {
		s.start(ctx, due[(first+i)%len(due)])
	}
}

// sayFaults logs once what begins to fail, and once what works again.
func (s *Sender) sayFaults(ctx context.Context, currentCauses map[string]error) {
	if ctx.Err() != nil {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(currentCauses)) {
		if s.failing[part] == nil {
			s.logFault(ctx, "what is to be sent could not be prepared; it is tried again", currentCauses[part], "part", part)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(s.failing)) {
		if currentCauses[part] == nil {
			s.Log.InfoContext(ctx, "what is to be sent is prepared again", "outbox", s.Kind, "part", part)
		}
	}
	s.failing = currentCauses
}

// logFault logs an error that is not the end of ctx.
func (s *Sender) logFault(ctx context.Context, kind string, err error, moreVs ...any) {
	if err != nil && ctx.Err() == nil {
		s.Log.ErrorContext(ctx, kind, append([]any{"outbox", s.Kind, "error", err}, moreVs...)...)
	}
}

// start begins a goroutine for a receiver, unless it has one already or the most are running.
func (s *Sender) start(ctx context.Context, receiver string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[receiver] || len(s.busy) >= maxReceivers {
		return
	}
	s.busy[receiver], s.last = true, receiver
	s.wait.Go(func() {
		repeat := s.hand(ctx, receiver)
		s.mu.Lock()
		delete(s.busy, receiver)
		s.mu.Unlock()
		if repeat {
			s.Wake()
		}
	})
}

// hand sends a receiver the rows that are due, for handTime or until the receiver seems to be away,
// and reports whether hasMore may be due by now.
func (s *Sender) hand(ctx context.Context, receiver string) (repeat bool) {
	began, seen := s.RealNow(), health{}
	for ctx.Err() == nil {
		n, hasMore, err := s.batch(ctx, receiver, &seen)
		if err != nil {
			s.logFault(ctx, "rows could not be sent or their result not be stored; some may be sent again", err, "receiver", receiver)
			return false
		}
		if n == 0 || !hasMore {
			return repeat && hasMore
		}
		if repeat = true; s.RealNow().Sub(began) > handTime {
			return true
		}
	}
	return false
}

// batch claims some rows, sends them in order, and stores what came back. more
// is false where the receiver gets nothing else for now.
func (s *Sender) batch(ctx context.Context, receiver string, seen *health) (n int, hasMore bool, err error) {
	began, now := s.RealNow(), s.Now()
	until := now.Add(s.Lease)
	var rows []Row
	gaveUp, reason := 0, fmt.Sprintf("more than %d waited, and it was among the oldest", s.Most)
	err = s.Store.UpdateOutbox(ctx, func(tx Tx) (err error) {
		if gaveUp = 0; s.Most > 0 {
			if gaveUp, err = tx.DeadLetterRows(ctx, s.Kind, receiver, s.Most, reason); err != nil {
				return err
			}
		}
		rows, err = tx.ClaimRows(ctx, s.Kind, receiver, now, until, s.Batch)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	s.gaveUp(receiver, gaveUp, reason)
	if len(rows) == 0 {
		return 0, true, nil
	}
	// If this fails, the rows are due again when the lease ends.
	seal, err := s.Open(ctx, receiver)
	if err != nil {
		return 0, false, err
	}
	hasMore = s.sendAll(ctx, rows, seal, seen, func(r *Row) { r.NextAt = now },
		func() bool { return seal == nil || s.RealNow().Sub(began) > handTime })
	// The rows were sent: their results are stored even while the server stops.
	ctx = context.WithoutCancel(ctx)
	return len(rows), hasMore, s.Store.UpdateOutbox(ctx, func(tx Tx) error {
		for _, r := range rows {
			// Where it reports false, this node was too slow and another one has the row.
			if _, err := tx.SaveRow(ctx, s.Kind, r, until); err != nil {
				return err
			}
		}
		return nil
	})
}

// health is a sender's knowledge of its receiver.
type health struct {
	failures int  // in a row
	taken    bool // it took a row
}

// sendAll sends rows, one at a time until the receiver takes one, then up to Parallel at once. Once the receiver gets nothing else for
// now, or lateCallback reports true, it calls back with each row that is left. hasMore is false then.
func (s *Sender) sendAll(ctx context.Context, rows []Row, seal func(*Row) (safehttp.Request, error), seen *health, back func(*Row),
	lateCallback func() bool) (hasMore bool) {
	var mu sync.Mutex // guards more, seen and waits
	hasMore = true
	waits := map[string]time.Time{} // until when rows with an OrderKey wait for an older one
	fn := func(r *Row) {
		mu.Lock()
		hasMore = hasMore && ctx.Err() == nil && seen.failures < patience && !lateCallback()
		stopped, until := !hasMore, waits[r.OrderKey]
		mu.Unlock()
		switch {
		case stopped:
			back(r)
			return
		case !until.IsZero():
			r.NextAt = until
			return
		}
		failed, next := s.send(ctx, seal, r)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case failed:
			if seen.failures++; r.OrderKey != "" {
				waits[r.OrderKey] = r.NextAt
			}
		case !r.DeliveredAt.IsZero():
			*seen = health{taken: true}
		}
		hasMore = hasMore && next
	}
	for len(rows) > 0 && (s.Parallel < 2 || !seen.taken) {
		fn(&rows[0])
		rows = rows[1:]
	}
	var sending errgroup.Group
	sending.SetLimit(max(s.Parallel, 1))
	for _, chain := range chains(rows) {
		sending.Go(func() error {
			for _, r := range chain {
				fn(r)
			}
			return nil
		})
	}
	_ = sending.Wait() // nil
	return hasMore
}

// chains splits rows into those that are sent one after the other: those with the same OrderKey, and each without.
func chains(rows []Row) (list [][]*Row) {
	chain := map[string]int{} // in list, by key
	for i := range rows {
		key := rows[i].OrderKey
		n, known := chain[key]
		if !known || key == "" {
			n = len(list)
			chain[key], list = n, append(list, nil)
		}
		list[n] = append(list[n], &rows[i])
	}
	return list
}

// send sends one row and decides what becomes of it. failed reports whether the receiver did not take it; hasMore is false where the
// receiver gets nothing else for now.
func (s *Sender) send(ctx context.Context, seal func(*Row) (safehttp.Request, error), r *Row) (failed, hasMore bool) {
	request, err := seal(r)
	if useless, ok := errors.AsType[ErrSkip](err); ok {
		r.NextAt, r.Fault = time.Time{}, string(useless)
		s.gaveUp(r.Receiver, 1, r.Fault)
		return false, true
	}
	if err != nil { // it is due again when its lease ends
		s.logFault(ctx, "a row could not be prepared for sending", err, "receiver", r.Receiver, "row", r.ID)
		return false, false
	}
	began := s.Now()
	answer, err := s.Post(ctx, request)
	ended := s.Now()
	if refused, ok := errors.AsType[*safehttp.Error](err); ok {
		if refused.Reason == safehttp.TimedOut && s.OnTimeout != nil {
			s.OnTimeout(s.Kind, *r)
		}
		err = fmt.Errorf("%s (%s)", refused.Detail, refused.Reason)
	}
	fault := oneLine(s.Refusal(r, answer, err))
	if fault != "" && ctx.Err() != nil {
		r.NextAt = began // this server stopped in the middle: no failure of the receiver
		return false, false
	}
	r.Attempts++
	r.SentAt, r.Status, r.Fault = began, answer.Status, fault
	if s.OnAttempt != nil {
		s.OnAttempt(s.Kind, fault == "")
	}
	if fault == "" {
		r.NextAt, r.DeliveredAt = time.Time{}, ended
		return false, true
	}
	r.NextAt = s.NextAttempt(*r, began, ended)
	s.Log.WarnContext(ctx, "a receiver did not take what it was sent", "outbox", s.Kind, "receiver", r.Receiver, "row", r.ID, "event",
		r.Event,
		"attempt", r.Attempts, "status", r.Status, "reason", r.Fault, "again", !r.NextAt.IsZero())
	if s.Gone != nil && answer.Status == http.StatusGone {
		s.Log.WarnContext(ctx, "a receiver answered 410 and is switched off: enable it when it is back", "outbox", s.Kind, "receiver",
			r.Receiver)
		s.logFault(ctx, "it could not be switched off", s.Gone(context.WithoutCancel(ctx), *r), "receiver", r.Receiver)
		return true, false
	}
	return true, true
}

func (s *Sender) gaveUp(receiver string, n int, reason string) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.given[receiver]
	g.n, g.why = g.n+n, reason
	s.given[receiver] = g
}

// sayGivenUp logs what was given up without an answer, once a minute for each receiver.
func (s *Sender) sayGivenUp(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.RealNow()
	for receiver, g := range s.given {
		if passed := now.Sub(g.said); passed >= 0 && passed < sayAgain {
			continue
		}
		if g.n == 0 {
			delete(s.given, receiver)
			continue
		}
		s.Log.WarnContext(ctx, "what waited for a receiver was given up: it is away, does not take it, or not fast enough",
			"outbox", s.Kind, "receiver", receiver, "rows", g.n, "reason", g.why)
		s.given[receiver] = givenUp{said: now}
	}
}

// oneLine returns a fault as one line of bounded length.
func oneLine(fault string) string {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(fault, "")), " ")
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, line)
	return strings.ToValidUTF8(line[:min(len(line), 300)], "")
}
