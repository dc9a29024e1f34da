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
	"slices"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

const (
	// longestText is the maximum length of a code text after its escape sequences for blanks and line breaks are replaced.
	longestText = 1024
	// longestCode is the maximum length of an original code. Contract: marketcode §4.2.
	longestCode = 9
	// longestPIN is the maximum number of digits of a PIN.
	longestPIN = 8
	// matrixLength is the number of characters of a dot matrix.
	matrixLength = symbol.FieldSide * symbol.FieldSide
)

// Row is one code, as in the platform's code download. Contract: marketcode §4.2.
type Row struct {
	Matrix string // 361 characters, each 0 or 1
	Code   string // the original code
	Index  int64  // in its batch
	Text   string // the text to print as a QR code
	PIN    string // the digits under the scratch layer; "" = the code has none, or they are unknown
}

// Rows parses lines of four columns, one row per line. Rows stops at the first error; an error in a line includes the line number. A line
// that a read error of in cuts is no row, even if all columns seem complete: the last column has no fixed length.
func Rows(in io.Reader) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		lines := bufio.NewReaderSize(in, 4096)
		for n := 1; ; n++ {
			line, err := lines.ReadSlice('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			var r Row
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				err = fmt.Errorf("line %d is longer than the maximum row length", n)
			case err == nil || err == io.EOF: // a file may end without a line break
				if r, err = parseRow(string(line)); err != nil {
					err = fmt.Errorf("line %d: %w", n, err)
				}
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
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
		return Row{}, fmt.Errorf("the first column is not a dot matrix of %d characters 0 and 1", matrixLength)
	case len(r.Code) > longestCode:
		return Row{}, fmt.Errorf("the second column has more than %d characters", longestCode)
	case err != nil || index < 0:
		return Row{}, fmt.Errorf("the third column is not an index")
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

// ListColumns contains the columns that csv and ndjson can have, and UsualColumns contains the columns of a list for which the
// caller has chosen none.
var (
	ListColumns  = []string{"index", "code", "text", "matrix", "mark", "pin"}
	UsualColumns = ListColumns[:3]
)

// Table is a list with chosen columns, for the software of a press.
type Table struct {
	List    List
	Columns []string // columns of csv and ndjson, a subset of ListColumns
	Lanes   int      // number of labels side by side, whose rows share one line of csv or ndjson; 0 means 1
	Mark    int64    // the column "mark" is 1 in every Mark-th line, else 0
}

// name returns the name of a column for one of the labels that are side by side (lanes); lane is the number of this label, from 0.
func (t Table) name(column string, lane int) string {
	if t.Lanes > 1 {
		return column + "_" + strconv.Itoa(lane+1)
	}
	return column
}

// Header returns the text that precedes the lines.
func (t Table) Header() string {
	if t.List != "csv" {
		return ""
	}
	var names []string
	for lane := range max(t.Lanes, 1) {
		for _, column := range t.Columns {
			names = append(names, t.name(column, lane))
		}
	}
	return strings.Join(names, ",") + "\n"
}

// Lines calls the function put for each line, which is valid until the next call; first is the number of the first line, from 0. If there
// are too few rows for the last line, its remaining columns are empty in csv. The error comes from rows or put.
func (t Table) Lines(first int64, rows iter.Seq2[Row, error], put func(line []byte, rows int) error) error {
	var line []byte
	for group, err := range groups(rows, max(t.Lanes, 1), max(t.Lanes, 1)) {
		if err != nil {
			return err
		}
		first++
		line = t.append(line[:0], t.Mark > 0 && first%t.Mark == 0, group)
		if err := put(line, len(group)); err != nil {
			return err
		}
	}
	return nil
}

// append appends a line to a text.
func (t Table) append(to []byte, mark bool, rows []Row) []byte {
	if t.List != "csv" && t.List != "ndjson" {
		if t.List == "lines" {
			r := rows[0]
			to = append(append(append(append(to, r.Matrix...), ' '), r.Code...), ' ')
			to = append(strconv.AppendInt(to, r.Index, 10), ' ')
		}
		return append(append(to, inRow.Replace(rows[0].Text)...), '\n')
	}
	cell := appendCell
	if t.List == "ndjson" {
		to, cell = append(to, '{'), appendString
	}
	for lane := range max(t.Lanes, 1) {
		var r Row
		if lane < len(rows) {
			r = rows[lane]
		} else if t.List == "ndjson" {
			break
		}
		for i, column := range t.Columns {
			if lane+i > 0 {
				to = append(to, ',')
			}
			if t.List == "ndjson" {
				to = append(appendString(to, t.name(column, lane)), ':')
			}
			switch {
			case lane >= len(rows):
			case column == "index":
				to = strconv.AppendInt(to, r.Index, 10)
			case column == "mark" && mark:
				to = append(to, '1')
			case column == "mark":
				to = append(to, '0')
			default:
				to = cell(to, map[string]string{"code": r.Code, "text": r.Text, "matrix": r.Matrix, "pin": r.PIN}[column])
			}
		}
	}
	if t.List == "ndjson" {
		to = append(to, '}')
	}
	return append(to, '\n')
}

// bare reports whether both csv and ndjson write a text without quoting or escaping. This is true for all codes made by this server, but
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

// WithPIN appends the column "pin" to the columns of a list.
func WithPIN(columns []string) []string { return append(slices.Clip(columns), "pin") }

// WriteList writes rows in a list format with the given columns. The error comes from rows or from the writer.
func WriteList(w io.Writer, l List, columns []string, rows iter.Seq2[Row, error]) error {
	return Table{List: l, Columns: columns}.Write(w, 0, rows)
}

// Write writes a file of rows, whose first line has the number first, from 0. The error comes from rows or from the writer.
func (t Table) Write(w io.Writer, first int64, rows iter.Seq2[Row, error]) error {
	out := bufio.NewWriterSize(w, 32<<10)
	_, _ = out.WriteString(t.Header()) // the buffered writer keeps its first error
	if err := t.Lines(first, rows, func(line []byte, _ int) error { _, err := out.Write(line); return err }); err != nil {
		return err
	}
	return out.Flush()
}
