package stream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// repeats detects messages that repeat an earlier message.
//
// If a node ends after a message was acknowledged and before the node recorded that, the node publishes the message again. Within
// its deduplication window, the stream drops the repeated message. After the deduplication window, the repeated message arrives
// much later than its scan. The subject of a message contains the minute of its scan, so a reader of a late message checks whether
// the scan occurs earlier under that subject. The check for repeated messages therefore needs no stored state.
type repeats struct {
	minutes map[string]map[scanlog.ScanID]int64 // by subject: the first position of each scan
	scans   int
}

// maxRepeats limits the number of scans that a reader keeps in memory.
const maxRepeats = 500_000

// mayRepeat reports whether a message may be a repeat: its arrival time is far from its scan time.
func (l *Log) mayRepeat(id scanlog.ScanID, meta *jetstream.MsgMetadata) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.options.Emulated || meta.Timestamp.Sub(id.Time()).Abs() > min(l.window, time.Hour)/2
}

// first returns the first position of a scan in the stream, up to a sequence; 0 = not found.
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

// minute returns the first position of each scan under a subject. If an erasure deletes a message at the same time, its copy is
// already in the stream, because copies are read after the messages.
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
