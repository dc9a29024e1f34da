package labels

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

// Format is a format of single labels.
type Format string

// Formats are the formats of single labels, and what writes them.
var Formats = map[Format]func(io.Writer, symbol.Drawing) error{"svg": symbol.SVG, "png": symbol.PNG, "pdf": symbol.PDF, "zpl": symbol.ZPL,
	"epl": symbol.EPL}

// ForPrinters reports whether a format is one in which labels follow each other in one stream to a
// printer.
func (f Format) ForPrinters() bool { return f == "zpl" || f == "epl" }

// batchSize is the number of labels that one processor draws before they are handed over.
const batchSize = 32

// drawn is a number of labels, each as its own bytes.
type drawn struct {
	rows   []Row
	labels [][]byte
}

// Labels hands over each row with its label in a format, in the order of the rows.
// The error is that of the rows or of take, or says why a label cannot be drawn.
func (d Design) Labels(batch int64, rows iter.Seq2[Row, error], format Format, take func(Row, []byte) error) error {
	write := Formats[format]
	return inOrder(d.Processors, groups(rows, batchSize, batchSize), func(group []Row) (drawn, error) {
		done := drawn{rows: group}
		for _, r := range group {
			drawing, err := d.Draw(batch, r)
			if err != nil {
				return done, fmt.Errorf("index %d: %w", r.Index, err)
			}
			var label bytes.Buffer
			if err := write(&label, drawing); err != nil {
				return done, err
			}
			done.labels = append(done.labels, label.Bytes())
		}
		return done, nil
	}, func(done drawn) error {
		for i, label := range done.labels {
			if err := take(done.rows[i], label); err != nil {
				return err
			}
		}
		return nil
	})
}

// Zip writes each label as a file of an archive, named by its index in twelve
// digits, so that names sort as indexes do. The archive keeps about 300 bytes of
// each file until its end.
func (d Design) Zip(w io.Writer, batch int64, rows iter.Seq2[Row, error], format Format, done func(labels int)) error {
	z := zip.NewWriter(w)
	err := d.Labels(batch, rows, format, func(r Row, label []byte) error {
		// Without a time, so that the same labels make the same archive.
		f, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%012d.%s", r.Index, format), Method: zip.Deflate,
			Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		if _, err := f.Write(label); err != nil {
			return err
		}
		done(1)
		return nil
	})
	if err != nil {
		return err
	}
	return z.Close()
}
