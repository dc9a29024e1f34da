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

// Format is a file format of single labels.
type Format string

// Formats maps each format of single labels to its encoder.
var Formats = map[Format]func(io.Writer, symbol.Drawing) error{"svg": symbol.SVG, "png": symbol.PNG, "pdf": symbol.PDF, "zpl": symbol.ZPL,
	"tspl": symbol.TSPL, "eps": symbol.EPS}

// ForPrinters reports whether labels of this format can be concatenated into one stream for a printer.
func (f Format) ForPrinters() bool { return f == "zpl" || f == "tspl" }

// batchSize is the number of labels that a worker draws at once.
const batchSize = 32

// drawn contains encoded labels with their rows.
type drawn struct {
	rows   []Row
	labels [][]byte
}

// Labels calls the function take for each row with its encoded label, in the order of the rows. The error comes from rows or take, or
// explains why a label cannot be drawn.
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

// Zip writes each label as a file of a ZIP archive, named by its index in twelve digits, so that names sort by index. Until the archive is
// complete, Zip keeps about 300 bytes per file in memory.
func (d Design) Zip(w io.Writer, batch int64, rows iter.Seq2[Row, error], format Format, done func(labels int)) error {
	z := zip.NewWriter(w)
	err := d.Labels(batch, rows, format, func(r Row, label []byte) error {
		// A fixed modification time makes the same labels produce the same archive.
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
