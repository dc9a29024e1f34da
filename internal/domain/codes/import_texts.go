package codes

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"slices"
	"strings"
)

// ImportText is a code text of a list, with the number of its line.
type ImportText struct {
	Number int64
	Text   string
}

// FaultOfLine returns err, the error in one line of a list, as accounts.RowErrors; for a nil err it returns nil.
func FaultOfLine(line int64, err error) error {
	if err == nil {
		return nil
	}
	return faultAt(line, "%v", err)
}

// maxImportRow is the maximum length in bytes of a row of a CSV file: without a limit, a row with an unclosed quote would extend to the
// end of the file.
const maxImportRow = 64 << 10

// ImportTexts yields the texts of a list. If column is "", each line is a text; otherwise the list is a CSV file whose first row names the
// columns, and the texts are in the given column. first is the number of the first line. Lines end with LF or CRLF; the file may begin with
// the byte order mark of UTF-8. ImportTexts stops after an error, which is accounts.RowErrors or the error of the reader.
func ImportTexts(r io.Reader, column string, first int64) iter.Seq2[ImportText, error] {
	return func(yield func(ImportText, error) bool) {
		in := bufio.NewReaderSize(r, maxImportLine)
		switch mark, _ := in.Peek(3); {
		case string(mark) == "\ufeff":
			_, _ = in.Discard(len(mark))
		case bytes.HasPrefix(mark, []byte{0xff, 0xfe}), bytes.HasPrefix(mark, []byte{0xfe, 0xff}):
			yield(ImportText{}, faultAt(first, "the list is UTF-16: save it as UTF-8"))
			return
		}
		if column == "" {
			for l, err := range listLines(in, first) {
				if err == nil && l.Text == "" {
					err = faultAt(l.Number, "the line is empty")
				}
				if !yield(l, err) || err != nil {
					return
				}
			}
			return
		}
		if err := importColumn(in, column, first, yield); err != nil {
			yield(ImportText{}, err)
		}
	}
}

// listLines yields the lines of a list without their ends, LF or CRLF; first is the number of the first line. It stops after an error.
func listLines(in *bufio.Reader, first int64) iter.Seq2[ImportText, error] {
	return func(yield func(ImportText, error) bool) {
		for n := first; ; n++ {
			line, err := in.ReadSlice('\n')
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				err = faultAt(n, "longer than %d bytes", maxImportLine)
			case err == io.EOF && len(line) == 0:
				return
			case err == io.EOF:
				err = nil
			}
			if !yield(ImportText{n, strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")}, err) || err != nil {
				return
			}
		}
	}
}

// rowLimit is a reader that fails after maxImportRow bytes of a row; importColumn resets the field "remaining" before each row.
type rowLimit struct {
	r         io.Reader
	remaining int
}

var errLongRow = errors.New("codes: a row is too long")

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.remaining <= 0 {
		return 0, errLongRow
	}
	n, err := l.r.Read(p[:min(len(p), l.remaining)])
	l.remaining -= n
	return n, err
}

func importColumn(in io.Reader, column string, first int64, yield func(ImportText, error) bool) error {
	limit := &rowLimit{r: in}
	rows := csv.NewReader(limit)
	rows.ReuseRecord = true
	pos := -1
	for n := first; ; {
		limit.remaining = maxImportRow
		row, err := rows.Read()
		if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
			line := first + int64(wrong.StartLine) - 1
			if errors.Is(err, csv.ErrFieldCount) {
				return faultAt(line, "the row has %d columns, and the first row has %d: it is cut off, or has an extra comma",
					len(row), rows.FieldsPerRecord)
			}
			return faultAt(line, "%v", wrong.Err)
		}
		switch {
		case errors.Is(err, errLongRow):
			return faultAt(n, "a row of more than %d KiB begins here: is a quote not closed?", maxImportRow>>10)
		case err == io.EOF && pos < 0:
			return faultAt(first, "there is no row that names the columns")
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case pos < 0:
			if pos = slices.Index(row, column); pos < 0 {
				return faultAt(first, "no column of the first row is named %q", column)
			}
			continue
		}
		line, _ := rows.FieldPos(0)
		n = first + int64(line) - 1
		if row[pos] == "" {
			err = faultAt(n, "column %q is empty", column)
		}
		if !yield(ImportText{n, strings.Clone(row[pos])}, err) || err != nil {
			return nil
		}
	}
}

// TextChecker checks the texts of lists before any of them is sent. A TextChecker needs 16 bytes of memory per text.
type TextChecker struct {
	Template
	seed maphash.Seed
	list []checkedText
}

type checkedText struct {
	hash uint64
	pos  int64
}

// NewTextChecker returns a TextChecker for a template with a token. {prefix}, {gtin} and {given:N} are filled from values.
func NewTextChecker(text string, values TemplateValues) (*TextChecker, error) {
	filled, err := FillTemplate(text, values)
	if err != nil {
		return nil, err
	}
	c := &TextChecker{seed: maphash.MakeSeed()}
	if c.Template, err = ParseTemplate(filled); err == nil && !c.HasToken() {
		err = fmt.Errorf("the text %.80q has no {token:N}", text)
	}
	return c, err
}

// Add returns an error with the reason if a text does not match the template.
func (c *TextChecker) Add(text string) error {
	c.list = append(c.list, checkedText{maphash.String(c.seed, canonicalURL(text)), int64(len(c.list))})
	return c.CheckText(text)
}

// Duplicate returns the positions of two equal texts; positions count all added texts, from 0. Add must not be called after Duplicate.
func (c *TextChecker) Duplicate() (first, second int64, found bool) {
	slices.SortFunc(c.list, func(a, b checkedText) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.pos, b.pos)) })
	for i := 1; i < len(c.list); i++ {
		if c.list[i-1].hash == c.list[i].hash && (!found || c.list[i].pos < second) {
			first, second, found = c.list[i-1].pos, c.list[i].pos, true
		}
	}
	return first, second, found
}
