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

// ErrNoPackage is returned if no printer's package has the given ID.
var ErrNoPackage = errors.New("codes: no such package")

// Limits of a printer's package.
const (
	// MaxProofs is the maximum number of proof codes in a package.
	MaxProofs = 10_000
	// MaxDrawn is the maximum number of codes in a package with drawn labels, because the server draws each label twice.
	MaxDrawn = 50_000
	// maxRecipients is the maximum number of public keys to which a package can be encrypted.
	maxRecipients = 20
)

// PrintPackage records which codes were handed over to which printer. The package file is generated from this record whenever it is sent.
type PrintPackage struct {
	ID    int64
	Batch int64
	Codes Range
	// Spare is the number of spare codes at the end of the range, which replace spoiled codes.
	Spare int64
	// Proofs is the ID of the batch of proof codes; 0 = none.
	Proofs  int64
	Printer string
	// Recipients lists the public keys to which the file is encrypted; empty = a passphrase, which is not stored.
	Recipients []string
	Formats    []string
	// Drawing holds the label drawing options as JSON; "" = no labels are drawn.
	Drawing string
	// ReprintOf lists the earlier packages that contain some of the same codes (a reprint).
	ReprintOf []int64
	Reason    string
	MadeBy    string
	MadeAt    time.Time
	// Sent counts the downloads that were started.
	Sent    int64
	Spoiled Set // codes that the printer destroyed; they are permanently void
	// RecalledAt is the time at which the package was recalled and its codes were frozen; zero = never.
	RecalledAt time.Time
	RecalledBy string
}

// PackageRequest holds the parameters of a request for a package.
type PackageRequest struct {
	Batch      int64
	Codes      Range
	Spare      int64
	Proofs     int64 // number of proof codes
	Printer    string
	Recipients []string
	Formats    []string
	Drawing    string // "" = no labels are drawn
	Reason     string // reason why the requested codes go into more packages than usual
}

// check returns 80306 for a range past the end of the batch, and 40097 for any other invalid parameter.
func (w PackageRequest) check(b Batch) error {
	if err := b.CheckRange(w.Codes); err != nil {
		return err
	}
	fault := ""
	switch {
	case b.Imported && slices.Contains(w.Formats, "lines"):
		fault = fmt.Sprintf("application %d has imported codes, for which no dot matrix is stored: choose csv, ndjson or text, or send the "+
			"imported file", b.ID)
	case b.Imported && b.Template != "" && w.Proofs > 0:
		fault = fmt.Sprintf("application %d has imported codes of another system: no proof codes can be made for them", b.ID)
	case b.IsProof:
		fault = fmt.Sprintf("application %d has proof codes: they go with a package of real ones", b.ID)
	case !accounts.IsPlain(w.Printer, 1, 64):
		fault = "printer: want 1 to 64 characters, none of them a control character"
	case !accounts.IsPlain(w.Reason, 0, maxCodesNote):
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

// checkOverlap compares the request with the earlier packages that contain requested codes. checkOverlap returns a Conflict if an earlier
// package marks requested codes as spoiled, or went to another printer and is not recalled; or if limit earlier packages exist and the
// request gives no reason.
func (w PackageRequest) checkOverlap(earlier []PrintPackage, limit int) error {
	var ids []string
	for _, o := range earlier {
		ids = append(ids, strconv.FormatInt(o.ID, 10))
		item := Range{max(o.Codes.From, w.Codes.From), min(o.Codes.To, w.Codes.To)}
		for _, r := range o.Spoiled {
			if r.From <= item.To && r.To >= item.From {
				return Conflict(fmt.Sprintf("codes %d to %d are marked as spoiled in package %d and must not be printed again: leave them out",
					max(r.From, item.From), min(r.To, item.To), o.ID))
			}
		}
		if o.Printer != w.Printer && o.RecalledAt.IsZero() {
			return Conflict(fmt.Sprintf("codes %d to %d were handed to the printer %s with package %d: choose other codes, or recall "+
				"that package first", item.From, item.To, o.Printer, o.ID))
		}
	}
	if len(earlier) >= limit && w.Reason == "" {
		return Conflict(fmt.Sprintf("%d packages have codes of this range already (%s); more than %d need a reason: give one",
			len(earlier), strings.Join(ids, ", "), limit))
	}
	return nil
}

// matches reports whether package o was never sent and equals the request. If so, the response to an equal earlier request was probably
// lost, and MakePackage returns o instead of a second package.
func (w PackageRequest) matches(ctx context.Context, tx Tx, o PrintPackage) (bool, error) {
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

// MakePackage records that codes are handed over to a printer. If an equal request already created a package that was never sent,
// MakePackage returns that package. MakePackage returns 40097 or 80306 for an invalid request; a Conflict if another printer has the codes,
// if too many packages contain the codes, or if codes are frozen or void.
func (s *Service) MakePackage(ctx context.Context, w PackageRequest) (made PrintPackage, err error) {
	b, err := s.Memory.BatchOrLoad(ctx, w.Batch)
	if err != nil {
		return made, err
	}
	if err := w.check(b); err != nil {
		return made, err
	}
	if err := s.requireFinished(ctx, b); err != nil {
		return made, err
	}
	err = s.inBatch(ctx, w.Batch, func(tx Tx, b Batch, t time.Time) error {
		if err := s.requireImported(b, t); err != nil {
			return err
		}
		earlier, err := tx.PackagesWithin(ctx, w.Batch, w.Codes)
		if err != nil {
			return err
		}
		for _, o := range earlier {
			if equal, err := w.matches(ctx, tx, o); err != nil || equal {
				made = o
				return err
			}
		}
		if err := w.checkOverlap(earlier, s.Settings.Get().MaxPackagesPerCode); err != nil {
			return err
		}
		if index, state, found := s.Memory.FirstBlocked(w.Batch, NewSet(w.Codes), t); found {
			return Conflict(fmt.Sprintf("code %d is %s: a print package contains only codes that can be activated", index, state))
		}
		made = PrintPackage{Batch: w.Batch, Codes: w.Codes, Spare: w.Spare, Printer: w.Printer, Recipients: w.Recipients,
			Formats: w.Formats, Drawing: w.Drawing, Reason: w.Reason, MadeBy: accounts.ActorFromContext(ctx).ActorID, MadeAt: t}
		for _, o := range earlier {
			made.ReprintOf = append(made.ReprintOf, o.ID)
		}
		if made.ID, err = tx.NewPackageID(ctx); err != nil {
			return err
		}
		if w.Proofs > 0 {
			// An ISV from a caller cannot contain a control character, so no application of a caller has this ISV.
			proofs := Batch{Account: b.Account, ISV: fmt.Sprintf("\x01proofs of package %d", made.ID), Count: w.Proofs, Prefix: b.Prefix,
				Version: b.Version, Segment: b.Segment, CreatedAt: t, IsProof: true, Template: b.Template}
			if err := s.allocate(ctx, tx, &proofs); err != nil {
				return err
			}
			made.Proofs = proofs.ID
		}
		return tx.PutPackage(ctx, made, "make")
	})
	if err == nil && made.Proofs != 0 {
		s.awaitMemory(ctx, made.Proofs)
	}
	return made, err
}

// PackageQuery selects packages, sorted by ID.
type PackageQuery struct {
	Account string // "" = all accounts
	Batch   int64  // 0 = all batches
	After   int64
	Pending bool // only packages that are neither sent nor recalled
	Limit   int
}

// PrintPackages lists the packages that match the query.
func (s *Service) PrintPackages(ctx context.Context, q PackageQuery) ([]PrintPackage, error) {
	return accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) ([]PrintPackage, error) { return tx.Packages(ctx, q) })
}

// PrintPackage returns a package. ErrNoPackage.
func (s *Service) PrintPackage(ctx context.Context, id int64) (PrintPackage, error) {
	return accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) (PrintPackage, error) { return tx.PrintPackage(ctx, id) })
}

// SendPackage counts the start of a download. SendPackage returns ErrNoPackage, or a Conflict for a recalled package.
func (s *Service) SendPackage(ctx context.Context, id int64) (PrintPackage, error) {
	return s.changePackage(ctx, id, "send", func(_ Tx, printPackage *PrintPackage, _ time.Time) error {
		printPackage.Sent++
		return nil
	})
}

// RecallPackage marks a package as recalled and freezes its codes in the same transaction. RecallPackage returns ErrNoPackage, or a
// Conflict for a package that is already recalled.
func (s *Service) RecallPackage(ctx context.Context, id int64, note string) (PrintPackage, error) {
	if !accounts.IsPlain(note, 0, maxCodesNote) {
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "note: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	return s.changePackage(ctx, id, "recall", func(tx Tx, printPackage *PrintPackage, t time.Time) error {
		printPackage.RecalledAt, printPackage.RecalledBy = t, accounts.ActorFromContext(ctx).ActorID
		_, err := tx.AddEvent(ctx, Event{Batch: printPackage.Batch, Action: Freeze, Codes: NewSet(printPackage.Codes), OccurredAt: t,
			From: t, Note: joinNote(fmt.Sprintf("package %d recalled", id), note)})
		return err
	})
}

// SpoilCodes records that the printer destroyed codes of a package; these codes become permanently void. SpoilCodes returns ErrNoPackage,
// or a Conflict for a recalled package or for codes that are not in the package.
func (s *Service) SpoilCodes(ctx context.Context, id int64, spoiled Set, note string) (PrintPackage, error) {
	switch {
	case len(spoiled) == 0:
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "no codes are given")
	case !accounts.IsPlain(note, 0, maxCodesNote):
		return PrintPackage{}, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "note: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	return s.changePackage(ctx, id, "spoil", func(tx Tx, printPackage *PrintPackage, t time.Time) error {
		if b := spoiled.Bounds(); b.From < printPackage.Codes.From || b.To > printPackage.Codes.To {
			return Conflict(fmt.Sprintf("package %d has the codes %d to %d, not %d to %d", id,
				printPackage.Codes.From, printPackage.Codes.To, b.From, b.To))
		}
		fresh := spoiled.Subtract(printPackage.Spoiled)
		if len(fresh) == 0 {
			return errUnchanged
		}
		printPackage.Spoiled = NewSet(append(slices.Clone(printPackage.Spoiled), fresh...)...)
		_, err := tx.AddEvent(ctx, Event{Batch: printPackage.Batch, Action: Void, Codes: fresh, OccurredAt: t, From: t,
			Note: joinNote(fmt.Sprintf("spoiled in package %d", id), note)})
		return err
	})
}

// joinNote appends a user's note to a generated text.
func joinNote(text, note string) string {
	if note == "" {
		return text
	}
	return text + ": " + note
}

// RecalledPackages lists the recalled packages that contain some of the codes in set.
func (s *Service) RecalledPackages(ctx context.Context, batch int64, set Set) (list []PrintPackage, err error) {
	list, err = accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) ([]PrintPackage, error) {
		return tx.PackagesWithin(ctx, batch, set.Bounds())
	})
	return slices.DeleteFunc(list, func(printPackage PrintPackage) bool {
		return printPackage.RecalledAt.IsZero() || NewSet(printPackage.Codes).Subtract(set).Len() == NewSet(printPackage.Codes).Len()
	}), err
}

// errUnchanged is returned by the parameter "change" of changePackage if the package needs no change.
var errUnchanged = errors.New("codes: the package is unchanged")

// changePackage changes a package that is not recalled, under the lock of its batch.
func (s *Service) changePackage(ctx context.Context, id int64, action string,
	change func(tx Tx, printPackage *PrintPackage, t time.Time) error) (printPackage PrintPackage, err error) {
	if printPackage, err = s.PrintPackage(ctx, id); err != nil {
		return printPackage, err
	}
	err = s.inBatch(ctx, printPackage.Batch, func(tx Tx, _ Batch, t time.Time) (err error) {
		if printPackage, err = tx.PrintPackage(ctx, id); err != nil {
			return err
		}
		if !printPackage.RecalledAt.IsZero() {
			return Conflict(fmt.Sprintf("package %d was recalled by %s at %s", id, printPackage.RecalledBy,
				printPackage.RecalledAt.Format(time.RFC3339)))
		}
		switch err := change(tx, &printPackage, t); {
		case errors.Is(err, errUnchanged):
			return nil
		case err != nil:
			return err
		}
		return tx.PutPackage(ctx, printPackage, action)
	})
	return printPackage, err
}

// PackageSalt returns the salt for the line hashes in a package's file; the salt of a package never changes.
func (s *Service) PackageSalt(id int64) string {
	return s.Vault.Hash("package line", strconv.FormatInt(id, 10))
}

// CodeSource provides the codes of a range in printed form.
type CodeSource interface {
	// EachCode calls f with the index, the original code and the text of each code, in order; the slices are valid only until f
	// returns. EachCode returns the error of f or of ctx, or an error for an invalid range.
	EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error
	// Rows returns the number of rows.
	Rows() int64
}

// Source returns a CodeSource for a range of a batch: it computes the codes, or reads them from the store for an imported batch.
func (s *Service) Source(b Batch, r Range) CodeSource {
	if b.Imported {
		return importedSource{s, b, r}
	}
	return s.PrintedRange(b, r)
}

// importedSource is the CodeSource of an imported batch.
type importedSource struct {
	service *Service
	batch   Batch
	Range
}

func (s importedSource) Rows() int64 { return s.To - s.From + 1 }

func (s importedSource) EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error {
	return s.service.EachPrint(ctx, s.batch, s.Range, func(index int64, code, text string) error {
		return f(uint64(index), []byte(code), []byte(text))
	})
}

// PrintedRange returns the CodeSource for a range of a batch that this server created.
func (s *Service) PrintedRange(b Batch, r Range) PackageRange {
	return PackageRange{Start: b.Start, From: uint64(r.From), To: uint64(r.To), Code: s.Keys.Code, Text: s.Keys.Text[b.Version],
		Printed: Printed{Prefix: b.Prefix, Version: b.Version}, Template: b.Template, PIN: PINs(s.Vault, b)}
}

// Rows implements CodeSource.
func (p PackageRange) Rows() int64 { return int64(p.To - p.From + 1) }

// EachCode implements CodeSource.
func (p PackageRange) EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error {
	if err := p.check(); err != nil {
		return err
	}
	t, templated := Template{}, p.Template != ""
	if templated {
		t, _ = ParseTemplate(p.Template) // check has parsed it
	}
	s := new(burst)
	head := append([]byte(p.Printed.Prefix), p.Printed.Version)
	var code [CodeLength]byte
	var symbols [symbolsLength]byte
	text := make([]byte, 0, len(head)+symbolsLength)
	for index := p.From; index <= p.To; index += lanes { // To is below Space, so index cannot overflow
		n := int(min(lanes, p.To-index+1))
		s.run(p.Code, p.Text, p.Printed.Version, p.Start+index, n)
		if err := ctx.Err(); err != nil {
			return err
		}
		for j := range n {
			pos := index + uint64(j)
			code, symbols = s.lane(j)
			if templated {
				text = t.append(text[:0], &code, p.Printed.Version, &symbols, t.digits(p.Text, p.Printed.Version, p.Start+pos), pos)
			} else {
				text = append(append(text[:0], head...), symbols[:]...)
			}
			if err := f(pos, code[:], text); err != nil {
				return err
			}
		}
	}
	return nil
}
