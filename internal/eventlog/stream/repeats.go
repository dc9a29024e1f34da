package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// repeats stores which scans a reader has found in the stream, to detect messages that repeat an earlier message.
//
// If a node stops after a message was acknowledged and before the node stored the shipped offset, the node publishes the message again.
// Within the stream's deduplication window, the NATS server drops the repeated message. A message that is repeated after the deduplication
// window arrives much later than its scan was made. The subject of a message contains the minute of its scan, so a reader of a late message
// finds an earlier message of the scan by its subject, and needs no durable state for this.
type repeats struct {
	minutes map[string]map[scanlog.ScanID]int64 // first position of each scan, by subject and scan id
	scans   int
}

// maxRepeats is the number of scans in memory above which a reader forgets the subjects that it has read.
const maxRepeats = 500_000

// mayRepeat reports whether a message may repeat an earlier message, because its arrival is far from the time of its scan.
func (l *Log) mayRepeat(id scanlog.ScanID, meta *jetstream.MsgMetadata) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.options.Emulated || meta.Timestamp.Sub(id.Time()).Abs() > min(l.window, time.Hour)/2
}

// first returns the lowest position of a scan in the stream, among the messages up to sequence end; 0 = not found.
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

// minute returns the lowest position of each scan whose messages have the given subject. minute reads the anonymous copies after
// the messages, so that the copy of a message that is erased meanwhile is found.
func (l *Log) minute(ctx context.Context, subject string, end int64, erased *copies, known *repeats) (map[scanlog.ScanID]int64, error) {
	if minute, ok := known.minutes[subject]; ok {
		return minute, nil
	}
	if known.minutes == nil || known.scans > maxRepeats {
		*known = repeats{minutes: map[string]map[scanlog.ScanID]int64{}}
	}
	minute := map[scanlog.ScanID]int64{}
	err := l.visit(ctx, erased.stream, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, FilterSubject: subject},
		uint64(end), func(m jetstream.Msg, meta *jetstream.MsgMetadata) (bool, error) {
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
