package codes

import (
	"bytes"
	"context"
	"slices"
	"strings"
)

// maxTried limits how many positions of a text are tested as a code.
const maxTried = 64

// withholdUnder truncates a text after the first prefix of imported codes that is followed by an imported code. Percent-escapes are
// decoded for the comparison. If the store is unavailable, everything that may be a code is removed.
func (p *Service) withholdUnder(prefixes []string, text string) string {
	if len(prefixes) == 0 || len(text) < TailLength {
		return text
	}
	plain, ends := unescaped(text)
	tried := 0
	for _, prefix := range prefixes {
		known := []byte(cutScheme(prefix))
		for from := 0; ; from++ {
			pos := bytes.Index(plain[from:], known)
			if pos < 0 {
				break
			}
			from += pos
			end := ends[from+len(known)-1]
			for _, suffix := range []string{text[end:], string(plain[from+len(known):])} {
				t, ok := tailOf(suffix[:min(TailLength, len(suffix))])
				if !ok {
					continue
				}
				_, found, err := p.importedText(context.Background(), prefix, t)
				if tried++; found || err != nil || tried > maxTried {
					return text[:end]
				}
			}
		}
	}
	return text
}

// withholdTemplates truncates a text before the first secret of a code with a template: digits, or symbols with "." in place of
// "$".
func (p *Service) withholdTemplates(text string) string {
	if p.Memory.written.Load() == 0 {
		return text
	}
	shapes := p.Memory.allTemplates().shapes
	plain, ends := unescaped(text)
	first, tried := len(plain), 0
	for _, s := range shapes {
		key := p.Keys.Text[s.version]
		for from := 0; key != nil && from+s.length <= min(len(plain), first); from++ {
			if s.field != digitsField && plain[from] != s.version {
				continue
			}
			if counter, ok := s.secretCounter(string(plain[from:from+s.length]), key); ok {
				// A text with very many candidates is truncated at the candidate after the limit.
				if _, made := p.printedByTemplate(counter, s.version); made || tried >= maxTried {
					first = from
					break
				}
				tried++
			}
		}
	}
	switch first {
	case len(plain):
		return text
	case 0:
		return ""
	}
	return text[:ends[first-1]]
}

// unescaped returns the text in upper case with percent-escapes decoded, and for each resulting byte its end position in the
// original text.
func unescaped(text string) (plain []byte, ends []int) {
	plain, ends = make([]byte, 0, len(text)), make([]int, 0, len(text))
	for i := 0; i < len(text); {
		char, size := text[i], 1
		if char == '%' && i+2 < len(text) {
			if hi, lo := hexDigit(text[i+1]), hexDigit(text[i+2]); hi != absent && lo != absent {
				char, size = hi<<4|lo, 3
			}
		}
		if i += size; char == '\r' && strings.HasPrefix(text[i:], "\n") {
			continue // the CR of a CRLF is skipped, because templates use only LF
		}
		plain, ends = append(plain, upperByte(char)), append(ends, i)
	}
	return plain, ends
}

// mayHold reports whether any of the prefixes occurs in a text: if none occurs, withholdUnder needs no store query.
func mayHold(prefixes []string, text string) bool {
	if len(prefixes) == 0 {
		return false
	}
	plain, _ := unescaped(text)
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return bytes.Contains(plain, []byte(cutScheme(prefix))) })
}

// Redact truncates a text before the first code in it: a suffix added by an app or a camera ("?from=scan", a final slash) prevents
// recognition as a code text, but a person who sees the whole text could print the code. A text without a code is returned
// unchanged.
func (p *Service) Redact(text string) string {
	text = p.withholdTokens(p.withholdElsewhere(p.withholdTemplates(text)))
	if len(text) < TailLength {
		return text
	}
	text = p.withholdUnder(p.Memory.ImportedPrefixes(), text)
	if len(text) < TailLength || len(p.Keys.Text) == 0 {
		return text
	}
	// tail holds the last characters that can belong to a code; pair holds the start position of each character in tail.
	var tail [TailLength]byte
	var pair [TailLength]int
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
			copy(pair[:], pair[1:])
			n--
		}
		tail[n], pair[n] = char, i
		n++
		i += size
		if n < TailLength {
			continue
		}
		key := p.Keys.Text[tail[0]]
		if key == nil {
			continue
		}
		// A text with very many candidates is truncated at the candidate after the limit.
		if tried++; tried > maxTried {
			return text[:pair[0]]
		}
		if counter, ok := key.Counter([symbolsLength]byte(tail[1:]), tail[0]); ok {
			if _, _, made := p.Memory.Find(counter); made {
				return text[:pair[0]]
			}
		}
	}
	return text
}
