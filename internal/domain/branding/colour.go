package branding

import (
	"math"
	"regexp"
	"strconv"
)

// Colour is a colour #rrggbb in lower case; "" = the default of the pages.
type Colour string

var colour = regexp.MustCompile(`^#[0-9a-f]{6}$`)

func (c Colour) validate() error {
	if c != "" && !colour.MatchString(string(c)) {
		return invalidf("accent %.20q: want a colour such as #0b6b45, in lower case", string(c))
	}
	return nil
}

// On returns the colour of text on background c: white or black, whichever has the higher contrast. The contrast is at least 4.58
// on any background; WCAG 2.2 AA requires 4.5.
func (c Colour) On() Colour {
	if c.luminance() > math.Sqrt(1.05*0.05)-0.05 {
		return "#000000"
	}
	return "#ffffff"
}

// luminance returns the relative luminance as defined by WCAG 2.2.
func (c Colour) luminance() (sum float64) {
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(string(c[1+2*i:3+2*i]), 16, 8)
		if err != nil {
			return 0 // unreachable after Validate
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}
