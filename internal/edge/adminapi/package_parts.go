package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"runtime"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// partEndings maps the formats of package parts to their file name extensions.
var partEndings = map[string]string{"csv": ".csv", "ndjson": ".ndjson", "lines": ".lines.txt", "text": ".text.txt",
	onSheets: ".sheet.pdf", "png": ".png.zip", "svg": ".svg.zip", "pdf": ".pdf.zip", "zpl": ".zpl",
	"tspl": ".tspl", "eps": ".eps.zip"}

// onSheets is the format for labels arranged on pages.
const onSheets = "sheet"

// isDrawn reports whether a format contains drawn labels rather than a list of codes.
func isDrawn(format string) bool { return !slices.Contains(labels.Lists, labels.List(format)) }

// drawingOf returns the layout of the requested labels as JSON, or "" if only lists were requested. The first and the last label
// are drawn as a test, so that labels that cannot be printed are rejected at once.
func (a codeAPI) drawingOf(ctx context.Context, id int64, w client.PackageRequest) (string, error) {
	for i, f := range w.Formats {
		if _, known := partEndings[f]; !known || slices.Contains(w.Formats[:i], f) {
			return "", refused("formats[%d] is %q: want each of %v once at most", i, f, slices.Sorted(maps.Keys(partEndings)))
		}
	}
	if !slices.ContainsFunc(w.Formats, isDrawn) {
		if w.Drawing != nil {
			return "", refused("drawing configures labels, and formats has no format of labels: add sheet, png, svg, pdf, " +
				"eps, zpl or tspl")
		}
		return "", nil
	}
	var wish client.LabelDrawing
	if w.Drawing != nil {
		wish = *w.Drawing
	}
	drawing := labels.Printing(wish).OrUsual()
	text, err := json.Marshal(client.LabelDrawing(drawing))
	if err != nil {
		return "", err
	}
	b, err := a.batchWith(ctx, id, codes.Range{From: w.From, To: w.To})
	if err != nil {
		return "", err
	}
	if kind := labels.Kind(drawing.Kind); b.Imported && (kind == labels.Matrix || kind == labels.QRAndMatrix) {
		return "", refused("drawing.kind: application %d has imported codes, for which no dot matrix is stored: choose qr or datamatrix, "+
			"or draw from the imported file with qrjump label --from-file", id)
	}
	for _, index := range []int64{w.From, w.To} {
		source := a.Codes.Source(b, codes.Range{From: index, To: index})
		if err := smallEnough(ctx, drawing, id, source); err != nil {
			return "", undrawable(err)
		}
		for _, f := range slices.DeleteFunc(slices.Clone(w.Formats), func(f string) bool { return !isDrawn(f) }) {
			if err := writeDrawn(ctx, io.Discard, drawing, id, f, source, int(index-w.From)); err != nil {
				return "", undrawable(err)
			}
		}
	}
	return string(text), nil
}

// planOf returns the label plan of a package request; drawing is the result of drawingOf.
func (a codeAPI) planOf(ctx context.Context, id int64, w client.PackageRequest, drawing string) (*client.LabelPlan, error) {
	p := &client.LabelPlan{Codes: w.To - w.From + 1}
	b, err := a.batchWith(ctx, id, codes.Range{From: w.From, To: w.To})
	if err != nil || drawing == "" {
		return p, err
	}
	var wish client.LabelDrawing
	if err := json.Unmarshal([]byte(drawing), &wish); err != nil {
		return nil, err
	}
	design, err := labels.Printing(wish).Design()
	if err != nil {
		return nil, undrawable(err)
	}
	var sheet *labels.Sheet
	if slices.Contains(w.Formats, onSheets) {
		pages, err := labels.Printing(wish).OnSheets(design)
		if err != nil {
			return nil, undrawable(err)
		}
		sheet = &pages
	}
	for row, err := range labelRows(ctx, a.Codes.Source(b, codes.Range{From: w.From, To: w.From}), true) {
		if err != nil {
			return nil, err
		}
		item, err := labels.PlanOf(id, p.Codes, row, design, sheet)
		if err != nil {
			return nil, undrawable(err)
		}
		p.Pages, p.PerPage, p.Width, p.Height, p.Module = item.Pages, item.PerPage, item.Width, item.Height, item.Module
	}
	return p, nil
}

// maxDots is the maximum number of dots of a label that the server draws in memory: 170 mm square at 300 dots per inch.
const maxDots = 4 << 20

func smallEnough(ctx context.Context, p labels.Printing, batch int64, source codes.CodeSource) error {
	design, err := p.Design()
	if err != nil {
		return err
	}
	for row, err := range labelRows(ctx, source, true) {
		if err != nil {
			return err
		}
		label, err := design.Draw(batch, row)
		if err != nil {
			return err
		}
		if label.Width*label.Height > maxDots {
			return fmt.Errorf("a label of %d×%d dots exceeds the limit of the server: use smaller modules, or draw it with qrjump label",
				label.Width, label.Height)
		}
	}
	return nil
}

// undrawable returns the error response for a label that cannot be drawn.
func undrawable(err error) error {
	if word, is := errors.AsType[*labels.WordError](err); is {
		return refused("drawing.%s: %v", word.Word, word.Err)
	}
	if size, is := errors.AsType[*symbol.SizeError](err); is {
		return refused("drawing: %v", size)
	}
	return refused("drawing: %v", err)
}

// partOf returns the function that writes a part of a package; every call writes identical bytes.
func partOf(p codes.PrintPackage, batch int64, format string, list codes.CodeSource) (
	func(context.Context, io.Writer) error, error) {
	var drawing client.LabelDrawing
	if isDrawn(format) {
		if err := json.Unmarshal([]byte(p.Drawing), &drawing); err != nil {
			return nil, fmt.Errorf("package %d: decoding its label settings: %w", p.ID, err)
		}
	}
	return func(ctx context.Context, w io.Writer) error {
		switch {
		case isDrawn(format):
			return writeDrawn(ctx, w, labels.Printing(drawing), batch, format, list, 0)
		case format == "lines":
			fileRange, is := list.(codes.PackageRange)
			if !is {
				return fmt.Errorf("package %d: imported codes have no dot matrix", p.ID)
			}
			return codes.WriteRows(ctx, w, fileRange)
		}
		columns := labels.UsualColumns
		if own, is := list.(codes.PackageRange); is && own.PIN != nil {
			columns = labels.WithPIN(columns)
		}
		return labels.WriteList(w, labels.List(format), columns, labelRows(ctx, list, false))
	}, nil
}

// writeDrawn writes drawn labels in the given format; before is the number of labels on the sheets before them.
func writeDrawn(ctx context.Context, w io.Writer, p labels.Printing, batch int64, format string, list codes.CodeSource, before int) error {
	design, err := p.Design()
	if err != nil {
		return err
	}
	design.Processors = max(1, runtime.GOMAXPROCS(0)/2) // half of the processors stay free for scans
	rows, noProgress := labelRows(ctx, list, true), func(int) {}
	switch {
	case format == onSheets:
		sheet, err := p.OnSheets(design)
		if err != nil {
			return err
		}
		return sheet.Write(w, batch, rows, 1+(sheet.Lead()+before)/max(sheet.PerPage(), 1), noProgress)
	case labels.Format(format).ForPrinters():
		return design.Labels(batch, rows, labels.Format(format), func(_ labels.Row, label []byte) error {
			_, err := w.Write(label)
			return err
		})
	}
	return design.Zip(w, batch, rows, labels.Format(format), noProgress)
}

// labelRows yields the codes of a range in the form in which labels show them.
func labelRows(ctx context.Context, list codes.CodeSource, matrix bool) iter.Seq2[labels.Row, error] {
	return func(yield func(labels.Row, error) bool) {
		own, isOurs := list.(codes.PackageRange)
		err := list.EachCode(ctx, func(index uint64, code, text []byte) error {
			r := labels.Row{Index: int64(index), Code: string(code), Text: string(text)}
			if matrix && isOurs {
				field := codes.Matrix([codes.CodeLength]byte(code))
				r.Matrix = string(field[:])
			}
			if own.PIN != nil {
				r.PIN = own.PIN(index)
			}
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			yield(labels.Row{}, err)
		}
	}
}

var errEnough = errors.New("the reader of the rows has stopped")
