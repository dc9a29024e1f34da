package main

import (
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // of a logo
	_ "image/png"  // of a logo
	"os"

	"github.com/qrjump/qrjump/internal/labels"
	"github.com/qrjump/qrjump/internal/symbol"
)

// printFlags say how a symbol is printed.
type printFlags struct {
	Module     string   `default:"0.4mm" placeholder:"LENGTH" help:"Side of a module (${default}), rounded to whole dots of the printer."`
	DPI        int      `name:"dpi" default:"300" placeholder:"DOTS" help:"Dots an inch of the printer (${default}); of label printers 203, 300 or 600."`
	Level      string   `enum:"L,M,Q,H" default:"Q" placeholder:"L|M|Q|H" help:"How much of a QR code may be damaged: 7, 15, 25 or 30 % (${default})."`
	Quiet      int      `placeholder:"MODULES" help:"Quiet zone around a symbol; without it what its standard demands: 4 for QR codes, 1 for Data Matrix."`
	Line       []string `sep:"none" placeholder:"TEXT" help:"A line for people below the symbol; {serial}, {text}, {index} and {batch} are replaced. Repeat it for more."`
	LineHeight string   `default:"2mm" placeholder:"LENGTH" help:"Size of the lines (${default})."`
	Beside     bool     `help:"The lines stand to the right of the symbol, and not below."`
	Font       string   `placeholder:"FILE" help:"A TrueType or OpenType font for the lines, for instance one with Chinese; without it Go Mono."`
	Colour     string   `name:"colour" aliases:"color" default:"black" placeholder:"#RRGGBB" help:"Colour of the ink (${default}); refused where cameras would not tell it from the background."`
	Background string   `default:"white" placeholder:"#RRGGBB" help:"Colour of the background (${default})."`
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
func (f printFlags) design(kind string) (d labels.Design, err error) {
	d = labels.Design{Kind: labels.Kind(kind), Level: symbol.Level(f.Level[0]), Lines: f.Line}
	d.Style = symbol.Style{DPI: f.DPI, Quiet: f.Quiet, Beside: f.Beside}
	if d.Style.Module, err = length("module", f.Module); err != nil {
		return d, err
	}
	if d.Style.Text, err = length("line-height", f.LineHeight); err != nil {
		return d, err
	}
	if d.Style.Ink, err = symbol.ParseColour(f.Colour); err != nil {
		return d, misused("--colour: %v", err)
	}
	if d.Style.Paper, err = symbol.ParseColour(f.Background); err != nil {
		return d, misused("--background: %v", err)
	}
	if f.Font != "" {
		file, err := os.ReadFile(f.Font)
		if err != nil {
			return d, misused("--font: %v", err)
		}
		if d.Style.Font, err = symbol.ParseFont(file); err != nil {
			return d, misused("--font %s: %v", f.Font, err)
		}
	}
	return d, unprintable(d.Style.Check())
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
