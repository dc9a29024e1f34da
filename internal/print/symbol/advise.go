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
	// minPixels is the minimum number of camera pixels per module: with fewer pixels, a light module between two dark ones appears grey.
	minPixels = 2.5
	// Phone cameras can focus from about minDistance, which is 5 cm.
	minDistance, maxDistance = 50_000, 10_000_000
	minDiameter              = 5_000
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
	Dots     int    // printer dots per module
	Module   Length // the printed size of a module
	Width    Length // width of the symbol with its quiet zone
	Height   Length // as Width
	By       Cause
	Pixels   float64 // camera pixels per module in the middle of the symbol
	Edge     float64 // apparent width of a module at the edge relative to the middle; 1 = flat
	MaxWidth Length  // maximum width of the symbol at the Spot, without its quiet zone; 0 = unlimited
}

// Advise returns the smallest size at which the symbol can be scanned at a Spot. The error is a *SizeError if no size is suitable;
// other errors report an invalid Spot.
//
// On a cylinder, the curvature limits the width of a symbol. A reader assumes a flat grid between the corners. If the symbol extends to the
// angle b on each side, the position error of a module is at most (b³/9√3) times the cylinder's radius. A position error of a quarter of a
// module is tolerated, so b² is at most 4.5·√3 divided by the modules per side. For 25 modules, b is at most 32 degrees.
func (g Grid) Advise(spot Spot) (Advice, error) {
	switch {
	case spot.Distance < minDistance || spot.Distance > maxDistance:
		return Advice{}, fmt.Errorf("a distance of %v: want %v to %v", spot.Distance, Length(minDistance), Length(maxDistance))
	case spot.Diameter != 0 && spot.Diameter < minDiameter:
		return Advice{}, fmt.Errorf("a surface with a diameter of %v: want %v or more", spot.Diameter, Length(minDiameter))
	}
	if err := CheckDPI(spot.DPI); err != nil {
		return Advice{}, err
	}
	dot := inch / float64(spot.DPI)
	pixel := 2 * float64(spot.Distance) * math.Tan(cameraSees/2) / cameraPixels
	a := Advice{Dots: max(minDots, int(math.Ceil(minModule/dot))), By: ByPrinter, Edge: 1}
	if dots := int(math.Ceil(minPixels * pixel / dot)); dots > a.Dots {
		a.Dots, a.By = dots, ByDistance
	}
	if spot.Diameter != 0 {
		widest := math.Sqrt(4.5 * math.Sqrt(3) / float64(g.Width))
		a.MaxWidth = Length(widest * float64(spot.Diameter))
		for flat := a.Dots; ; a.Dots++ {
			angle := float64(a.Dots) * dot * float64(g.Width) / float64(spot.Diameter)
			if angle > widest {
				return Advice{}, &SizeError{Reason: fmt.Sprintf("a symbol of %d modules scanned from %v is wider than the %v that a camera sees of a diameter "+
					"of %v", g.Width, spot.Distance, a.MaxWidth, spot.Diameter),
					Next: "shorten the text, use a Data Matrix or a lower error correction level, scan it from a shorter " +
						"distance, or print it on a flatter surface"}
			}
			if a.Edge = math.Cos(angle); float64(a.Dots)*dot*a.Edge >= minPixels*pixel {
				break
			}
			if a.Dots >= flat {
				a.By = ByCurve
			}
		}
	}
	if a.Module = LengthOf(a.Dots, spot.DPI); a.Module > maxModule {
		return Advice{}, &SizeError{Reason: fmt.Sprintf("modules of %v are larger than %v", a.Module, Length(maxModule)),
			Next: "scan it from a shorter distance"}
	}
	a.Width, a.Height = LengthOf(a.Dots*(g.Width+2*g.quiet), spot.DPI), LengthOf(a.Dots*(g.Height+2*g.quiet), spot.DPI)
	a.Pixels = float64(a.Dots) * dot / pixel
	return a, nil
}
