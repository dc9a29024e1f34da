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
}

// Draw lays out the label of a row of a batch.
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
	return d.Style.Draw(d.lines(batch, r), symbols...)
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
