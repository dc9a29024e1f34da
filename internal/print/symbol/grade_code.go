package symbol

import (
	"slices"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/common/reedsolomon"
	qrdecoder "github.com/makiuchi-d/gozxing/qrcode/decoder"
	qrencoder "github.com/makiuchi-d/gozxing/qrcode/encoder"
)

// code is a decoded QR code with its modules as they were printed.
type code struct {
	text     string
	version  *qrdecoder.Version
	level    qrdecoder.ErrorCorrectionLevel
	ideal    Grid
	codeword []int   // index of the codeword that a module belongs to; -1 = none
	blocks   [][]int // indexes of the codewords of each block of error correction
	wrong    []bool  // the codewords that error correction changed
}

// decode measures the modules of a symbol and decodes them.
func (v *view) decode() (code, error) {
	v.measure()
	seen := qrGrid(v.size, func(x, y int) bool { return v.modules[y*v.size+x] < v.threshold })
	bits, err := seen.bits()
	if err != nil {
		return code{}, err
	}
	parser, err := qrdecoder.NewBitMatrixParser(bits)
	if err != nil {
		return code{}, err
	}
	c := code{ideal: seen}
	if c.version, err = parser.ReadVersion(); err != nil {
		return code{}, err
	}
	format, err := parser.ReadFormatInformation()
	if err != nil {
		return code{}, err
	}
	c.level = format.GetErrorCorrectionLevel()
	codewords, err := parser.ReadCodewords()
	if err != nil {
		return code{}, err
	}
	if err := c.correct(codewords); err != nil {
		return code{}, err
	}
	if err := c.draw(codewords, int(format.GetDataMask())); err != nil {
		return code{}, err
	}
	c.text, err = c.ideal.Read()
	return c, err
}

// correct corrects the codewords in place.
func (c *code) correct(codewords []byte) error {
	groups := c.version.GetECBlocksForLevel(c.level)
	n, short, equal := groups.GetNumBlocks(), groups.GetECBlocks()[0].GetDataCodewords(), groups.GetECBlocks()[0].GetCount()
	c.blocks, c.wrong = make([][]int, n), make([]bool, len(codewords))
	for i := range codewords {
		block := i % n
		// Longer blocks have one data codeword more, which follows those of all blocks.
		if extra := i - n*short; extra >= n-equal {
			block = (extra - n + equal) % n
		} else if extra >= 0 {
			block = equal + extra
		}
		c.blocks[block] = append(c.blocks[block], i)
	}
	for _, block := range c.blocks {
		received := make([]int, len(block))
		for k, i := range block {
			received[k] = int(codewords[i])
		}
		decoder := reedsolomon.NewReedSolomonDecoder(reedsolomon.GenericGF_QR_CODE_FIELD_256)
		if err := decoder.Decode(received, groups.GetECCodewordsPerBlock()); err != nil {
			return err
		}
		for k, i := range block {
			c.wrong[i] = received[k] != int(codewords[i])
			codewords[i] = byte(received[k])
		}
	}
	return nil
}

// draw sets the ideal modules, and which codeword each module belongs to.
func (c *code) draw(codewords []byte, mask int) error {
	size := c.ideal.Width
	var drawn [2]*qrencoder.ByteMatrix // the modules that differ if all bits are inverted belong to codewords
	for i, invert := range []byte{0, 0xff} {
		bits := gozxing.NewEmptyBitArray()
		for _, b := range codewords {
			if err := bits.AppendBits(int(b^invert), 8); err != nil {
				return err
			}
		}
		drawn[i] = qrencoder.NewByteMatrix(size, size)
		if err := qrencoder.MatrixUtil_buildMatrix(bits, c.level, c.version, mask, drawn[i]); err != nil {
			return err
		}
	}
	c.ideal.dark, c.codeword = make([]bool, size*size), make([]int, size*size)
	for i := range c.ideal.dark {
		c.ideal.dark[i], c.codeword[i] = drawn[0].Get(i%size, i/size) == 1, -1
	}
	// Codewords go up and down in pairs of columns from the right; column 6 is a timing pattern. ISO/IEC 18004, 7.7.3.
	bit, up := 0, true
	for right := size - 1; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for k := range 2 * size {
			x, y := right-k%2, k/2
			if up {
				y = size - 1 - y
			}
			if drawn[0].Get(x, y) != drawn[1].Get(x, y) {
				c.codeword[y*size+x] = bit / 8
				bit++
			}
		}
		up = !up
	}
	return nil
}

// unused returns the unused share of error correction in the worst block if the given codewords are wrong.
func (c code) unused(wrong []bool) float64 {
	capacity := c.version.GetECBlocksForLevel(c.level).GetECCodewordsPerBlock()
	// Small symbols keep codewords against misdecoding. ISO/IEC 18004, table 9.
	switch number := c.version.GetVersionNumber(); {
	case number == 1 && c.level == qrdecoder.ErrorCorrectionLevel_L:
		capacity -= 3
	case number == 1 && c.level == qrdecoder.ErrorCorrectionLevel_M, number == 2 && c.level == qrdecoder.ErrorCorrectionLevel_L:
		capacity -= 2
	default:
		capacity -= capacity % 2
	}
	least := 1.0
	for _, block := range c.blocks {
		used := 0
		for _, i := range block {
			if wrong[i] {
				used++
			}
		}
		least = min(least, 1-2*float64(used)/float64(capacity))
	}
	return max(least, 0)
}

// overlay grades the modulation of modules: at each level, the codewords below the level count as errors, which unused error correction has
// to compensate. The value is the lowest modulation of the codewords that count as correct. ISO/IEC 15415, 7.8.4.
func (c code) overlay(modules []float64) (level int, value float64) {
	lowest := slices.Repeat([]float64{1}, len(c.wrong))
	for i, w := range c.codeword {
		if w >= 0 {
			lowest[w] = min(lowest[w], modules[i])
		}
	}
	value = slices.Min(lowest)
	for i, limit := range modulationLimits {
		wrong, correct := make([]bool, len(lowest)), 1.0
		for w, m := range lowest {
			if wrong[w] = m < limit; !wrong[w] {
				correct = min(correct, m)
			}
		}
		if reached := min(4-i, unusedLimits.level(c.unused(wrong))); reached > 0 && reached >= level {
			level, value = reached, correct
		}
	}
	return level, value
}

// pattern is a part of a symbol that has the same modules in all symbols of a version, format and version information included.
type pattern struct {
	limits limits
	share  bool          // the limits apply to the share of damaged units, otherwise to their number
	units  map[int][]int // modules, and for alignment patterns the modules of each
}

// fixedPatterns returns the level of the most damaged pattern; modules below a level of reflectance margin count as damaged at the level.
func (c code) fixedPatterns(margin []float64) int {
	worst := 4
	for _, p := range c.patterns() {
		best := 0
		for i, limit := range modulationLimits {
			damaged := 0.0
			for _, modules := range p.units {
				if slices.ContainsFunc(modules, func(m int) bool { return margin[m] < limit }) {
					damaged++
				}
			}
			if p.share {
				damaged /= float64(max(len(p.units), 1))
			}
			best = max(best, min(4-i, p.limits.level(damaged)))
		}
		worst = min(worst, best)
	}
	return worst
}

// patterns returns three corners, two timing patterns, the format and the version information, and the alignment patterns.
func (c code) patterns() [8]pattern {
	var list [8]pattern
	for i := range list {
		list[i] = pattern{limits: limits{0, 1, 2, 3}, units: map[int][]int{}}
	}
	list[3].limits, list[3].share = limits{0, 0.07, 0.11, 0.14}, true
	list[4].limits, list[4].share = list[3].limits, true
	list[7].limits, list[7].share = limits{0, 0.10, 0.20, 0.30}, true
	size, centres := c.ideal.Width, c.version.GetAlignmentPatternCenters()
	for i, w := range c.codeword {
		x, y := i%size, i/size
		kind, unit := -1, i
		switch left, top := x < 8, y < 8; {
		case w >= 0:
		case left && top:
			kind = 0
		case top && x >= size-8:
			kind = 1
		case left && y >= size-8:
			kind = 2
		case y == 6:
			kind = 3
		case x == 6:
			kind = 4
		case x == 8 && (y < 9 || y >= size-8), y == 8 && (x < 9 || x >= size-8):
			kind = 5
		case size >= 45 && (x >= size-11 && y < 6 || y >= size-11 && x < 6):
			kind = 6
		default:
			for _, column := range centres {
				for _, row := range centres {
					if x >= column-2 && x <= column+2 && y >= row-2 && y <= row+2 {
						kind, unit = 7, row*size+column
					}
				}
			}
		}
		if kind >= 0 {
			list[kind].units[unit] = append(list[kind].units[unit], i)
		}
	}
	return list
}
