package labels

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// boughtSheet is a sheet of die-cut labels that is sold in shops, described by the fields of a Printing.
type boughtSheet struct {
	Page          string
	Columns, Rows int
	Label, Pitch  string
	Margin        string // top and left margin
}

// bought lists sheets by the product name printed on their box.
//
// Avery publishes the label size and the pitch for each product number. The labels are centred on the paper, which determines their
// margins. The template database of gLabels (templates/avery-iso-templates.xml and avery-us-templates.xml) agrees within 0.3 mm for L7160
// and L7651. The left margin of L7163 in gLabels is 1.3 mm smaller: correct the position with --offset if a printer needs that margin.
//
// Names that begin with a4- are generic sheets that shops in China sell by the number of labels (格), known elsewhere as Zweckform
// 3474, 3651, 3652 and similar. Makers of the a4- sheets publish no drawings: the values here are the size on the box, centred on
// the paper. Compare the first printed page with a sheet before you print the rest, and correct the position with --offset.
var bought = map[string]boughtSheet{
	"l7159": {"a4", 3, 8, "63.5x33.9mm", "66.04x33.9mm", "12.9mm,7.21mm"},
	"l7160": {"a4", 3, 7, "63.5x38.1mm", "66.04x38.1mm", "15.15mm,7.21mm"},
	"l7161": {"a4", 3, 6, "63.5x46.6mm", "66.04x46.6mm", "8.7mm,7.21mm"},
	"l7162": {"a4", 2, 8, "99.1x33.9mm", "101.6x33.9mm", "12.9mm,4.65mm"},
	"l7163": {"a4", 2, 7, "99.1x38.1mm", "101.6x38.1mm", "15.15mm,4.65mm"},
	"l7165": {"a4", 2, 4, "99.1x67.7mm", "101.6x67.7mm", "13.1mm,4.65mm"},
	"l7651": {"a4", 5, 13, "38.1x21.2mm", "40.6x21.2mm", "10.7mm,4.75mm"},
	"5160":  {"letter", 3, 10, "66.675x25.4mm", "69.85x25.4mm", "12.7mm,4.763mm"},
	"5161":  {"letter", 2, 10, "101.6x25.4mm", "106.363x25.4mm", "12.7mm,3.969mm"},
	"5163":  {"letter", 2, 5, "101.6x50.8mm", "106.363x50.8mm", "12.7mm,3.969mm"},

	"a4-8":  {"a4", 2, 4, "105x74.25mm", "105x74.25mm", "0mm"},
	"a4-10": {"a4", 2, 5, "105x57mm", "105x57mm", "6mm,0mm"},
	"a4-12": {"a4", 2, 6, "105x48mm", "105x48mm", "4.5mm,0mm"},
	"a4-16": {"a4", 2, 8, "105x37mm", "105x37mm", "0.5mm,0mm"},
	"a4-21": {"a4", 3, 7, "70x42.3mm", "70x42.3mm", "0.45mm,0mm"},
	"a4-24": {"a4", 3, 8, "70x37mm", "70x37mm", "0.5mm,0mm"},
	"a4-30": {"a4", 3, 10, "70x29.7mm", "70x29.7mm", "0mm"},
	"a4-33": {"a4", 3, 11, "70x25.4mm", "70x25.4mm", "8.8mm,0mm"},
	"a4-40": {"a4", 4, 10, "52.5x29.7mm", "52.5x29.7mm", "0mm"},
	"a4-44": {"a4", 4, 11, "48.5x25.4mm", "48.5x25.4mm", "8.8mm,8mm"},
	"a4-65": {"a4", 5, 13, "38.1x21.2mm", "40.6x21.2mm", "10.7mm,4.75mm"},
}

// otherNames maps further product names to the name of a sheet in bought with the same layout.
var otherNames = map[string]string{"j8159": "l7159", "j8160": "l7160", "j8161": "l7161", "j8162": "l7162", "j8163": "l7163",
	"j8165": "l7165", "l7551": "l7651", "j8651": "l7651", "8160": "5160", "5260": "5160", "8161": "5161", "5261": "5161", "8163": "5163",
	"5263": "5163"}

// SheetNames returns the names of the known sheets, sorted.
func SheetNames() []string { return slices.Sorted(maps.Keys(bought)) }

// boughtAs finds a sheet by its name: L7160, Avery L7160, avery-l7160, J8160, a4-24.
func boughtAs(name string) (boughtSheet, error) {
	short := strings.TrimLeft(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "avery"), " -_")
	if equal, is := otherNames[short]; is {
		short = equal
	}
	s, known := bought[strings.TrimSuffix(short, "格")]
	if !known {
		return s, fmt.Errorf("%.40q is not a known label sheet: want one of %s, or give label, pitch and margin", name,
			strings.Join(SheetNames(), ", "))
	}
	return s, nil
}
