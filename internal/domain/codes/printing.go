package codes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ErrNoPackage is returned where no printer's package has a number.
var ErrNoPackage = errors.New("codes: no such package")

// Bounds of a printer's package.
const (
	// MaxProofs is the maximum number of proof codes in a package.
	MaxProofs = 10_000
	// MaxDrawn is the maximum number of codes in a package of drawn labels: each is drawn twice, by the server.
	MaxDrawn = 50_000
	// maxRecipients is the maximum number of keys to which it can be encrypted.
	maxRecipients = 20
)

// PrintPackage says which codes were handed to which printer. Its file is made
// from it whenever it is sent.
type PrintPackage struct {
	ID    int64
	Batch int64
	Codes Range
	// Spare are the last so many of the codes: they stand in for what spoils.
	Spare int64
	// Proofs is the batch of its proof codes; 0 = none.
	Proofs  int64
	Printer string
	// Recipients are the public keys that the file is encrypted to; none = a
	// passphrase, which is not kept.
	Recipients []string
	Formats    []string
	// Drawing says, as JSON, how labels are drawn; "" = there are none.
	Drawing string
	// Again are the packages that had codes of it before: a reprint.
	Again  []int64
	Reason string
	MadeBy string
	MadeAt time.Time
	// Sent counts the downloads that were begun.
	Sent    int64
	Spoiled Set // codes that the printer destroyed: void for ever
	// RecalledAt is the time at which its codes were frozen; zero = never.
	RecalledAt time.Time
	RecalledBy string
}

// PackageRequest is a request for a package.
type PackageRequest struct {
	Batch      int64
	Codes      Range
	Spare      int64
	Proofs     int64 // how many proof codes
	Printer    string
	Recipients []string
	Formats    []string
	Drawing    string // "" = no labels are drawn
	Reason     string // why more packages have these codes than are usual
}

// check returns 40097 or 80306 for what cannot be.
func (w PackageRequest) check(b Batch) error {
	if err := b.CheckRange(w.Codes); err != nil {
		return err
	}
	fault := ""
	switch {
	case b.Imported && slices.Contains(w.Formats, "lines"):
		fault = fmt.Sprintf("the codes of application %d were made elsewhere, and of their rows the dot matrix is not kept: take csv, ndjson or "+
			"text, or send the file that they came in", b.ID)
	case b.Proof:
		fault = fmt.Sprintf("application %d has proof codes: they go with a package of real ones", b.ID)
	case !plain(w.Printer, 1, 64):
		fault = "printer: want 1 to 64 characters, none of them a control character"
	case !plain(w.Reason, 0, maxCodesNote):
		fault = fmt.Sprintf("reason: want at most %d characters, none of them a control character", maxCodesNote)
	case w.Spare < 0 || w.Spare > w.Codes.To-w.Codes.From:
		fault = fmt.Sprintf("spare is %d: want 0 or more, and fewer than the %d codes", w.Spare, w.Codes.To-w.Codes.From+1)
	case w.Proofs < 0 || w.Proofs > MaxProofs:
		fault = fmt.Sprintf("proofs is %d: want 0 to %d", w.Proofs, MaxProofs)
	case len(w.Recipients) > maxRecipients:
		fault = fmt.Sprintf("%d recipients: want at most %d", len(w.Recipients), maxRecipients)
	case w.Drawing != "" && w.Codes.To-w.Codes.From >= MaxDrawn:
		fault = fmt.Sprintf("labels of %d codes: a package has at most %d drawn ones: make several packages, or let the printer draw them from "+
			"the lists", w.Codes.To-w.Codes.From+1, MaxDrawn)
	case len(w.Formats) == 0:
		fault = "formats: want at least one"
	}
	if fault != "" {
		return errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%s", fault)
	}
	return nil
}

// checkOverlap returns a Conflict where packages that have codes of the wish do not
// allow it. Codes go to one printer; most packages have them without a reason.
func (w PackageRequest) checkOverlap(otherPackages []PrintPackage, limit int) error {
	var ids []string
	for _, o := range otherPackages {
		ids = append(ids, strconv.FormatInt(o.ID, 10))
		item := Range{max(o.Codes.From, w.Codes.From), min(o.Codes.To, w.Codes.To)}
		for _, r := range o.Spoiled {
			if r.From <= item.To && r.To >= item.From {
				return Conflict(fmt.Sprintf("codes %d to %d were spoiled in package %d and must not be printed a second time: leave them out",
					max(r.From, item.From), min(r.To, item.To), o.ID))
			}
		}
		if o.Printer != w.Printer && o.RecalledAt.IsZero() {
			return Conflict(fmt.Sprintf("codes %d to %d are with the printer %s by package %d: choose others, or recall that package first",
				item.From, item.To, o.Printer, o.ID))
		}
	}
	if len(otherPackages) >= limit && w.Reason == "" {
		return Conflict(fmt.Sprintf("%d packages have codes of this range already (%s), and %d are made without a reason: give one",
			len(otherPackages), strings.Join(ids, ", "), limit))
	}
	return nil
}

// made reports whether a package is what is wished for, and never left: its answer
// was lost. The same wish gets it again, and no second one.
func (w PackageRequest) made(ctx context.Context, tx Tx, o PrintPackage) (bool, error) {
	if o.Sent > 0 || !o.RecalledAt.IsZero() || len(o.Spoiled) > 0 || o.Codes != w.Codes || o.Spare != w.Spare || o.Printer != w.Printer ||
		!slices.Equal(o.Recipients, w.Recipients) || !slices.Equal(o.Formats, w.Formats) || o.Drawing != w.Drawing ||
		o.Reason != w.Reason || (o.Proofs != 0) != (w.Proofs != 0) {
		return false, nil
	}
	if o.Proofs == 0 {
		return true, nil
	}
	proofs, err := tx.Batch(ctx, o.Proofs)
	return proofs.Count == w.Proofs, err
}

// MakePackage notes that codes are handed to a printer. The same wish as that of a
// package that was never sent is that package. 40097 and 80306 for what
// cannot be; a Conflict where another printer has the codes, where too many
// packages have them, and for codes that are frozen or void.
func (p *Service) MakePackage(ctx context.Context, w PackageRequest) (made PrintPackage, err error) {
	b, err := p.Memory.BatchOrLoad(ctx, w.Batch)
	if err != nil {
		return made, err
	}
	if err := w.check(b); err != nil {
		return made, err
	}
	if err := p.finished(ctx, b); err != nil {
		return made, err
	}
	err = p.inBatch(ctx, w.Batch, func(tx Tx, b Batch, t time.Time) error {
		if err := p.allHere(b, t); err != nil {
			return err
		}
		otherPackages, err := tx.PackagesWithin(ctx, w.Batch, w.Codes)
		if err != nil {
			return err
		}
		for _, o := range otherPackages {
			if equal, err := w.made(ctx, tx, o); err != nil || equal {
				made = o
				return err
			}
		}
		if err := w.checkOverlap(otherPackages, p.Settings.Get().MaxPackagesPerCode); err != nil {
			return err
		}
		if index, state, found := p.Memory.FirstBlocked(w.Batch, NewSet(w.Codes), t); found {
			return Conflict(fmt.Sprintf("code %d is %s: a package has only codes that can become active", index, state))
		}
		made = PrintPackage{Batch: w.Batch, Codes: w.Codes, Spare: w.Spare, Printer: w.Printer, Recipients: w.Recipients,
			Formats: w.Formats, Drawing: w.Drawing, Reason: w.Reason, MadeBy: accounts.ActorFromContext(ctx).ActorID, MadeAt: t}
		for _, o := range otherPackages {
			made.Again = append(made.Again, o.ID)
		}
		if made.ID, err = tx.NewPackageID(ctx); err != nil {
			return err
		}
		if w.Proofs > 0 {
			// No applicant's own number has a control character.
			proofs := Batch{Account: b.Account, ISV: fmt.Sprintf("\x01proofs of package %d", made.ID), Count: w.Proofs, Prefix: b.Prefix,
				Version: b.Version, Segment: b.Segment, CreatedAt: t, Proof: true, Template: b.Template}
			if err := p.giveOut(ctx, tx, &proofs); err != nil {
				return err
			}
			made.Proofs = proofs.ID
		}
		return tx.PutPackage(ctx, made, "make")
	})
	if err == nil && made.Proofs != 0 {
		p.awaitMemory(ctx, made.Proofs)
	}
	return made, err
}

// PackageQuery says which packages are wanted, by number.
type PackageQuery struct {
	Account string // "" = of all
	Batch   int64  // 0 = of all
	After   int64
	Waiting bool // only those that are neither fetched nor recalled
	Limit   int
}

// PrintPackages lists packages after one of them, of an account or a batch where
// they are named.
func (p *Service) PrintPackages(ctx context.Context, q PackageQuery) (list []PrintPackage, err error) {
	err = p.Store.ViewCodes(ctx, func(tx Tx) (err error) {
		list, err = tx.Packages(ctx, q)
		return err
	})
	return list, err
}

// PrintPackage returns a package. ErrNoPackage.
func (p *Service) PrintPackage(ctx context.Context, id int64) (printPackage PrintPackage, err error) {
	err = p.Store.ViewCodes(ctx, func(tx Tx) (err error) {
		printPackage, err = tx.PrintPackage(ctx, id)
		return err
	})
	return printPackage, err
}

// SendPackage counts a download that begins. ErrNoPackage, and a Conflict for a
// package that was recalled.
func (p *Service) SendPackage(ctx context.Context, id int64) (PrintPackage, error) {
	return p.changePackage(ctx, id, "send", func(_ Tx, printPackage *PrintPackage, _ time.Time) error {
		printPackage.Sent++
		return nil
	})
}

// RecallPackage freezes the codes of a package that are not void, in the
// transaction that marks it. ErrNoPackage, and a Conflict for one that was
// recalled already.
func (p *Service) RecallPackage(ctx context.Context, id int64, note string) (PrintPackage, error) {
	if !plain(note, 0, maxCodesNote) {
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "note: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	return p.changePackage(ctx, id, "recall", func(tx Tx, printPackage *PrintPackage, t time.Time) error {
		printPackage.RecalledAt, printPackage.RecalledBy = t, accounts.ActorFromContext(ctx).ActorID
		_, err := tx.AddEvent(ctx, Event{Batch: printPackage.Batch, Did: Freeze, Codes: NewSet(printPackage.Codes), At: t, From: t,
			Note: joinNote(fmt.Sprintf("package %d recalled", id), note)})
		return err
	})
}

// SpoilCodes notes that the printer destroyed codes of a package: they are void
// for ever. ErrNoPackage; a Conflict for codes that the package has not.
func (p *Service) SpoilCodes(ctx context.Context, id int64, spoiled Set, note string) (PrintPackage, error) {
	switch {
	case len(spoiled) == 0:
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "no codes are named")
	case !plain(note, 0, maxCodesNote):
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "note: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	return p.changePackage(ctx, id, "spoil", func(tx Tx, printPackage *PrintPackage, t time.Time) error {
		if b := spoiled.Bounds(); b.From < printPackage.Codes.From || b.To > printPackage.Codes.To {
			return Conflict(fmt.Sprintf("package %d has the codes %d to %d, and %d to %d are named", id, printPackage.Codes.From, printPackage.Codes.To,
				b.From, b.To))
		}
		fresh := spoiled.Subtract(printPackage.Spoiled)
		if len(fresh) == 0 {
			return errUnchanged
		}
		printPackage.Spoiled = NewSet(append(slices.Clone(printPackage.Spoiled), fresh...)...)
		_, err := tx.AddEvent(ctx, Event{Batch: printPackage.Batch, Did: Void, Codes: fresh, At: t, From: t,
			Note: joinNote(fmt.Sprintf("spoiled in package %d", id), note)})
		return err
	})
}

// joinNote puts what a person wrote behind what is said anyway.
func joinNote(said, note string) string {
	if note == "" {
		return said
	}
	return said + ": " + note
}

// RecalledPackages lists the recalled packages that have some of the codes.
func (p *Service) RecalledPackages(ctx context.Context, batch int64, set Set) (list []PrintPackage, err error) {
	err = p.Store.ViewCodes(ctx, func(tx Tx) (err error) {
		list, err = tx.PackagesWithin(ctx, batch, set.Bounds())
		return err
	})
	return slices.DeleteFunc(list, func(printPackage PrintPackage) bool {
		return printPackage.RecalledAt.IsZero() || NewSet(printPackage.Codes).Subtract(set).Len() == NewSet(printPackage.Codes).Len()
	}), err
}

// errUnchanged ends a change of a package that changes nothing.
var errUnchanged = errors.New("codes: the package is so already")

// changePackage changes a package that was not recalled, under the lock of its
// batch.
func (p *Service) changePackage(ctx context.Context, id int64, did string,
	change func(tx Tx, printPackage *PrintPackage, t time.Time) error) (printPackage PrintPackage, err error) {
	if printPackage, err = p.PrintPackage(ctx, id); err != nil {
		return printPackage, err
	}
	err = p.inBatch(ctx, printPackage.Batch, func(tx Tx, _ Batch, t time.Time) (err error) {
		if printPackage, err = tx.PrintPackage(ctx, id); err != nil {
			return err
		}
		if !printPackage.RecalledAt.IsZero() {
			return Conflict(fmt.Sprintf("package %d was recalled by %s at %s", id, printPackage.RecalledBy, printPackage.RecalledAt.Format(time.RFC3339)))
		}
		switch err := change(tx, &printPackage, t); {
		case errors.Is(err, errUnchanged):
			return nil
		case err != nil:
			return err
		}
		return tx.PutPackage(ctx, printPackage, did)
	})
	return printPackage, err
}

// PackageSalt returns the salt of the hashes of a package's file for the line, the same each time.
func (p *Service) PackageSalt(id int64) string {
	return p.Vault.Hash("package line", strconv.FormatInt(id, 10))
}

// CodeSource is the codes of a range that are printed.
type CodeSource interface {
	// EachCode gives the index, the original code and the text of each code, in
	// order; they are good until f returns. The error is that of f, of the ended
	// context, or of an impossible range.
	EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error
	// Rows returns the number of rows.
	Rows() int64
}

// Lot returns the codes of a range of a batch: by arithmetic, or from the rows of those made
// elsewhere.
func (p *Service) Lot(b Batch, r Range) CodeSource {
	if b.Imported {
		return importedLot{p, b, r}
	}
	return p.PrintedRange(b, r)
}

// importedLot is codes made elsewhere.
type importedLot struct {
	press *Service
	batch Batch
	Range
}

func (l importedLot) Rows() int64 { return l.To - l.From + 1 }

func (l importedLot) EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error {
	return l.press.EachPrint(ctx, l.batch, l.Range, func(index int64, code, text string) error {
		return f(uint64(index), []byte(code), []byte(text))
	})
}

// PrintedRange returns the writer of codes of a batch that was made here.
func (p *Service) PrintedRange(b Batch, r Range) PackageRange {
	return PackageRange{Start: b.Start, From: uint64(r.From), To: uint64(r.To), Code: p.Keys.Code, Text: p.Keys.Text[b.Version],
		Printed: Printed{Prefix: b.Prefix, Version: b.Version}, Template: b.Template}
}
