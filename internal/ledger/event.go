// Package ledger keeps scans durably and in order.
package ledger

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

// String is the id as 32 lower-case hexadecimal digits.
func (id ScanID) String() string { return hex.EncodeToString(id[:]) }

// Time is when the scan was, to the millisecond.
func (id ScanID) Time() time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return atMillis(ms)
}

// atMillis is a time in Unix milliseconds, as it is kept.
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

// UserHash stands for a user: a keyed hash of namespace and user id, so that
// the log alone names nobody. The zero value is an anonymous or erased user.
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
	RuleID  int64        // of the rule it fell on; 0 = none
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
	// Position is where the event stands: later appended is greater. It is
	// never given out twice.
	Position int64
	Event
	// From is set in a log that is shipped to and may be lost.
	From Origin
}

// Log keeps events durably, in one order, each once. Implementations: a journal
// of files beside the embedded database, a partitioned table of PostgreSQL, a
// JetStream stream.
type Log interface {
	// ID is the log's: positions mean something in it alone. "" = it was not seen
	// yet. Nobody is asked for it.
	ID() string
	// Lost reports whether a log that stood here before this one is nowhere any more.
	Lost(id string) bool
	// Missing is how many events up to a position are gone although nothing removed
	// them, as when a file is.
	Missing(upTo int64) int64
	// Read yields what was appended after a position, in order, up to what is
	// durable when it is called, and no id at two positions. Position 0 is the
	// beginning.
	Read(ctx context.Context, after int64) iter.Seq2[Entry, error]
	// Between is Read of the events from a moment up to but without another, by their At.
	// Others may be among them.
	Between(ctx context.Context, after int64, from, to time.Time) iter.Seq2[Entry, error]
	// Of is Read of the events of some users.
	Of(ctx context.Context, users Users, after int64) iter.Seq2[Entry, error]
	// Find returns the position of a scan, or ErrNoScan.
	Find(ctx context.Context, id ScanID) (int64, error)
	// End is the position of the last durable event, 0 = none.
	End(ctx context.Context) (int64, error)
	// Before returns a position up to which every event is older than a moment,
	// by its At: a reader that looks for younger ones reads on from there. It need not be
	// the last such position.
	Before(ctx context.Context, moment time.Time) (int64, error)
	// Forget removes events that are older than a moment, as far as they can be
	// removed in bulk. It is what retention does.
	Forget(ctx context.Context, before time.Time) error
	// Announce notes that a user is erased: events from before that come later are
	// anonymous too.
	Announce(ctx context.Context, user UserHash) error
	// Erase makes every event of some users up to a position anonymous and returns how
	// many there were.
	Erase(ctx context.Context, users Users, upTo int64) (int64, error)
	Close() error
}
