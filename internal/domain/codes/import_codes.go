package codes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// NewImport describes a batch made elsewhere, whose codes are to be imported.
type NewImport struct {
	Account string
	ISV     string
	// ID is the application_id that the batch had elsewhere; 0 = a new ID is assigned.
	ID     int64
	Count  int64
	Prefix string // common prefix of the texts, before the last 19 symbols
	Text   TemplateOrder
}

// BeginImport creates a batch for codes made elsewhere. A repeated call of BeginImport returns the same batch. BeginImport returns 40097
// for an invalid batch, 48001 for an account without codes, or a Conflict if a different application has the ID, or has the ISV in the same
// account.
func (s *Service) BeginImport(ctx context.Context, n NewImport) (b Batch, err error) {
	fault := ""
	switch {
	case n.Count < 1 || n.Count > maxImported:
		fault = fmt.Sprintf("%d codes: want 1 to %d", n.Count, maxImported)
	case !accounts.IsPlain(n.ISV, 1, maxISV):
		fault = fmt.Sprintf("isv_application_id: want 1 to %d characters, none of them a control character", maxISV)
	case n.ID < 0 || n.ID > maxBatchID:
		fault = fmt.Sprintf("application_id %d: want 1 to %d", n.ID, maxBatchID)
	case !accounts.IsPlain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote):
		fault = fmt.Sprintf("actor: want at most %d characters, none of them a control character", maxCodesNote)
	}
	template, err := n.template(s)
	if fault == "" && err != nil {
		return b, err
	}
	if wrong := CheckPrefix(n.Prefix); fault == "" && template == "" && wrong != nil {
		fault = wrong.Error()
	}
	if fault != "" {
		return b, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "%s", fault)
	}
	err = s.Store.UpdateCodes(ctx, func(tx Tx) error {
		if err := tx.LockAccount(ctx, n.Account); err != nil {
			return err
		}
		owner, err := tx.Account(ctx, n.Account)
		if err != nil {
			return err
		}
		if err := CheckPermission(owner); err != nil {
			return err
		}
		b, err = tx.BatchByISV(ctx, n.Account, n.ISV)
		if err == nil {
			return n.checkSame(b, template)
		}
		if !errors.Is(err, ErrNoBatch) {
			return err
		}
		checkValue := s.keyCheckValue(importMark)
		newBatch := Batch{ID: n.ID, Account: n.Account, ISV: n.ISV, Count: n.Count, Imported: true, Prefix: n.Prefix,
			Version: FirstVersion, Segment: s.Settings.Get().CodeSegmentSize, FirstCode: checkValue, FirstText: checkValue,
			CreatedAt: s.Now(), Template: template}
		repeat, err := s.restartImport(ctx, tx, newBatch)
		if err != nil || repeat {
			b = newBatch
			return err
		}
		b, err = tx.AddBatch(ctx, newBatch)
		if errors.Is(err, ErrBatchTaken) {
			return Conflict(fmt.Sprintf("application_id %d is in use by another application: import without application_id, and the "+
				"server assigns a new one", n.ID))
		}
		return err
	})
	if err == nil {
		s.awaitMemory(ctx, b.ID)
	}
	return b, err
}

// restartImport replaces the stored batch that has the ID of newBatch, if the import of the stored batch was undone.
func (s *Service) restartImport(ctx context.Context, tx Tx, newBatch Batch) (bool, error) {
	if newBatch.ID == 0 {
		return false, nil
	}
	if err := tx.LockBatch(ctx, newBatch.ID); err != nil {
		return false, err
	}
	b, err := tx.Batch(ctx, newBatch.ID)
	if errors.Is(err, ErrNoBatch) {
		return false, nil
	}
	if err != nil || !b.ImportUndone() {
		return false, err
	}
	return true, tx.PutImport(ctx, newBatch, "import")
}

// checkSame returns a Conflict unless the stored batch b equals the batch to import.
func (n NewImport) checkSame(b Batch, template string) error {
	reason := ""
	switch {
	case !b.Imported:
		reason = "its codes were made here"
	case n.ID != 0 && n.ID != b.ID:
		reason = fmt.Sprintf("application_id %d is asked for", n.ID)
	case b.Count != n.Count:
		reason = fmt.Sprintf("it has %d codes, not %d", b.Count, n.Count)
	case b.Template != template:
		reason = "its texts are written otherwise"
	case b.Prefix != n.Prefix:
		reason = fmt.Sprintf("its texts begin with %s, not with %s", b.Prefix, n.Prefix)
	default:
		return nil
	}
	return Conflict(fmt.Sprintf("isv_application_id %q is application %d of %s already, and %s", n.ISV, b.ID, n.Account, reason))
}

// ImportResult is the result of ImportCodes.
type ImportResult struct {
	Lines  int64 // number of lines read
	Added  int64 // number of lines that were newly stored; the other lines were already stored with equal content
	Stored int64 // number of codes of the batch that are stored after the call
}

// ImportCodes stores codes of an imported batch: all or none. The lines, at most MaxImportLines, are in index order and have the four
// columns of the wire format. A line whose code is already stored with equal content changes nothing. first is the number of the first
// line, used by accounts.RowErrors to name invalid lines. Contract: marketcode §4.2.
func (s *Service) ImportCodes(ctx context.Context, batch, first int64, lines io.Reader) (done ImportResult, err error) {
	return s.importRows(ctx, batch, first, func(b Batch) ([]ImportedCode, error) { return s.readImport(ctx, b, first, lines) })
}

// ImportTexts is the variant of ImportCodes for a batch whose texts have a token: it reads one text per line; start is the index of the
// first text. ImportTexts rejects a text that a jump rule matches, and a text that belongs to another code.
func (s *Service) ImportTexts(ctx context.Context, batch, first, start int64, lines io.Reader) (done ImportResult, err error) {
	return s.importRows(ctx, batch, first, func(b Batch) ([]ImportedCode, error) { return s.readTexts(ctx, b, first, start, lines) })
}

// importRows stores the rows that the function "read" returns in index order: all or none.
func (s *Service) importRows(ctx context.Context, batch, first int64, read func(Batch) ([]ImportedCode, error)) (done ImportResult,
	err error) {
	b, err := s.Memory.BatchOrLoad(ctx, batch)
	if err != nil {
		return done, err
	}
	if !b.Imported {
		return done, Conflict(fmt.Sprintf("the codes of application %d were generated here: they are not in a file", batch))
	}
	if !accounts.IsPlain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote) {
		return done, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "actor: want at most %d characters, none of them a control character",
			maxCodesNote)
	}
	rows, err := read(b)
	if err != nil {
		return done, err
	}
	line := func(row ImportedCode) int64 { return first + row.Index - rows[0].Index }
	err = s.inBatch(ctx, batch, func(tx Tx, b Batch, t time.Time) error {
		done = ImportResult{Lines: int64(len(rows))}
		newRows, err := s.unstoredRows(ctx, tx, rows, line)
		if err != nil || len(newRows) == 0 {
			return err
		}
		stored, err := tx.AddImported(ctx, newRows)
		if err != nil {
			return err
		}
		if stored != int64(len(newRows)) {
			return s.duplicateError(ctx, tx, newRows, line)
		}
		done.Added = stored
		ranges := make([]Range, len(newRows))
		for i, row := range newRows {
			ranges[i] = Range{row.Index, row.Index}
		}
		added := NewSet(ranges...)
		if s.Memory.importState(batch, Range{}, 0, t).codesRemoved {
			// A first scan may have been stored after UndoImport removed its code, because the scan had found the code before.
			for _, r := range added {
				if err := tx.ForgetFirstScans(ctx, batch, r); err != nil {
					return err
				}
			}
		}
		_, err = tx.AddEvent(ctx, Event{Batch: batch, Action: Import, Codes: added, OccurredAt: t, From: t})
		return err
	})
	if err == nil {
		done.Stored, err = s.countImported(ctx, b)
	}
	return done, err
}

// maxRemoved is the maximum number of codes that one call removes, because other writers wait for its transaction.
const maxRemoved = 10_000

// ImportUndone is the result of UndoImport.
type ImportUndone struct {
	Removed int64
	Stored  int64 // number of codes of the batch that are stored after the call
	More    bool  // true = codes of the range are still stored
}

// UndoImport removes imported codes of a range, at most maxRemoved per call: the caller repeats the call while More is true. If the range
// is the whole batch, the last call also removes the application. UndoImport returns ErrNoBatch, or the Conflict of requireUnused.
func (s *Service) UndoImport(ctx context.Context, batch int64, r Range, note string) (done ImportUndone, err error) {
	b, err := s.Memory.BatchOrLoad(ctx, batch)
	if err != nil {
		return done, err
	}
	if !b.Imported {
		return done, Conflict(fmt.Sprintf("the codes of application %d were generated here, not imported: freeze or void them", batch))
	}
	if err := checkNote(ctx, note); err != nil {
		return done, err
	}
	if err := b.CheckRange(r); err != nil {
		return done, err
	}
	err = s.inBatch(ctx, batch, func(tx Tx, b Batch, t time.Time) error {
		done = ImportUndone{}
		if err := b.CheckRange(r); err != nil {
			return err
		}
		if err := s.requireUnused(ctx, tx, b, t); err != nil {
			return err
		}
		removed, hasMore := s.Memory.importState(batch, r, maxRemoved+1, t).lowest.first(maxRemoved)
		done.More = hasMore
		done.Removed = removed.Len()
		done.Stored = s.Memory.Arrived(batch, t) - done.Removed
		for _, part := range removed {
			if err := tx.RemoveImported(ctx, batch, part); err != nil {
				return err
			}
		}
		if len(removed) > 0 {
			if _, err := tx.AddEvent(ctx, Event{Batch: batch, Action: UndoImport, Codes: removed, OccurredAt: t, From: t,
				Note: note}); err != nil {
				return err
			}
		}
		if done.Stored > 0 || r != (Range{0, b.Count - 1}) {
			return nil
		}
		b.ISV = importUndone + strconv.FormatInt(batch, 10)
		return tx.PutImport(ctx, b, string(UndoImport))
	})
	return done, err
}

// requireUnused returns a Conflict if imported codes were changed, scanned or put into a package. The transaction must hold the batch lock.
func (s *Service) requireUnused(ctx context.Context, tx Tx, b Batch, t time.Time) error {
	conflict := func(kind string) error {
		return Conflict(fmt.Sprintf("%s of application %d: its import cannot be undone; freeze the wrong codes, or deactivate them",
			kind, b.ID))
	}
	if s.Memory.importState(b.ID, Range{}, 0, t).hasOtherEvents {
		return conflict("codes were activated, frozen, redeemed or made void")
	}
	scanned, err := tx.Scanned(ctx, b.ID)
	if err != nil {
		return err
	}
	if scanned {
		return conflict("codes were scanned")
	}
	packages, err := tx.PackagesWithin(ctx, b.ID, Range{0, b.Count - 1})
	if err == nil && len(packages) > 0 {
		err = conflict(fmt.Sprintf("%s has codes (package %d)", packages[0].Printer, packages[0].ID))
	}
	return err
}

// faultAt returns the error of one line of an import.
func faultAt(line int64, format string, args ...any) error {
	return accounts.RowErrors{{Line: int(line), Reason: fmt.Sprintf(format, args...)}}
}

// unstoredRows returns the rows that are not stored yet; it returns an error if a different code is stored at the index of a row.
func (s *Service) unstoredRows(ctx context.Context, tx Tx, rows []ImportedCode, line func(ImportedCode) int64) ([]ImportedCode, error) {
	have, err := tx.ImportedCodes(ctx, rows[0].Batch, Range{rows[0].Index, rows[len(rows)-1].Index})
	if err != nil || len(have) == 0 {
		return rows, err
	}
	var newRows []ImportedCode
	for _, row := range rows {
		pos, exists := slices.BinarySearchFunc(have, row.Index, func(h ImportedCode, index int64) int {
			return cmp.Compare(h.Index, index)
		})
		if !exists {
			newRows = append(newRows, row)
		} else if have[pos] != row {
			return nil, faultAt(line(row), "code %d is here already, with another original code or another text", row.Index)
		}
	}
	return newRows, nil
}

// duplicateError returns the error for the first row that could not be stored because another code has the same text, or another code of
// the same batch has the same original code.
func (s *Service) duplicateError(ctx context.Context, tx Tx, rows []ImportedCode, line func(ImportedCode) int64) error {
	for _, row := range rows {
		otherCode, err := tx.ImportedByText(ctx, row.TextHi, row.TextLo)
		switch {
		case err != nil && !errors.Is(err, ErrNoImported):
			return err
		case err == nil && (otherCode.Batch != row.Batch || otherCode.Index != row.Index):
			return faultAt(line(row), "the text is that of code %d of application %d", otherCode.Index, otherCode.Batch)
		}
		otherCodes, err := tx.ImportedByCode(ctx, row.Code)
		if err != nil {
			return err
		}
		for _, otherCode := range otherCodes {
			if otherCode.Batch == row.Batch && otherCode.Index != row.Index {
				return faultAt(line(row), "the original code is that of code %d of the same application", otherCode.Index)
			}
		}
	}
	return errors.New("codes: some rows were not stored, but no duplicate was found")
}

// readImport parses lines; it returns accounts.RowErrors for the first invalid line.
func (s *Service) readImport(ctx context.Context, b Batch, first int64, lines io.Reader) (rows []ImportedCode, err error) {
	if b.TakesTexts() {
		return nil, Conflict(fmt.Sprintf("the codes of application %d are imported as texts, one per line", b.ID))
	}
	row := s.readWithPrefix
	if b.Template != "" {
		t, err := ParseTemplate(b.Template)
		if err != nil {
			return nil, err
		}
		row = func(b Batch, l ImportLine) (ImportedCode, error) { return s.readByTemplate(b, t, l) }
	}
	return readRows(ctx, b, ImportLines(lines, first), row, s.byToken)
}

// readRows converts lines to rows with the function read. It returns accounts.RowErrors for the first line that read rejects, that is one
// too many, that has an index past the end of the batch, or whose text belongs to another code: to one that the function taken finds, or to
// one on an earlier line.
func readRows(ctx context.Context, b Batch, lines iter.Seq2[ImportLine, error], read func(Batch, ImportLine) (ImportedCode, error),
	taken func(ctx context.Context, text string) (Found, bool, error)) (rows []ImportedCode, err error) {
	texts, original := map[[2]int64]int64{}, map[int64]int64{}
	for l, err := range lines {
		if err != nil {
			return nil, err
		}
		if len(rows) == MaxImportLines {
			return nil, faultAt(l.Number, "more than %d lines: bring them in several calls", MaxImportLines)
		}
		if l.Index >= b.Count {
			return nil, faultAt(l.Number, "index %d: the application has the indexes 0 to %d", l.Index, b.Count-1)
		}
		row, err := read(b, l)
		if err != nil {
			return nil, err
		}
		if f, found, err := taken(ctx, l.Text); found || err != nil {
			return nil, cmp.Or(err, faultAt(l.Number, "the text is that of code %d of application %d", f.Index, f.Batch.ID))
		}
		if pos, duplicate := texts[[2]int64{row.TextHi, row.TextLo}]; duplicate {
			return nil, faultAt(l.Number, "the text is a duplicate of line %d", pos)
		}
		if pos, duplicate := original[row.Code]; duplicate {
			return nil, faultAt(l.Number, "the original code is a duplicate of line %d", pos)
		}
		texts[[2]int64{row.TextHi, row.TextLo}], original[row.Code] = l.Number, l.Number
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "there are no lines")
	}
	return rows, nil
}

// readWithPrefix converts an imported line to a row; the text of the line must consist of the prefix and 19 symbols.
func (s *Service) readWithPrefix(b Batch, l ImportLine) (row ImportedCode, err error) {
	prefix, rest, err := l.Cut()
	switch {
	case err != nil:
		return row, err
	case prefix != b.Prefix:
		return row, faultAt(l.Number, "the text begins with another prefix than %s", b.Prefix)
	case s.canGenerate(rest):
		return row, faultAt(l.Number, "the text has the format of codes that this server generates")
	}
	row = ImportedCode{Batch: b.ID, Index: l.Index}
	row.Code, _ = packCode(l.Code)
	row.TextHi, row.TextLo = s.encryptTail(tail([]byte(rest)))
	return row, nil
}

// canGenerate reports whether one of the server's own keys can produce the text, even if the code of the text was never issued.
func (s *Service) canGenerate(text string) bool {
	key := s.Keys.Text[text[0]]
	if key == nil || !allOf(text, Alphabet) {
		return false
	}
	_, isOurs := key.Counter([symbolsLength]byte([]byte(text[1:])), text[0])
	return isOurs
}
