// Package labels writes the codes of a range as factories print them.
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
	// longestText is the maximum length of a code text, with all that stands for blanks and ends of lines.
	longestText = 1024
	// longestCode is the maximum length of an original code. Contract: marketcode 4.2.
	longestCode = 9
	// matrixLength is the number of characters of a dot matrix.
	matrixLength = symbol.FieldSide * symbol.FieldSide
)

// Row is one code, as a package of the wire has it. Contract: marketcode 4.2.
type Row struct {
	Matrix string // 361 characters 0 and 1
	Code   string // the original code
	Index  int64  // in its batch
	Text   string // to print as a QR code
}

// Rows reads rows of four columns, one a line. It ends with the first error, which
// names the line.
func Rows(in io.Reader) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		broken := &breaks{Reader: in}
		lines := bufio.NewScanner(broken)
		lines.Buffer(make([]byte, 0, 4096), 4096)
		n := 1
		for ; lines.Scan(); n++ {
			r, err := parseRow(lines.Text())
			if err != nil && broken.err != nil {
				err = broken.err // the line is short because of it
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

// breaks is a reader that remembers the error with which reading ended.
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

// A text by template may have blanks and ends of lines; a row has neither within a column.
var (
	inRow = strings.NewReplacer("\n", `\n`, " ", `\s`)
	ofRow = strings.NewReplacer(`\n`, "\n", `\s`, " ")
)

// List is a form in which rows are listed: csv with a header and commas, ndjson with
// an object a line, text with the texts alone, and lines, the four columns of the wire.
type List string

// Lists are all forms of lists.
var Lists = []List{"csv", "ndjson", "lines", "text"}

// Header returns the text before the rows, which have a dot matrix or have none.
func (l List) Header(matrix bool) string {
	switch {
	case l == "csv" && matrix:
		return "index,code,text,matrix\n"
	case l == "csv":
		return "index,code,text\n"
	}
	return ""
}

// Append appends a row to a text. csv and ndjson leave out a dot matrix where the row has none.
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

// bare reports whether csv and ndjson both write a text without quoting. That is so for every code
// that this server makes, but not for every text in a file of rows.
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
	_ = w.Write([]string{text}) // a buffer takes all
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

// WriteList writes rows as a list. The error is that of the rows or of the writer.
func WriteList(w io.Writer, l List, matrix bool, rows iter.Seq2[Row, error]) error {
	out := bufio.NewWriterSize(w, 32<<10)
	_, _ = out.WriteString(l.Header(matrix)) // the writer keeps its error
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
