package symbol

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
)

const (
	// inch is the length of an inch in micrometres.
	inch = 25_400
	// minDots is the minimum number of printer dots per module side. A module of one dot would be filled by the ink of its neighbours.
	minDots = 2
	// minModule is the minimum module size in micrometres: phone cameras cannot separate smaller modules at their focus distance.
	minModule = 190
	// maxModule is the maximum module size in micrometres, for a billboard.
	maxModule = 100_000
	// MinDPI and MaxDPI limit the dot density of a printer.
	MinDPI, MaxDPI = 72, 4800
	// MaxDots is the maximum side of a picture in dots.
	MaxDots = 20_000
)

// Length is a length in micrometres.
type Length int

var lengthForm = regexp.MustCompile(`^([0-9]{1,6})(?:\.([0-9]{1,4}))?(mm|cm|m|um|µm|μm)$`)

// ParseLength parses a length such as 0.4mm or 400um, or for larger things 30cm or 2m; its error lists the valid units.
func ParseLength(text string) (Length, error) {
	m := lengthForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is not a length: want a number with the unit um, mm, cm or m, as in 0.4mm or 30cm", text)
	}
	// cannot fail: the number has at most six digits before the point and only digits after the point
	v, _ := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64)
	switch m[3] {
	case "mm":
		v *= 1000
	case "cm":
		v *= 10_000
	case "m":
		v *= 1_000_000
	}
	if v > 10_000_000 {
		return 0, fmt.Errorf("%s is longer than ten metres", text)
	}
	return Length(math.Round(v)), nil
}

func (l Length) String() string {
	return strconv.FormatFloat(float64(l)/1000, 'f', -1, 64) + "mm"
}

// Dots returns the length in dots, rounded to whole dots.
func (l Length) Dots(dpi int) int { return int(math.Round(float64(l) * float64(dpi) / inch)) }

// Millimetres returns the length in millimetres.
func (l Length) Millimetres() float64 { return float64(l) / 1000 }

// LengthOf returns the length of a number of dots at a dot density.
func LengthOf(dots, dpi int) Length {
	return Length(math.Round(float64(dots) * inch / float64(dpi)))
}

// SizeError reports that something cannot be printed at the requested size.
type SizeError struct {
	Reason string
	// Can is a module size that can be printed; 0 = unknown.
	Can Length
	// Next is the next step that the error recommends.
	Next string
}

func (e *SizeError) Error() string {
	return e.Reason + ": " + e.Advice()
}

// Advice returns a sentence about a size that can be printed.
func (e *SizeError) Advice() string {
	if e.Can == 0 {
		return e.Next
	}
	if e.Next == "" {
		return "use modules of " + e.Can.String()
	}
	return fmt.Sprintf("use modules of %v, or %s", e.Can, e.Next)
}

// CheckDPI returns an error if a dot density is invalid.
func CheckDPI(dpi int) error {
	if dpi < MinDPI || dpi > MaxDPI {
		return fmt.Errorf("%d dots an inch: want %d to %d", dpi, MinDPI, MaxDPI)
	}
	return nil
}

// ModuleDots returns the whole number of dots nearest to the wanted module size: printers draw whole dots, and modules of unequal
// size are misread. The error is a *SizeError with the smallest module size that a printer with this dot density can draw.
func ModuleDots(module Length, dpi int) (int, error) {
	if err := CheckDPI(dpi); err != nil {
		return 0, err
	}
	exact := float64(module) * float64(dpi) / inch
	minimum := max(minDots, int(math.Ceil(float64(minModule)*float64(dpi)/inch)))
	can := Length(math.Ceil(float64(minimum) * inch / float64(dpi)))
	switch {
	case module > maxModule:
		return 0, &SizeError{Reason: fmt.Sprintf("modules of %v are larger than %v", module, Length(maxModule)), Can: maxModule}
	case module < minModule:
		return 0, &SizeError{Can: can,
			Reason: fmt.Sprintf("modules of %v are smaller than cameras can resolve (%v)", module, Length(minModule))}
	case exact < minDots-0.05: // 0.25mm at 203 dots per inch is 1.998 dots, which is accepted as two
		sufficient := int(math.Ceil(minDots * inch / float64(module)))
		return 0, &SizeError{Reason: fmt.Sprintf("modules of %v are %.1f dots at %d dots per inch, and must be at least %d dots", module, exact, dpi,
			minDots), Can: can, Next: fmt.Sprintf("a printer with at least %d dots per inch", sufficient)}
	}
	return max(minimum, int(math.Round(exact))), nil
}

// Media describes the labels in a label printer. The zero value is a label of the drawing's size.
type Media struct {
	Width, Height    Length // size of a label, in which the drawing is centred; 0 = the size of the drawing
	Gap              Length // distance between two labels; 0 = the printer's own setting
	OffsetX, OffsetY Length // shift of the drawing to the right and down, to correct a printer that prints off position
	Copies           int    // number of prints of each label; 0 means 1
}

// errColour is returned by the label printer formats if a style has colours other than black on white.
var errColour = errors.New("label printer formats are black on white: the ribbon determines the colour")

// onMedia returns the dots of a whole label, and the number of its copies. The error is errColour if the drawing has colours, a *SizeError
// if the drawing is larger than the label, and another error if the offset moves ink beyond the label.
func (d Drawing) onMedia() (*bitmap, int, error) {
	if d.ink != Black || d.paper != White {
		return nil, 0, errColour
	}
	b, copies := d.dots(), max(d.media.Copies, 1)
	x, y := d.media.OffsetX.Dots(d.DPI), d.media.OffsetY.Dots(d.DPI)
	width, height := b.width+max(x, 0), b.height+max(y, 0)
	if d.media.Width > 0 {
		width, height = d.media.Width.Dots(d.DPI), d.media.Height.Dots(d.DPI)
		x, y = x+(width-b.width)/2, y+(height-b.height)/2
	}
	switch {
	case width < b.width || height < b.height:
		return nil, 0, &SizeError{Reason: fmt.Sprintf("a drawing of %v by %v is larger than a label of %v by %v", LengthOf(b.width, d.DPI),
			LengthOf(b.height, d.DPI), d.media.Width, d.media.Height), Next: "use smaller modules, shorter lines or a larger label"}
	case width > MaxDots || height > MaxDots:
		return nil, 0, &SizeError{Reason: fmt.Sprintf("a label of %d×%d dots is larger than %d a side", width, height, MaxDots),
			Next: "use a smaller label"}
	case x == 0 && y == 0 && width == b.width && height == b.height:
		return b, copies, nil
	}
	label := &bitmap{width: width, height: height, stride: (width + 7) / 8}
	label.bits = make([]byte, label.stride*height)
	for row := range b.height {
		for column := range b.width {
			switch toX, toY := column+x, row+y; {
			case !b.inked(column, row):
			case toX < 0 || toY < 0 || toX >= width || toY >= height:
				return nil, 0, fmt.Errorf("an offset of %v,%v moves the print beyond the label: use a smaller offset", d.media.OffsetX,
					d.media.OffsetY)
			default:
				label.set(toX, toY)
			}
		}
	}
	return label, copies, nil
}
