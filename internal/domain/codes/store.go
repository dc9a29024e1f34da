package codes

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Errors that the store returns to this package; clients of the platform API never see their text.
var (
	ErrNoBatch = errors.New("codes: no such application")
	// ErrBatchTaken is returned if another application already has the requested ID.
	ErrBatchTaken = errors.New("codes: the application id is taken")
	ErrNoTicket   = errors.New("codes: no such ticket")
	ErrNoLogin    = errors.New("codes: no such login code")
)

// Store is the persistence interface of Service.
type Store interface {
	// UpdateCodes runs f in one transaction. UpdateCodes may run f again after a conflict, so f must not keep state between runs.
	UpdateCodes(ctx context.Context, f func(Tx) error) error
	// ViewCodes runs f on a consistent snapshot; f must not write.
	ViewCodes(ctx context.Context, f func(Tx) error) error
	// Events streams the events of a batch after the given event, in commit order; batch 0 = all batches.
	Events(ctx context.Context, batch, after int64) iter.Seq2[Event, error]
	// Batches streams all batches, oldest first.
	Batches(ctx context.Context) iter.Seq2[Batch, error]
}

// Tx is one transaction on codes.
type Tx interface {
	// MarkIdempotent declares that the transaction may run twice. The store then repeats it even if a commit's outcome is unknown.
	MarkIdempotent()
	LockAccount(ctx context.Context, appid string) error
	// LockBatch blocks other transactions that lock the same batch.
	LockBatch(ctx context.Context, id int64) error
	Account(ctx context.Context, appid string) (accounts.Account, error)
	// KeepAccount returns an account like Account, and blocks a deletion of the account until the transaction ends.
	KeepAccount(ctx context.Context, appid string) (accounts.Account, error)
	// Link returns the link between a service account and a Mini Program, or accounts.ErrNoLink.
	Link(ctx context.Context, service, miniProgram string) (accounts.Link, error)
	AddCount(ctx context.Context, appid, what string, day int64) (int, error)

	// Batch and BatchByISV return ErrNoBatch if the batch does not exist.
	Batch(ctx context.Context, id int64) (Batch, error)
	BatchByISV(ctx context.Context, account, isv string) (Batch, error)
	// AddBatch stores a batch and, if its ID is 0, assigns the next free ID. AddBatch returns ErrBatchTaken if another batch has the given
	// ID.
	AddBatch(ctx context.Context, b Batch) (Batch, error)
	// PutImport stores the changed state of an imported batch; the parameter "did" is the action in the audit log.
	PutImport(ctx context.Context, b Batch, did string) error
	// LockCounter returns the stored counter, which is the first counter that was never issued, and locks it until the transaction
	// ends; SetCounter changes the stored counter.
	LockCounter(ctx context.Context) (uint64, error)
	SetCounter(ctx context.Context, next uint64) error

	// LastEvents returns the number of the newest event of each batch with events.
	LastEvents(ctx context.Context) (map[int64]int64, error)
	// LastEventAt returns the time of the newest event of a batch; zero = the batch has no events.
	LastEventAt(ctx context.Context, batch int64) (time.Time, error)
	// AddEvent stores an event with the next number and with the actor of the context as its author.
	AddEvent(ctx context.Context, e Event) (Event, error)
	// EventsAt returns the events whose bounds contain an index and whose number is below the parameter "before" (0 = all), newest first.
	EventsAt(ctx context.Context, batch, index, before int64, limit int) ([]Event, error)
	// EventsAfter returns the events of a batch after the given event, oldest first.
	EventsAfter(ctx context.Context, batch, after int64) ([]Event, error)

	// ImportedCodes returns the stored imported codes of a range, in index order. ImportedByText returns ErrNoImported if no imported code
	// has the text. ImportedByCode returns imported codes with the given original code; they can belong to different batches.
	ImportedCodes(ctx context.Context, batch int64, r Range) ([]ImportedCode, error)
	ImportedByText(ctx context.Context, hi, lo int64) (ImportedCode, error)
	ImportedByCode(ctx context.Context, code int64) ([]ImportedCode, error)
	// AddImported stores rows and returns the number of stored rows; a row whose text is already stored, or whose original code is
	// already stored in the same batch, is skipped.
	AddImported(ctx context.Context, all []ImportedCode) (stored int64, err error)

	// RemoveImported deletes rows and the serial numbers of their codes.
	RemoveImported(ctx context.Context, batch int64, r Range) error
	// Scanned reports whether any code of a batch was ever scanned.
	Scanned(ctx context.Context, batch int64) (bool, error)
	// ForgetFirstScans deletes the stored first scans of all codes in the range.
	ForgetFirstScans(ctx context.Context, batch int64, r Range) error

	// Packages returns the printers' packages that match the query, sorted by ID; PackagesWithin returns the packages that contain
	// codes of a range. PrintPackage returns the package with the ID, or ErrNoPackage.
	Packages(ctx context.Context, q PackageQuery) ([]PrintPackage, error)
	PackagesWithin(ctx context.Context, batch int64, r Range) ([]PrintPackage, error)
	PrintPackage(ctx context.Context, id int64) (PrintPackage, error)
	NewPackageID(ctx context.Context) (int64, error)
	// PutPackage stores a package; action is recorded in the audit log.
	PutPackage(ctx context.Context, p PrintPackage, action string) error

	// Serials maps the given indexes of a batch to their serial numbers; codes without a serial number are absent. SerialsByNumber maps the
	// given serial numbers to the indexes of their codes.
	Serials(ctx context.Context, batch int64, indexes []int64) (map[int64]string, error)
	SerialsByNumber(ctx context.Context, batch int64, numbers []string) (map[string]int64, error)
	// SerialsBeginning returns serial numbers of the given batches that begin with part.
	SerialsBeginning(ctx context.Context, batches []int64, part string, limit int) ([]SerialOf, error)
	// PutSerials stores serial numbers and replaces existing serial numbers.
	PutSerials(ctx context.Context, batch int64, all []Serial) error

	PutTickets(ctx context.Context, all []Ticket) error
	// Ticket returns the ticket with the hash, or ErrNoTicket.
	Ticket(ctx context.Context, hash string) (Ticket, error)
	// ForgetTickets deletes tickets that expired before the given time and returns their number, which is at most the parameter "most".
	// ForgetLogins does the same for logins.
	ForgetTickets(ctx context.Context, before time.Time, most int) (n int64, err error)
	// AddFirstScans stores first scans of distinct codes. A stored first scan is never overwritten.
	AddFirstScans(ctx context.Context, all []FirstScan) error
	// FirstScan returns the first scan of a code, or ErrNoFirstScan.
	FirstScan(ctx context.Context, batch, index int64) (FirstScan, error)
	// EraseFirstScans makes the first scans of a user anonymous.
	EraseFirstScans(ctx context.Context, user string) error
	// EraseOpenIDs deletes everything stored under the openids of one user: tickets, logins, follower entries, and unsent events.
	EraseOpenIDs(ctx context.Context, openID func(account string) string) error
	PutLogin(ctx context.Context, l Login) error
	// Login returns the login with the hash, or ErrNoLogin.
	Login(ctx context.Context, hash string) (Login, error)
	ForgetLogins(ctx context.Context, before time.Time, most int) (n int64, err error)
}
