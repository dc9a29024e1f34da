// Package labels writes a range of codes as lists or as printable labels.
package labels

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

const (
	// longestText is the maximum length of a code text after its escape sequences for blanks and line breaks are replaced.
	longestText = 1024
	// longestCode is the maximum length of an original code. Contract: marketcode 4.2.
	longestCode = 9
	// matrixLength is the number of characters of a dot matrix.
	matrixLength = symbol.FieldSide * symbol.FieldSide
)

// Row is one code, as in the platform's code download. Contract: marketcode 4.2.
type Row struct {
	Matrix string // 361 characters, each 0 or 1
	Code   string // the original code
	Index  int64  // in its batch
	Text   string // the text to print as a QR code
}

// Rows parses lines of four columns, one row per line. Rows stops at the first error, which includes the line number.
func Rows(in io.Reader) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		broken := &breaks{Reader: in}
		lines := bufio.NewScanner(broken)
		lines.Buffer(make([]byte, 0, 4096), 4096)
		n := 1
		for ; lines.Scan(); n++ {
			r, err := parseRow(lines.Text())
			if err != nil && broken.err != nil {
				err = broken.err // the line is incomplete because of the read error
			} else if err != nil {
				err = fmt.Errorf("line %d: %w", n, err)
			}
			if err != nil {
				yield(Row{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(Row{}, fmt.Errorf("line %d is longer than a row", n))
		} else if err != nil {
			yield(Row{}, err) // of in
		}
	}
}

// breaks is a reader that records the error at which reading ended.
type breaks struct {
	io.Reader
	err error
}

func (b *breaks) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func parseRow(line string) (Row, error) {
	columns := strings.Fields(line)
	if len(columns) != 4 {
		return Row{}, fmt.Errorf("want four columns, not %d: dot matrix, code, index, text", len(columns))
	}
	r := Row{Matrix: columns[0], Code: columns[1], Text: ofRow.Replace(columns[3])}
	index, err := strconv.ParseInt(columns[2], 10, 64)
	switch {
	case len(r.Matrix) != matrixLength || strings.Trim(r.Matrix, "01") != "":
		return Row{}, fmt.Errorf("the first column is no dot matrix of %d characters 0 and 1", matrixLength)
	case len(r.Code) > longestCode:
		return Row{}, fmt.Errorf("the second column has more than %d characters", longestCode)
	case err != nil || index < 0:
		return Row{}, fmt.Errorf("the third column is no index")
	case len(r.Text) > longestText:
		return Row{}, fmt.Errorf("the fourth column has more than %d characters", longestText)
	}
	r.Index = index
	return r, nil
}

// The text of a template may contain blanks and line breaks, which are escaped within a column of a row.
var (
	inRow = strings.NewReplacer("\n", `\n`, " ", `\s`)
	ofRow = strings.NewReplacer(`\n`, "\n", `\s`, " ")
)

// List is an output format for rows: csv with a header, ndjson with one object per line, text with the texts only, and lines with
// the platform's four columns.
type List string

// Lists contains all list formats.
var Lists = []List{"csv", "ndjson", "lines", "text"}

// Header returns the text that precedes the rows, for rows with or without a dot matrix.
func (l List) Header(matrix bool) string {
	switch {
	case l == "csv" && matrix:
		return "index,code,text,matrix\n"
	case l == "csv":
		return "index,code,text\n"
	}
	return ""
}

// Append appends a row to a text; csv and ndjson omit an empty dot matrix.
func (l List) Append(to []byte, r Row) []byte {
	switch l {
	case "csv":
		to = strconv.AppendInt(to, r.Index, 10)
		to = appendCell(append(to, ','), r.Code)
		to = appendCell(append(to, ','), r.Text)
		if r.Matrix != "" {
			to = append(append(to, ','), r.Matrix...)
		}
		return append(to, '\n')
	case "ndjson":
		to = strconv.AppendInt(append(to, `{"index":`...), r.Index, 10)
		to = appendString(append(to, `,"code":`...), r.Code)
		to = appendString(append(to, `,"text":`...), r.Text)
		if r.Matrix != "" {
			to = appendString(append(to, `,"matrix":`...), r.Matrix)
		}
		return append(to, "}\n"...)
	case "text":
		return append(append(to, inRow.Replace(r.Text)...), '\n')
	}
	to = append(append(to, r.Matrix...), ' ')
	to = append(append(to, r.Code...), ' ')
	to = append(strconv.AppendInt(to, r.Index, 10), ' ')
	return append(append(to, inRow.Replace(r.Text)...), '\n')
}

// bare reports whether both csv and ndjson write a text without quoting or escaping. All codes made by this server are bare, but
// texts from a file of rows may need quoting.
func bare(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return !('0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || strings.ContainsRune("$-./:_", r))
	}) < 0
}

func appendCell(to []byte, text string) []byte {
	if bare(text) {
		return append(to, text...)
	}
	var cell bytes.Buffer
	w := csv.NewWriter(&cell)
	_ = w.Write([]string{text}) // a bytes.Buffer never returns an error
	w.Flush()
	return append(to, bytes.TrimSuffix(cell.Bytes(), []byte("\n"))...)
}

func appendString(to []byte, text string) []byte {
	if bare(text) {
		return append(append(append(to, '"'), text...), '"')
	}
	quoted, _ := json.Marshal(text) // of a text
	return append(to, quoted...)
}

// WriteList writes rows in a list format. The error comes from rows or from the writer.
func WriteList(w io.Writer, l List, matrix bool, rows iter.Seq2[Row, error]) error {
	out := bufio.NewWriterSize(w, 32<<10)
	_, _ = out.WriteString(l.Header(matrix)) // the buffered writer keeps its first error
	for r, err := range rows {
		if err != nil {
			return err
		}
		if _, err := out.Write(l.Append(out.AvailableBuffer(), r)); err != nil {
			return err
		}
	}
	return out.Flush()
}
