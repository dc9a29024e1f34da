// Package auditlog stores and verifies the audit log and reconstructs past states, such as the page that a link opened at a past time.
package auditlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Kinds lists the kinds of changed objects, in display order. The names of kinds are stored and must never change.
var Kinds = []string{"rule", "account", "appearance", "link", "tokens", "component", "grant", "domain", "qrcode", "batch", "codes",
	"serials", "package", "gs1", "scan_key", "webhook", "alarm", "scans", "person", "admin_key", "meta", "seed", "export", "drill", "keys",
	"reset", "emptied", "chain", "numbers", "import"}

// Entry is one entry of the audit log.
type Entry = client.Change

// Query selects entries.
type Query struct {
	After  int64  // only entries with a greater sequence number, oldest first
	Before int64  // only entries with a smaller sequence number, newest first; 0 = all
	Newest bool   // newest first
	Kind   string // "" = any
	Key    string // "" = any; requires Kind
	Actor  string // "" = any
	Limit  int
}

// Checked is the result of verifying the audit log.
type Checked struct {
	Changes    int64          `json:"changes" doc:"number of changes verified"`
	FirstSeq   int64          `json:"first_seq" doc:"number of the first change; 0 = no changes"`
	Seq        int64          `json:"seq" doc:"number of the last change"`
	Hash       string         `json:"hash" doc:"hash of the last change; a copy kept elsewhere proves later that no earlier change was altered"`
	FirstError *Inconsistency `json:"first_error,omitempty" doc:"first inconsistency; omitted if there is none"`
	// Orphans are not part of the audit log: they belong to the currently stored state.
	Orphans []Orphan `json:"orphans" doc:"objects of accounts that do not exist, at most 1000; empty = none"`
}

// Orphan describes the objects of one kind whose account does not exist. Orphans still reserve prefixes and codes.
type Orphan = client.Orphan

// Inconsistency is the first inconsistency that the verification found.
type Inconsistency struct {
	Seq  int64  `json:"seq,omitempty" doc:"number of the inconsistent change; omitted if see identifies it"`
	Text string `json:"error"`
}

func (f Inconsistency) Error() string {
	if f.Seq == 0 {
		return f.Text
	}
	return fmt.Sprintf("change %d: %s", f.Seq, f.Text)
}

// Name identifies an object whose changes are logged.
type Name struct{ Kind, Key string }

// AsOf is the state of an account at a past time.
type AsOf struct {
	Account accounts.Account // without its secrets
	Known   bool             // true = the account existed
	Seq     int64            // number of the change that led to this state; 0 = no change is logged
}

// Store is the persistence interface of the audit log.
type Store interface {
	Entries(ctx context.Context, q Query) ([]Entry, error)
	// Note adds an entry for an action that changes no stored object, such as an export. The detail must not contain secrets.
	Note(ctx context.Context, kind, key, did string, detail any) error
	// VerifyChanges reads the whole audit log. An Inconsistency is returned in the result, not as an error.
	VerifyChanges(ctx context.Context) (Checked, error)
	// Orphans lists rules, links, GS1 keys and applications whose account does not exist, and active codes whose Mini Program does not
	// exist; active maps each Mini Program to the number of active codes that open it.
	Orphans(ctx context.Context, active map[string]int) ([]Orphan, error)
	// RulesAsOf returns the last change of each key up to a point in time.
	RulesAsOf(ctx context.Context, keys []string, at time.Time) ([]rules.Change, error)
	// AccountAsOf returns the state of an account at a time. LinkedAsOf reports whether two accounts were linked at a time.
	AccountAsOf(ctx context.Context, appid string, at time.Time) (AsOf, error)
	LinkedAsOf(ctx context.Context, service, miniProgram string, at time.Time) (bool, error)
	// ChangesAfter lists at most limit changes of the named objects after a point in time, oldest first.
	ChangesAfter(ctx context.Context, of []Name, at time.Time, limit int) ([]Entry, error)
}

// ErrMoved is returned by the store if an object named in a Precondition changed after the change that the caller has seen; the
// transaction is rolled back.
var ErrMoved = errors.New("auditlog: the object was changed concurrently")

// Precondition is a condition that a transaction checks before it commits a change.
type Precondition struct {
	Since int64  // number of the last change that the caller has seen
	Of    []Name // with Key "": all objects of the Kind; with Kind "": objects of any kind with the Key
	met   atomic.Bool
}

// Names reports whether the precondition covers the changed object.
func (e *Precondition) Names(changed Name) bool {
	return slices.ContainsFunc(e.Of, func(n Name) bool {
		return (n.Kind == "" || n.Kind == changed.Kind) && (n.Key == "" || n.Key == changed.Key)
	})
}

// Met records that a transaction has checked the precondition and committed. Later changes by the same request are not checked, because
// they follow from the request's first change.
func (e *Precondition) Met() { e.met.Store(true) }

type preconditionKey struct{}

// WithPrecondition returns a context for a request. The first change with this context fails with ErrMoved if any of the named objects
// changed after change number start.
func WithPrecondition(ctx context.Context, start int64, names ...Name) context.Context {
	return context.WithValue(ctx, preconditionKey{}, &Precondition{Since: start, Of: names})
}

// PreconditionFromContext returns the precondition that WithPrecondition set last; nil = none, or already met.
func PreconditionFromContext(ctx context.Context) *Precondition {
	e, _ := ctx.Value(preconditionKey{}).(*Precondition)
	if e == nil || e.met.Load() {
		return nil
	}
	return e
}
