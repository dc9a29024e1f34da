package stats

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Mark is how far a journal was shipped: a position, and the scan that stands
// there, so that another journal is told from this one.
type Mark struct {
	Position int64
	ID       ScanID
}

// Harbour is where shippers of many nodes bring their events.
type Harbour interface {
	// Shipped returns how far a node's events were taken; the zero Mark = none.
	Shipped(ctx context.Context, node string) (Mark, error)
	// Ship takes the events of a node that follow one mark up to another, and
	// notes the other, in one transaction. An event that was taken before is
	// left out. ErrNotThere when the node's mark is not the first one.
	Ship(ctx context.Context, node string, from, to Mark, events []Event) error
	// Erased lists users that were erased after a moment in Unix milliseconds.
	Erased(ctx context.Context, after int64) ([]Erasure, error)
}

// Erasure is a user whose events up to a moment are anonymous.
type Erasure struct {
	User UserHash
	UpTo int64 // Unix ms
}

// ErrNotThere is returned by Ship when another mark is stored.
var ErrNotThere = errors.New("stats: this node's events were taken up to another place")

// Shipper brings the events of a node's journal to the log that all nodes
// share. What is there is removed from the journal after a while.
type Shipper struct {
	Journal *Journal
	To      Harbour
	Node    string
	// Random names the journal anew when it turns out to be a copy of another's.
	Random io.Reader
	Now    func() time.Time // the real time
	Log    *slog.Logger
	// Keep is how long events stay in the journal after they were shipped; 0 = an hour.
	Keep time.Duration
	// ClockBelieved reports whether Now may remove what is old; nil = always.
	ClockBelieved func() bool
	// Batch is how many events are shipped at once; 0 = 5,000.
	Batch int
	// Pause is the least time between two batches that are not full, so that few
	// scans make few transactions; 0 = 100 ms.
	Pause time.Duration

	shipping sync.Mutex
	mark     Mark
	known    bool  // mark is what the harbour has
	through  int64 // nothing that can be read is left up to here
	erased   int64 // erasures up to this moment are done in the journal

	position atomic.Int64
	mu       sync.Mutex
	last     error
}

const nodeFile = "node"

// NodeID is the name under which a journal's events are shipped, made at random
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
	return j.newNodeID(random)
}

func (j *Journal) newNodeID(random io.Reader) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("making the id of this node: %w", err)
	}
	text := hex.EncodeToString(id[:])
	if err := writeWhole(j.disk, filepath.Join(j.dir, nodeFile), []byte(text+"\n")); err != nil {
		return "", fmt.Errorf("storing the id of this node: %w", err)
	}
	return text, nil
}

// Last is the mark of a journal's last event.
func (j *Journal) Last(ctx context.Context) (m Mark, err error) {
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

// Run ships until ctx ends. What cannot be shipped stays in the journal.
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
			// Doubles up to five seconds, for as long as it takes.
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
		if closed := s.Journal.isClosed(); closed && s.Behind() == 0 {
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
	s.shipping.Lock()
	defer s.shipping.Unlock()
	end := s.Journal.end()
	var err error
	for err == nil && (!s.known || max(s.mark.Position, s.through) < end) {
		err = s.step(ctx, end)
	}
	s.mu.Lock()
	was := s.last
	s.last = err
	s.mu.Unlock()
	if ctx.Err() == nil && (was != nil) != (err != nil) {
		if err != nil {
			s.Log.WarnContext(ctx, "scans cannot be brought to where all nodes' scans are; they are safe in the journal and wait there", "error", err)
		} else {
			s.Log.InfoContext(ctx, "scans are brought to where all nodes' scans are again")
		}
	}
	return err
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
	events := make([]Event, 0, min(size, int(max(0, end-s.mark.Position))))
	to := s.mark
	for e, err := range s.Journal.Read(ctx, s.mark.Position) {
		if err != nil {
			return err
		}
		events = append(events, e.Event)
		to = Mark{e.Position, e.ID}
		if len(events) == size {
			break
		}
	}
	if len(events) == 0 { // the rest of the journal cannot be read, or there is none
		s.through = end
		s.position.Store(end)
		return nil
	}
	err := s.To.Ship(ctx, s.Node, s.mark, to, events)
	if err != nil {
		s.known = false // a lost answer may hide that all went well
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
	if mark.Position > 0 {
		// The scan that stands there says whether it was this journal.
		same := false
		oldest := int64(0)
		for e, err := range s.Journal.Read(ctx, mark.Position-1) {
			if err != nil {
				return err
			}
			oldest = e.Position
			same = e.Position == mark.Position && e.ID == mark.ID
			break
		}
		forgotten := oldest > mark.Position || oldest == 0 && s.Journal.end() == mark.Position
		if !same && !(forgotten && s.Journal.forgot(mark.Position)) {
			node, err := s.Journal.newNodeID(s.Random)
			if err != nil {
				return err
			}
			s.Log.WarnContext(ctx, "this journal is not the one that was shipped under its name, perhaps a copy or an older one; it gets a new name and is shipped from its beginning, and what is there already counts once", "was", s.Node, "is", node)
			s.Node, mark = node, Mark{}
		}
	}
	s.mark, s.known = mark, true
	s.position.Store(mark.Position)
	return nil
}

// forgot reports whether a position was given out and its event removed.
func (j *Journal) forgot(position int64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.segments) > 0 && position < j.segments[0].first
}

// tidy removes what was shipped a while ago, and erases who was erased.
func (s *Shipper) tidy(ctx context.Context) {
	keep := s.Keep
	if keep <= 0 {
		keep = time.Hour
	}
	if s.ClockBelieved == nil || s.ClockBelieved() {
		if err := s.Journal.ForgetUpTo(ctx, s.position.Load(), s.Now().Add(-keep)); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "scans that were shipped cannot be removed from the journal", "error", err)
		}
	}
	list, err := s.To.Erased(ctx, s.erased)
	if err == nil && len(list) > 0 {
		// All in one pass: after a start they are all that ever were.
		users, last := map[UserHash]int64{}, s.erased
		for _, e := range list {
			users[e.User], last = max(e.UpTo, users[e.User]), max(e.UpTo, last)
		}
		if _, err = s.Journal.eraseAll(ctx, users); err == nil {
			s.erased = last
		}
	}
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "a user who was erased cannot be erased in this node's journal yet", "error", err)
	}
}

// Behind is how many events of the journal were not shipped yet.
func (s *Shipper) Behind() int64 { return max(0, s.Journal.end()-s.position.Load()) }

// LastError is why the last attempt to ship failed; nil when it succeeded.
func (s *Shipper) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
