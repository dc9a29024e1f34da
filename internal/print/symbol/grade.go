package symbol

import (
	"errors"
	"image"
	"image/color"
	"math"
	"slices"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/common"
	"github.com/makiuchi-d/gozxing/datamatrix"
	multiple "github.com/makiuchi-d/gozxing/multi/qrcode"
	"github.com/makiuchi-d/gozxing/qrcode/detector"
	"golang.org/x/image/draw"
)

// Errors of Grade.
var (
	ErrNoSymbol   = errors.New("the picture has no readable QR code")
	ErrSeveral    = errors.New("the picture has several QR codes")
	ErrDataMatrix = errors.New("the picture has a Data Matrix, but only QR codes can be graded")
)

// GradedParameter is a parameter of ISO/IEC 15415 with its grade from A to D, or F.
type GradedParameter struct {
	Parameter string  `json:"parameter"`
	Grade     string  `json:"grade"`
	Value     float64 `json:"value"`
}

// Grading contains the grades of a QR code in a photograph, relative to the paper around the code.
type Grading struct {
	Text        string            `json:"text"` // GS1 texts start with the identifier that readers send
	Overall     string            `json:"overall"`
	Version     int               `json:"version"`
	Level       string            `json:"level"`
	Modules     int               `json:"modules"` // on a side
	Pixels      float64           `json:"pixels_per_module"`
	PrintGrowth float64           `json:"print_growth"` // of dark modules, in modules; not graded, as in the standard
	Parameters  []GradedParameter `json:"parameters"`
}

// limits are the values of a parameter that are just good enough for the grades A, B, C and D.
type limits [4]float64

// The limits of ISO/IEC 15415:2011, 7.8 and 7.9, and of ISO/IEC 18004:2015, annex G.
var (
	contrastLimits   = limits{0.70, 0.55, 0.40, 0.20}
	modulationLimits = limits{0.50, 0.40, 0.30, 0.20}
	axialLimits      = limits{0.06, 0.08, 0.10, 0.12}
	gridLimits       = limits{0.38, 0.50, 0.63, 0.75}
	unusedLimits     = limits{0.62, 0.50, 0.37, 0.25}
)

// level returns the level of a value: 4 for A, 1 for D and 0 for F.
func (l limits) level(value float64) int {
	for i, limit := range l {
		if value == limit || (value > limit) == (l[0] > l[3]) {
			return 4 - i
		}
	}
	return 0
}

// maxSearched is the number of pixels to which a picture is reduced before a code is searched in it.
const maxSearched = 13 << 20

// hasSeveral reports whether several QR codes are read in a picture.
func hasSeveral(m image.Image) (several bool) {
	var err error
	defer recovered(&err)
	bitmap, err := gozxing.NewBinaryBitmapFromImage(m)
	if err != nil {
		return false
	}
	found, err := multiple.NewQRCodeMultiReader().DecodeMultiple(bitmap, thorough)
	return err == nil && len(found) > 1
}

// Grade returns the grades of the QR code in a photograph. The error is ErrNoSymbol, ErrSeveral or ErrDataMatrix.
func Grade(m image.Image) (Grading, error) {
	size := m.Bounds().Size()
	first := 1
	for size.X/first*(size.Y/first) > maxSearched {
		first *= 2
	}
	if hasSeveral(reduced(m, first)) {
		return Grading{}, ErrSeveral
	}
	// A reduced picture has less noise, which hides the corners of a code from the detector.
	for scale := first; min(size.X, size.Y)/scale >= 32; scale *= 2 {
		// The first binarizer follows uneven light, the second finds codes with little contrast.
		for _, binarizer := range []func(gozxing.LuminanceSource) gozxing.Binarizer{gozxing.NewHybridBinarizer,
			gozxing.NewGlobalHistgramBinarizer} {
			if g, err := gradeAt(m, scale, binarizer); err == nil {
				return g, nil
			}
		}
	}
	if _, err := find(reduced(m, first), datamatrix.NewDataMatrixReader(), thorough); err == nil {
		return Grading{}, ErrDataMatrix
	}
	return Grading{}, ErrNoSymbol
}

// reduced returns a picture with its width and its height divided by scale.
func reduced(m image.Image, scale int) image.Image {
	if scale == 1 {
		return m
	}
	small := image.NewGray(image.Rect(0, 0, m.Bounds().Dx()/scale, m.Bounds().Dy()/scale))
	draw.BiLinear.Scale(small, small.Rect, m, m.Bounds(), draw.Src, nil)
	return small
}

// gradeAt looks for the corners of a QR code in the picture reduced by scale, and grades the code in the full picture. If the detector
// found a false alignment pattern or is wrong by a version, gradeAt grades the grid with the most unused error correction.
func gradeAt(m image.Image, scale int, binarizer func(gozxing.LuminanceSource) gozxing.Binarizer) (best Grading, err error) {
	defer recovered(&err)
	matrix, err := binarizer(gozxing.NewLuminanceSourceFromImage(reduced(m, scale))).GetBlackMatrix()
	if err != nil {
		return Grading{}, err
	}
	found, err := detector.NewDetector(matrix).Detect(thorough)
	if err != nil {
		return Grading{}, err
	}
	points := found.GetPoints() // bottom left, top left, top right, and the alignment pattern if it was found
	var alignment *detector.AlignmentPattern
	if len(points) > 3 {
		alignment, _ = points[3].(*detector.AlignmentPattern)
	}
	err = ErrNoSymbol
	unused := -1.0
	for _, change := range []int{0, -4, 4} {
		size := found.GetBits().GetWidth() + change
		for _, p := range []*detector.AlignmentPattern{alignment, nil} {
			v := view{m: m, scale: float64(scale), size: size,
				transform: detector.Detector_createTransform(points[1], points[2], points[0], p, size)}
			c, failure := v.decode()
			if failure == nil && c.unused(c.wrong) > unused {
				unused, err, best = c.unused(c.wrong), nil, v.grade(c)
			}
		}
		if err == nil {
			return best, nil
		}
	}
	return Grading{}, err
}

// view is a symbol in a photograph.
type view struct {
	m         image.Image
	transform *common.PerspectiveTransform // from modules to the pixels of the reduced picture
	scale     float64
	size      int       // modules on a side
	paper     []float64 // reflectance of the paper around each module
	modules   []float64 // reflectance of each module relative to the paper
	threshold float64   // between dark and light
	contrast  float64
}

// pixel returns the position in the photograph of a position in modules.
func (v view) pixel(x, y float64) (float64, float64) {
	p := []float64{x, y}
	v.transform.TransformPoints(p)
	return p[0] * v.scale, p[1] * v.scale
}

// reflectance returns the reflectance of a point that is given in modules, as a share of the white that the camera can show.
func (v view) reflectance(x, y float64) float64 {
	px, py := v.pixel(x, y)
	b := v.m.Bounds()
	c := color.NRGBAModel.Convert(v.m.At(min(max(b.Min.X+int(px), b.Min.X), b.Max.X-1),
		min(max(b.Min.Y+int(py), b.Min.Y), b.Max.Y-1))).(color.NRGBA)
	if c.A == 0 {
		return 1
	}
	return Colour{R: c.R, G: c.G, B: c.B}.grey()
}

// paperWindow is the distance, in modules, within which there is always a light module; within it, light is assumed to be even.
const paperWindow = 5

// measure sets the reflectance of the modules: the mean in the middle of the module, as through the aperture of a verifier, relative to the
// lightest module around it, so that uneven light on the photograph does not change the grades.
func (v *view) measure() {
	raw := make([]float64, v.size*v.size)
	for i := range raw {
		for k := range 25 {
			raw[i] += v.reflectance(float64(i%v.size)+0.3+0.1*float64(k%5), float64(i/v.size)+0.3+0.1*float64(k/5)) / 25
		}
	}
	rows := make([]float64, len(raw))
	v.paper, v.modules = make([]float64, len(raw)), make([]float64, len(raw))
	for i := range raw {
		x, row := i%v.size, i/v.size*v.size
		rows[i] = slices.Max(raw[row+max(x-paperWindow, 0) : row+min(x+paperWindow+1, v.size)])
	}
	for i := range raw {
		for y := max(i/v.size-paperWindow, 0); y < min(i/v.size+paperWindow+1, v.size); y++ {
			v.paper[i] = max(v.paper[i], rows[y*v.size+i%v.size])
		}
		v.modules[i] = raw[i] / max(v.paper[i], 1e-6)
	}
	lowest, highest := slices.Min(v.modules), slices.Max(v.modules)
	v.threshold, v.contrast = (lowest+highest)/2, highest-lowest
}

// grade returns the grades of a decoded symbol.
func (v view) grade(c code) Grading {
	modulation, margin := make([]float64, len(v.modules)), make([]float64, len(v.modules))
	damaged := 0.0
	for i, r := range v.modules {
		distance := 2 * (r - v.threshold) / max(v.contrast, 1e-6)
		modulation[i] = math.Abs(distance)
		if c.ideal.dark[i] == (distance < 0) {
			margin[i] = modulation[i]
		} else if c.codeword[i] < 0 {
			damaged++
		}
	}
	axial, grid, pixels := v.geometry()
	g := Grading{Text: c.text, Version: c.version.GetVersionNumber(), Level: c.level.String(), Modules: v.size, Pixels: rounded(pixels),
		PrintGrowth: rounded(v.printGrowth())}
	worst := 4
	add := func(name string, level int, value float64) {
		worst = min(worst, level)
		g.Parameters = append(g.Parameters, GradedParameter{name, "FDCBA"[level : level+1], rounded(value)})
	}
	add("contrast", contrastLimits.level(v.contrast), v.contrast)
	level, value := c.overlay(modulation)
	add("modulation", level, value)
	level, value = c.overlay(margin)
	add("reflectance_margin", level, value)
	add("fixed_pattern_damage", c.fixedPatterns(margin), damaged)
	add("axial_nonuniformity", axialLimits.level(axial), axial)
	add("grid_nonuniformity", gridLimits.level(grid), grid)
	unused := c.unused(c.wrong)
	add("unused_error_correction", unusedLimits.level(unused), unused)
	g.Overall = "FDCBA"[worst : worst+1]
	return g
}

func rounded(value float64) float64 { return math.Round(1000*value) / 1000 }

// geometry returns the axial and the grid nonuniformity, and the mean side of a module in pixels. The grid of ISO/IEC 15415 has equal
// spaces between its four corners.
func (v view) geometry() (axial, grid, pixels float64) {
	n := float64(v.size)
	corner := func(x, y float64) complex128 { px, py := v.pixel(x, y); return complex(px, py) }
	length := func(d complex128) float64 { return math.Hypot(real(d), imag(d)) }
	a, b, c, d := corner(0, 0), corner(n, 0), corner(0, n), corner(n, n)
	wide, high := 0.0, 0.0
	for i := range v.size + 1 {
		at := float64(i)
		wide += length(corner(n, at)-corner(0, at)) / n / (n + 1)
		high += length(corner(at, n)-corner(at, 0)) / n / (n + 1)
		for j := range v.size + 1 {
			x, y := complex(at/n, 0), complex(float64(j)/n, 0)
			even := (1-y)*((1-x)*a+x*b) + y*((1-x)*c+x*d)
			grid = max(grid, length(corner(at, float64(j))-even))
		}
	}
	pixels = (wide + high) / 2
	return math.Abs(wide-high) / pixels, grid / pixels, pixels
}

// printGrowth returns by how many modules the dark modules of both timing patterns are wider than nominal.
func (v view) printGrowth() float64 {
	const steps = 20 // in a module
	from, to := 15*steps/2, v.size*steps-15*steps/2
	dark := 0.0
	for i := from; i < to; i++ {
		along := (float64(i) + 0.5) / steps
		for _, point := range [][2]float64{{along, 6.5}, {6.5, along}} {
			if v.reflectance(point[0], point[1])/v.paper[int(point[1])*v.size+int(point[0])] < v.threshold {
				dark += 1.0 / steps
			}
		}
	}
	nominal := float64(v.size-15) / 2 // dark modules in a timing pattern
	return dark/2/nominal - 1
}
