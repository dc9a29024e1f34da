package codes

import (
	"bufio"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Imported codes, which were made elsewhere, are stored as rows, because this server cannot compute their indexes from their texts. The
// events of the batch record activations and state changes of imported codes, as they do for the server's own codes.

var (
	// ErrNoImported is returned if an imported code does not exist.
	ErrNoImported = errors.New("codes: no such imported code")
	// ErrUnread is returned if the store cannot determine whether a text is an imported code.
	ErrUnread = errors.New("codes: imported codes cannot be read")
)

const (
	// maxImported is the maximum number of codes in an imported batch. Contract: marketcode §2, the largest count in the
	// documentation of the Weixin platform.
	maxImported = 200_000_000
	// MaxImportLines is the maximum number of lines in one call; a call stores all lines or none.
	MaxImportLines = 50_000
	// maxImportLine is the maximum length in bytes of a line, including its line ending.
	maxImportLine = 2048
	// ImportedMatrix is the length in characters of the first column of an imported line, the dot matrix. Contract: marketcode §4.2.
	ImportedMatrix = fieldLength
	// importKey is the label from which the encryption key of imported texts is derived. This label never changes.
	importKey = "texts of imported codes"
	// importMark is the text whose hash verifies the keys of an imported batch, in place of the first code.
	importMark = "a batch made elsewhere"
	// importedTime is the timeout of a scan's store query for imported codes.
	importedTime = 5 * time.Second
)

// ImportedCode is an imported code as stored.
type ImportedCode struct {
	Batch, Index int64
	Code         int64 // the original code as packed by packCode
	TextHi       int64 // TextHi, TextLo: the encrypted tail of the text, or the keyed hash of a text with a token
	TextLo       int64
	Token        string // encrypted; "" = the text has no token
}

// tail is the part of a code text after its prefix.
type tail = [TailLength]byte

// symbolIndex maps each of the 44 characters in platformSymbols to its index; other characters map to the marker "absent". The indexes are
// stored, so they must never change. Contract: marketcode §5.2.
var symbolIndex = func() (index [256]byte) {
	for i := range index {
		index[i] = absent
	}
	for i := range len(platformSymbols) {
		index[platformSymbols[i]] = byte(i)
	}
	return index
}()

// packCode converts one to nine symbols to a base-45 number, in which no symbol has the value 0.
func packCode(text string) (n int64, ok bool) {
	if len(text) == 0 || len(text) > CodeLength {
		return 0, false
	}
	for i := range len(text) {
		v := symbolIndex[text[i]]
		if v == absent {
			return 0, false
		}
		n = n*45 + int64(v) + 1
	}
	return n, true
}

// unpackCode converts a number from packCode back to its text.
func unpackCode(n int64) string {
	var text [CodeLength + 5]byte
	i := len(text)
	for ; n > 0 && i > 0; n /= 45 {
		i--
		if v := n % 45; v == 0 {
			text[i] = '?'
		} else {
			text[i] = platformSymbols[v-1]
		}
	}
	return string(text[i:])
}

// importedBlock returns the cipher of the texts of imported codes.
func (s *Service) importedBlock() cipher.Block {
	s.importKeysOnce.Do(func() {
		for purpose, block := range map[string]*cipher.Block{importKey: &s.importCipher, tokenKey: &s.tokenCipher} {
			key := s.Vault.Hasher(purpose).Sum()
			var err error
			if *block, err = aes.NewCipher(key[:]); err != nil {
				panic(err) // cannot fail: a key has 32 bytes
			}
		}
		s.tokenHasher = s.Vault.Hasher(tokenHashKey)
	})
	return s.importCipher
}

// encryptTail packs the nineteen symbols of a tail, six bits each, into one block and encrypts it. Equal tails produce equal blocks.
func (s *Service) encryptTail(t tail) (hi, lo int64) {
	var high, low uint64
	for _, char := range t {
		high = high<<6 | low>>58
		low = low<<6 | uint64(symbolIndex[char])
	}
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	s.importedBlock().Encrypt(b[:], b[:])
	return int64(binary.BigEndian.Uint64(b[:8])), int64(binary.BigEndian.Uint64(b[8:]))
}

// decryptTail is the inverse of encryptTail; ok is false for a block encrypted with another key.
func (s *Service) decryptTail(hi, lo int64) (t tail, ok bool) {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:8], uint64(hi))
	binary.BigEndian.PutUint64(b[8:], uint64(lo))
	s.importedBlock().Decrypt(b[:], b[:])
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	for i := len(t) - 1; i >= 0; i-- {
		v := low & 63
		if v >= uint64(len(platformSymbols)) {
			return t, false
		}
		t[i] = platformSymbols[v]
		low, high = low>>6|high<<58, high>>6
	}
	return t, high == 0 && low == 0
}

// parsePlatformTail parses nineteen symbols of platformSymbols without unescaping, with letters in any case.
func parsePlatformTail(text string) (t tail, ok bool) {
	if len(text) != TailLength {
		return t, false
	}
	for i := range len(text) {
		if t[i] = upperByte(text[i]); symbolIndex[t[i]] == absent {
			return t, false
		}
	}
	return t, true
}

// possibleTails returns the tails that a text with the prefix may contain. Because "%" is a symbol too, the rest of the text is parsed both
// as it is and percent-decoded.
func possibleTails(prefix, text string) (tails []tail) {
	bare, known := cutScheme(text), cutScheme(prefix)
	if len(bare) < len(known) || !equalFold(bare[:len(known)], known) {
		return nil
	}
	rest := bare[len(known):]
	if t, ok := parsePlatformTail(rest); ok {
		tails = append(tails, t)
	}
	if len(rest) > TailLength && len(rest) <= 3*TailLength {
		if plain, err := url.PathUnescape(rest); err == nil {
			if t, ok := parsePlatformTail(plain); ok {
				tails = append(tails, t)
			}
		}
	}
	return tails
}

// TextsUnder returns the possible printed texts, of own or imported codes, for a text that a camera read.
func TextsUnder(prefix, text string) (texts []string) {
	for _, t := range possibleTails(prefix, text) {
		texts = append(texts, prefix+string(t[:]))
	}
	return texts
}

// IsOriginal reports whether a text has the form of an original code: one to nine symbols.
func IsOriginal(text string) bool {
	_, ok := packCode(text)
	return ok
}

// Suffix returns the last symbols of a code text with one of the prefixes; "" = the text is not a code text.
func Suffix(text string, prefixes []string, symbols int) string {
	if parts, err := ParseText(text, prefixes); err == nil {
		return string(parts.Symbols[symbolsLength-symbols:])
	}
	for _, prefix := range prefixes {
		for _, t := range possibleTails(prefix, text) {
			return string(t[TailLength-symbols:])
		}
	}
	return ""
}

// recognise finds the code with a text. recognise tries the server's own codes first, which needs no store query. ErrUnread.
func (s *Service) recognise(ctx context.Context, text string) (f Found, ok bool, err error) {
	if f, ok = s.byText(text); ok {
		return f, true, nil
	}
	if f, ok = s.byTemplate(text); ok {
		return f, true, nil
	}
	if f, ok, err = s.importedWithoutToken(ctx, text); ok || err != nil {
		return f, ok, err
	}
	return s.byToken(ctx, text)
}

// importedWithoutToken finds the imported code without a token that has the given text. ErrUnread.
func (s *Service) importedWithoutToken(ctx context.Context, text string) (f Found, ok bool, err error) {
	if f, ok, err = s.importedByTemplate(ctx, text); ok || err != nil {
		return f, ok, err
	}
	for _, prefix := range s.Memory.ImportedPrefixes() {
		for _, t := range possibleTails(prefix, text) {
			if f, ok, err = s.importedByTail(ctx, prefix, t); ok || err != nil {
				return f, ok, err
			}
		}
	}
	return f, false, nil
}

// importedByTail finds the imported code whose text consists of the given prefix and tail.
func (s *Service) importedByTail(ctx context.Context, prefix string, t tail) (f Found, ok bool, err error) {
	hi, lo := s.encryptTail(t)
	if f, ok, err = s.importedRow(ctx, hi, lo); !ok || err != nil {
		return f, false, err
	}
	// A text with the same symbols but another prefix is a different text.
	a, b := cutScheme(f.Batch.Prefix), cutScheme(prefix)
	return f, f.Batch.Template == "" && len(a) == len(b) && equalFold(a, b), nil
}

// importedRow finds the imported code with an encrypted text. ErrUnread.
func (s *Service) importedRow(ctx context.Context, hi, lo int64) (f Found, ok bool, err error) {
	var row ImportedCode
	err = s.viewImported(ctx, func(ctx context.Context, tx Tx) (err error) {
		row, err = tx.ImportedByText(ctx, hi, lo)
		return err
	})
	if errors.Is(err, ErrNoImported) {
		return f, false, nil
	}
	if err == nil {
		f, err = s.foundImported(ctx, row)
	}
	if err != nil {
		return f, false, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	return f, true, nil
}

// allByCode finds the codes whose original code is the given text: at most one of the server's own codes, and any number of imported codes.
// ErrUnread.
func (s *Service) allByCode(ctx context.Context, text string) (all []Found, err error) {
	if f, ok := s.ownByCode(text); ok {
		all = append(all, f)
	}
	if len(s.Memory.ImportedPrefixes()) == 0 && s.Memory.importedTemplateCount.Load() == 0 {
		return all, nil
	}
	n, ok := packCode(strings.Map(func(r rune) rune {
		if r < 128 {
			return rune(upperByte(byte(r)))
		}
		return r
	}, text))
	if !ok {
		return all, nil
	}
	var rows []ImportedCode
	err = s.viewImported(ctx, func(ctx context.Context, tx Tx) (err error) {
		rows, err = tx.ImportedByCode(ctx, n)
		return err
	})
	for _, row := range rows {
		f, failed := s.foundImported(ctx, row)
		if failed != nil {
			err = failed
			break
		}
		all = append(all, f)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	return all, nil
}

func (s *Service) foundImported(ctx context.Context, row ImportedCode) (Found, error) {
	b, err := s.Memory.BatchOrLoad(ctx, row.Batch)
	return Found{Batch: b, Index: row.Index, Code: unpackCode(row.Code)}, err
}

func (s *Service) viewImported(ctx context.Context, f func(context.Context, Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, importedTime)
	defer cancel()
	return s.Store.ViewCodes(ctx, func(tx Tx) error { return f(ctx, tx) })
}

// Print returns the original code and the code text of an index. Print returns 80308 if the code of an imported batch is not stored yet.
func (s *Service) Print(ctx context.Context, b Batch, index int64) (code, text string, err error) {
	err = s.EachPrint(ctx, b, Range{index, index}, func(_ int64, c, t string) error {
		code, text = c, t
		return nil
	})
	return code, text, err
}

// printPageSize is the number of rows of imported codes that one query reads.
const printPageSize = 1000

// EachPrint calls f with the codes of a range in order. EachPrint returns 80308 if a code of the range has not been imported yet,
// or the error of f.
func (s *Service) EachPrint(ctx context.Context, b Batch, r Range, f func(index int64, code, text string) error) error {
	if !b.Imported {
		for i := r.From; i <= r.To; i++ {
			if err := f(i, s.Code(b, i), s.Text(b, i)); err != nil {
				return err
			}
		}
		return nil
	}
	for from := r.From; from <= r.To; {
		to := min(from+printPageSize-1, r.To)
		rows, err := accounts.Transact(ctx, s.Store.ViewCodes, func(tx Tx) ([]ImportedCode, error) {
			return tx.ImportedCodes(ctx, b.ID, Range{from, to})
		})
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Index != from {
				break
			}
			text, err := s.importedPrint(b, row)
			if err != nil {
				return err
			}
			if err := f(row.Index, unpackCode(row.Code), text); err != nil {
				return err
			}
			from++
		}
		if from <= to {
			return errcode.NotFinished.WithDetail(behaviour.CodesUnfinished, "code %d of application %d is not imported yet", from, b.ID)
		}
	}
	return nil
}

// countImported returns the number of codes of an imported batch that are stored.
func (s *Service) countImported(ctx context.Context, b Batch) (int64, error) {
	n := s.Memory.Arrived(b.ID, s.Now())
	if n == b.Count || !s.Shared {
		return n, nil
	}
	err := s.Memory.CatchUp(ctx, b.ID)
	return s.Memory.Arrived(b.ID, s.Now()), err
}

// requireComplete returns a Conflict if codes of an imported batch have not been imported yet.
func (s *Service) requireComplete(ctx context.Context, b Batch) error {
	if !b.Imported {
		return nil
	}
	n, err := s.countImported(ctx, b)
	if err == nil && n < b.Count {
		err = Conflict(fmt.Sprintf("%d of the %d codes of application %d are imported: import the rest first", n, b.Count, b.ID))
	}
	return err
}

// requireImported returns 80308 if codes of an imported batch have not been imported yet; the caller's transaction holds the batch lock.
func (s *Service) requireImported(b Batch, t time.Time) error {
	if b.Imported && s.Memory.Arrived(b.ID, t) < b.Count {
		return errcode.NotFinished.WithDetail(behaviour.CodesUnfinished, "codes of application %d are not imported, or their import was undone", b.ID)
	}
	return nil
}

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
	case !plain(n.ISV, 1, maxISV):
		fault = fmt.Sprintf("isv_application_id: want 1 to %d characters, none of them a control character", maxISV)
	case n.ID < 0 || n.ID > maxBatchID:
		fault = fmt.Sprintf("application_id %d: want 1 to %d", n.ID, maxBatchID)
	case !plain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote):
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
	if err != nil || !b.TakenBack() {
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
	if !plain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote) {
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
	if !plain(note, 0, maxCodesNote) || !plain(accounts.ActorFromContext(ctx).ActorID, 1, maxCodesNote) {
		return done, errcode.InvalidArgs.WithDetail(behaviour.NoRow, "note and actor: want at most %d characters, none of them a control character",
			maxCodesNote)
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
			if _, err := tx.AddEvent(ctx, Event{Batch: batch, Action: TakeBack, Codes: removed, OccurredAt: t, From: t,
				Note: note}); err != nil {
				return err
			}
		}
		if done.Stored > 0 || r != (Range{0, b.Count - 1}) {
			return nil
		}
		b.ISV = takenBack + strconv.FormatInt(batch, 10)
		return tx.PutImport(ctx, b, string(TakeBack))
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
		return row, faultAt(l.Number, "the text is one that this server can generate")
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

// ImportLine is one line with the four columns of the wire format. Contract: marketcode §4.2.
type ImportLine struct {
	Number int64
	Code   string // the original code, one to nine symbols
	Index  int64
	Text   string // code text exactly as in the row
}

// Cut splits the text into its prefix and the last 19 symbols. The error of Cut, accounts.RowErrors, never quotes the text, because
// the text is a secret code.
func (l ImportLine) Cut() (prefix, tail string, err error) {
	pos := len(l.Text) - TailLength
	if pos <= 0 || !allOf(l.Text[pos:], platformSymbols) {
		return "", "", faultAt(l.Number, "column 4 is no code text: want a prefix and %d of %s", TailLength, platformSymbols)
	}
	return l.Text[:pos], l.Text[pos:], nil
}

// ImportLines yields lines with the four columns of the wire format; first is the number of the first line, and each index must be
// one more than the previous index. Columns are separated by spaces or tabs; a line ends with LF or CRLF. ImportLines stops after
// an error, which is accounts.RowErrors or the error of the reader.
func ImportLines(r io.Reader, first int64) iter.Seq2[ImportLine, error] {
	return func(yield func(ImportLine, error) bool) {
		in := bufio.NewReaderSize(r, maxImportLine)
		if mark, _ := in.Peek(3); first == 1 && string(mark) == "\ufeff" {
			_, _ = in.Discard(len(mark))
		}
		prev := int64(-1)
		for text, err := range listLines(in, first) {
			var l ImportLine
			if err == nil {
				l, err = importLine(text.Text)
				if err == nil && prev >= 0 && l.Index != prev+1 {
					err = fmt.Errorf("index %d follows %d: lines must be in the order of their indexes, without gaps", l.Index, prev)
				}
				err = FaultOfLine(text.Number, err)
			}
			l.Number, prev = text.Number, l.Index
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// importLine parses one line. The error of importLine never quotes the text, because the text is a secret code.
func importLine(text string) (l ImportLine, err error) {
	columns := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' })
	if len(columns) != 4 {
		return l, fmt.Errorf("want four columns, not %d: dot matrix, original code, index, code text, with spaces between them", len(columns))
	}
	matrix, code, index, full := columns[0], columns[1], columns[2], columns[3]
	if matrix != "-" && (len(matrix) != ImportedMatrix || !allOf(matrix, "01")) {
		return l, fmt.Errorf(`column 1 is no dot matrix of %d characters 0 and 1, and no "-" for none`, ImportedMatrix)
	}
	if _, ok := packCode(code); !ok {
		return l, fmt.Errorf("column 2 is not an original code: want 1 to %d of %s", CodeLength, platformSymbols)
	}
	n, err := strconv.ParseUint(index, 10, 32)
	if err != nil {
		return l, errors.New("column 3 is not an index")
	}
	return ImportLine{Code: code, Index: int64(n), Text: full}, nil
}
