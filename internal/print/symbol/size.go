package symbol

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

const (
	// inch is an inch in micrometres.
	inch = 25_400
	// leastDots is the minimum number of a printer's dots in a module. A module of one dot is closed by the ink of its neighbours.
	leastDots = 2
	// leastModule is the smallest module in micrometres: below it, cameras of
	// phones do not tell two modules apart at the distance at which they focus.
	leastModule = 190
	// mostModule is the largest module, for a billboard.
	mostModule = 100_000
	// LeastDPI and MostDPI bound the dot density of a printer.
	LeastDPI, MostDPI = 72, 4800
	// MostDots is the longest side of a picture.
	MostDots = 20_000
)

// Length is a length in micrometres.
type Length int

var lengthForm = regexp.MustCompile(`^([0-9]{1,6})(?:\.([0-9]{1,4}))?(mm|cm|m|um|µm|μm)$`)

// ParseLength reads 0.4mm or 400um, and of larger things 30cm or 2m; it says which units it takes.
func ParseLength(text string) (Length, error) {
	m := lengthForm.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no length: want a number with um, mm, cm or m behind it, as in 0.4mm or 30cm", text)
	}
	v, _ := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64) // six digits, a point, digits
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

// Dots returns a length in dots, rounded to whole ones.
func (l Length) Dots(dpi int) int { return int(math.Round(float64(l) * float64(dpi) / inch)) }

// Millimetres returns the length in millimetres.
func (l Length) Millimetres() float64 { return float64(l) / 1000 }

// LengthOf returns the length of a number of dots.
func LengthOf(dots, dpi int) Length {
	return Length(math.Round(float64(dots) * inch / float64(dpi)))
}

// SizeError says that something cannot be printed at the size that was asked for.
type SizeError struct {
	Why string
	// Can is a size of a module that can be printed, 0 where none is known.
	Can Length
	// Next is the next step.
	Next string
}

func (e *SizeError) Error() string {
	return e.Why + ": " + e.Advice()
}

// Advice says which size can be printed.
func (e *SizeError) Advice() string {
	if e.Can == 0 {
		return e.Next
	}
	if e.Next == "" {
		return "take modules of " + e.Can.String()
	}
	return fmt.Sprintf("take modules of %v, or %s", e.Can, e.Next)
}

// CheckDPI returns what is wrong with a dot density.
func CheckDPI(dpi int) error {
	if dpi < LeastDPI || dpi > MostDPI {
		return fmt.Errorf("%d dots an inch: want %d to %d", dpi, LeastDPI, MostDPI)
	}
	return nil
}

// ModuleDots returns the whole number of dots nearest to a wished module: printers draw
// whole dots, and modules of unequal size are misread. The error is a *SizeError
// with the smallest module that this printer can draw.
func ModuleDots(module Length, dpi int) (int, error) {
	if err := CheckDPI(dpi); err != nil {
		return 0, err
	}
	exact := float64(module) * float64(dpi) / inch
	minimum := max(leastDots, int(math.Ceil(float64(leastModule)*float64(dpi)/inch)))
	can := Length(math.Ceil(float64(minimum) * inch / float64(dpi)))
	switch {
	case module > mostModule:
		return 0, &SizeError{Why: fmt.Sprintf("modules of %v are larger than %v", module, Length(mostModule)), Can: mostModule}
	case module < leastModule:
		return 0, &SizeError{Can: can,
			Why: fmt.Sprintf("modules of %v are smaller than cameras tell apart (%v)", module, Length(leastModule))}
	case exact < leastDots-0.05: // 0.25mm at 203 dots an inch is 1.998 dots, and means two
		sufficient := int(math.Ceil(leastDots * inch / float64(module)))
		return 0, &SizeError{Why: fmt.Sprintf("modules of %v are %.1f dots of a printer of %d dots an inch, and need %d", module, exact, dpi,
			leastDots), Can: can, Next: fmt.Sprintf("a printer of %d dots an inch or more", sufficient)}
	}
	return max(minimum, int(math.Round(exact))), nil
}
