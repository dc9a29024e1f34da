package labels

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// Kind is the kind of symbol on a label.
type Kind string

// The kinds of labels.
const (
	QR          Kind = "qr"         // the text as a QR code
	DataMatrix  Kind = "datamatrix" // the text as a Data Matrix
	Matrix      Kind = "matrix"     // the dot matrix of the row
	QRAndMatrix Kind = "both"       // the QR code and the dot matrix next to each other

	// For the following kinds, the text is GS1 data: a Digital Link, bracketed AIs, or an element string.
	GS1QR          Kind = "gs1-qr"           // GS1 data as a QR code with FNC1
	GS1DataMatrix  Kind = "gs1-datamatrix"   // GS1 data as a Data Matrix with FNC1
	GS1DigitalLink Kind = "gs1-digital-link" // the text, which is a Digital Link, as a QR code
)

// Kinds lists all kinds.
var Kinds = []Kind{QR, DataMatrix, Matrix, QRAndMatrix, GS1QR, GS1DataMatrix, GS1DigitalLink}

// Design is the layout of each label of a job.
type Design struct {
	Kind        Kind
	Rectangular bool         // of a Data Matrix
	Level       symbol.Level // of QR codes
	Style       symbol.Style
	// Lines are printed below the symbol or to its right; {serial}, {text}, {index}, {batch} and {pin} in them are replaced.
	Lines []string
	// Processors is the number of labels drawn concurrently; 0 = the number of processors.
	Processors int
	// Drawn is called, concurrently, for each label that was drawn and verified; nil = no callback.
	Drawn func(Row, symbol.Drawing)
}

// Draw lays out the label of a row, and decodes its symbols from the drawn dots for verification. Draw returns an error if a symbol
// decodes to a wrong text, or does not consist of whole modules with a quiet zone.
func (d Design) Draw(batch int64, r Row) (symbol.Drawing, error) {
	if r.PIN == "" && strings.Contains(strings.Join(d.Lines, "\n"), "{pin}") {
		return symbol.Drawing{}, &WordError{"lines", errors.New("{pin} has no value: the codes have no PIN, or only an operator can read it")}
	}
	kinds := []Kind{d.Kind}
	if d.Kind == QRAndMatrix {
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
		want, isOurs := r.Text, true
		if kind == Matrix && r.Matrix != "" {
			want, isOurs = r.Code, false
		}
		data, isGS1, err := gs1Data(kind, r.Text)
		if err != nil {
			return symbol.Drawing{}, err
		}
		if id := identifiers[kind]; id != "" {
			want = id + data.ElementString()
		}
		says, err := seen[i].Read()
		switch {
		case err != nil && !isOurs:
			// The dot matrix comes from another system, and may be a symbol that only its maker can decode.
		case err != nil:
			return symbol.Drawing{}, fmt.Errorf("the drawn symbol cannot be read back: %w", err)
		case says != want:
			return symbol.Drawing{}, fmt.Errorf("the drawn symbol contains %.60q, want %.60q: do not print it", says, want)
		}
		if isGS1 && says != r.Text {
			says = data.Bracketed() // the form with brackets, because an element string contains invisible characters
		}
		label.Content = append(label.Content, says)
	}
	if d.Drawn != nil {
		d.Drawn(r, label)
	}
	return label, nil
}

func (d Design) grid(kind Kind, r Row) (symbol.Grid, error) {
	data, _, err := gs1Data(kind, r.Text)
	if err != nil {
		return symbol.Grid{}, err
	}
	switch kind {
	case GS1QR:
		return symbol.GS1QR(data.ElementString(), d.Level)
	case GS1DataMatrix:
		return symbol.GS1DataMatrix(data.ElementString(), d.Rectangular)
	case QR, GS1DigitalLink:
		return symbol.QR(r.Text, d.Level)
	case DataMatrix:
		return symbol.DataMatrix(r.Text, d.Rectangular)
	case Matrix:
		if r.Matrix == "" { // a row without a dot matrix gets a Data Matrix of its text
			return symbol.DataMatrix(r.Text, false)
		}
		return symbol.Field(r.Matrix)
	}
	return symbol.Grid{}, fmt.Errorf("unknown label kind %q", kind)
}

// identifiers maps GS1 kinds to the symbology identifiers that scanners send before the text.
var identifiers = map[Kind]string{GS1QR: symbol.GS1QRIdentifier, GS1DataMatrix: symbol.GS1DataMatrixIdentifier}

// gs1Data parses the text for a GS1 kind, and returns an error if a symbol of this kind cannot contain the data.
func gs1Data(kind Kind, text string) (d gs1.Data, wanted bool, err error) {
	if kind != GS1DigitalLink && identifiers[kind] == "" {
		return d, false, nil
	}
	if d, err = gs1.Parse(text); err != nil {
		return d, true, err
	}
	switch {
	case d.Padded:
		return d, true, fmt.Errorf("%.80q: a GTIN in a Digital Link has 14 digits: %s", text, d.Key)
	case kind == GS1DigitalLink && d.Stem == "":
		uri, err := d.URI("https://HOST")
		if err != nil {
			return d, true, err
		}
		return d, true, fmt.Errorf("%.80q is not a Digital Link: write it with the host of its resolver, %s", text, uri)
	case kind != GS1DigitalLink && len(d.Rest) > 0:
		return d, true, fmt.Errorf("%.80q: %s is not an AI, and a symbol with FNC1 contains only AIs: use gs1-digital-link", text,
			d.Rest[0].Name)
	}
	return d, true, nil
}

func (d Design) lines(batch int64, r Row) []string {
	fill := strings.NewReplacer("{serial}", r.Code, "{text}", r.Text, "{index}", strconv.FormatInt(r.Index, 10),
		"{batch}", strconv.FormatInt(batch, 10), "{pin}", r.PIN)
	lines := make([]string, len(d.Lines))
	for i, l := range d.Lines {
		lines[i] = fill.Replace(l)
	}
	return lines
}
