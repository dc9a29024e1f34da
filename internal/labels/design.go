package labels

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/symbol"
)

// Kind is what stands on a label.
type Kind string

// The kinds of labels.
const (
	QR         Kind = "qr"         // the text as a QR code
	DataMatrix Kind = "datamatrix" // the text as a Data Matrix
	Matrix     Kind = "matrix"     // the dot matrix of the row
	Both       Kind = "both"       // the QR code, and the dot matrix beside it
)

// Design is how each label of a job looks.
type Design struct {
	Kind  Kind
	Level symbol.Level // of QR codes
	Style symbol.Style
	// Lines stand below or beside the symbol; {serial}, {text}, {index} and {batch}
	// are replaced in them.
	Lines []string
	// Processors is how many draw at once; 0 = all of the machine.
	Processors int
	// Drawn is called for each label that was drawn and read back, by several goroutines at once;
	// nil = nothing is called.
	Drawn func(Row, symbol.Drawing)
}

// Draw lays out the label of a row of a batch, and reads its symbols back from the dots that are printed. It
// returns an error where a symbol says something else than it should, or is not whole modules in a white zone.
func (d Design) Draw(batch int64, r Row) (symbol.Drawing, error) {
	kinds := []Kind{d.Kind}
	if d.Kind == Both {
		kinds = []Kind{QR, Matrix}
	}
	var symbols []symbol.Grid
	for _, kind := range kinds {
		g, err := d.grid(kind, r)
		if err != nil {
			return symbol.Drawing{}, err
		}
		symbols = append(symbols, g)
	}
	label, err := d.Style.Draw(d.lines(batch, r), symbols...)
	if err != nil {
		return symbol.Drawing{}, err
	}
	seen, err := label.Grids()
	if err != nil {
		return symbol.Drawing{}, err
	}
	for i, kind := range kinds {
		want, ours := r.Text, true
		if kind == Matrix && r.Matrix != "" {
			want, ours = r.Code, false
		}
		says, err := seen[i].Read()
		switch {
		case err != nil && !ours:
			// The dots came from elsewhere, and may be a symbol of a kind that only its maker can
			// read.
		case err != nil:
			return symbol.Drawing{}, fmt.Errorf("what was drawn is not read: %w", err)
		case says != want:
			return symbol.Drawing{}, fmt.Errorf("what was drawn says %.60q, and should say %.60q: do not print it", says, want)
		}
		label.Says = append(label.Says, says)
	}
	if d.Drawn != nil {
		d.Drawn(r, label)
	}
	return label, nil
}

func (d Design) grid(kind Kind, r Row) (symbol.Grid, error) {
	switch kind {
	case QR:
		return symbol.QR(r.Text, d.Level)
	case DataMatrix:
		return symbol.DataMatrix(r.Text)
	case Matrix:
		if r.Matrix == "" { // a text alone has none: it is made one, as a row's is
			return symbol.DataMatrix(r.Text)
		}
		return symbol.Field(r.Matrix)
	}
	return symbol.Grid{}, fmt.Errorf("%q is no kind of label", kind)
}

func (d Design) lines(batch int64, r Row) []string {
	fill := strings.NewReplacer("{serial}", r.Code, "{text}", r.Text, "{index}", strconv.FormatInt(r.Index, 10),
		"{batch}", strconv.FormatInt(batch, 10))
	lines := make([]string, len(d.Lines))
	for i, l := range d.Lines {
		lines[i] = fill.Replace(l)
	}
	return lines
}
