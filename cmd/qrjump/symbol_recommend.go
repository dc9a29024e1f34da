package main

import (
	"io"
	"strings"

	"github.com/qrjump/qrjump/internal/print/symbol"
)

// symbolRecommend is the command that recommends a symbol size.
type symbolRecommend struct {
	outputFlags
	Text     string `required:"" placeholder:"TEXT"`
	Kind     string `enum:"qr,datamatrix" default:"qr" placeholder:"qr|datamatrix"`
	Level    string `enum:"L,M,Q,H" default:"Q" placeholder:"L|M|Q|H"`
	Distance string `default:"20cm" placeholder:"LENGTH"`
	DPI      int    `name:"dpi" default:"300" placeholder:"DOTS"`
	Surface  string `default:"flat" placeholder:"flat|curved:DIAMETER"`
}

// Run prints the smallest size at which scanners can read a symbol with the given text.
func (c *symbolRecommend) Run(s *session) error {
	spot := symbol.Spot{DPI: c.DPI}
	var err error
	if spot.Distance, err = symbol.ParseLength(c.Distance); err != nil {
		return misused("symbol_advise.length", "distance", err)
	}
	if diameter, curved := strings.CutPrefix(c.Surface, "curved:"); curved {
		if spot.Diameter, err = symbol.ParseLength(diameter); err != nil {
			return misused("symbol_advise.length", "surface", err)
		}
	} else if c.Surface != "flat" {
		return misused("symbol_advise.surface", c.Surface)
	}
	grid, err := symbol.DataMatrix(c.Text, false)
	if c.Kind == "qr" {
		grid, err = symbol.QR(c.Text, symbol.Level(c.Level[0]))
	}
	if err != nil {
		return usageError(err.Error())
	}
	a, err := grid.Advise(spot)
	if err != nil {
		return unprintable(err)
	}
	answer := map[string]any{"modules": grid.Width, "module_mm": a.Module.Millimetres(), "module_dots": a.Dots, "dpi": c.DPI,
		"width_mm": a.Width.Millimetres(), "height_mm": a.Height.Millimetres(), "by": a.By, "pixels": a.Pixels, "edge": a.Edge}
	if a.MaxWidth != 0 {
		answer["most_mm"] = a.MaxWidth.Millimetres()
	}
	return c.print(s, answer, nil, func(w io.Writer) {
		printMsg(w, "symbol_advise.take", a.Module.Millimetres(), counted(a.Dots, "dot"), c.DPI, a.Width.Millimetres(),
			a.Height.Millimetres())
		switch a.By {
		case symbol.ByPrinter:
			printMsg(w, "symbol_advise.by_printer")
		case symbol.ByDistance:
			printMsg(w, "symbol_advise.by_distance", spot.Distance, a.Pixels)
		case symbol.ByCurve:
			printMsg(w, "symbol_advise.by_curve", 100*a.Edge)
		}
		if a.MaxWidth != 0 {
			printMsg(w, "symbol_advise.most", spot.Diameter, a.MaxWidth)
		}
		level := ""
		if c.Kind == "qr" {
			level = " --level " + c.Level
		}
		printMsg(w, "symbol_advise.next", shellWord(c.Text), a.Module.Millimetres(), c.DPI, c.Kind, level)
	})
}
