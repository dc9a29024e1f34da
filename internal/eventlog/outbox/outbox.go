// Package outbox sends each queued row to its receiver, repeatedly until the row is delivered or given up. Only one node at a time sends a
// row. Decision 26.
package outbox

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// Kind is one queue of rows, stored in its own table.
type Kind string

// The kinds of rows.
const (
	Pushes     Kind = "pushes"     // tickets and events for third-party platforms
	Messages   Kind = "messages"   // events for accounts
	Deliveries Kind = "deliveries" // scans and alarms for webhooks
)

// Row is one message to one receiver.
type Row struct {
	ID        int64
	Receiver  string // the AppID of a platform or an account, or the id of a webhook
	Event     string // the event that the message reports
	Body      string // the message, or the data from which the request is built
	OrderKey  string // deliveries of a receiver with the same key are sent in order; "" = in any order
	CreatedAt time.Time
	Attempts  int
	NextAt    time.Time // zero = no further attempt
	SentAt    time.Time // time of the last attempt
	Status    int       // the HTTP status of the last response; 0 = no response
	Error     string    // why the last attempt failed
	// DeliveredAt is the time at which the receiver accepted the row; if DeliveredAt and NextAt are zero, the row was given up.
	DeliveredAt time.Time

	// The fields below are set only for rows of Pushes.
	AppID    string // the account that the message is about
	URL      string // the URL to which the message was sent
	Shown    string // the message with its secrets removed
	Response string
}

// The states of a row.
const (
	Pending   = "pending"
	Delivered = "delivered"
	Failed    = "failed"
)

// State returns Pending, Delivered or Failed.
func (r Row) State() string {
	switch {
	case !r.DeliveredAt.IsZero():
		return Delivered
	case r.NextAt.IsZero():
		return Failed
	}
	return Pending
}

// Query selects rows.
type Query struct {
	ID       int64  // 0 = any
	Receiver string // "" = any
	Event    string // "" = any
	State    string // "" = any
	Before   int64  // only rows with ids smaller than Before; 0 = all rows
	Limit    int
}

// Store is the persistence interface of the senders.
type Store interface {
	// UpdateOutbox runs f in one transaction. UpdateOutbox may run f again after a conflict, so f must not keep state between runs.
	UpdateOutbox(ctx context.Context, f func(Tx) error) error
	// ViewOutbox runs f on a consistent snapshot, in a read-only transaction.
	ViewOutbox(ctx context.Context, f func(Tx) error) error
}

// Adder is the part of a transaction that enqueues messages about the transaction's changes.
type Adder interface {
	// AddRows stores rows, and assigns ids in order to rows without an id. AddRows skips a delivery if a row with the same event
	// and receiver already exists.
	AddRows(ctx context.Context, kind Kind, rows []Row) error
}

// Tx is a transaction on outbox rows.
type Tx interface {
	Adder
	// NewRowID returns a new unique id.
	NewRowID(ctx context.Context, kind Kind) (int64, error)
	// Rows lists rows, newest first.
	Rows(ctx context.Context, kind Kind, q Query) ([]Row, error)
	// Receivers lists the receivers that have a due row.
	Receivers(ctx context.Context, kind Kind, now time.Time, limit int) ([]string, error)
	// ClaimRows returns the oldest due rows of a receiver, oldest first, and leases them until the given time. Rows of the kind
	// Messages keep their order: only the oldest waiting row may be returned, once it is due. A row of the kind Deliveries is returned only
	// if all older waiting rows with its OrderKey are returned in the same call.
	ClaimRows(ctx context.Context, kind Kind, receiver string, now, until time.Time, limit int) ([]Row, error)
	// SaveRow stores the result of an attempt. If NextAt of the stored row differs from the argument "was", another node has claimed the
	// row, and SaveRow returns false. The result of a delivered row is stored even if the row was given up meanwhile.
	SaveRow(ctx context.Context, kind Kind, r Row, was time.Time) (bool, error)
	// DeadLetterRows gives up the waiting rows of a receiver except the newest "keep" rows, and returns the number of rows given up.
	DeadLetterRows(ctx context.Context, kind Kind, receiver string, keep int, fault string) (int, error)
}

// Farthest is longer than any retry delay: a row due later than Farthest from now was scheduled while a clock was ahead, and is due now.
const Farthest = 48 * time.Hour

// ErrSkip is the reason why a row no longer needs to be sent.
type ErrSkip string

func (u ErrSkip) Error() string { return string(u) }

// TaskError is the failure of one task of Policy.Before, with the name of the task. The failure of each task is logged once,
// independently of other tasks.
type TaskError struct {
	Task string
	Err  error
}

func (f TaskError) Error() string { return f.Err.Error() }

// Unwrap returns the underlying error.
func (f TaskError) Unwrap() error { return f.Err }

// WrapTask wraps err in a TaskError with the name of the failed task; nil if err is nil.
func WrapTask(part string, err error) error {
	if err == nil {
		return nil
	}
	return TaskError{part, err}
}

// taskErrors splits a joined error into the errors of the failed tasks, by the name of the task.
func taskErrors(err error) map[string]error {
	if value, ok := err.(interface{ Unwrap() []error }); ok {
		all := map[string]error{}
		for _, e := range value.Unwrap() {
			maps.Copy(all, taskErrors(e))
		}
		return all
	}
	f, ok := errors.AsType[TaskError](err)
	switch {
	case ok:
		return map[string]error{f.Task: err}
	case err != nil:
		return map[string]error{"": err}
	}
	return nil
}

// Policy holds the parameters for one kind of rows.
type Policy struct {
	Kind Kind
	// Batch is the maximum number of rows per claim, and Lease is the duration of a claim.
	Batch int
	Lease time.Duration
	// Parallel is the maximum number of rows of one receiver that a node sends concurrently; 0 means 1. Rows with the same OrderKey
	// are sent sequentially, oldest first; a row waits while an older row waits for its next attempt.
	Parallel int
	// MaxWaiting is the maximum number of waiting rows of one receiver: when it is exceeded, the oldest rows are given up; 0 = unlimited.
	MaxWaiting int
	// Before is called before each poll for due rows; if it returns more = true, the next poll starts immediately. nil = no call. The
	// returned error may join several errors of type TaskError.
	Before func(ctx context.Context) (more bool, err error)
	// Open prepares sending to a receiver. The function that Open returns builds the request of a row at the time of sending; a row
	// for which the function returns ErrSkip is given up. If Open returns a nil function, the claimed rows stay queued and nothing
	// is sent to the receiver in this poll.
	Open func(ctx context.Context, receiver string) (seal func(*Row) (safehttp.Request, error), err error)
	// Refusal returns the reason for which the receiver did not accept a row, according to the response; "" = the row was accepted.
	Refusal func(r *Row, a safehttp.Answer, err error) (fault string)
	// NextAttempt returns the time of the next attempt after a failed attempt; zero = the row is given up.
	NextAttempt func(r Row, began, ended time.Time) time.Time
	// OnGone is called when a receiver responds with HTTP 410; if OnGone is nil, status 410 is treated as an ordinary failure.
	OnGone func(ctx context.Context, r Row) error
}
