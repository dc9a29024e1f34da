package scanlog

import (
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
	"sync"
	"sync/atomic"
	"time"
)

// Offset is the position up to which a journal was shipped, and the scan at it. By the scan another journal is told from this one.
type Offset struct {
	Position int64
	ID       ScanID
}

// SharedLog is the shared log, to which the shippers of many nodes bring their events.
type SharedLog interface {
	// Shipped returns how far a node's events were taken; the zero Mark = none.
	Shipped(ctx context.Context, node string) (Offset, error)
	// Ship takes the events of a node that follow one mark up to another, and
	// notes the other, in one transaction. An event that was taken before is
	// left out. ErrNotThere when the node's mark is not the first one.
	Ship(ctx context.Context, node string, from, to Offset, events []Entry) error
	// Erased lists users that were erased after a moment in Unix milliseconds.
	Erased(ctx context.Context, after int64) ([]Erasure, error)
}

// Rewinder is a Harbour that may lose events that were shipped to it, while the database still
// knows which of them were counted.
type Rewinder interface {
	SharedLog
	// IsComplete reports whether what was shipped is still there.
	IsComplete(ctx context.Context) (bool, error)
	// Taken returns the set of a node's events that are counted; nil = unknown.
	Taken(ctx context.Context, node string) (*OffsetSet, error)
	// Told returns those of them that were told to webhooks; nil = no webhook waits for any.
	Told(ctx context.Context, node string) (*OffsetSet, error)
	// Rewind finds out from which mark on a journal has to be shipped that was shipped up to mark.
	// It goes back where shipped events are gone. settled is the position up to which everything is
	// counted and told, -1 = unknown. Ship works from the mark that Rewind found.
	Rewind(ctx context.Context, mark Offset, settled int64) (Rewound, error)
	// Restart notes that a journal is shipped from a mark that Rewind found, so that a loss is
	// reported once.
	Restart(ctx context.Context, from Offset, back Rewound) error
}

// Rewound is the answer of Rewind.
type Rewound struct {
	From int64
	Why  string // "" = from where it was shipped to
	// LeaveOut is the position up to which events that are counted and told need not be shipped
	// again.
	LeaveOut int64
}

// Erasure is a user whose events up to a moment are anonymous.
type Erasure struct {
	User UserHash
	UpTo int64 // Unix ms
}

// ErrNotThere is returned by Ship when another mark is stored.
var ErrNotThere = errors.New("ledger: this node's events were taken up to another place")

// Shipper brings the events of a node's journal to the log that all nodes share. Some time later it
// removes them from the journal.
type Shipper struct {
	Journal *Journal
	To      SharedLog
	Node    string
	// Random names the journal anew when it turns out to be a copy of another's.
	Random io.Reader
	Now    func() time.Time // the real time
	Log    *slog.Logger
	// Keep is the time for which events stay in the journal after they were shipped; 0 = an hour.
	Keep time.Duration
	// ClockBelieved reports whether Now may remove what is old; nil = always.
	ClockBelieved func() bool
	// Batch is the number of events that are shipped at once; 0 = 5,000.
	Batch int
	// Held is the position up to which no other reader needs the journal; nil = there is no other
	// reader.
	Held func() int64
	// Pause is the least time between two batches that are not full, so that few
	// scans make few transactions; 0 = 100 ms.
	Pause time.Duration

	turns    sync.Once
	shipping chan struct{} // has room for the one who ships
	mark     Offset
	known    bool       // mark is what the harbour has
	through  int64      // up to here every event that can be read was shipped
	erased   int64      // erasures up to this moment are done in the journal
	taken    *OffsetSet // counted events when the harbour was last asked; nil = unknown
	told     *OffsetSet // events told by then; nil = no webhook waits for any
	leaveOut int64      // up to here, events that are counted and told are not shipped

	position atomic.Int64
	id       atomic.Pointer[string] // Node, after it was named anew
	gone     atomic.Int64
	mu       sync.Mutex
	last     error
}

const nodeFile = "node"

// NodeID returns the name under which a journal's events are shipped, made at random
// when it is first asked for.
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

// NamedAt returns the position up to which the journal's events may have been shipped under another
// name.
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
		return "", fmt.Errorf("making the id of this node: %w", err)
	}
	text := hex.EncodeToString(id[:])
	if err := writeWhole(j.disk, filepath.Join(j.dir, nodeFile), fmt.Appendf(nil, "%s %d\n", text, namedAt)); err != nil {
		return "", fmt.Errorf("storing the id of this node: %w", err)
	}
	return text, nil
}

// Last returns the mark of a journal's last event.
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

// Is reports whether a mark is of this journal: its scan stands at its position, or retention
// removed what stood there.
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

// Run ships until ctx ends. Events that cannot be shipped stay in the journal.
func (s *Shipper) Run(ctx context.Context) {
	pause := s.Pause
	if pause <= 0 {
		pause = 100 * time.Millisecond
	}
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
			// Tries go on without end, with pauses that double up to five seconds.
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

// Flush ships everything that was durable when it was called.
func (s *Shipper) Flush(ctx context.Context) error {
	// A concurrent caller waits no longer than its own context: a commit may wait for a replica.
	s.turns.Do(func() { s.shipping = make(chan struct{}, 1) })
	select {
	case s.shipping <- struct{}{}:
		defer func() { <-s.shipping }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	end := s.Journal.end()
	err := s.look(ctx)
	for err == nil && (!s.known || max(s.mark.Position, s.through) < end) {
		if err = s.step(ctx, end); errors.Is(err, ErrNotThere) {
			err = s.step(ctx, end) // look may have changed from where it is to be shipped
		}
	}
	s.mu.Lock()
	prevErr := s.last
	s.last = err
	s.mu.Unlock()
	if ctx.Err() == nil && (prevErr != nil) != (err != nil) {
		if err != nil {
			s.Log.WarnContext(ctx, "scans cannot be brought to where all nodes' scans are; they are safe in the journal and wait there",
				"error", err)
		} else {
			s.Log.InfoContext(ctx, "scans are brought to where all nodes' scans are again")
		}
	}
	return err
}

// look makes sure that what was shipped is still there.
func (s *Shipper) look(ctx context.Context) error {
	if !s.known {
		return nil
	}
	r, ok := s.To.(Rewinder)
	if !ok {
		if s.mark.Position < s.Journal.end() {
			return nil // there is something to ship: Ship will notice the loss
		}
		// A database that was restored to an earlier moment, or lost its last commits, needs these
		// events again.
		storedOffset, err := s.To.Shipped(ctx, s.Node)
		if err != nil {
			return fmt.Errorf("asking how far scans were shipped: %w", err)
		}
		s.known = storedOffset == s.mark
		return nil
	}
	complete, err := r.IsComplete(ctx)
	if err != nil || !complete {
		s.known = false
	}
	if err != nil {
		return fmt.Errorf("asking whether what was shipped is still there: %w", err)
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
	size := s.Batch
	if size <= 0 {
		size = 5000
	}
	events := make([]Entry, 0, min(size, int(max(0, end-s.mark.Position))))
	to, n := s.mark, 0
	for e, err := range s.Journal.Read(ctx, s.mark.Position) {
		if err != nil {
			return err
		}
		taken := s.taken.Has(e.Position)
		if e.Position > s.leaveOut || !taken || s.told != nil && !s.told.Has(e.Position) {
			e.From = Origin{Node: s.Node, Position: e.Position, Reshipped: taken}
			events = append(events, e)
		}
		to = Offset{e.Position, e.ID}
		if n++; n == size {
			break
		}
	}
	if n == 0 { // the rest of the journal cannot be read, or there is none
		s.through = end
		s.position.Store(end)
		return nil
	}
	err := s.To.Ship(ctx, s.Node, s.mark, to, events)
	if err != nil {
		s.known = false // the answer may have been lost although the events were taken
		return fmt.Errorf("shipping scans: %w", err)
	}
	s.mark = to
	s.position.Store(to.Position)
	return nil
}

// locate finds out how far the journal was shipped.
func (s *Shipper) locate(ctx context.Context) error {
	mark, err := s.To.Shipped(ctx, s.Node)
	if err != nil {
		return fmt.Errorf("asking how far scans were shipped: %w", err)
	}
	former := ""
	if mark.Position > 0 {
		equal, err := s.Journal.Is(ctx, mark)
		if err != nil {
			return err
		}
		if !equal {
			former = s.Node
			if mark, err = s.rename(ctx); err != nil {
				return err
			}
		}
	}
	if r, ok := s.To.(Rewinder); ok {
		if mark, err = s.rewind(ctx, r, mark, former); err != nil {
			return err
		}
	}
	s.mark, s.known, s.through = mark, true, 0
	s.position.Store(mark.Position)
	return nil
}

// rename gives the journal a new name, under which nothing of it was shipped.
func (s *Shipper) rename(ctx context.Context) (emptyOffset Offset, err error) {
	node, err := s.Journal.newNodeID(s.Random, s.Journal.end())
	if err != nil {
		return emptyOffset, err
	}
	s.Log.WarnContext(ctx,
		"this journal is not the one that was shipped under its name, perhaps a copy or an older one; "+
			"it gets a new name and is shipped again, and what was shipped already counts once", "was", s.Node, "is", node)
	s.Node = node
	s.id.Store(&node)
	return emptyOffset, nil
}

// needed returns which events of this node are counted, which are told, and the position up to
// which all are both; -1 = unknown.
func (s *Shipper) needed(ctx context.Context, r Rewinder) (taken, told *OffsetSet, settled int64, err error) {
	if taken, err = r.Taken(ctx, s.Node); err != nil || taken == nil {
		return nil, nil, -1, err
	}
	if told, err = r.Told(ctx, s.Node); err != nil || told == nil {
		return taken, nil, taken.UpTo, err
	}
	return taken, told, min(taken.UpTo, told.UpTo), nil
}

// rewind goes back to the first shipped event that the harbour lacks. A journal with a new name
// begins with the first event that the harbour should get from it.
func (s *Shipper) rewind(ctx context.Context, r Rewinder, mark Offset, former string) (Offset, error) {
	taken, told, settled, err := s.needed(ctx, r)
	if err == nil && taken.Last() > s.Journal.end() {
		// Other events stood there: this is an older copy of the journal, which would give their
		// positions to new scans.
		former = s.Node
		if mark, err = s.rename(ctx); err == nil {
			taken, told, settled, err = s.needed(ctx, r)
		}
	}
	if err != nil {
		return mark, fmt.Errorf("asking which scans of this node are counted: %w", err)
	}
	back, err := r.Rewind(ctx, mark, settled)
	if err != nil {
		return mark, fmt.Errorf("asking how far scans were shipped: %w", err)
	}
	if s.taken, s.told, s.leaveOut = taken, told, back.LeaveOut; back.Why == "" {
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
	s.gone.Add(gone)
	log, untold := s.Log.ErrorContext, int64(0)
	if back.LeaveOut > 0 {
		log = s.Log.InfoContext
	}
	if told != nil {
		untold = told.Missing(oldOffset.Position)
	}
	log(ctx, back.Why+": what this node's journal has is shipped again, and counts once", "from", oldest, "up to", oldOffset.Position,
		"not counted yet", taken.Missing(oldOffset.Position)-gone, "not told to webhooks yet", untold, "in no journal and not counted", gone)
	return mark, nil
}

// skipFormer moves the mark of a journal that got a new name: past the events that are counted
// under its former name for sure, which the harbour must not get again.
func (s *Shipper) skipFormer(ctx context.Context, r Rewinder, mark Offset, back Rewound, former string) (Offset, error) {
	if former == "" || back.From <= mark.Position {
		return mark, nil
	}
	counted, err := r.Taken(ctx, former)
	if err != nil {
		return mark, fmt.Errorf("asking which scans of this node are counted under its former name: %w", err)
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

// markAt returns the mark at a position, or the zero Mark where retention removed its event, and
// the oldest position after it that the journal has, or before, if that is smaller.
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

// Gone returns the number of scans that were lost since the start: shipped, removed from the journal, and then lost at the harbour
// before they were counted.
func (s *Shipper) Gone() int64 { return s.gone.Load() }

// forgot reports whether a position was given out and its event removed.
func (j *Journal) forgot(position int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.segments) > 0 && position < j.segments[0].first
}

// tidy removes events that were shipped some time ago, and makes the events of erased users
// anonymous.
func (s *Shipper) tidy(ctx context.Context) {
	keep := s.Keep
	if keep <= 0 {
		keep = time.Hour
	}
	if s.ClockBelieved == nil || s.ClockBelieved() {
		if err := s.Journal.ForgetUpTo(ctx, s.unneeded(ctx), s.Now().Add(-keep)); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "scans that were shipped cannot be removed from the journal", "error", err)
		}
	}
	list, err := s.To.Erased(ctx, s.erased)
	if err == nil {
		s.erased, err = s.Journal.EraseSince(ctx, s.erased, list)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "a user who was erased cannot be erased in this node's journal yet", "error", err)
	}
}

// EraseSince makes the events of a list of users anonymous who were erased after a moment, and returns the moment of the last
// of them. It is one pass: after a start they are all that ever were.
func (j *Journal) EraseSince(ctx context.Context, last int64, list []Erasure) (int64, error) {
	users, start := map[UserHash]int64{}, last
	for _, e := range list {
		users[e.User], last = max(e.UpTo, users[e.User]), max(e.UpTo, last)
	}
	if _, err := j.eraseAll(ctx, users, math.MaxInt64); err != nil {
		return start, err
	}
	return last, nil
}

// unneeded returns the position up to which the journal is not needed any more.
func (s *Shipper) unneeded(ctx context.Context) int64 {
	safe := s.safe(ctx)
	if s.Held != nil {
		safe = min(safe, s.Held())
	}
	return safe
}

// safe returns the position up to which the journal need not be kept. Where the harbour may lose events,
// it is the one up to which all are counted and told.
func (s *Shipper) safe(ctx context.Context) int64 {
	r, ok := s.To.(Rewinder)
	if !ok {
		return s.position.Load()
	}
	_, _, settled, err := s.needed(ctx, r)
	switch {
	case err != nil:
		return 0
	case settled < 0:
		return s.position.Load()
	}
	return min(s.position.Load(), settled)
}

// Reached returns the position up to which the journal was shipped.
func (s *Shipper) Reached() int64 { return s.position.Load() }

// Backlog returns the number of events of the journal that were not shipped yet.
func (s *Shipper) Backlog() int64 { return max(0, s.Journal.end()-s.position.Load()) }

// LastError returns the error of the last attempt to ship; nil if it succeeded.
func (s *Shipper) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
