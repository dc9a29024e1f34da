package symbol

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// Colour is an RGB colour.
type Colour struct{ R, G, B uint8 }

// Black and White are the best colours for symbols.
var (
	Black = Colour{}
	White = Colour{255, 255, 255}
)

var colourForm = regexp.MustCompile(`^#?([0-9A-Fa-f]{6})$`)

// ParseColour parses a colour such as #1a3c6e, black or white.
func ParseColour(text string) (Colour, error) {
	switch text {
	case "black":
		return Black, nil
	case "white":
		return White, nil
	}
	m := colourForm.FindStringSubmatch(text)
	if m == nil {
		return Colour{}, fmt.Errorf("%q is no colour: want black, white or six digits, as in #1a3c6e", text)
	}
	v, _ := strconv.ParseUint(m[1], 16, 32) // six digits
	return Colour{uint8(v >> 16), uint8(v >> 8), uint8(v)}, nil
}

func (c Colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// minContrast is the minimum difference of reflectance between paper and ink: grade B for symbol contrast in ISO/IEC 15415, so
// that a slightly worse print still reaches grade C.
const minContrast = 0.55

// red returns the share of red light that a colour reflects, as industrial cameras see it; grey returns the share of all light, as phone
// cameras see it. From IEC 61966-2-1.
func (c Colour) red() float64 { return linear(c.R) }
func (c Colour) grey() float64 {
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

func linear(v uint8) float64 {
	s := float64(v) / 255
	if s <= 0.04045 {
		return s / 12.92
	}
	return math.Pow((s+0.055)/1.055, 2.4)
}

// CheckContrast returns an error if cameras cannot read a symbol printed in the ink colour on the paper colour.
func CheckContrast(ink, paper Colour) error {
	advice := "take a darker ink or a lighter paper; black on white is best"
	if ink.grey() > paper.grey() {
		return fmt.Errorf("%v on %v is light on dark, which many cameras do not read: exchange the two", ink, paper)
	}
	if c := paper.grey() - ink.grey(); c < minContrast {
		return fmt.Errorf("%v on %v has a contrast of %.0f %%, and cameras need %.0f %%: %s", ink, paper, 100*c, 100*minContrast, advice)
	}
	if c := paper.red() - ink.red(); c < minContrast {
		return fmt.Errorf("%v on %v has a contrast of %.0f %% under the red light of industrial cameras, which need %.0f %%: "+
			"take an ink with less red or a paper with more", ink, paper, 100*max(c, 0), 100*minContrast)
	}
	return nil
}
