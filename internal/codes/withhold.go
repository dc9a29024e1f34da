package codes

// maxTried bounds how many places of one text are tried as a code.
const maxTried = 64

// Withhold is a text up to the first code in it: what an app or a reader added
// around a code text ("?from=scan", a final slash) makes it no code text, but
// whoever reads it can print the code. Text without a code is returned whole.
func (p *Press) Withhold(text string) string {
	if len(text) < TailLength || len(p.Keys.Text) == 0 {
		return text
	}
	// The last characters that can be a code's, and where each begins.
	var tail [TailLength]byte
	var at [TailLength]int
	n, tried := 0, 0
	for i := 0; i < len(text); {
		char, size := text[i], 1
		if char == '%' && i+2 < len(text) {
			if hi, lo := hexDigit(text[i+1]), hexDigit(text[i+2]); hi != absent && lo != absent {
				char, size = hi<<4|lo, 3
			}
		}
		char = upperByte(char)
		if values[char] == absent {
			n = 0
			i += size
			continue
		}
		if n == TailLength {
			copy(tail[:], tail[1:])
			copy(at[:], at[1:])
			n--
		}
		tail[n], at[n] = char, i
		n++
		i += size
		if n < TailLength {
			continue
		}
		key := p.Keys.Text[tail[0]]
		if key == nil {
			continue
		}
		// A link that is filled with seeming codes loses the rest of its text.
		if tried++; tried > maxTried {
			return text[:at[0]]
		}
		if counter, ok := key.Counter([symbolsLength]byte(tail[1:]), tail[0]); ok {
			if _, _, made := p.Memory.Find(counter); made {
				return text[:at[0]]
			}
		}
	}
	return text
}
