package symbol

import (
	"fmt"
	"math"
)

// The assumed camera is that of a phone whose app decodes the preview (720 lines) instead of full-size photos. The lens has an
// angle of view of 65 degrees along the longer side.
const (
	cameraPixels = 1280
	cameraSees   = 65 * math.Pi / 180
	// leastPixels is the minimum number of camera pixels per module: with fewer pixels, a light module between two dark ones
	// appears grey.
	leastPixels = 2.5
	// Phone cameras can focus from about leastDistance, which is 5 cm.
	leastDistance, mostDistance = 50_000, 10_000_000
	leastDiameter               = 5_000
)

// Spot describes the conditions under which a symbol is scanned.
type Spot struct {
	Distance Length // distance from the camera to the symbol
	DPI      int    // of the printer
	Diameter Length // diameter of the cylinder around which the symbol is bent; 0 = flat
}

// Cause is the factor that limits how small a module may be.
type Cause string

// The causes.
const (
	ByPrinter  Cause = "printer"  // two printer dots, or the smallest module that cameras resolve at close range
	ByDistance Cause = "distance" // the camera's pixels
	ByCurve    Cause = "curve"    // the modules at the edges, which the camera sees at an angle
)

// Advice describes the smallest symbol that can be scanned at a Spot.
type Advice struct {
	Dots   int    // printer dots per module
	Module Length // the printed size of a module
	Width  Length // width of the symbol with its quiet zone
	Height Length // as Width
	By     Cause
	Pixels float64 // camera pixels per module in the middle of the symbol
	Edge   float64 // apparent width of a module at the edge relative to the middle; 1 = flat
	Most   Length  // maximum width of the symbol at the Spot, without its quiet zone; 0 = unlimited
}

// Advise returns the smallest size at which the symbol can be scanned at a Spot. The error is a *SizeError if no size is suitable;
// other errors report an invalid Spot.
//
// On a cylinder, the width of a symbol is limited too. A reader assumes a flat grid between the corners; if the symbol extends to
// the angle b on each side, the position error of a module is at most (b³/9√3) times the cylinder's radius. A quarter of a module
// is tolerated, so b² is at most 4.5·√3 divided by the number of modules: 32 degrees for 25 modules.
func (g Grid) Advise(spot Spot) (Advice, error) {
	switch {
	case spot.Distance < leastDistance || spot.Distance > mostDistance:
		return Advice{}, fmt.Errorf("a distance of %v: want %v to %v", spot.Distance, Length(leastDistance), Length(mostDistance))
	case spot.Diameter != 0 && spot.Diameter < leastDiameter:
		return Advice{}, fmt.Errorf("a surface with a diameter of %v: want %v or more", spot.Diameter, Length(leastDiameter))
	}
	if err := CheckDPI(spot.DPI); err != nil {
		return Advice{}, err
	}
	dot := inch / float64(spot.DPI)
	pixel := 2 * float64(spot.Distance) * math.Tan(cameraSees/2) / cameraPixels
	a := Advice{Dots: max(leastDots, int(math.Ceil(leastModule/dot))), By: ByPrinter, Edge: 1}
	if dots := int(math.Ceil(leastPixels * pixel / dot)); dots > a.Dots {
		a.Dots, a.By = dots, ByDistance
	}
	if spot.Diameter != 0 {
		widest := math.Sqrt(4.5 * math.Sqrt(3) / float64(g.Width))
		a.Most = Length(widest * float64(spot.Diameter))
		for flat := a.Dots; ; a.Dots++ {
			angle := float64(a.Dots) * dot * float64(g.Width) / float64(spot.Diameter)
			if angle > widest {
				return Advice{}, &SizeError{Why: fmt.Sprintf("a symbol of %d modules that is read at %v is wider than the %v that a camera sees of a "+
					"diameter of %v", g.Width, spot.Distance, a.Most, spot.Diameter),
					Next: "shorten the text, take a Data Matrix or a lower error correction, read it from nearer, or print it where the surface is flatter"}
			}
			if a.Edge = math.Cos(angle); float64(a.Dots)*dot*a.Edge >= leastPixels*pixel {
				break
			}
			if a.Dots >= flat {
				a.By = ByCurve
			}
		}
	}
	if a.Module = LengthOf(a.Dots, spot.DPI); a.Module > mostModule {
		return Advice{}, &SizeError{Why: fmt.Sprintf("modules of %v are larger than %v", a.Module, Length(mostModule)),
			Next: "read it from nearer"}
	}
	a.Width, a.Height = LengthOf(a.Dots*(g.Width+2*g.quiet), spot.DPI), LengthOf(a.Dots*(g.Height+2*g.quiet), spot.DPI)
	a.Pixels = float64(a.Dots) * dot / pixel
	return a, nil
}
