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
	// maxReceivers is the maximum number of receivers served concurrently.
	maxReceivers = 64
	// sendTime is the maximum time for which one goroutine sends to a receiver before other receivers get their turn. sendTime is
	// shorter than any lease: rows still unsent after that time are returned to the queue.
	sendTime = 30 * time.Second
	// openTime is the time for which the result of Policy.Open is used: rows of a claim are not sent to a receiver that was deleted,
	// disabled or changed earlier than this.
	openTime = time.Second
	// patience is the number of consecutive failures after which a receiver is considered unavailable.
	patience = 3
	// logInterval is the minimum interval between two log messages about given-up rows of a receiver.
	logInterval = time.Minute
)

// Sender sends the rows of one kind. All rows are in the store, so a restart of a Sender loses none of them: a crash, another node or a
// clock change affects only the time at which a row is sent.
type Sender struct {
	Policy
	Options
	Store Store

	awake   chan struct{}
	failing map[string]error // by task of Policy.Before: the last logged failure
	wait    sync.WaitGroup
	mu      sync.Mutex
	busy    map[string]bool // receivers for which a goroutine is running
	last    string          // the receiver for which a goroutine was started last
	givenUp map[string]givenUpCount
}

// Options holds the environment of a Sender. All fields except OnTimeout and OnAttempt are required.
type Options struct {
	// Post sends one HTTP request.
	Post func(context.Context, safehttp.Request) (safehttp.Answer, error)
	Now  func() time.Time
	// RealNow returns the real time, to measure how long a goroutine has sent to one receiver.
	RealNow func() time.Time
	// OnTimeout is called for an attempt that timed out; nil = no callback.
	OnTimeout func(Kind, Row)
	// OnAttempt is called after every attempt; nil = no callback.
	OnAttempt func(kind Kind, accepted bool)
	Log       *slog.Logger
}

// givenUpCount counts the rows of a receiver that were given up since the last log message.
type givenUpCount struct {
	n        int
	reason   string
	loggedAt time.Time
}

// New returns a sender of the rows in s.
func New(p Policy, s Store, o Options) *Sender {
	return &Sender{Policy: p, Options: o, Store: s, awake: make(chan struct{}, 1), busy: map[string]bool{},
		givenUp: map[string]givenUpCount{}}
}

// Wake starts the next poll immediately.
func (s *Sender) Wake() {
	select {
	case s.awake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// Run sends rows until ctx ends, and returns after the last request has finished. Due rows are determined by the server's clock,
// which may jump; the poll interval is measured in real time.
func (s *Sender) Run(ctx context.Context, interval time.Duration) {
	defer s.wait.Wait()
	tick := time.Tick(interval)
	for {
		s.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick:
		case <-s.awake:
		}
	}
}

// RunOnce polls once for due rows, and returns when the sending of these rows has ended.
func (s *Sender) RunOnce(ctx context.Context) {
	s.round(ctx)
	s.wait.Wait()
}

// round polls once, and starts a goroutine for each receiver that has due rows.
func (s *Sender) round(ctx context.Context) {
	var taskErrs error
	if s.Before != nil {
		hasMore, err := s.Before(ctx)
		taskErrs = err
		if hasMore {
			s.Wake()
		}
	}
	s.logGivenUp(ctx)
	var due []string
	err := s.Store.ViewOutbox(ctx, func(tx Tx) (err error) {
		due, err = tx.Receivers(ctx, s.Kind, s.Now(), 1000)
		return err
	})
	s.logTaskErrors(ctx, taskErrors(errors.Join(taskErrs, WrapTask("what is due", err))))
	// The round continues after the receiver that was started last, so that slow receivers cannot starve other receivers.
	slices.Sort(due)
	first, _ := slices.BinarySearch(due, s.last+"\x00")
	for i := range due {
		s.start(ctx, due[(first+i)%len(due)])
	}
}

// logTaskErrors logs each task of Policy.Before once when the task begins to fail, and once when the task works again.
func (s *Sender) logTaskErrors(ctx context.Context, causes map[string]error) {
	if ctx.Err() != nil {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(causes)) {
		if s.failing[part] == nil {
			s.logFault(ctx, "outbox component failed", causes[part], "component", part, "will_retry", true)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(s.failing)) {
		if causes[part] == nil {
			s.Log.InfoContext(ctx, "outbox component recovered", "queue", s.Kind, "component", part)
		}
	}
	s.failing = causes
}

// logFault logs an error, unless ctx has ended.
func (s *Sender) logFault(ctx context.Context, kind string, err error, attrs ...any) {
	if err != nil && ctx.Err() == nil {
		s.Log.ErrorContext(ctx, kind, append([]any{"queue", s.Kind, "error", err}, attrs...)...)
	}
}

// start starts a goroutine for a receiver, unless the receiver already has one or maxReceivers are running.
func (s *Sender) start(ctx context.Context, receiver string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[receiver] || len(s.busy) >= maxReceivers {
		return
	}
	s.busy[receiver], s.last = true, receiver
	s.wait.Go(func() {
		repeat := s.sendDue(ctx, receiver)
		s.mu.Lock()
		delete(s.busy, receiver)
		s.mu.Unlock()
		if repeat {
			s.Wake()
		}
	})
}

// sendDue sends the due rows of a receiver until sendTime has passed or the receiver seems unavailable, and reports whether more rows
// may be due.
func (s *Sender) sendDue(ctx context.Context, receiver string) (repeat bool) {
	began, seen := s.RealNow(), health{}
	for ctx.Err() == nil {
		n, hasMore, err := s.batch(ctx, receiver, &seen)
		if err != nil {
			s.logFault(ctx, "sending rows failed; some may be sent twice", err, "receiver", receiver)
			return false
		}
		if n == 0 || !hasMore {
			return repeat && hasMore
		}
		repeat = true
		if s.RealNow().Sub(began) > sendTime {
			return true
		}
	}
	return false
}

// batch claims some rows, sends them in order, and stores the results; hasMore is false if sending to the receiver must pause.
func (s *Sender) batch(ctx context.Context, receiver string, seen *health) (n int, hasMore bool, err error) {
	began, now := s.RealNow(), s.Now()
	until := now.Add(s.Lease)
	var rows []Row
	gaveUp, reason := 0, fmt.Sprintf("more than %d deliveries were pending, and it was one of the oldest", s.MaxWaiting)
	err = s.Store.UpdateOutbox(ctx, func(tx Tx) (err error) {
		gaveUp = 0
		if s.MaxWaiting > 0 {
			if gaveUp, err = tx.DeadLetterRows(ctx, s.Kind, receiver, s.MaxWaiting, reason); err != nil {
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
	// If Open fails, the rows are due again when the lease ends.
	opened := s.RealNow()
	seal, err := s.Open(ctx, receiver)
	if err != nil {
		return 0, false, err
	}
	hasMore = s.sendAll(ctx, rows, seen, func(r *Row) { r.NextAt = now }, func() sealer {
		t := s.RealNow()
		if seal != nil && t.Sub(opened) > openTime {
			opened = t
			if seal, err = s.Open(ctx, receiver); err != nil {
				return nil // the next batch returns the error if it persists
			}
		}
		if t.Sub(began) > sendTime {
			return nil
		}
		return seal
	})
	// The rows were sent: their results are stored even if the server is stopping.
	ctx = context.WithoutCancel(ctx)
	return len(rows), hasMore, s.Store.UpdateOutbox(ctx, func(tx Tx) error {
		for _, r := range rows {
			// If SaveRow returns false, the lease has expired and another node has claimed the row.
			if _, err := tx.SaveRow(ctx, s.Kind, r, until); err != nil {
				return err
			}
		}
		return nil
	})
}

// health records how a receiver responded to recent attempts.
type health struct {
	failures int  // number of consecutive failures
	accepted bool // the receiver accepted a row
}

// sealer builds the request of a row.
type sealer = func(*Row) (safehttp.Request, error)

// sendAll sends rows sequentially until the receiver accepts one, then up to Parallel rows concurrently. When sending to the receiver must
// pause, or open returns nil, sendAll calls back(r) for each unsent row r, and returns hasMore = false. open is called before each row.
func (s *Sender) sendAll(ctx context.Context, rows []Row, seen *health, back func(*Row), open func() sealer) (hasMore bool) {
	var mu sync.Mutex // guards hasMore, seen and waits, and serializes open
	hasMore = true
	waits := map[string]time.Time{} // by OrderKey: the time until which rows wait for an older row
	fn := func(r *Row) {
		mu.Lock()
		var seal sealer
		if hasMore = hasMore && ctx.Err() == nil && seen.failures < patience; hasMore {
			seal = open()
			hasMore = seal != nil
		}
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
		result := s.send(ctx, seal, r)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case result.failed:
			seen.failures++
			if r.OrderKey != "" {
				waits[r.OrderKey] = r.NextAt
			}
		case !r.DeliveredAt.IsZero():
			*seen = health{accepted: true}
		}
		hasMore = hasMore && !result.pause
	}
	for len(rows) > 0 && (s.Parallel < 2 || !seen.accepted) {
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
	_ = sending.Wait() // always nil
	return hasMore
}

// chains groups rows that must be sent sequentially: rows with the same OrderKey form one chain, and each row without an OrderKey
// is its own chain.
func chains(rows []Row) (list [][]*Row) {
	chain := map[string]int{} // index in list, by OrderKey
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

// sendResult is the result of an attempt to send a row.
type sendResult struct {
	failed bool // the receiver rejected the row or was unreachable
	pause  bool // sending to the receiver must pause
}

// send sends one row and sets its next state.
func (s *Sender) send(ctx context.Context, seal sealer, r *Row) sendResult {
	request, err := seal(r)
	if useless, ok := errors.AsType[ErrSkip](err); ok {
		r.NextAt, r.Error = time.Time{}, string(useless)
		s.gaveUp(r.Receiver, 1, r.Error)
		return sendResult{}
	}
	if err != nil { // the row is due again when its lease ends
		s.logFault(ctx, "row not prepared for sending", err, "receiver", r.Receiver, "row", r.ID)
		return sendResult{pause: true}
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
		r.NextAt = began // this server stopped during the attempt: not a failure of the receiver
		return sendResult{pause: true}
	}
	r.Attempts++
	r.SentAt, r.Status, r.Error = began, answer.Status, fault
	if s.OnAttempt != nil {
		s.OnAttempt(s.Kind, fault == "")
	}
	if fault == "" {
		r.NextAt, r.DeliveredAt = time.Time{}, ended
		return sendResult{}
	}
	r.NextAt = s.NextAttempt(*r, began, ended)
	s.Log.WarnContext(ctx, "delivery failed", "queue", s.Kind, "receiver", r.Receiver, "row", r.ID, "event",
		r.Event,
		"attempt", r.Attempts, "status", r.Status, "reason", r.Error, "will_retry", !r.NextAt.IsZero())
	if s.OnGone != nil && answer.Status == http.StatusGone {
		s.Log.WarnContext(ctx, "receiver disabled after status 410", "queue", s.Kind, "receiver", r.Receiver)
		s.logFault(ctx, "receiver not disabled", s.OnGone(context.WithoutCancel(ctx), *r), "receiver", r.Receiver)
		return sendResult{failed: true, pause: true}
	}
	return sendResult{failed: true}
}

func (s *Sender) gaveUp(receiver string, n int, reason string) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.givenUp[receiver]
	g.n, g.reason = g.n+n, reason
	s.givenUp[receiver] = g
}

// logGivenUp logs the rows that were given up, at most once per logInterval for each receiver.
func (s *Sender) logGivenUp(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.RealNow()
	for receiver, g := range s.givenUp {
		if passed := now.Sub(g.loggedAt); passed >= 0 && passed < logInterval {
			continue
		}
		if g.n == 0 {
			delete(s.givenUp, receiver)
			continue
		}
		s.Log.WarnContext(ctx, "pending deliveries dropped", "queue", s.Kind, "receiver", receiver, "rows", g.n, "reason", g.reason)
		s.givenUp[receiver] = givenUpCount{loggedAt: now}
	}
}

// oneLine returns the reason of a failure as one line of limited length.
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
