// Package scanlog keeps scans durably and in order.
package scanlog

import (
	"context"
	"encoding/hex"
	"errors"
	"iter"
	"net/netip"
	"time"
)

// ScanID names one scan: 48 bits of its millisecond, 80 random bits, so that
// ids sort by time and cannot be guessed.
type ScanID [16]byte

// String returns the id as 32 lower-case hexadecimal digits.
func (id ScanID) String() string { return hex.EncodeToString(id[:]) }

// Time returns the time of the scan, to the millisecond.
func (id ScanID) Time() time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return atMillis(ms)
}

// atMillis returns a time in Unix milliseconds, as it is kept.
func atMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// ErrNoScan is returned where no scan has an id.
var ErrNoScan = errors.New("ledger: no such scan")

// ParseScanID reads an id as String wrote it; ErrNoScan for any other text.
func ParseScanID(text string) (id ScanID, err error) {
	if len(text) != hex.EncodedLen(len(id)) {
		return id, ErrNoScan
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil || id.String() != text {
		return ScanID{}, ErrNoScan
	}
	return id, nil
}

// UserHash stands for a user: a keyed hash of namespace and user id, so that the log alone identifies no user. The zero value is an
// anonymous or erased user.
type UserHash [16]byte

// Event is one scan as the ledger keeps it.
type Event struct {
	ID      ScanID
	At      time.Time // to the millisecond; may be earlier than when it arrived
	User    UserHash
	Source  string       // scan, press or album
	Client  string       // what the app said of itself, at most 64 bytes
	Network netip.Prefix // /24 or /48 of the user's address; zero = unknown
	Region  string       // from the region file, "" = unknown
	Action  string       // of the decision: open_mini_program, open_url, show_text, show_message
	Kind    string       // rule, test_link, service_rule, code; "" = nothing matched
	Reason  string       // why a code opened nothing
	App     string       // AppID that opened; "" = none
	Version string       // release, trial, development; "" = none
	RuleID  int64        // of the rule or GS1 key it fell on; 0 = none
	Batch   int64        // application_id of the code; 0 = no code
	Index   int64        // of the code in its batch
	// Activation is the number of the event that bound the code; 0 = none.
	// Activity, brand and product are read from it.
	Activation int64
	// Text is the link that was scanned, at most 512 bytes; always a link, never
	// a code text.
	Text string
}

// Entry is an event with its place in the log.
type Entry struct {
	// Position is the offset of the event: later events have greater positions. No position is given out twice.
	Position int64
	Event
	// From is set where the log is one to which journals are shipped and which may be lost.
	From Origin
}

// Log keeps events durably, in one order, each once. Implementations: a journal
// of files beside the embedded database, a partitioned table of PostgreSQL, a
// JetStream stream.
type Log interface {
	// ID names the log: positions are those of this log alone. "" = it is not known yet. The call
	// does no input or output.
	ID() string
	// Lost reports whether a log that was here before this one no longer exists anywhere.
	Lost(id string) bool
	// Missing returns the number of events up to a position that are gone although this program did not remove them, for example
	// because a file is gone.
	Missing(upTo int64) int64
	// Read yields the events after a position, in order, up to the last one that is durable when it
	// is called. It yields no id twice. Position 0 is the beginning.
	Read(ctx context.Context, after int64) iter.Seq2[Entry, error]
	// ListRange is Read of the events whose At is in a span of time, the moment to excluded. Other
	// events may be among them.
	ListRange(ctx context.Context, after int64, from, to time.Time) iter.Seq2[Entry, error]
	// ForUsers is Read of the events of some users.
	ForUsers(ctx context.Context, users Users, after int64) iter.Seq2[Entry, error]
	// Find returns the position of a scan, or ErrNoScan.
	Find(ctx context.Context, id ScanID) (int64, error)
	// End returns the position of the last durable event, 0 = none.
	End(ctx context.Context) (int64, error)
	// PositionBefore returns a position up to which every event is older than a moment,
	// by its At: a reader that looks for younger ones reads on from there. It need not be
	// the last such position.
	PositionBefore(ctx context.Context, moment time.Time) (int64, error)
	// Forget removes events that are older than a moment, as far as they can be
	// removed in bulk. It is what retention does.
	Forget(ctx context.Context, before time.Time) error
	// Announce notes that a user is erased, so that older events of the user that arrive later
	// become anonymous too.
	Announce(ctx context.Context, user UserHash) error
	// Erase makes every event of some users up to a position anonymous and returns how
	// many there were.
	Erase(ctx context.Context, users Users, upTo int64) (int64, error)
	Close() error
}
