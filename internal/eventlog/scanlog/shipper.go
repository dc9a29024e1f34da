package scanlog

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/infra/semaphore"
)

// Offset is the position up to which a journal was shipped, with the id of the scan at that position. The scan id distinguishes
// this journal from another journal with the same positions.
type Offset struct {
	Position int64
	ID       ScanID
}

// SharedLog is the log to which the shippers of all nodes send their events.
type SharedLog interface {
	// Shipped returns the offset up to which a node's events were stored; the zero Offset = none.
	Shipped(ctx context.Context, node string) (Offset, error)
	// Ship stores a node's events between the offsets "from" and "to", and records "to" as the node's offset, in one transaction. Ship
	// skips events that the shared log already contains. Ship returns ErrNotThere if the node's recorded offset is not "from".
	Ship(ctx context.Context, node string, from, to Offset, events []Entry) error
	// Erased lists the users that were erased after a time in Unix milliseconds.
	Erased(ctx context.Context, after int64) ([]Erasure, error)
}

// Rewinder is a SharedLog that may lose shipped events, while the database still knows which events were counted.
type Rewinder interface {
	SharedLog
	// IsComplete reports whether the log still contains all events that were shipped.
	IsComplete(ctx context.Context) (bool, error)
	// CountedSet returns the set of a node's counted events; nil = unknown.
	CountedSet(ctx context.Context, node string) (*OffsetSet, error)
	// ReportedSet returns the subset of counted events that were reported to webhooks; nil = no webhook waits for events.
	ReportedSet(ctx context.Context, node string) (*OffsetSet, error)
	// Rewind returns the offset at which shipping must continue, for a journal that was shipped up to the offset mark: an offset before
	// mark if shipped events are gone. settled is the position up to which all events are counted and reported to webhooks; -1 = unknown.
	// The next Ship starts from the offset that Rewind returned.
	Rewind(ctx context.Context, mark Offset, settled int64) (Rewound, error)
	// Restart records that shipping continues at the earlier offset that Rewind returned, so that a loss is reported only once.
	Restart(ctx context.Context, from Offset, back Rewound) error
}

// Rewound is the result of Rewind.
type Rewound struct {
	From   int64
	Reason string // the reason for going back to an earlier offset; "" = shipping continues from the old offset
	// Events up to position LeaveOut need not be shipped again if they are counted and reported to webhooks.
	LeaveOut int64
}

// Erasure is an erased user and the time up to which the user's events are anonymous.
type Erasure struct {
	User     UserHash
	ErasedAt int64 // Unix ms
}

// ErrNotThere is returned by Ship if a different offset is recorded for the node.
var ErrNotThere = errors.New("scanlog: a different offset is recorded for this node")

// Shipper sends the events of a node's journal to the shared log. A Shipper removes events from the journal some time after they
// were shipped.
type Shipper struct {
	Journal *Journal
	To      SharedLog
	Node    string
	// Random provides a new node name if the journal turns out to be a copy of another node's journal.
	Random io.Reader
	Now    func() time.Time // the real time
	Log    *slog.Logger
	// Keep is the time for which events stay in the journal after shipping; 0 = an hour.
	Keep time.Duration
	// ClockBelieved reports whether Now is reliable enough to decide which events are old and can be removed; nil = always.
	ClockBelieved func() bool
	// Batch is the number of events shipped at once; 0 = 5,000.
	Batch int
	// NeededFrom returns the position up to which no other reader needs the journal; nil = there is no other reader.
	NeededFrom func() int64
	// Pause is the minimum time between two batches that are not full, to limit the number of transactions; 0 = 100 ms.
	Pause time.Duration

	shipping   semaphore.Semaphore // one goroutine ships at a time
	shipped    Offset
	known      bool       // true if shipped equals the offset recorded in the shared log
	through    int64      // every readable event up to this position was shipped
	erased     int64      // erasures up to this time are applied to the journal
	countedSet *OffsetSet // counted events at the last query of the shared log; nil = unknown
	reported   *OffsetSet // events reported to webhooks at the last query of the shared log; nil = no webhook waits for events
	leaveOut   int64      // events up to this position are not shipped if they are counted and reported to webhooks

	position atomic.Int64
	id       atomic.Pointer[string] // the value of Node after a renaming
	lost     atomic.Int64
	last     error // result of the last Flush that ended; the semaphore shipping guards it
}

const nodeFile = "node"

// NodeID returns the node name under which a journal's events are shipped; the name is created at random on first use.
func (j *Journal) NodeID(random io.Reader) (string, error) {
	f, err := j.disk.open(j.path(nodeFile))
	if err == nil {
		defer f.Close()
		text := make([]byte, 32)
		if _, err := f.ReadAt(text, 0); err == nil {
			return string(text), nil
		}
	}
	return j.newNodeID(random, 0)
}

// NamedAt returns the position up to which the journal's events may have been shipped under a former name.
func (j *Journal) NamedAt() (upTo int64) {
	text, err := os.ReadFile(filepath.Join(j.dir, nodeFile))
	if _, rest, found := strings.Cut(string(text), " "); err == nil && found {
		upTo, _ = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	}
	return upTo
}

func (j *Journal) newNodeID(random io.Reader, namedAt int64) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("creating the node ID: %w", err)
	}
	text := hex.EncodeToString(id[:])
	if err := writeWhole(j.disk, filepath.Join(j.dir, nodeFile), fmt.Appendf(nil, "%s %d\n", text, namedAt)); err != nil {
		return "", fmt.Errorf("storing the node ID: %w", err)
	}
	return text, nil
}

// Last returns the offset of the journal's last event.
func (j *Journal) Last(ctx context.Context) (m Offset, err error) {
	m.Position = j.end()
	for e, err := range j.Read(ctx, m.Position-1) {
		if err != nil {
			return m, err
		}
		m.ID = e.ID
		break
	}
	return m, nil
}

// Is reports whether an offset belongs to this journal: the event at mark.Position has the id mark.ID, or was removed by retention.
func (j *Journal) Is(ctx context.Context, mark Offset) (bool, error) {
	if mark.Position == 0 {
		return true, nil
	}
	oldest := int64(0)
	for e, err := range j.Read(ctx, mark.Position-1) {
		if err != nil {
			return false, err
		}
		if e.Position == mark.Position {
			return e.ID == mark.ID, nil
		}
		oldest = e.Position
		break
	}
	forgotten := oldest > mark.Position || oldest == 0 && j.end() == mark.Position
	return forgotten && j.forgot(mark.Position), nil
}

// Run ships events until ctx ends. Events that cannot be shipped stay in the journal. A nil Shipper ships nothing.
func (s *Shipper) Run(ctx context.Context) {
	if s == nil {
		return
	}
	pause := cmp.Or(s.Pause, 100*time.Millisecond)
	wait := time.NewTimer(0)
	defer wait.Stop()
	next := s.Now()
	for delay := time.Duration(0); ; {
		wait.Reset(delay)
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		err := s.Flush(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Failed attempts are retried without limit, with delays that double up to five seconds.
			delay = min(max(2*delay, pause), 5*time.Second)
			continue
		}
		if now := s.Now(); !now.Before(next) {
			next = now.Add(time.Minute)
			s.tidy(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.Journal.Grown(s.position.Load()):
			delay = pause
		case <-time.After(time.Minute):
			delay = 0
		}
		if closed := s.Journal.isClosed(); closed && s.Backlog() == 0 {
			return
		}
	}
}

func (j *Journal) isClosed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.closed
}

// Flush ships all events that were durable when Flush was called.
func (s *Shipper) Flush(ctx context.Context) error {
	// Waiting for another call of Flush ends with ctx, because the commit of that call may wait for a database replica.
	release, err := s.shipping.Acquire(ctx, 1, 0)
	if err != nil {
		return err
	}
	defer release()
	end := s.Journal.end()
	err = s.verifyShipped(ctx)
	for err == nil && (!s.known || max(s.shipped.Position, s.through) < end) {
		if err = s.step(ctx, end); errors.Is(err, ErrNotThere) {
			err = s.step(ctx, end) // try again, because the first attempt may have changed the start offset
		}
	}
	prevErr := s.last
	s.last = err
	if ctx.Err() == nil && (prevErr != nil) != (err != nil) {
		if err != nil {
			s.Log.WarnContext(ctx, "scan shipping failed", "will_retry", true, "error", err)
		} else {
			s.Log.InfoContext(ctx, "scan shipping recovered")
		}
	}
	return err
}

// verifyShipped checks that the shipped events still exist.
func (s *Shipper) verifyShipped(ctx context.Context) error {
	if !s.known {
		return nil
	}
	r, ok := s.To.(Rewinder)
	if !ok {
		if s.shipped.Position < s.Journal.end() {
			return nil // there are events to ship: the next call of Ship will detect a loss
		}
		// If the database was restored to an earlier state, or lost its last commits, the lost events must be shipped again.
		storedOffset, err := s.To.Shipped(ctx, s.Node)
		if err != nil {
			return fmt.Errorf("reading the shipped offset: %w", err)
		}
		s.known = storedOffset == s.shipped
		return nil
	}
	complete, err := r.IsComplete(ctx)
	if err != nil || !complete {
		s.known = false
	}
	if err != nil {
		return fmt.Errorf("checking whether the stream still has the shipped scans: %w", err)
	}
	return nil
}

// step ships one batch.
func (s *Shipper) step(ctx context.Context, end int64) error {
	if !s.known {
		if err := s.locate(ctx); err != nil {
			return err
		}
	}
	size := cmp.Or(s.Batch, 5000)
	events := make([]Entry, 0, min(size, int(max(0, end-s.shipped.Position))))
	to, n := s.shipped, 0
	for e, err := range s.Journal.Read(ctx, s.shipped.Position) {
		if err != nil {
			return err
		}
		taken := s.countedSet.Has(e.Position)
		if e.Position > s.leaveOut || !taken || s.reported != nil && !s.reported.Has(e.Position) {
			e.From = Origin{Node: s.Node, Position: e.Position, Reshipped: taken}
			events = append(events, e)
		}
		to = Offset{e.Position, e.ID}
		n++
		if n == size {
			break
		}
	}
	if n == 0 { // the rest of the journal is unreadable or empty
		s.through = end
		s.position.Store(end)
		return nil
	}
	err := s.To.Ship(ctx, s.Node, s.shipped, to, events)
	if err != nil {
		s.known = false // the response may have been lost although the events were stored
		return fmt.Errorf("shipping scans: %w", err)
	}
	s.shipped = to
	s.position.Store(to.Position)
	return nil
}

// locate determines up to which position the journal was shipped.
func (s *Shipper) locate(ctx context.Context) error {
	mark, err := s.To.Shipped(ctx, s.Node)
	if err != nil {
		return fmt.Errorf("reading the shipped offset: %w", err)
	}
	former := ""
	if mark.Position > 0 {
		equal, err := s.Journal.Is(ctx, mark)
		if err != nil {
			return err
		}
		if !equal {
			mark, former = Offset{}, s.Node
			if err = s.rename(ctx); err != nil {
				return err
			}
		}
	}
	if r, ok := s.To.(Rewinder); ok {
		if mark, err = s.rewind(ctx, r, mark, former); err != nil {
			return err
		}
	}
	s.shipped, s.known, s.through = mark, true, 0
	s.position.Store(mark.Position)
	return nil
}

// rename gives the journal a new node name, under which no event was shipped before.
func (s *Shipper) rename(ctx context.Context) error {
	node, err := s.Journal.newNodeID(s.Random, s.Journal.end())
	if err != nil {
		return err
	}
	s.Log.WarnContext(ctx, "journal differs from the shipped one; journal renamed and shipped again", "before", s.Node, "after", node)
	s.Node = node
	s.id.Store(&node)
	return nil
}

// needed returns this node's counted events, the events reported to webhooks, and the position up to which all events are counted and
// reported (settled; -1 = unknown).
func (s *Shipper) needed(ctx context.Context, r Rewinder) (taken, told *OffsetSet, settled int64, err error) {
	if taken, err = r.CountedSet(ctx, s.Node); err != nil || taken == nil {
		return nil, nil, -1, err
	}
	if told, err = r.ReportedSet(ctx, s.Node); err != nil || told == nil {
		return taken, nil, taken.ContiguousTo, err
	}
	return taken, told, min(taken.ContiguousTo, told.ContiguousTo), nil
}

// rewind goes back to the first shipped event that is absent from the shared log. After a rename, shipping begins with the first event
// of the journal that is not counted under the former name.
func (s *Shipper) rewind(ctx context.Context, r Rewinder, mark Offset, former string) (Offset, error) {
	taken, told, settled, err := s.needed(ctx, r)
	if err == nil && taken.Last() > s.Journal.end() {
		// If events beyond this journal's end are already counted under the journal's name, this journal is an older copy, which
		// would reuse the positions of these events for new scans.
		mark, former = Offset{}, s.Node
		if err = s.rename(ctx); err == nil {
			taken, told, settled, err = s.needed(ctx, r)
		}
	}
	if err != nil {
		return mark, fmt.Errorf("reading the counted offsets of this node: %w", err)
	}
	back, err := r.Rewind(ctx, mark, settled)
	if err != nil {
		return mark, fmt.Errorf("reading the shipped offset: %w", err)
	}
	s.countedSet, s.reported, s.leaveOut = taken, told, back.LeaveOut
	if back.Reason == "" {
		return s.skipFormer(ctx, r, mark, back, former)
	}
	oldOffset := mark
	mark, oldest, err := s.markAt(ctx, back.From, oldOffset.Position+1)
	if err != nil {
		return oldOffset, err
	}
	if err := r.Restart(ctx, mark, back); err != nil {
		return oldOffset, err
	}
	if taken == nil {
		taken = &OffsetSet{}
	}
	gone := int64(0)
	if oldest > back.From+1 {
		gone = taken.Missing(oldest-1) - taken.Missing(back.From)
	}
	s.lost.Add(gone)
	log, untold := s.Log.ErrorContext, int64(0)
	if back.LeaveOut > 0 {
		log = s.Log.InfoContext
	}
	if told != nil {
		untold = told.Missing(oldOffset.Position)
	}
	log(ctx, "journal is shipped again", "reason", back.Reason, "from", oldest, "to", oldOffset.Position,
		"uncounted", taken.Missing(oldOffset.Position)-gone, "undelivered", untold, "lost", gone)
	return mark, nil
}

// skipFormer advances the offset of a renamed journal past the events that are certainly counted under the former name, because these
// events must not be shipped again.
func (s *Shipper) skipFormer(ctx context.Context, r Rewinder, mark Offset, back Rewound, former string) (Offset, error) {
	if former == "" || back.From <= mark.Position {
		return mark, nil
	}
	counted, err := r.CountedSet(ctx, former)
	if err != nil {
		return mark, fmt.Errorf("reading the counted offsets of this node under its former ID: %w", err)
	}
	if back.From = min(back.From, counted.From(), s.Journal.end()); back.From <= mark.Position {
		return mark, nil
	}
	skipped, _, err := s.markAt(ctx, back.From, 0)
	if err != nil {
		return mark, err
	}
	return skipped, r.Restart(ctx, skipped, back)
}

// markAt returns the offset at a position. If retention has removed the event there, mark is zero, and oldest is prev or the position of
// the next event in the journal, whichever is smaller.
func (s *Shipper) markAt(ctx context.Context, position, prev int64) (mark Offset, oldest int64, err error) {
	oldest = prev
	for e, err := range s.Journal.Read(ctx, max(0, position-1)) {
		if err != nil {
			return mark, oldest, err
		}
		if e.Position == position {
			return Offset{e.Position, e.ID}, e.Position + 1, nil
		}
		return mark, min(oldest, e.Position), nil
	}
	return mark, oldest, nil
}

// Lost returns the number of scans lost since the start: shipped, removed from the journal, and then lost by the shared log before
// they were counted; 0 for a nil Shipper.
func (s *Shipper) Lost() int64 {
	if s == nil {
		return 0
	}
	return s.lost.Load()
}

// forgot reports whether retention has removed the event at a position.
func (j *Journal) forgot(position int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.segments) > 0 && position < j.segments[0].first
}

// tidy removes events that were shipped some time ago, and makes the events of erased users anonymous in the journal.
func (s *Shipper) tidy(ctx context.Context) {
	if s.ClockBelieved == nil || s.ClockBelieved() {
		if err := s.Journal.ForgetUpTo(ctx, s.unneeded(ctx), s.Now().Add(-cmp.Or(s.Keep, time.Hour))); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "shipped scans not removed from the journal", "error", err)
		}
	}
	list, err := s.To.Erased(ctx, s.erased)
	if err == nil {
		s.erased, err = s.Journal.EraseSince(ctx, s.erased, list)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "user not yet erased in the journal", "will_retry", true, "error", err)
	}
}

// EraseSince makes the events of the listed users anonymous, and returns the time of the latest erasure, or last if all erasures
// are older. EraseSince works in one pass, because after a start the list contains every erasure ever made.
func (j *Journal) EraseSince(ctx context.Context, last int64, list []Erasure) (int64, error) {
	users, start := map[UserHash]int64{}, last
	for _, e := range list {
		users[e.User], last = max(e.ErasedAt, users[e.User]), max(e.ErasedAt, last)
	}
	if _, err := j.eraseAll(ctx, users, math.MaxInt64); err != nil {
		return start, err
	}
	return last, nil
}

// unneeded returns the position up to which no reader needs the journal. If the shared log may lose events, it needs all events that are
// not counted or not reported to webhooks.
func (s *Shipper) unneeded(ctx context.Context) int64 {
	upTo := s.position.Load()
	if s.NeededFrom != nil {
		upTo = min(upTo, s.NeededFrom())
	}
	if r, ok := s.To.(Rewinder); ok {
		switch _, _, settled, err := s.needed(ctx, r); {
		case err != nil:
			return 0
		case settled >= 0:
			upTo = min(upTo, settled)
		}
	}
	return upTo
}

// Reached returns the position up to which the journal was shipped.
func (s *Shipper) Reached() int64 { return s.position.Load() }

// Backlog returns the number of journal events that are not shipped yet; 0 for a nil Shipper.
func (s *Shipper) Backlog() int64 {
	if s == nil {
		return 0
	}
	return max(0, s.Journal.end()-s.position.Load())
}
