package codes

import "context"

// EachCode gives the index, the original code and the text of each code of a
// range, in order; they are good until f returns. The error is that of f, of the
// ended context, or of an impossible range.
func EachCode(ctx context.Context, p PackageRange, f func(index uint64, code, text []byte) error) error {
	if err := p.check(); err != nil {
		return err
	}
	s := new(burst)
	head := len(p.Printed.Prefix) + 1
	text := append(append(make([]byte, 0, head+symbolsLength), p.Printed.Prefix...), p.Printed.Version)
	for index := p.From; index <= p.To; index += lanes {
		n := int(min(lanes, p.To-index+1))
		s.run(p.Code, p.Text, p.Printed.Version, p.Start+index, n)
		if err := ctx.Err(); err != nil {
			return err
		}
		for j := range n {
			code, symbols := s.lane(j)
			text = append(text[:head], symbols[:]...)
			if err := f(index+uint64(j), code[:], text); err != nil {
				return err
			}
		}
	}
	return nil
}
