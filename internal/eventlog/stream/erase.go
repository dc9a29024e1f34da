package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// copies holds the anonymous copies that replace erased events of the stream, sorted by the position of the erased event. readCopies loads
// the copies when a reader needs them.
type copies struct {
	stream string // id of the stream that contains the copies; "" = any
	upTo   int64  // stream sequence up to which copies were read
	list   []scanlog.Entry
}

// copySubject returns the subject under which anonymous copies are published. A header of each copy contains the position of the
// event that the copy replaces.
func (l *Log) copySubject() string { return l.prefix() + "erased" }

const positionHeader = "Qrjump-Position"

func byPosition(e scanlog.Entry, position int64) int { return cmp.Compare(e.Position, position) }

// slice returns the copies with positions in [from, to).
func (c *copies) slice(from, to int64) []scanlog.Entry {
	i, _ := slices.BinarySearchFunc(c.list, from, byPosition)
	k, _ := slices.BinarySearchFunc(c.list, to, byPosition)
	return c.list[i:k]
}

// missing returns the anonymous copies for positions in [from, to); the messages at these positions are deleted from the stream. The copies
// exist, because Erase publishes a copy before it deletes the message.
func (l *Log) missing(ctx context.Context, c *copies, from, to int64) ([]scanlog.Entry, error) {
	if int64(len(c.slice(from, to))) < to-from {
		end, err := l.End(ctx)
		if err == nil {
			err = l.readCopies(ctx, c, end)
		}
		if err != nil {
			return nil, err
		}
	}
	return slices.Clone(c.slice(from, to)), nil // cloned, because c.list may change while the caller iterates
}

// readCopies reads into c the anonymous copies that the stream contains up to sequence end.
func (l *Log) readCopies(ctx context.Context, c *copies, end int64) error {
	if c.upTo >= end {
		return nil
	}
	var texts scanlog.Texts
	err := l.visit(ctx, c.stream, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq: uint64(c.upTo) + 1, FilterSubject: l.copySubject()}, uint64(end),
		func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
			if dst := m.Headers().Get(intoHeader); dst != "" && c.stream != "" && dst != madeOf(c.stream) {
				return true, nil // the copy was published for another stream, which is lost
			}
			e, err := scanlog.DecodeRecord(m.Data(), &texts)
			position, wrong := strconv.ParseInt(m.Headers().Get(positionHeader), 10, 64)
			if err = errors.Join(err, wrong); err != nil {
				return false, fmt.Errorf("message %d of the stream: %w", meta.Sequence.Stream, err)
			}
			c.list = append(c.list, scanlog.Entry{Position: position, Event: e, From: originOf(m, c.stream)})
			return true, nil
		})
	if err != nil {
		return err
	}
	slices.SortStableFunc(c.list, func(a, b scanlog.Entry) int { return byPosition(a, b.Position) })
	c.upTo, c.list = end, slices.CompactFunc(c.list, func(a, b scanlog.Entry) bool { return a.Position == b.Position })
	return nil
}

// forgetCopies deletes the anonymous copies of events with positions below first whose scans were made before the given time.
func (l *Log) forgetCopies(ctx context.Context, stream jetstream.Stream, in string, first, end int64, before time.Time) error {
	var old []uint64
	err := l.visit(ctx, in, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: l.copySubject()},
		uint64(end),
		func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
			if position, err := strconv.ParseInt(m.Headers().Get(positionHeader), 10, 64); err == nil && position < first &&
				latest(time.Time{}, m.Data()).Before(before) {
				old = append(old, meta.Sequence.Stream)
			}
			return true, nil
		})
	for _, pos := range old {
		if err == nil {
			err = stream.DeleteMsg(ctx, pos)
		}
	}
	if err != nil {
		return fmt.Errorf("removing old scans from the stream: %w", err)
	}
	return nil
}

// Announce implements scanlog.Log.
func (l *Log) Announce(ctx context.Context, user scanlog.UserHash) error {
	if l.options.Erase == nil {
		return nil
	}
	return l.options.Erase(ctx, user)
}

// ForUsers implements scanlog.Log. ForUsers reads all events after start, because the stream has no index by user.
func (l *Log) ForUsers(ctx context.Context, users scanlog.Users, start int64) iter.Seq2[scanlog.Entry, error] {
	return func(yield func(scanlog.Entry, error) bool) {
		for e, err := range l.Read(ctx, start) {
			if (err != nil || users[e.User] && e.User != scanlog.UserHash{}) && !yield(e, err) {
				return
			}
		}
	}
}

// Erase implements scanlog.Log. Because a message of a stream cannot be modified, Erase publishes an anonymous copy first, and then
// overwrites and deletes the message.
func (l *Log) Erase(ctx context.Context, users scanlog.Users, upTo int64) (n int64, err error) {
	users = maps.Clone(users)
	delete(users, scanlog.UserHash{})
	if len(users) == 0 {
		return 0, nil
	}
	for user := range users {
		if err := l.Announce(ctx, user); err != nil {
			return 0, err
		}
	}
	stream, err := l.ready(ctx)
	if err != nil {
		return 0, err
	}
	var found []scanlog.Entry
	in := l.named(createdAt(stream.CachedInfo()))
	for e, err := range l.read(ctx, 0, false) {
		if err != nil {
			return 0, err
		}
		if e.Position > upTo {
			break
		}
		if users[e.User] {
			found = append(found, e)
		}
	}
	if err := l.checkID(ctx, in); err != nil { // if the id has changed, the list found may contain events of another stream
		return 0, err
	}
	for _, e := range found {
		if err := l.eraseAt(ctx, stream, in, &e); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// checkID returns errAnew unless the stream still has the given id.
func (l *Log) checkID(ctx context.Context, id string) error {
	_, current, err := l.end(ctx)
	if err == nil && current != id {
		err = errAnew
	}
	return err
}

// eraseAt replaces an event by an anonymous copy; dst is the id of the stream.
func (l *Log) eraseAt(ctx context.Context, stream jetstream.Stream, dst string, e *scanlog.Entry) error {
	// The message is read first, because in a recreated stream another scan may have the sequence of the event.
	stands, err := stream.GetMsg(ctx, uint64(e.Position))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		if err = l.checkID(ctx, dst); err == nil {
			return nil // another node has already erased the event
		}
	} else if err == nil {
		if id, ok := scanlog.RecordID(stands.Data); !ok || id != e.ID {
			err = errAnew
		}
	}
	if err != nil {
		return fmt.Errorf("erasing a scan in the stream: %w", err)
	}
	m := nats.NewMsg(l.copySubject())
	m.Data = scanlog.AppendRecord(make([]byte, 0, 256), scanlog.Anonymous(&e.Event))
	m.Header.Set(positionHeader, strconv.FormatInt(e.Position, 10))
	maps.Copy(m.Header, headers(e, dst))
	if dst != "" {
		m.Header.Set(intoHeader, madeOf(dst))
	}
	f, err := l.send(m, e.ID.String()+" erased "+strconv.FormatInt(e.Position, 10))
	if err == nil {
		err = acknowledged(ctx, []jetstream.PubAckFuture{f}, func(int, *jetstream.PubAck) {})
	}
	if err == nil {
		err = stream.SecureDeleteMsg(ctx, uint64(e.Position))
	}
	if err != nil {
		return fmt.Errorf("erasing a scan in the stream: %w", err)
	}
	return nil
}

// anonymise makes the events of erased users anonymous in the list entries, and returns the changed events.
func (l *Log) anonymise(ctx context.Context, entries []scanlog.Entry) (changed []*scanlog.Entry, err error) {
	if l.options.Erased == nil {
		return nil, nil
	}
	erased, err := l.options.Erased(ctx, 0)
	if err != nil {
		return nil, err
	}
	upTo := map[scanlog.UserHash]int64{}
	for _, e := range erased {
		upTo[e.User] = e.ErasedAt
	}
	for i := range entries {
		e := &entries[i]
		if e.User != (scanlog.UserHash{}) && e.OccurredAt.UnixMilli() <= upTo[e.User] {
			e.Event = *scanlog.Anonymous(&e.Event)
			changed = append(changed, e)
		}
	}
	return changed, nil
}

// eraseBrought erases events that this node published before it knew that their user was erased.
func (l *Log) eraseBrought(ctx context.Context, brought []*scanlog.Entry) error {
	if len(brought) == 0 {
		return nil
	}
	stream, err := l.ready(ctx)
	if err != nil {
		return err
	}
	dst := l.shippedInto()
	for _, e := range brought {
		m, err := stream.GetMsg(ctx, uint64(e.Position))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // the event is already erased in the stream
		}
		if err != nil {
			return fmt.Errorf("erasing a scan in the stream: %w", err)
		}
		if is, err := scanlog.DecodeRecord(m.Data, new(scanlog.Texts)); err != nil || is.ID != e.ID || is.User == (scanlog.UserHash{}) {
			continue
		}
		if err := l.eraseAt(ctx, stream, dst, e); err != nil {
			return err
		}
	}
	return nil
}
