package symbol

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/print/pdf"
)

// Colour is an RGB colour, or black with an Ink of a press.
type Colour struct {
	R, G, B uint8
	Ink     string // pdf.K, or pdf.Spot and the name of a spot colour; "" = RGB
}

// Black and White are the best colours for symbols.
var (
	Black = Colour{}
	White = Colour{R: 255, G: 255, B: 255}
)

var colourForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^#?([0-9A-Fa-f]{6})$`) })

// spotForm matches a spot colour, whose name has at most 127 bytes in a PDF. Of the noSpots, All and None are no inks, and the others
// are the inks of every four-colour press.
var (
	spotForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^` + pdf.Spot + `[\pL\pN][\pL\pN .+*&#_/-]*$`) })
	noSpots  = []string{"All", "None", "Cyan", "Magenta", "Yellow", "Black"}
)

// errInk is returned by the picture formats for screens if a style has an ink of a press.
var errInk = errors.New("only pdf, eps and sheets support press inks: use one of these formats, or a colour as in #1a3c6e")

// ParseColour parses a colour such as #1a3c6e, black or white, or an ink of a press: k or spot:NAME.
func ParseColour(text string) (Colour, error) {
	name, spot := strings.CutPrefix(text, pdf.Spot)
	switch {
	case spot && (utf8.RuneCountInString(name) > 31 || !spotForm().MatchString(text) || slices.Contains(noSpots, name)):
		return Colour{}, fmt.Errorf(
			"%.80q is not a valid spot colour: want spot: and a name of up to 31 letters, digits, spaces and .+*&#_/-, except %s",
			text, strings.Join(noSpots, ", "))
	case spot || text == pdf.K:
		return Colour{Ink: text}, nil
	}
	switch text {
	case "black":
		return Black, nil
	case "white":
		return White, nil
	}
	m := colourForm().FindStringSubmatch(text)
	if m == nil {
		return Colour{}, fmt.Errorf(
			"%q is not a valid colour: want black, white or six digits, as in #1a3c6e, or for a press k or spot:NAME", text)
	}
	v, _ := strconv.ParseUint(m[1], 16, 32) // six digits
	return Colour{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v)}, nil
}

// On selects the colour for what is drawn next on a page.
func (c Colour) On(page *pdf.Page) {
	if c.Ink != "" {
		page.Ink(c.Ink)
		return
	}
	page.Colour(c.R, c.G, c.B)
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
	if ink.Ink != "" && paper != White {
		return errors.New("a press with one ink cannot print a background: remove the background")
	}
	advice := "use a darker ink or a lighter paper; black on white is best"
	if ink.grey() > paper.grey() {
		return fmt.Errorf("%v on %v is light on dark, which many cameras cannot read: swap the colours", ink, paper)
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
