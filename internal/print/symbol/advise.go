package symbol

import (
	"fmt"
	"math"
)

// The camera that a symbol has to be readable for: that of a phone whose app looks at the preview, of 720 lines, and not at a whole
// photo. Its lens sees 65 degrees along the longer side.
const (
	cameraPixels = 1280
	cameraSees   = 65 * math.Pi / 180
	// leastPixels is the minimum number of them that a module needs: with fewer a light module between two dark ones is grey.
	leastPixels = 2.5
	// Cameras of phones focus from about here on.
	leastDistance, mostDistance = 50_000, 10_000_000
	leastDiameter               = 5_000
)

// Spot describes the conditions under which a symbol is read.
type Spot struct {
	Distance Length // between the camera and the symbol
	DPI      int    // of the printer
	Diameter Length // of the cylinder that the symbol is bent around; 0 = it is flat
}

// Cause says what decides how small a module may be.
type Cause string

// The causes.
const (
	ByPrinter  Cause = "printer"  // two dots of the printer, or what any camera tells apart from near
	ByDistance Cause = "distance" // the camera's pixels
	ByCurve    Cause = "curve"    // the modules at the edges, which the camera sees from the side
)

// Advice is the smallest symbol that is read somewhere.
type Advice struct {
	Dots   int    // a module's, of the printer
	Module Length // as it is printed
	Width  Length // of the symbol with its quiet zone
	Height Length // as Width
	By     Cause
	Pixels float64 // of the camera, that a module in the middle has
	Edge   float64 // how wide a module at the edge looks beside one in the middle: 1 where it is flat
	Most   Length  // how wide the symbol may be there, without its quiet zone; 0 = as wide as one likes
}

// Advise finds the smallest size of a symbol that is read somewhere. A *SizeError says that none is, other errors what is wrong with
// the spot.
//
// Around a cylinder a symbol must not be wide either. A reader looks for the modules on a flat grid between the corners, and a module
// at the angle a from the middle of a symbol that reaches to the angle b stands (b³/9√3)·radius from there at most. A quarter of a
// module is allowed, so b² is at most 4.5·√3 through the number of modules: 32 degrees for 25 of them.
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
