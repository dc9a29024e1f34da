package codes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

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
		return l, fmt.Errorf("want four columns, not %d: dot matrix, original code, index, code text, separated by spaces", len(columns))
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
