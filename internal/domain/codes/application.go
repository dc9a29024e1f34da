// Package codes implements unique codes (one code per item): applications, computation of codes, activations, tickets.
//
// Codes are computed and not stored: the store has one row per batch and one row per call that changes codes, such as an activation.
package codes

import (
	"fmt"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Limits of an application for codes. Contract: marketcode §3.1.
const (
	CountStep = 10_000 // code_count must be a positive multiple of CountStep
	maxISV    = 128    // characters of isv_application_id
	// AppliesPerDay is the maximum number of applycode calls of an account per day.
	AppliesPerDay = 1000
)

// Batch is one application for codes; its codes are numbered from 0. The print format of the codes is fixed when the batch is created.
type Batch struct {
	ID      int64  // application_id, below 2^31
	Account string // the service account that applied
	ISV     string // isv_application_id, chosen by the caller
	Count   int64
	Start   uint64 // the counter of the code with index 0
	Prefix  string
	Version byte
	Segment int64 // number of codes in one download
	// Template is the completed template of the texts; "" = each text consists of the prefix and the secret.
	Template string
	// FirstCode and FirstText are keyed hashes of the first code and of its text. CheckKeys uses them to verify that the batch was made
	// with the current keys.
	FirstCode string
	FirstText string
	CreatedAt time.Time
	// IsProof reports that the codes are for test prints: they can never be activated.
	IsProof bool
	// Imported reports that the codes were made elsewhere. Imported codes are stored as rows and have no counters, so the field Start
	// is unused.
	Imported bool
}

// importUndone is the prefix of the isv_application_id of an application whose import was undone. No caller can choose it, because an
// isv_application_id from a caller cannot contain a control character.
const importUndone = "\x01import undone "

// ImportUndone reports whether the import of the batch was undone. A batch whose import was undone no longer counts as an application; its
// ID and its events stay stored.
func (b Batch) ImportUndone() bool { return b.Imported && strings.HasPrefix(b.ISV, importUndone) }

// Status is the progress of an application.
type Status string

// The states of an application. Contract: marketcode §3.2.
const (
	Init       Status = "INIT"
	Processing Status = "PROCESSING"
	Finish     Status = "FINISH"
)

// Status is computed, not stored. Codes need no preparation, so an application is finished at once, unless a setting simulates a delay as
// on the Weixin platform. Without a simulated delay, the status is Finish even if the clock is set back to before CreatedAt.
func (b Batch) Status(now time.Time, finishDelay time.Duration) Status {
	switch passed := now.Sub(b.CreatedAt); {
	case finishDelay <= 0 || passed >= finishDelay:
		return Finish
	case passed < finishDelay/4:
		return Init
	}
	return Processing
}

// UpdatedAt returns the time at which the status last changed.
func (b Batch) UpdatedAt(now time.Time, finishDelay time.Duration) time.Time {
	switch b.Status(now, finishDelay) {
	case Init:
		return b.CreatedAt
	case Processing:
		return b.CreatedAt.Add(finishDelay / 4)
	}
	return b.CreatedAt.Add(finishDelay)
}

// Range is a range of indexes, both ends inclusive.
type Range struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Segments lists the ranges that can each be downloaded as one package.
func (b Batch) Segments() []Range {
	var list []Range
	for from := int64(0); from < b.Count; from += b.Segment {
		list = append(list, Range{from, min(from+b.Segment, b.Count) - 1})
	}
	return list
}

// Ready lists the segments that are ready at time now; their number grows while the application is processed. Contract: marketcode §3.1.
func (b Batch) Ready(now time.Time, finishDelay time.Duration) []Range {
	all := b.Segments()
	switch b.Status(now, finishDelay) {
	case Init:
		return nil
	case Processing:
		start := finishDelay / 4
		progress := float64(now.Sub(b.CreatedAt)-start) / float64(finishDelay-start)
		return all[:int(progress*float64(len(all)))]
	}
	return all
}

// InSegment returns the errors of CheckRange, or 80310 if the range extends over more than one segment. A range that is only a part of a
// segment is valid.
func (b Batch) InSegment(r Range) error {
	if err := b.CheckRange(r); err != nil {
		return err
	}
	if r.From/b.Segment != r.To/b.Segment {
		return errcode.NoSegment.WithDetail(behaviour.CodesRangeSegments, "code_start %d and code_end %d lie in two segments of %d codes", r.From,
			r.To, b.Segment)
	}
	return nil
}

// CheckRange returns 40097 for an invalid range, and 80306 for a range that extends past the end of the batch.
func (b Batch) CheckRange(r Range) error {
	switch {
	case r.From < 0 || r.To < 0:
		return errcode.InvalidArgs.WithDetail(behaviour.CodesRangeOrder, "code_start %d, code_end %d: an index is 0 or more", r.From, r.To)
	case r.From > r.To:
		return errcode.InvalidArgs.WithDetail(behaviour.CodesRangeOrder, "code_start %d is after code_end %d", r.From, r.To)
	case r.To >= b.Count:
		return errcode.IndexBeyond.WithDetail(behaviour.CodesRangeBeyond,
			"code_end %d: the application has the indexes 0 to %d", r.To, b.Count-1)
	}
	return nil
}

// Application is a caller's request for codes.
type Application struct {
	ISV   string
	Count int64
	// Template is the result of FillTemplate.
	Template string
	// Approved reports that a second person approved the order from which the application was created.
	Approved bool
}

// check returns 40097 for an invalid application. Contract: marketcode §3.1.
func (a Application) check(limit int64) error {
	switch {
	case a.Count < CountStep || a.Count > limit || a.Count%CountStep != 0:
		return errcode.InvalidArgs.WithDetail(behaviour.CodesApplyCount, "code_count invalid: %d is not a multiple of %d from %d to %d", a.Count,
			CountStep, CountStep, limit)
	case !accounts.IsPlain(a.ISV, 1, maxISV):
		return errcode.InvalidArgs.WithDetail(behaviour.CodesApplyOrder, "isv_application_id invalid: want 1 to %d characters", maxISV)
	}
	if a.Template != "" {
		if _, err := ParseTemplate(a.Template); err != nil {
			return errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%s", err)
		}
	}
	return nil
}

// epoch is the time at which the time-based minimum of counters is 0 (see FloorAt).
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// blockStart returns the first counter of a new block. This counter is not below the stored counter or floor. If byTime is true, it is also
// not below FloorAt(now) after the first counter of the cell, so that a server restored from an older backup issues no code twice.
func blockStart(counter uint64, now time.Time, floor uint64, byTime bool) uint64 {
	start := max(counter, floor)
	if byTime {
		start = max(start, floor-floor%CellCounters+FloorAt(now))
	}
	return start
}

// CellCounters is the number of counters of a cell (decision 0089).
const CellCounters = 10_000_000_000_000

// FloorAt returns the time-based minimum of counters: 10,000 per second since epoch, the most that a server can have issued. With
// this value for --min-code-counter, a restored server reuses no counter that a server with a correct clock issued before the time now.
func FloorAt(now time.Time) uint64 {
	return uint64(max(0, now.Sub(epoch)/time.Second)) * 10_000
}

// checkBlock returns an error if the counters of a block do not fit into nine characters.
func checkBlock(start uint64, count int64) error {
	if start >= Space || uint64(count) > Space-start {
		return fmt.Errorf("codes: the nine-character codes are exhausted: %d from %d exceed %d", count, start, uint64(Space))
	}
	return nil
}
