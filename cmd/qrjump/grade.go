package main

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

type gradeCommand struct {
	outputFlags
	Photo  string `arg:"" file:"in"`
	Expect string `placeholder:"TEXT"`
}

const (
	// maxPhotoSize and maxPhotoPixels limit a photograph: telephones take up to 50 million pixels without their special modes.
	maxPhotoSize   = 64 << 20
	maxPhotoPixels = 50 << 20
	// minGradePixels is the number of pixels per module below which the blur of a camera appears as a defect of the symbol.
	minGradePixels = 6
)

// undetermined lists the parameters that a photograph cannot show; each has a text under the key grade.not_NAME.
var undetermined = []string{"reflectance", "light", "aperture", "size", "quiet_zone"}

// gradeAnswer is the JSON result of a graded photograph.
type gradeAnswer struct {
	File string `json:"file"`
	symbol.Grading
	NotDetermined []string `json:"not_determined"`
}

// Run grades the QR code in a photograph. Run exits with code 6 if the text of the code is not the expected text.
func (c *gradeCommand) Run(s *session) error {
	photo, err := readPicture(c.Photo, c.Photo, maxPhotoSize, maxPhotoPixels)
	if err != nil {
		return err
	}
	g, err := symbol.Grade(photo)
	switch {
	case errors.Is(err, symbol.ErrDataMatrix):
		return fault("grade.data_matrix", plain(c.Photo))
	case err != nil:
		key := textOr(errors.Is(err, symbol.ErrSeveral), "grade.several", "grade.no_symbol")
		return hintError{error: fault(key, plain(c.Photo)), next: tr("grade.photograph_again")}
	}
	answer := gradeAnswer{c.Photo, g, mapped(undetermined, func(name string) string { return tr("grade.not_" + name) })}
	if err := c.print(s, answer, nil, func(w io.Writer) { printGrades(w, answer) }); err != nil {
		return err
	}
	if c.Expect != "" && !isExpected(g.Text, c.Expect) {
		return different("grade.other_text", plain(c.Photo), plain(g.Text), plain(c.Expect))
	}
	return nil
}

// isExpected reports whether a symbol has the expected text, which may be GS1 data with its application identifiers in brackets.
func isExpected(text, expected string) bool {
	d, err := gs1.ParseBracketed(expected)
	return text == expected || err == nil && strings.TrimPrefix(text, symbol.GS1QRIdentifier) == d.ElementString()
}

func printGrades(w io.Writer, a gradeAnswer) {
	printFields(w, [2]string{"overall", a.Overall}, [2]string{"text", a.Text},
		[2]string{"symbol", tr("grade.symbol", a.Version, a.Level, a.Modules, a.Modules, a.Pixels)},
		[2]string{"print growth", tr("grade.growth", 100*a.PrintGrowth)})
	printRows(w, []string{"PARAMETER", "GRADE", "VALUE"}, a.Parameters, func(p symbol.GradedParameter) []string {
		return []string{tr("grade." + p.Parameter), p.Grade, strconv.FormatFloat(p.Value, 'f', -1, 64)}
	})
	printMsg(w, "grade.relative")
	if a.Pixels < minGradePixels {
		printMsg(w, "grade.small", minGradePixels)
	}
	printMsg(w, "grade.not_determined", strings.Join(a.NotDetermined, "\n  "))
}
