package codes

import "context"

// Rows implements CodeSource.
func (p PackageRange) Rows() int64 { return int64(p.To - p.From + 1) }

// EachCode implements CodeSource.
func (p PackageRange) EachCode(ctx context.Context, f func(index uint64, code, text []byte) error) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Template != "" {
		return p.eachByTemplate(ctx, f)
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
