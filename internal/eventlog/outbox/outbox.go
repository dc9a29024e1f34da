// Package outbox sends waiting rows to their receivers until they are taken or given up; one node
// at a time sends a row. Decision 26.
package outbox

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// Kind is one table of rows.
type Kind string

// The kinds of rows.
const (
	Pushes     Kind = "pushes"     // tickets and events for third-party platforms
	Messages   Kind = "messages"   // events for accounts
	Deliveries Kind = "deliveries" // scans and alarms for webhooks
)

// Row is one message for one receiver.
type Row struct {
	ID        int64
	Receiver  string // the AppID of a platform or an account, the number of a webhook
	Event     string // the event that it tells
	Body      string // what is sent, or what the request is made of
	OrderKey  string // deliveries of a receiver with the same key are sent in order; "" = in any order
	CreatedAt time.Time
	Attempts  int
	NextAt    time.Time // zero = nothing more is sent
	SentAt    time.Time // the last attempt
	Status    int       // the HTTP status of its answer; 0 = there was none
	Fault     string    // why the last attempt failed
	// DeliveredAt is the time at which the receiver took it; if it and NextAt are zero, the row was given up.
	DeliveredAt time.Time

	// Only rows of pushes have the fields below.
	AppID  string // the account that it is about
	URL    string // where it was sent
	Shown  string // the message without its secrets
	Answer string
}

// The states of a row.
const (
	Waiting   = "waiting"
	Delivered = "delivered"
	Dead      = "dead"
)

// State is Waiting, Delivered or Dead.
func (r Row) State() string {
	switch {
	case !r.DeliveredAt.IsZero():
		return Delivered
	case r.NextAt.IsZero():
		return Dead
	}
	return Waiting
}

// Query selects rows.
type Query struct {
	ID       int64  // 0 = any
	Receiver string // "" = any
	Event    string // "" = any
	State    string // "" = any
	Before   int64  // only ids below; 0 = all
	Limit    int
}

// Store is the persistence interface of the senders.
type Store interface {
	// UpdateOutbox runs f in one transaction. It may run f again after a conflict,
	// so f must not keep state between runs.
	UpdateOutbox(ctx context.Context, f func(Tx) error) error
	// ViewOutbox runs f on a consistent state that f does not change.
	ViewOutbox(ctx context.Context, f func(Tx) error) error
}

// Adder is the part of a transaction that enqueues messages about its changes.
type Adder interface {
	// AddRows stores rows, and gives ids in their order to rows without one. A delivery of an event
	// that the receiver has already is left out.
	AddRows(ctx context.Context, kind Kind, rows []Row) error
}

// Tx is one transaction on rows.
type Tx interface {
	Adder
	// NewRowID gives out an id.
	NewRowID(ctx context.Context, kind Kind) (int64, error)
	// Rows lists rows, newest first.
	Rows(ctx context.Context, kind Kind, q Query) ([]Row, error)
	// Receivers lists the receivers that have a row that is due.
	Receivers(ctx context.Context, kind Kind, now time.Time, limit int) ([]string, error)
	// ClaimRows returns the oldest rows of a receiver that are due, oldest first, and leases them until a moment. Messages keep
	// their order: only the oldest that waits is returned, or none while it is not due. A delivery is left out while an older one
	// with its OrderKey waits that is not returned as well.
	ClaimRows(ctx context.Context, kind Kind, receiver string, now, until time.Time, limit int) ([]Row, error)
	// SaveRow stores what became of a row whose NextAt was the given one. It reports false where
	// NextAt has changed, because another node claimed the row. Even a row that was given up
	// meanwhile becomes delivered, if that is what became of it.
	SaveRow(ctx context.Context, kind Kind, r Row, was time.Time) (bool, error)
	// DeadLetterRows gives up the oldest waiting rows of a receiver, all but keep of them, and returns
	// how many it gave up.
	DeadLetterRows(ctx context.Context, kind Kind, receiver string, keep int, fault string) (int, error)
}

// Farthest is longer than any pause before the next attempt: a row that is due later than that was
// put off while a clock was ahead, and is due now.
const Farthest = 48 * time.Hour

// ErrSkip says why a row need not be sent any more.
type ErrSkip string

func (u ErrSkip) Error() string { return string(u) }

// PartError says which part of the work before each look failed, and why. Each part is reported once,
// whatever becomes of the others.
type PartError struct {
	Of  string
	Err error
}

func (f PartError) Error() string { return f.Err.Error() }

// Unwrap returns the error.
func (f PartError) Unwrap() error { return f.Err }

// WrapPart returns the fault of a part; nil where there is none.
func WrapPart(part string, err error) error {
	if err == nil {
		return nil
	}
	return PartError{part, err}
}

// faultsOf returns the errors in an error, by their parts.
func faultsOf(err error) map[string]error {
	if value, ok := err.(interface{ Unwrap() []error }); ok {
		all := map[string]error{}
		for _, e := range value.Unwrap() {
			maps.Copy(all, faultsOf(e))
		}
		return all
	}
	f, ok := errors.AsType[PartError](err)
	switch {
	case ok:
		return map[string]error{f.Of: err}
	case err != nil:
		return map[string]error{"": err}
	}
	return nil
}

// Policy holds the parameters of one kind of rows.
type Policy struct {
	Kind Kind
	// Batch is the number of rows of one claim, and Lease its duration.
	Batch int
	Lease time.Duration
	// Parallel is the maximum number of concurrent rows of one receiver on a node; 0 means 1. Rows with the same OrderKey are sent
	// one after the other, oldest first; none is sent while an older one waits for its next attempt.
	Parallel int
	// Most is the maximum number of pending rows of one receiver: beyond it the oldest are given up; 0 = any number.
	Most int
	// Before is called before each look for rows that are due, and reports whether it has more to
	// do at once; nil = nothing is done. Its error may join several Faults.
	Before func(ctx context.Context) (more bool, err error)
	// Open prepares sending to a receiver. The function that it returns makes the request of a
	// row at the moment of sending; a Useless row is given up. nil = the receiver
	// gets nothing for now.
	Open func(ctx context.Context, receiver string) (seal func(*Row) (safehttp.Request, error), err error)
	// Refusal says why an answer means that the receiver did not take a row; "" = it did.
	Refusal func(r *Row, a safehttp.Answer, err error) (fault string)
	// NextAttempt returns the time of the next attempt after one that failed; zero = the row is given up.
	NextAttempt func(r Row, began, ended time.Time) time.Time
	// Gone is called when a receiver answered 410 to a row; nil = it is a failure like any other.
	Gone func(ctx context.Context, r Row) error
}
