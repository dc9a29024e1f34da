package main

import (
	"errors"
	"image"
	_ "image/jpeg" // of a logo
	_ "image/png"  // of a logo
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/print/labels"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// kindFlags selects the kind of a symbol.
type kindFlags struct {
	Kind        string `enum:"qr,datamatrix,matrix,both,gs1-qr,gs1-datamatrix,gs1-digital-link" default:"qr" placeholder:"KIND"`
	Rectangular bool
}

// symbolStyleFlags holds the flags for the appearance of a symbol, for printing on this machine or on a server.
type symbolStyleFlags struct {
	Module       string   `default:"0.4mm" placeholder:"LENGTH"`
	DPI          int      `name:"dpi" default:"300" placeholder:"DOTS"`
	Level        string   `enum:"L,M,Q,H" default:"Q" placeholder:"L|M|Q|H"`
	Quiet        *int     `placeholder:"MODULES"`
	Line         []string `sep:"none" placeholder:"TEXT"`
	LineHeight   string   `default:"2mm" placeholder:"LENGTH"`
	TextPosition string   `enum:"below,right" default:"below" placeholder:"below|right"`
	Colour       string   `name:"colour" aliases:"color" default:"black" placeholder:"#RRGGBB|k|spot:NAME"`
	Background   string   `default:"white" placeholder:"#RRGGBB"`
}

// printFlags holds the flags for the appearance of a symbol that this machine prints.
type printFlags struct {
	symbolStyleFlags
	Font string `placeholder:"FILE" file:"in"`
}

// pageFlags holds the flags for the layout of labels on pages.
type pageFlags struct {
	Sheet     string `placeholder:"NAME"`
	Page      string `placeholder:"PAPER"`
	Columns   *int   `placeholder:"N"`
	PageRows  *int   `name:"rows" placeholder:"N"`
	Label     string `placeholder:"WxH"`
	Pitch     string `placeholder:"XxY"`
	Margin    string `placeholder:"LENGTHS"`
	Gap       string `placeholder:"LENGTHS"`
	StartAt   *int   `placeholder:"N"`
	Offset    string `placeholder:"X,Y"`
	CropMarks bool
	Footer    string `placeholder:"TEXT"`
	Copies    *int   `placeholder:"N"`
}

// check returns an error for a flag whose number is below 1; in a call of the admin API, 0 would mean that the number is not set.
func (p pageFlags) check() error {
	for flag, n := range map[string]*int{"--columns": p.Columns, "--rows": p.PageRows, "--start-at": p.StartAt, "--copies": p.Copies} {
		if n != nil && *n < 1 {
			return misused("print_flags.want_1_or_more", flag, *n)
		}
	}
	return nil
}

// unsupported returns the flags that have no effect on single labels in the formats.
func (p pageFlags) unsupported(formats ...string) pageFlags {
	if slices.ContainsFunc(formats, func(f string) bool { return labels.Format(f).ForPrinters() }) {
		p.Label, p.Gap, p.Offset, p.Copies = "", "", "", nil
	}
	return p
}

// printing returns the print settings from the flags, for use on this machine or on a server.
func (f symbolStyleFlags) printing(k kindFlags, p pageFlags) labels.Printing {
	number := func(n *int) int {
		if n == nil {
			return 0
		}
		return *n
	}
	return labels.Printing{Kind: k.Kind, Rectangular: k.Rectangular, Module: f.Module, DPI: f.DPI, Level: f.Level, Quiet: f.Quiet,
		Lines: f.Line, LineHeight: f.LineHeight, TextPosition: f.TextPosition, Colour: f.Colour, Background: f.Background, Sheet: p.Sheet,
		Page: p.Page, Columns: number(p.Columns), Rows: number(p.PageRows), Label: p.Label, Pitch: p.Pitch, Margin: p.Margin, Gap: p.Gap,
		StartAt: number(p.StartAt), Offset: p.Offset, CropMarks: p.CropMarks, Footer: p.Footer, Copies: number(p.Copies)}
}

// unprintable adds advice to the error of a symbol that does not fit: the advice names print settings with which the symbol fits.
func unprintable(err error) error {
	if size, ok := errors.AsType[*symbol.SizeError](err); ok {
		return hintError{error: errors.New(size.Reason), next: size.Advice()}
	}
	return err
}

// length parses the value of a length flag.
func length(flag, text string) (symbol.Length, error) {
	l, err := symbol.ParseLength(text)
	if err != nil {
		return 0, misused("health.of", flag, err)
	}
	return l, nil
}

// design returns the label layout for a kind of symbol from the flags.
func (f printFlags) design(k kindFlags, p pageFlags) (labels.Design, error) {
	d, err := f.printing(k, p).Design()
	if err != nil || f.Font == "" {
		return d, withFlagName(err)
	}
	file, err := os.ReadFile(f.Font)
	if err != nil {
		return d, misused("print_flags.font", err)
	}
	if d.Style.Font, err = symbol.ParseFont(file); err != nil {
		return d, misused("print_flags.font_2", f.Font, err)
	}
	return d, nil
}

// withFlagName adds to an error about print settings the name of the flag that has the wrong value.
func withFlagName(err error) error {
	if word, ok := errors.AsType[*labels.WordError](err); ok {
		return misused("health.of", strings.ReplaceAll(word.Word, "_", "-"), word.Err)
	}
	return unprintable(err)
}

// largestLogo is the maximum size of a logo's file in bytes.
const largestLogo = 16 << 20

// readPicture reads a PNG or JPEG image with a maximum size in bytes and in pixels; name is the file's name in errors.
func readPicture(name, path string, maxSize int64, maxPixels int) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misused("print_flags.picture", name, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > maxSize {
		return nil, misused("print_flags.picture_size", name, maxSize>>20)
	}
	// The image size is checked before a large image is decoded.
	if config, _, err := image.DecodeConfig(f); err != nil {
		return nil, misused("print_flags.picture_kind", name, err)
	} else if config.Width*config.Height > maxPixels {
		return nil, misused("print_flags.picture_pixels", name, config.Width, config.Height, maxPixels)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, fault("print_flags.reading", path, err)
	}
	m, _, err := image.Decode(f)
	if err != nil {
		return nil, misused("print_flags.picture", name, err)
	}
	return m, nil
}
