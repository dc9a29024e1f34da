package codes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// A list of codes for people and their programs, beside the wire's own rows.

// ListFormat is how a list is written.
type ListFormat string

// The formats of a list: CSV with a header; a JSON object a line; the wire's four
// columns (see WriteRows); one code text a line.
const (
	ListCSV    ListFormat = "csv"
	ListNDJSON ListFormat = "ndjson"
	ListLines  ListFormat = "lines"
	ListText   ListFormat = "text"
)

// ListFormats are all of them.
var ListFormats = []ListFormat{ListCSV, ListNDJSON, ListLines, ListText}

// Known reports whether a format is one of these.
func (f ListFormat) Known() bool { return slices.Contains(ListFormats, f) }

// WriteList writes the codes of a range in the order of their indexes, piece by
// piece. Errors are those of WriteRows, and one of an unknown format.
func WriteList(ctx context.Context, w io.Writer, p PackageRange, format ListFormat) error {
	if format == ListLines {
		return WriteRows(ctx, w, p)
	}
	// Nothing in a code, or in a prefix that CheckPrefix takes, is escaped by
	// either format.
	line := map[ListFormat]func(b []byte, index uint64, code, text []byte) []byte{
		ListCSV: func(b []byte, index uint64, code, text []byte) []byte {
			b = append(append(strconv.AppendUint(b, index, 10), ','), code...)
			return append(append(append(b, ','), text...), '\n')
		},
		ListNDJSON: func(b []byte, index uint64, code, text []byte) []byte {
			b = append(append(strconv.AppendUint(append(b, `{"index":`...), index, 10), `,"code":"`...), code...)
			return append(append(append(b, `","text":"`...), text...), "\"}\n"...)
		},
		ListText: func(b []byte, _ uint64, _, text []byte) []byte { return append(append(b, text...), '\n') },
	}[format]
	if line == nil {
		return fmt.Errorf("codes: no list has the format %q", format)
	}
	out := bufio.NewWriterSize(w, pieceSize)
	if format == ListCSV {
		_, _ = out.WriteString("index,code,text\n") // the writer keeps its error
	}
	err := EachCode(ctx, p, func(index uint64, code, text []byte) error {
		_, err := out.Write(line(out.AvailableBuffer(), index, code, text))
		return err
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// EachCode gives the index, the original code and the text of each code of a
// range, in order; they are good until f returns. The error is that of f, of the
// ended context, or of an impossible range.
func EachCode(ctx context.Context, p PackageRange, f func(index uint64, code, text []byte) error) error {
	if err := p.check(); err != nil {
		return err
	}
	s := new(burst)
	head := len(p.Printed.Prefix) + 1
	text := append(append(make([]byte, 0, head+symbolsLength), p.Printed.Prefix...), p.Printed.Version)
	for index := p.From; index <= p.To; index += lanes {
		n := int(min(lanes, p.To-index+1))
		s.run(p.Code, p.Text, p.Printed.Version, p.Start+index, n)
		if err := ctx.Err(); err != nil {
			return err
		}
		for j := range n {
			code, symbols := s.lane(j)
			text = append(text[:head], symbols[:]...)
			if err := f(index+uint64(j), code[:], text); err != nil {
				return err
			}
		}
	}
	return nil
}
