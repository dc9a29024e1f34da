package alarms

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/stats/hyperloglog"
	"github.com/qrjump/qrjump/internal/domain/stats/timebucket"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Window counts, for each clock hour in which scans arrived, the different unknown texts under each prefix, and the different codes that
// each user scanned in each application. Counting a scan twice changes nothing, so a Window can be rebuilt from the scan log. The zero
// value is ready. A Window is not safe for concurrent use.
type Window struct {
	subjects map[subject]subjectScans
	changed  map[subject]bool // subjects with at least two numbers that were scanned since Saved
	numbers  int              // in all subjects
	newest   int64            // latest hour
}

// subject is a prefix of code texts or a user of an application, in one hour.
type subject struct {
	hour, batch int64
	prefix      string
	user        scanlog.UserHash
}

type subjectScans struct {
	numbers []uint32 // sorted hashes of the unknown texts, or indexes of the codes
	scan    scanlog.ScanID
	at      time.Time // time of the scan, which is the last one
}

const (
	// maxNumbers is the maximum number of texts and codes in a Window, which take at most about 20 MB. If there are more, the Window
	// forgets the subjects with the fewest.
	maxNumbers  = 100_000
	manyNumbers = 2048 // number of texts or codes of a subject at which counting stops; it is worth 220 points
)

// Add counts a scan.
func (w *Window) Add(e *scanlog.Event) {
	key := subject{hour: timebucket.Hour(e.ID.Time())}
	switch {
	case e.Batch != 0 && e.User != (scanlog.UserHash{}):
		key.batch, key.user = e.Batch, e.User
	case e.Batch == 0 && e.Reason == string(codes.UnknownCode) && e.Text != "":
		key.prefix = e.Text
	default:
		return
	}
	if w.subjects == nil {
		w.subjects, w.changed = map[subject]subjectScans{}, map[subject]bool{}
	}
	w.newest = max(w.newest, key.hour)
	before := w.subjects[key].numbers
	after := addNumber(before, uint32(e.Index), manyNumbers)
	w.subjects[key] = subjectScans{after, e.ID, e.OccurredAt}
	w.numbers += len(after) - len(before)
	if len(after) > 1 {
		w.changed[key] = true
	}
	for most := 1; w.numbers > maxNumbers; most *= 2 {
		w.forget(0, most)
	}
}

// Saved is called after the alarms of the scans were stored. It forgets the hours before the last two.
func (w *Window) Saved() {
	clear(w.changed)
	w.forget(w.newest-1, 0)
}

// forget removes the subjects of earlier hours, and those with at most n numbers.
func (w *Window) forget(hour int64, n int) {
	for key, scans := range w.subjects {
		if key.hour < hour || len(scans.numbers) <= n {
			w.numbers -= len(scans.numbers)
			delete(w.changed, key)
			delete(w.subjects, key)
		}
	}
}

// windowPoints returns the points for n different texts or codes: 20 for each doubling, so 32 of them have 100 points.
func windowPoints(n int) int64 { return int64(20 * math.Log2(float64(n))) }

// subjectIndex returns the negative number that identifies a prefix or a user in place of the index of a code.
func subjectIndex(hash uint64) int64        { return -1 - int64(hash>>1) }
func userIndex(user scanlog.UserHash) int64 { return subjectIndex(hyperloglog.Number(user)) }

// alarm returns the alarm that the scans of a subject may raise.
func (s *Service) alarm(key subject, scans subjectScans) Alarm {
	n, hour := len(scans.numbers), time.Unix(key.hour*3600, 0).UTC()
	a := Alarm{CreatedAt: scans.at, Scan: scans.scan.String(), Score: windowPoints(n)}
	if key.prefix == "" {
		a.Kind, a.Batch, a.Index, a.Details = ManyCodes, key.batch, userIndex(key.user), Details{WindowStart: hour, Codes: int64(n)}
	} else {
		a.Kind, a.Batch, a.Index = UnknownBurst, s.Newest(key.prefix), subjectIndex(xxhash.Sum64String(key.prefix))
		a.Details = Details{WindowStart: hour, Prefix: key.prefix, UnknownTexts: int64(n)}
	}
	return a
}

// RaiseFrom raises the alarms of the scans that were added to a Window since Saved, and stores which prefixes and users are in the state
// StateWatch, in the transaction that counts these scans.
func (s *Service) RaiseFrom(ctx context.Context, tx Tx, w *Window) error {
	if len(w.changed) == 0 {
		return nil
	}
	list, names := make([]Alarm, 0, len(w.changed)), make([]CodeName, 0, len(w.changed))
	for key := range w.changed {
		list = append(list, s.alarm(key, w.subjects[key]))
	}
	slices.SortFunc(list, func(a, b Alarm) int { return cmp.Or(a.Compare(b.CodeName), a.CreatedAt.Compare(b.CreatedAt)) })
	for _, a := range list {
		names = append(names, a.CodeName)
	}
	thresholds, err := s.thresholds(ctx, tx, names)
	if err != nil {
		return err
	}
	for _, a := range list {
		switch threshold := thresholds(a.Batch); {
		case threshold != NoAlarm && a.Score >= threshold:
			err = s.add(ctx, tx, a)
		case StateOf(nil, a.Score, threshold) == StateWatch:
			a.ID = -1
			_, _, err = tx.AddAlarm(ctx, a)
		}
		if err != nil {
			return err
		}
	}
	return tx.ForgetWatched(ctx, time.Unix((w.newest-1)*3600, 0))
}
