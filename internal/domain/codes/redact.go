package codes

import (
	"bytes"
	"context"
	"slices"
	"strings"
)

// maxCandidates is the maximum number of positions of a text at which a code is looked for.
const maxCandidates = 64

// redactImported truncates a text after a prefix of imported codes if the prefix is followed by an imported code. Percent-escapes are
// decoded for the comparison. If the store is unavailable, redactImported removes everything that may be a code.
func (s *Service) redactImported(prefixes []string, text string) string {
	if len(prefixes) == 0 || len(text) < TailLength {
		return text
	}
	plain, ends := unescape(text)
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
				t, ok := parsePlatformTail(suffix[:min(TailLength, len(suffix))])
				if !ok {
					continue
				}
				_, found, err := s.importedByTail(context.Background(), prefix, t)
				tried++
				if found || err != nil || tried > maxCandidates {
					return text[:end]
				}
			}
		}
	}
	return text
}

// redactTemplates truncates a text before the first secret of a code from a template. The secret consists of digits, or of the version
// character and the symbols of a code text, with "." in place of "$".
func (s *Service) redactTemplates(text string) string {
	if s.Memory.templateCount.Load() == 0 {
		return text
	}
	shapes := s.Memory.allTemplates().shapes
	plain, ends := unescape(text)
	first, tried := len(plain), 0
	for _, sh := range shapes {
		key := s.Keys.Text[sh.version]
		for from := 0; key != nil && from+sh.length <= min(len(plain), first); from++ {
			if sh.field != digitsField && plain[from] != sh.version {
				continue
			}
			if counter, ok := sh.secretCounter(string(plain[from:from+sh.length]), key); ok {
				// A text with more than maxCandidates candidates is truncated at the first candidate after this number.
				if _, issued := s.printedByTemplate(counter, sh.version); issued || tried >= maxCandidates {
					first = from
					break
				}
				tried++
			}
		}
	}
	return cutBefore(text, ends, first)
}

// cutBefore truncates a text before the byte pos of its unescaped form, in which ends are the end positions of the bytes.
func cutBefore(text string, ends []int, pos int) string {
	switch pos {
	case len(ends):
		return text
	case 0:
		return ""
	}
	return text[:ends[pos-1]]
}

// firstByte returns the first byte of a text that is not empty, and its length in the text: three if it is percent-escaped.
func firstByte(text string) (char byte, size int) {
	if text[0] == '%' && len(text) > 2 {
		if hi, lo := hexDigit(text[1]), hexDigit(text[2]); hi != absent && lo != absent {
			return hi<<4 | lo, 3
		}
	}
	return text[0], 1
}

// unescape returns the text in upper case with percent-escapes decoded, and for each resulting byte its end position in the original text.
func unescape(text string) (plain []byte, ends []int) {
	plain, ends = make([]byte, 0, len(text)), make([]int, 0, len(text))
	for i := 0; i < len(text); {
		char, size := firstByte(text[i:])
		if i += size; char == '\r' && strings.HasPrefix(text[i:], "\n") {
			continue // the CR of a CRLF is skipped, because templates use only LF
		}
		plain, ends = append(plain, upperByte(char)), append(ends, i)
	}
	return plain, ends
}

// containsPrefix reports whether any of the prefixes occurs in a text: if none occurs, redactImported needs no store query.
func containsPrefix(prefixes []string, text string) bool {
	if len(prefixes) == 0 {
		return false
	}
	plain, _ := unescape(text)
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return bytes.Contains(plain, []byte(cutScheme(prefix))) })
}

// Redact truncates a text before the first code in it. A code text with a suffix that an app or a camera added ("?from=scan", a final
// slash) is not recognised as a code text, but would reveal the code. A text without a code is returned unchanged.
func (s *Service) Redact(text string) string {
	text = s.redactTokens(s.redactImportedTemplates(s.redactTemplates(text)))
	if len(text) < TailLength {
		return text
	}
	text = s.redactImported(s.Memory.ImportedPrefixes(), text)
	if len(text) < TailLength || len(s.Keys.Text) == 0 {
		return text
	}
	// tail contains the last characters that can belong to a code; starts contains the start position of each of these characters in text.
	var tail [TailLength]byte
	var starts [TailLength]int
	n, tried := 0, 0
	for i := 0; i < len(text); {
		char, size := firstByte(text[i:])
		char = upperByte(char)
		if values[char] == absent {
			n = 0
			i += size
			continue
		}
		if n == TailLength {
			copy(tail[:], tail[1:])
			copy(starts[:], starts[1:])
			n--
		}
		tail[n], starts[n] = char, i
		n++
		i += size
		if n < TailLength {
			continue
		}
		key := s.Keys.Text[tail[0]]
		if key == nil {
			continue
		}
		// A text with more than maxCandidates candidates is truncated at the first candidate after this number.
		tried++
		if tried > maxCandidates {
			return text[:starts[0]]
		}
		if counter, ok := key.Counter([symbolsLength]byte(tail[1:]), tail[0]); ok {
			if _, _, issued := s.Memory.Find(counter); issued {
				return text[:starts[0]]
			}
		}
	}
	return text
}
