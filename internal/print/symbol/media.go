package symbol

import (
	"errors"
	"fmt"
)

// Media describes the labels in a label printer. The zero value is a label of the drawing's size.
type Media struct {
	Width, Height    Length // size of a label, in which the drawing is centred; 0 = the size of the drawing
	Gap              Length // distance between two labels; 0 = the printer's own setting
	OffsetX, OffsetY Length // shift of the drawing to the right and down, to correct a printer that prints off position
	Copies           int    // number of prints of each label; 0 means 1
}

// errColour is returned by the label printer formats if a style has colours other than black on white.
var errColour = errors.New("a label printer has one ribbon: its formats are black on white, and the ribbon makes the colour")

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
			LengthOf(b.height, d.DPI), d.media.Width, d.media.Height), Next: "take smaller modules, shorter lines or a larger label"}
	case width > MaxDots || height > MaxDots:
		return nil, 0, &SizeError{Reason: fmt.Sprintf("a label of %d×%d dots is larger than %d a side", width, height, MaxDots),
			Next: "take a smaller label"}
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
				return nil, 0, fmt.Errorf("an offset of %v,%v moves ink beyond the label: take a smaller one", d.media.OffsetX, d.media.OffsetY)
			default:
				label.set(toX, toY)
			}
		}
	}
	return label, copies, nil
}
