package codes

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
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
var symbolIndex = positionsIn(platformSymbols)

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
	n, ok := packCode(upperASCII(text))
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
