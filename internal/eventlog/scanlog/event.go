// Package scanlog stores scans durably and in order.
package scanlog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"
)

// ScanID identifies one scan: 48 bits hold the time in milliseconds and 80 bits are random, so that ids sort by time and cannot be guessed.
type ScanID [16]byte

// String returns the id as 32 lower-case hexadecimal digits.
func (id ScanID) String() string { return hex.EncodeToString(id[:]) }

// Time returns the time of the scan, to the millisecond.
func (id ScanID) Time() time.Time { return atMillis(idMillis(&id)) }

// atMillis converts Unix milliseconds to a time in UTC, as stored in events.
func atMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// ErrNoScan is returned if no scan has the requested id.
var ErrNoScan = errors.New("scanlog: no such scan")

// ParseScanID parses the text form of an id; it returns ErrNoScan for any other text.
func ParseScanID(text string) (id ScanID, err error) {
	if len(text) != hex.EncodedLen(len(id)) {
		return id, ErrNoScan
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil || id.String() != text {
		return ScanID{}, ErrNoScan
	}
	return id, nil
}

// UserHash identifies a user by a keyed hash of namespace and user id, so that the log alone reveals no user. The zero value stands
// for an anonymous or erased user.
type UserHash [16]byte

// Event is one scan as stored in the scan log.
type Event struct {
	ID         ScanID
	OccurredAt time.Time // time of the scan to the millisecond; may be earlier than the arrival of the request
	User       UserHash
	Source     string       // how the app obtained the text: scan, press or album
	Client     string       // client description sent by the scanning app, at most 64 bytes
	Network    netip.Prefix // /24 or /48 network of the user's address; zero = unknown
	Region     string       // from the region file, "" = unknown
	Action     string       // the action of the decision: open_mini_program, open_url, show_text, show_message
	Kind       string       // the kind of match: rule, test_link, service_rule, code; "" = no match
	Reason     string       // the reason why a code opened nothing
	App        string       // AppID of the Mini Program that opened; "" = none
	Version    string       // version of the Mini Program that opened: release, trial or development; "" = none
	RuleID     int64        // id of the matched rule or GS1 key; 0 = none
	Batch      int64        // application_id of the code; 0 = no code
	Index      int64        // index of the code in its batch; of an unknown code, 16 bits of a hash of its text
	// Activation is the number of the activation event that bound the code; 0 = none. Activity, brand and product are read from the
	// activation.
	Activation int64
	// Text is the scanned link, at most 512 bytes; the text of a code is never stored. Of an unknown code, it is the prefix or template.
	Text string
}

// IdentifiesCode reports whether the scan is evidence of an issued code. A serial number alone is not: anyone can invent it.
func (e *Event) IdentifiesCode() bool { return e.Batch != 0 && e.Reason != "serial_only" }

// Entry is an event with its position in the log.
type Entry struct {
	// Position is the event's position in the log: later events have greater positions. Positions are never reused.
	Position int64
	Event
	// From is the origin of the event; it is set only if the journals are shipped to a log that may be lost.
	From Origin
	// Trace is the traceparent header of the message that published the event; "" = none.
	Trace string
}

// Log stores events durably, in one order, each event once. Implementations: a journal of files (with the embedded database), a partitioned
// table of PostgreSQL, a JetStream stream.
type Log interface {
	// ID returns the id of the log: positions are valid only within one log. ID returns "" while the id is not known yet. ID does
	// no input or output.
	ID() string
	// Lost reports whether a log that this log has replaced no longer exists anywhere; id is the id of the replaced log.
	Lost(id string) bool
	// Missing returns the number of events up to a position that are gone although this program did not remove them, for example
	// because a file was deleted.
	Missing(upTo int64) int64
	// Read yields the events after a position, in order, up to the last event that was durable when Read was called. Read yields
	// each id only once. Position 0 is the beginning of the log.
	Read(ctx context.Context, after int64) iter.Seq2[Entry, error]
	// ListRange yields the events after a position whose OccurredAt is in the time range [from, to). ListRange may also yield
	// events outside the time range.
	ListRange(ctx context.Context, after int64, from, to time.Time) iter.Seq2[Entry, error]
	// ForUsers yields the events of the given users after a position.
	ForUsers(ctx context.Context, users Users, after int64) iter.Seq2[Entry, error]
	// Find returns the position of a scan, or ErrNoScan.
	Find(ctx context.Context, id ScanID) (int64, error)
	// End returns the position of the last durable event, 0 = none.
	End(ctx context.Context) (int64, error)
	// PositionBefore returns a position up to which every event has an OccurredAt before the given moment, so that a reader of later events
	// can start there. The returned position need not be the greatest position for which this holds.
	PositionBefore(ctx context.Context, moment time.Time) (int64, error)
	// Forget implements retention: it removes events older than the given time, except those in a file or partition with newer events.
	Forget(ctx context.Context, before time.Time) error
	// Announce records that a user is erased: older events of the user that arrive later are then made anonymous too.
	Announce(ctx context.Context, user UserHash) error
	// Erase makes all events of the given users up to a position anonymous, and returns their number.
	Erase(ctx context.Context, users Users, upTo int64) (int64, error)
}

// CheckEnd returns an error if log is the log with the given id and ends before a position, which was read from the database. A reader of
// the events up to this position calls CheckEnd first, because reads end early at a server of a stream that lacks the last events. A log
// with the method InDatabase is in the database from which the position was read, and contains it.
func CheckEnd(ctx context.Context, log Log, id string, position int64) error {
	if _, same := log.(interface{ InDatabase() }); same {
		return nil
	}
	end, err := log.End(ctx)
	if err != nil {
		return fmt.Errorf("reading the end of the scan log: %w", err)
	}
	if end < position && log.ID() == id {
		return fmt.Errorf("the scan log ends at position %d, but is counted up to position %d", end, position)
	}
	return nil
}
