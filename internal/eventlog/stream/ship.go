package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// Ship implements scanlog.SharedLog. Ship publishes the entries, and then stores the shipped offset in this node's folder. If a
// crash prevents storing the offset, the events are published again, but counted once.
func (l *Log) Ship(ctx context.Context, _ string, from, to scanlog.Offset, entries []scanlog.Entry) error {
	// An earlier attempt, whose acknowledgements were lost, may have published these events before their users were erased.
	oldEntries, err := l.anonymise(ctx, entries)
	if err != nil {
		return err
	}
	if _, err := l.ready(ctx); err != nil {
		return err
	}
	if err := l.intend(to); err != nil {
		return err
	}
	last, n, broken := l.append(ctx, from.Position, entries)
	if broken != nil {
		if n == 0 {
			return broken
		}
		// The offset of the acknowledged messages is stored, so that they are not published again.
		entries, to = entries[:n], scanlog.Offset{Position: entries[n-1].From.Position, ID: entries[n-1].ID}
		oldEntries = slices.DeleteFunc(oldEntries, func(e *scanlog.Entry) bool { return e.From.Position > to.Position })
	}
	// If a user was erased while messages were in flight, the erasure has changed only messages that were already in the stream.
	meanwhile, err := l.anonymise(ctx, entries)
	if err == nil {
		err = l.eraseBrought(ctx, append(oldEntries, meanwhile...))
	}
	if err != nil {
		return errors.Join(broken, err)
	}
	// If the stream was recreated while the messages were in flight, some acknowledged messages are absent.
	switch exists, err := l.holdsUpTo(ctx, last.sequence); {
	case err != nil:
		return errors.Join(broken, err)
	case !exists:
		return errors.Join(broken, scanlog.ErrNotThere)
	}
	return errors.Join(broken, l.keepMark(to, last))
}

// holdsUpTo reports whether the current stream is still the one to which this node ships and has a last sequence of at least "last".
func (l *Log) holdsUpTo(ctx context.Context, last uint64) (bool, error) {
	info, err := l.currentInfo(ctx)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target == l.id() && info.State.LastSeq >= last, nil
}

// IsComplete implements scanlog.Rewinder.
func (l *Log) IsComplete(ctx context.Context) (bool, error) {
	oldTo, err := readShipped(l.markFile())
	if err != nil {
		return false, err
	}
	last := oldTo.last
	l.mu.Lock()
	if oldTo.stream != l.target {
		last = brought{}
	}
	l.mu.Unlock()
	if exists, err := l.holdsUpTo(ctx, last.sequence); err != nil || !exists {
		return false, err
	}
	return l.holds(ctx, last)
}

// holds reports whether the last event that this node published is still at its sequence. After a restore of an older copy of the stream
// the event is gone, even if an event of another node has its sequence.
func (l *Log) holds(ctx context.Context, last brought) (bool, error) {
	if last.id == (scanlog.ScanID{}) { // this node has published no event
		return true, nil
	}
	stream, err := l.ready(ctx)
	if err != nil {
		return false, err
	}
	m, err := stream.GetMsg(ctx, last.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, nil // the message was erased, or removed by retention
	}
	if err != nil {
		return false, fmt.Errorf("reading the last shipped scan of the stream: %w", err)
	}
	return m.Header.Get(nats.MsgIdHdr) == last.id.String(), nil
}

// CountedSet implements scanlog.Rewinder.
func (l *Log) CountedSet(ctx context.Context, node string) (*scanlog.OffsetSet, error) {
	if l.options.CountedSet == nil {
		return nil, nil
	}
	return l.options.CountedSet(ctx, node)
}

// ReportedSet implements scanlog.Rewinder.
func (l *Log) ReportedSet(ctx context.Context, node string) (*scanlog.OffsetSet, error) {
	if l.options.ReportedSet == nil {
		return nil, nil
	}
	return l.options.ReportedSet(ctx, node)
}

// Rewind implements scanlog.Rewinder.
func (l *Log) Rewind(ctx context.Context, mark scanlog.Offset, settled int64) (r scanlog.Rewound, err error) {
	oldTo, err := readShipped(l.markFile())
	if err != nil {
		return r, err
	}
	info, err := l.currentInfo(ctx)
	if err != nil {
		return r, err
	}
	holds := info.State.LastSeq >= oldTo.last.sequence
	if holds {
		if holds, err = l.holds(ctx, oldTo.last); err != nil {
			return r, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target, l.begin, l.leaveOut, l.upTo = l.id(), oldTo.begin, 0, oldTo.upTo
	if mark != oldTo.Offset {
		l.upTo = scanlog.Offset{}
	}
	r.From = mark.Position
	switch {
	case mark != oldTo.Offset: // the journal was replaced or restored from a copy: all events after the position begin are shipped
		r.From = oldTo.begin
	case oldTo.stream == "": // this node ships to a stream for the first time
		oldTo.stream, oldTo.address = l.target, l.address()
		return r, l.write(oldTo)
	case oldTo.stream == l.target && holds:
		r.LeaveOut, l.leaveOut = oldTo.leaveOut, oldTo.leaveOut
	case oldTo.address == l.address():
		r.From, r.Reason = min(oldTo.begin, mark.Position), "the stream lost events"
	case settled >= 0:
		// The former stream is at another address, and its events up to the position settled were counted and reported to webhooks.
		r.From, r.LeaveOut, r.Reason = min(max(settled, oldTo.begin), mark.Position), mark.Position, "the stream has another address"
	}
	return r, nil
}

// Restart implements scanlog.Rewinder.
func (l *Log) Restart(_ context.Context, from scanlog.Offset, back scanlog.Rewound) error {
	l.mu.Lock()
	l.leaveOut, l.begin = back.LeaveOut, min(l.begin, back.From)
	l.mu.Unlock()
	return l.keepMark(from, brought{})
}

// brought identifies the last event that this node published and the stream acknowledged.
type brought struct {
	sequence uint64
	id       scanlog.ScanID // zero = unknown
}

// shippedTo is the content of a file of the node: its stream, and the offset up to which the node's journal was shipped to the stream.
type shippedTo struct {
	scanlog.Offset
	upTo    scanlog.Offset // events up to this offset may have been published, perhaps without an acknowledgement
	begin   int64          // journal events after this position belong in the stream
	last    brought
	stream  string // id of the stream
	address string // address of the stream
	// leaveOut is a journal position: events up to it that are counted and reported to webhooks are not published again.
	leaveOut int64
}

func (l *Log) keepMark(m scanlog.Offset, last brought) error {
	l.mu.Lock()
	if m.Position > l.upTo.Position {
		l.upTo = m
	}
	s := shippedTo{m, l.upTo, l.begin, last, l.target, l.address(), l.leaveOut}
	l.mu.Unlock()
	return l.write(s)
}

// intend stores the offset up to which the journal is about to be published.
func (l *Log) intend(to scanlog.Offset) error {
	l.mu.Lock()
	noted := l.upTo.Position >= to.Position
	if !noted {
		l.upTo = to
	}
	l.mu.Unlock()
	if noted {
		return nil
	}
	oldTo, err := readShipped(l.markFile())
	if err == nil {
		oldTo.upTo = to
		err = l.write(oldTo)
	}
	return err
}

func (l *Log) write(s shippedTo) error {
	if err := scanlog.WriteFile(l.markFile(), fmt.Appendf(nil, "%d %s %d %d %q %q %s %d %d %s\n", s.Position, s.ID, s.begin,
		s.last.sequence, s.stream, s.address, s.last.id, s.leaveOut, s.upTo.Position, s.upTo.ID)); err != nil {
		return fmt.Errorf("recording the shipped offset: %w", err)
	}
	return nil
}

// Begin must be called before this node ships to a stream for the first time. Begin stores the offset that from() returns: only journal
// events after this offset belong in the stream. Earlier events were counted from another scan log, and would be counted twice.
func (l *Log) Begin(from func() (scanlog.Offset, error)) error {
	if _, err := os.Stat(l.markFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m, err := from()
	if err != nil {
		return err
	}
	return l.write(shippedTo{Offset: m, upTo: m, begin: m.Position})
}

func (l *Log) markFile() string { return filepath.Join(l.options.Marks, "shipped") }

// Shipped implements scanlog.SharedLog.
func (l *Log) Shipped(context.Context, string) (m scanlog.Offset, err error) {
	return readMark(l.markFile())
}

// Unshipped is the range of journal events that belonged in a stream: the events after position Begin, up to offset To. No event after
// To was published.
type Unshipped struct {
	Begin int64
	To    scanlog.Offset
}

// Leave handles the switch of a node to operation without a stream; marks is the folder with the node's stored offset. If the node
// used a stream, Leave calls left with the journal events that belonged in the stream; after a crash, left is called again. If the
// node uses a stream again after Leave, this stream receives only events that are recorded after the second switch.
func Leave(marks string, left func(Unshipped) error) error {
	file := (&Log{options: Options{Marks: marks}}).markFile()
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	oldTo, err := readShipped(file)
	if err == nil && oldTo != (shippedTo{}) {
		err = left(Unshipped{oldTo.begin, oldTo.upTo})
	}
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	// If the file reappeared after a power failure, events that were counted from the journal would be published too.
	return atomicfile.SyncDir(marks)
}

func readMark(file string) (m scanlog.Offset, err error) {
	s, err := readShipped(file)
	return s.Offset, err
}

func readShipped(file string) (s shippedTo, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	var id, last, upTo string
	_, err = fmt.Sscanf(string(text), "%d %s %d %d %q %q %s %d %d %s", &s.Position, &id, &s.begin, &s.last.sequence, &s.stream,
		&s.address, &last, &s.leaveOut, &s.upTo.Position, &upTo)
	for _, id := range []struct {
		text string
		dst  *scanlog.ScanID
	}{{id, &s.ID}, {last, &s.last.id}, {upTo, &s.upTo.ID}} {
		if err == nil {
			*id.dst, err = scanlog.ParseScanID(id.text)
		}
	}
	if err != nil {
		return shippedTo{}, nil // an unreadable file = no stored offset: all events are published again, and counted once
	}
	return s, nil
}

// Erased implements scanlog.SharedLog.
func (l *Log) Erased(ctx context.Context, start int64) ([]scanlog.Erasure, error) {
	if l.options.Erased == nil {
		return nil, nil
	}
	return l.options.Erased(ctx, start)
}
