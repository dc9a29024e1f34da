package codes

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Sentinels of the store; never for callers of the wire.
var (
	ErrNoBatch = errors.New("codes: no such application")
	// ErrBatchTaken is returned where an application has the wanted ID already.
	ErrBatchTaken = errors.New("codes: the application id is taken")
	ErrNoTicket   = errors.New("codes: no such ticket")
	ErrNoLogin    = errors.New("codes: no such login code")
)

// Store is the persistence interface of Service.
type Store interface {
	// UpdateCodes runs f in one transaction. It may run f again after a
	// conflict, so f must not keep state between runs.
	UpdateCodes(ctx context.Context, f func(Tx) error) error
	// ViewCodes runs f on a consistent state that f does not change.
	ViewCodes(ctx context.Context, f func(Tx) error) error
	// Events streams what happened to a batch after an event, in the order of
	// commits; batch 0 is every batch.
	Events(ctx context.Context, batch, after int64) iter.Seq2[Event, error]
	// Batches streams every batch, oldest first.
	Batches(ctx context.Context) iter.Seq2[Batch, error]
}

// Tx is one transaction on codes.
type Tx interface {
	// MarkIdempotent declares that the transaction may run twice: then it is retried also after a commit with an unknown outcome.
	MarkIdempotent()
	LockAccount(ctx context.Context, appid string) error
	// LockBatch makes other writers of the same batch wait.
	LockBatch(ctx context.Context, id int64) error
	Account(ctx context.Context, appid string) (accounts.Account, error)
	// KeepAccount is as in accounts.Tx.
	KeepAccount(ctx context.Context, appid string) (accounts.Account, error)
	// Link returns accounts.ErrNoLink where there is none.
	Link(ctx context.Context, service, miniProgram string) (accounts.Link, error)
	AddCount(ctx context.Context, appid, what string, day int64) (int, error)

	// Batch and BatchByISV return ErrNoBatch where there is none.
	Batch(ctx context.Context, id int64) (Batch, error)
	BatchByISV(ctx context.Context, account, isv string) (Batch, error)
	// AddBatch stores a batch and gives it its ID, the next that is free. One that has
	// an ID already keeps it: ErrBatchTaken where it is another's.
	AddBatch(ctx context.Context, b Batch) (Batch, error)
	// PutImport stores what is now true of an imported batch: did is what the log says.
	PutImport(ctx context.Context, b Batch, did string) error
	// DrawCounters returns the stored counter, the first that was never given
	// out, and locks it until the transaction ends; SetCounters moves it on.
	DrawCounters(ctx context.Context) (uint64, error)
	SetCounters(ctx context.Context, next uint64) error

	// LastEvents returns the number of the newest event of each batch that has one.
	LastEvents(ctx context.Context) (map[int64]int64, error)
	// LastEventAt returns when the newest event of a batch was, the zero time
	// where there is none.
	LastEventAt(ctx context.Context, batch int64) (time.Time, error)
	// AddEvent stores an event and gives it its number and the context's author.
	AddEvent(ctx context.Context, e Event) (Event, error)
	// EventsAt returns events whose bounds hold an index, newest first, of those
	// before an event; before 0 is all.
	EventsAt(ctx context.Context, batch, index, before int64, limit int) ([]Event, error)
	// EventsAfter returns the events of a batch after an event, oldest first.
	EventsAfter(ctx context.Context, batch, after int64) ([]Event, error)

	// ImportedCodes returns codes made elsewhere by their indexes, in order, of those
	// that are here. ImportedByText returns ErrNoImported where there is none.
	// ImportedByCode returns some, of different batches.
	ImportedCodes(ctx context.Context, batch int64, r Range) ([]ImportedCode, error)
	ImportedByText(ctx context.Context, hi, lo int64) (ImportedCode, error)
	ImportedByCode(ctx context.Context, code int64) ([]ImportedCode, error)
	// AddImported stores rows, and returns how many: one whose text, or in its batch
	// whose code, is stored already stays out.
	AddImported(ctx context.Context, all []ImportedCode) (stored int64, err error)

	// RemoveImported removes rows, with the serial numbers of their codes.
	RemoveImported(ctx context.Context, batch int64, r Range) error
	// Scanned reports whether a code of a batch was ever scanned.
	Scanned(ctx context.Context, batch int64) (bool, error)
	// ForgetFirstScans removes those of codes that are not here any more.
	ForgetFirstScans(ctx context.Context, batch int64, r Range) error

	// Packages returns printers' packages after one, by their numbers, of an
	// account and a batch where they are named; PackagesWithin those that have
	// codes of a range. PrintPackage returns ErrNoPackage where there is none.
	Packages(ctx context.Context, q PackageQuery) ([]PrintPackage, error)
	PackagesWithin(ctx context.Context, batch int64, r Range) ([]PrintPackage, error)
	PrintPackage(ctx context.Context, id int64) (PrintPackage, error)
	NewPackageID(ctx context.Context) (int64, error)
	// PutPackage stores a package; did is what the log says was done to it.
	PutPackage(ctx context.Context, p PrintPackage, did string) error

	// Serials returns the serial numbers of codes of a batch by their indexes, of
	// those that have one; SerialsByNumber the indexes by the numbers.
	Serials(ctx context.Context, batch int64, indexes []int64) (map[int64]string, error)
	SerialsByNumber(ctx context.Context, batch int64, numbers []string) (map[string]int64, error)
	// SerialsBeginning returns numbers of some batches that begin with a text.
	SerialsBeginning(ctx context.Context, batches []int64, part string, limit int) ([]SerialOf, error)
	// PutSerials stores serial numbers in place of those that the codes have.
	PutSerials(ctx context.Context, batch int64, all []Serial) error

	PutTickets(ctx context.Context, all []Ticket) error
	// Ticket returns ErrNoTicket where there is none.
	Ticket(ctx context.Context, hash string) (Ticket, error)
	// ForgetTickets removes those that ended before a moment, some at a time, and
	// returns how many; ForgetLogins is the same of logins.
	ForgetTickets(ctx context.Context, before time.Time, most int) (n int64, err error)
	// AddFirstScans stores first scans of different codes. One that is there
	// stays as it is.
	AddFirstScans(ctx context.Context, all []FirstScan) error
	// FirstScan returns ErrNoFirstScan where there is none.
	FirstScan(ctx context.Context, batch, index int64) (FirstScan, error)
	// EraseFirstScans makes the first scans of a user anonymous.
	EraseFirstScans(ctx context.Context, user string) error
	// EraseOpenIDs removes what is kept by the openids of one user: tickets,
	// logins, who follows an account, and events of it that are not sent yet.
	EraseOpenIDs(ctx context.Context, openID func(account string) string) error
	PutLogin(ctx context.Context, l Login) error
	// Login returns ErrNoLogin where there is none.
	Login(ctx context.Context, hash string) (Login, error)
	ForgetLogins(ctx context.Context, before time.Time, most int) (n int64, err error)
}
