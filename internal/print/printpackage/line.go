package printpackage

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

// With the line file a verification machine at the printing line recognizes the codes of a job. The file contains no codes: it is a JSON
// header on one line, then 16 bytes per code (first the codes by index, then the proof codes), then the SHA-256 of the header and the
// codes. The 16 bytes of a code are the first 8 bytes of SHA-256(salt, "t", code text) and of SHA-256(salt, "s", nine characters).

// LineFormat is the format name in the header of a line file. A line file whose code texts follow a template has the second format,
// so that a program that supports only the first format rejects the line file instead of reporting every code as foreign.
const (
	LineFormat           = "qrjump-line/1"
	LineFormatByTemplate = "qrjump-line/2"
)

// LineName is the name of the line file in a package.
const LineName = "line.qjl"

const lineRecord = 16

// LineHead is the header of the line file.
type LineHead struct {
	Format        string `json:"format"`
	Package       int64  `json:"package"`
	ApplicationID int64  `json:"application_id"`
	From          int64  `json:"from"`
	To            int64  `json:"to"`
	Spare         int64  `json:"spare,omitempty"`
	Proofs        int64  `json:"proofs,omitempty"`
	Prefix        string `json:"prefix"`
	Text          string `json:"text,omitempty"` // the template of the code texts; "" = prefix and secret
	Salt          string `json:"salt"`           // hexadecimal
	// FalseRate is the probability that a foreign code is accepted.
	FalseRate float64 `json:"false_rate"`
}

func (h LineHead) codes() int64 { return h.To - h.From + 1 }

// FormatFor returns the format name for the header; it depends on whether the texts follow a template.
func (h LineHead) FormatFor() string {
	if h.Text != "" {
		return LineFormatByTemplate
	}
	return LineFormat
}

// WriteLine writes the line file. The codes are read from each of the lists in order.
func WriteLine(ctx context.Context, w io.Writer, h LineHead, lists ...codes.CodeSource) error {
	h.Format, h.FalseRate = h.FormatFor(), float64(h.codes()+h.Proofs)/math.Exp2(64)
	salt, err := hex.DecodeString(h.Salt)
	if err != nil {
		return fmt.Errorf("printpackage: the salt of a line file: %w", err)
	}
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<15)
	_, _ = out.Write(append(head, '\n')) // the buffered writer keeps its first error
	item := newHasher(salt)
	for _, list := range lists {
		err := list.EachCode(ctx, func(_ uint64, code, text []byte) error {
			b := binary.BigEndian.AppendUint64(out.AvailableBuffer(), item.sum('t', text))
			_, err := out.Write(binary.BigEndian.AppendUint64(b, item.sum('s', code)))
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// hasher computes hashes with one salt.
type hasher struct {
	salt []byte
	h    hash.Hash
	out  []byte
}

func newHasher(salt []byte) *hasher { return &hasher{salt: salt, h: sha256.New()} }

func (s *hasher) sum(kind byte, text []byte) uint64 {
	s.h.Reset()
	s.h.Write(s.salt)
	s.h.Write([]byte{kind})
	s.h.Write(text)
	s.out = s.h.Sum(s.out[:0])
	return binary.BigEndian.Uint64(s.out)
}

// Job contains the hashes of a package's codes.
type Job struct {
	LineHead
	template *codes.Template
	of       *hasher
	places   [2][]place // hashes of texts and of serials, sorted by hash
}

// place is a hash with its position in the file.
type place struct {
	hash uint64
	at   uint32
}

// Maximum lengths: for each code that is read, the salt is hashed and the prefix is compared.
const (
	maxSalt       = 64 // bytes
	maxLinePrefix = 256
)

// maxLineCodes limits the memory of a job, at 32 bytes per code.
const maxLineCodes = 100_000_000

// ReadLine reads a line file. ReadLine returns ErrCut if the file is incomplete.
func ReadLine(r io.Reader) (*Job, error) {
	sum := sha256.New()
	in := bufio.NewReaderSize(r, 1<<16)
	line, err := in.ReadSlice('\n')
	j := &Job{}
	if err != nil || json.Unmarshal(line, &j.LineHead) != nil || j.Format != j.FormatFor() {
		return nil, fmt.Errorf("not a line file of format %s or %s", LineFormat, LineFormatByTemplate)
	}
	sum.Write(line)
	salt, err := hex.DecodeString(j.Salt)
	n := j.codes() + j.Proofs
	if err != nil || len(salt) > maxSalt || len(j.Prefix) > maxLinePrefix ||
		j.From < 0 || j.To < j.From || j.Proofs < 0 || j.Spare < 0 || j.Spare >= j.codes() ||
		max(j.codes(), j.Proofs, n) > maxLineCodes { // each number is checked first, because the sum may overflow int64
		return nil, errors.New("the header of the line file is invalid")
	}
	if j.Text != "" {
		t, err := codes.ParseTemplate(j.Text)
		if err != nil {
			return nil, fmt.Errorf("the header of the line file: %w", err)
		}
		j.template = &t
	}
	j.of = newHasher(salt)
	var record [lineRecord]byte
	for pos := range n {
		if _, err := io.ReadFull(in, record[:]); err != nil {
			return nil, fmt.Errorf("%w: the line file has %d codes, but its header says %d", ErrCut, pos, n)
		}
		sum.Write(record[:])
		for i := range j.places {
			j.places[i] = append(j.places[i], place{binary.BigEndian.Uint64(record[8*i:]), uint32(pos)})
		}
	}
	var want [sha256.Size + 1]byte
	if got, _ := io.ReadFull(in, want[:]); got != sha256.Size || !bytes.Equal(want[:sha256.Size], sum.Sum(nil)) {
		return nil, fmt.Errorf("%w: the checksum of the line file does not match", ErrCut)
	}
	for i := range j.places {
		slices.SortFunc(j.places[i], func(a, b place) int { return cmp.Compare(a.hash, b.hash) })
	}
	return j, nil
}

// Kinds of text that a camera may read: the whole code text, or only the nine characters of the code.
const (
	readText   = 0
	readSerial = 1
)

// find returns the position, in the job, of a code that a camera has read; ok is false for a code of another job.
func (j *Job) find(read string) (pos uint32, kind int, ok bool) {
	if j.template != nil {
		if text, similar := j.template.PrintedForm(read); similar {
			if pos, kind, ok = j.lookup(readText, text); ok {
				return pos, kind, true
			}
		}
	} else if t, err := codes.ParseText(read, []string{j.Prefix}); err == nil {
		return j.lookup(readText, t.String())
	}
	// Imported codes may contain symbols that this server does not use in its own codes.
	for _, text := range codes.TextsUnder(j.Prefix, read) {
		if pos, kind, ok = j.lookup(readText, text); ok {
			return pos, kind, true
		}
	}
	if code := strings.ToUpper(read); codes.IsOriginal(code) {
		return j.lookup(readSerial, code)
	}
	return 0, kind, false
}

// trimRead returns the end of a reading that may be a code text after other text, such as an address that the camera adds. The end must
// be the whole code text with its secret, so that other text is not mistaken for a code.
func (j *Job) trimRead(read string) (end string, ok bool) {
	if j.template != nil {
		return j.template.TrimRead(read)
	}
	// An offset in strings.ToUpper(read) may not be valid in read: the length of letters such as ɐ, and of invalid UTF-8, changes.
	for from := len(read) - len(j.Prefix); from > 0 && j.Prefix != ""; from-- {
		if strings.EqualFold(read[from:from+len(j.Prefix)], j.Prefix) {
			return read[from:], true
		}
	}
	return "", false
}

// lookup returns the position of a code by its printed text or serial.
func (j *Job) lookup(kind int, printed string) (pos uint32, _ int, ok bool) {
	sum := j.of.sum("ts"[kind], []byte(printed))
	i, ok := slices.BinarySearchFunc(j.places[kind], sum, func(p place, sum uint64) int { return cmp.Compare(p.hash, sum) })
	if !ok {
		return 0, kind, false
	}
	return j.places[kind][i].at, kind, true
}
