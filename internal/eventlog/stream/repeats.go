package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// repeats finds messages that repeat an earlier one.
//
// A node may end after a message was acknowledged and before it noted that; then it publishes the
// message again. Within its window the stream itself drops the second one. After the window the
// second one is much later than its scan. The subject of a message names the minute of its scan, so
// a reader that meets a late message looks whether the scan stands earlier under that subject. So
// nothing has to be stored.
type repeats struct {
	minutes map[string]map[scanlog.ScanID]int64 // where each scan of a subject stands first
	scans   int
}

// maxRepeats bounds how many scans a reader remembers.
const maxRepeats = 500_000

// mayRepeat reports whether a message may be a repeat: it came long after its scan, or, by a wrong
// clock, long before it.
func (l *Log) mayRepeat(id scanlog.ScanID, meta *jetstream.MsgMetadata) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.options.Emulated || meta.Timestamp.Sub(id.Time()).Abs() > min(l.window, time.Hour)/2
}

// first returns the position where a scan stands first, up to a sequence; 0 = nowhere.
func (l *Log) first(ctx context.Context, id scanlog.ScanID, end int64, erased *copies, known *repeats) (int64, error) {
	minute, err := l.minute(ctx, l.subject(id), end, erased, known)
	if err != nil {
		return 0, err
	}
	first := minute[id]
	for i := range erased.list {
		if e := &erased.list[i]; e.ID == id && (first == 0 || e.Position < first) {
			return e.Position, nil
		}
	}
	return first, nil
}

// minute says where each scan of a subject stands first. An erasure may delete a message meanwhile;
// its copy is in the stream by then, and copies are read after the messages.
func (l *Log) minute(ctx context.Context, subject string, end int64, erased *copies, known *repeats) (map[scanlog.ScanID]int64, error) {
	if minute, ok := known.minutes[subject]; ok {
		return minute, nil
	}
	if known.minutes == nil || known.scans > maxRepeats {
		*known = repeats{minutes: map[string]map[scanlog.ScanID]int64{}}
	}
	minute := map[scanlog.ScanID]int64{}
	err := l.visit(ctx, erased.of, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: subject}, uint64(end),
		func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
			if id, ok := scanlog.RecordID(m.Data()); ok && minute[id] == 0 {
				minute[id] = int64(meta.Sequence.Stream)
			}
			return true, nil
		})
	if err != nil {
		return nil, err
	}
	current, err := l.End(ctx)
	if err == nil {
		err = l.readCopies(ctx, erased, current)
	}
	if err != nil {
		return nil, err
	}
	known.minutes[subject], known.scans = minute, known.scans+len(minute)
	return minute, nil
}
