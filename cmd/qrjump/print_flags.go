package main

import (
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // of a logo
	_ "image/png"  // of a logo
	"os"
	"strings"

	"github.com/qrjump/qrjump/internal/labels"
	"github.com/qrjump/qrjump/internal/symbol"
)

// lookFlags say how a symbol is printed, wherever it is drawn.
type lookFlags struct {
	Module     string   `default:"0.4mm" placeholder:"LENGTH" help:"Side of a module (${default}), rounded to whole dots of the printer."`
	DPI        int      `name:"dpi" default:"300" placeholder:"DOTS" help:"Dots an inch of the printer (${default}); of label printers 203, 300 or 600."`
	Level      string   `enum:"L,M,Q,H" default:"Q" placeholder:"L|M|Q|H" help:"How much of a QR code may be damaged: 7, 15, 25 or 30 % (${default})."`
	Quiet      *int     `placeholder:"MODULES" help:"Quiet zone around a symbol; without it what its standard demands: 4 for QR codes, 1 for Data Matrix."`
	Line       []string `sep:"none" placeholder:"TEXT" help:"A line for people below the symbol; {serial}, {text}, {index} and {batch} are replaced. Repeat it for more."`
	LineHeight string   `default:"2mm" placeholder:"LENGTH" help:"Size of the lines (${default})."`
	Beside     bool     `help:"The lines stand to the right of the symbol, and not below."`
	Colour     string   `name:"colour" aliases:"color" default:"black" placeholder:"#RRGGBB" help:"Colour of the ink (${default}); refused where cameras would not tell it from the background."`
	Background string   `default:"white" placeholder:"#RRGGBB" help:"Colour of the background (${default})."`
}

// printFlags say how a symbol is printed on this machine.
type printFlags struct {
	lookFlags
	Font string `placeholder:"FILE" help:"A TrueType or OpenType font for the lines, for instance one with Chinese; without it Go Mono." file:"in"`
}

// pageFlags say how labels stand on pages.
type pageFlags struct {
	Sheet     string `placeholder:"NAME" help:"A sheet of labels as it is bought: l7160, l7163, l7651, 5160 and others of Avery; a4-24, a4-40, a4-65 and others by their number of labels. A wrong name lists all. Flags beside it change it."`
	Page      string `placeholder:"PAPER" help:"Paper: a3, a4, a5, a6, letter, or a size as in 100x150mm (a4)."`
	Columns   *int   `placeholder:"N" help:"Columns of labels (4; with --label or --pitch as many as there is room for)."`
	PageRows  *int   `name:"rows" placeholder:"N" help:"Rows of labels (10; with --label or --pitch as many as there is room for)."`
	Label     string `placeholder:"WxH" help:"Size of a label, as in 63.5x38.1mm; without it what the paper gives."`
	Pitch     string `placeholder:"XxY" help:"From the edge of one label to the same edge of the next, as in 66.04x38.1mm; without it label and gap."`
	Margin    string `placeholder:"LENGTHS" help:"Margin around all labels (10mm): one length for all sides; two for vertical and horizontal; four for top, right, bottom, left. With commas between: 15.1mm,7.2mm."`
	Gap       string `placeholder:"LENGTHS" help:"Gap between two labels (0mm): one length, or horizontal and vertical: 2.5mm,0mm."`
	StartAt   *int   `placeholder:"N" help:"The label of the first page that is printed first (1), row by row: the labels before it are used up."`
	Offset    string `placeholder:"X,Y" help:"By how much all is moved to the right and down, where a printer draws the paper in askew: --offset=-0.5mm,1mm."`
	CropMarks bool   `help:"Short lines in the margin where the paper is cut."`
	Footer    string `placeholder:"TEXT" help:"A line in the lower margin; {batch}, {from}, {to} and {page} are replaced."`
}

// check refuses numbers that the admin API would take as left out.
func (p pageFlags) check() error {
	for flag, n := range map[string]*int{"--columns": p.Columns, "--rows": p.PageRows, "--start-at": p.StartAt} {
		if n != nil && *n < 1 {
			return misused("%s %d: want 1 or more", flag, *n)
		}
	}
	return nil
}

// printing is what the flags say, for this machine or for a server.
func (f lookFlags) printing(kind string, p pageFlags) labels.Printing {
	number := func(n *int) int {
		if n == nil {
			return 0
		}
		return *n
	}
	return labels.Printing{Kind: kind, Module: f.Module, DPI: f.DPI, Level: f.Level, Quiet: f.Quiet, Lines: f.Line,
		LineHeight: f.LineHeight, Beside: f.Beside, Colour: f.Colour, Background: f.Background, Sheet: p.Sheet, Page: p.Page,
		Columns: number(p.Columns), Rows: number(p.PageRows), Label: p.Label, Pitch: p.Pitch, Margin: p.Margin, Gap: p.Gap,
		StartAt: number(p.StartAt), Offset: p.Offset, CropMarks: p.CropMarks, Footer: p.Footer}
}

// unprintable is an error of a symbol that cannot be printed so, with what can.
func unprintable(err error) error {
	if size, ok := errors.AsType[*symbol.SizeError](err); ok {
		return advised{error: errors.New(size.Why), next: size.Advice()}
	}
	return err
}

// length reads the length of a flag.
func length(flag, text string) (symbol.Length, error) {
	l, err := symbol.ParseLength(text)
	if err != nil {
		return 0, misused("--%s: %v", flag, err)
	}
	return l, nil
}

// design is what the flags say of a kind of label.
func (f printFlags) design(kind string) (labels.Design, error) {
	d, err := f.printing(kind, pageFlags{}).Design()
	if err != nil || f.Font == "" {
		return d, misprinted(err)
	}
	file, err := os.ReadFile(f.Font)
	if err != nil {
		return d, misused("--font: %v", err)
	}
	if d.Style.Font, err = symbol.ParseFont(file); err != nil {
		return d, misused("--font %s: %v", f.Font, err)
	}
	return d, nil
}

// misprinted says which flag an error of a printing is about.
func misprinted(err error) error {
	if word, ok := errors.AsType[*labels.WordError](err); ok {
		return misused("--%s: %v", strings.ReplaceAll(word.Word, "_", "-"), word.Err)
	}
	return unprintable(err)
}

// largestLogo is how many bytes the file of a logo has at most.
const largestLogo = 16 << 20

// readLogo reads a picture, PNG or JPEG.
func readLogo(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misused("--logo: %v", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() > largestLogo {
		return nil, misused("--logo %s: a file of at most %d MB is wanted", path, largestLogo>>20)
	}
	// Its size is known before a large one is unpacked.
	if config, _, err := image.DecodeConfig(f); err != nil {
		return nil, misused("--logo %s: no PNG or JPEG: %v", path, err)
	} else if config.Width*config.Height > labels.MostLogo {
		return nil, misused("--logo %s: %d×%d pixels are more than a printer shows: at most %d", path, config.Width, config.Height,
			labels.MostLogo)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	m, _, err := image.Decode(f)
	if err != nil {
		return nil, misused("--logo %s: %v", path, err)
	}
	return m, nil
}
