package safeyaml

import (
	"bytes"
	"strings"
)

// crowded returns the number of the first line at which a map has more than maxKeys keys; 0 = none. crowded inspects only
// indentation, colons and braces, because tokenizing takes a hundred times the memory of the text.
func crowded(text []byte) int {
	var maps []keyCount // the block maps that contain the current line, outermost first
	var flow flowScan
	scalar, n := -1, 0 // scalar: column of the line that starts the current block scalar, -1 = none; n: line number
	for line := range bytes.Lines(text) {
		n++
		body := strings.TrimSpace(string(line))
		column := len(line) - len(bytes.TrimLeft(line, " "))
		switch {
		case len(flow.counts) > 0:
			if flow.scan(body) {
				return n
			}
			continue
		case body == "" || body[0] == '#' || scalar >= 0 && column > scalar:
			continue
		}
		scalar = column
		for body == "-" || strings.HasPrefix(body, "- ") {
			maps = enclosing(maps, column)
			rest := strings.TrimLeft(body[1:], " ")
			column, body = column+len(body)-len(rest), rest
		}
		value := body
		if end := keyEnd(body); end > 0 {
			maps = enclosing(maps, column)
			if len(maps) == 0 || maps[len(maps)-1].column < column {
				maps = append(maps, keyCount{column: column})
			}
			maps[len(maps)-1].keys++
			if maps[len(maps)-1].keys > maxKeys {
				return n
			}
			scalar, value = column, strings.TrimSpace(body[end:])
		}
		if value == "" || value[0] != '|' && value[0] != '>' {
			scalar = -1
		}
		if value != "" && (value[0] == '{' || value[0] == '[') && flow.scan(value) {
			return n
		}
	}
	return 0
}

// keyCount holds the column of a block map's keys and their number.
type keyCount struct{ column, keys int }

// enclosing returns the maps that contain a line at the given column.
func enclosing(maps []keyCount, column int) []keyCount {
	for len(maps) > 0 && maps[len(maps)-1].column > column {
		maps = maps[:len(maps)-1]
	}
	return maps
}

// keyEnd returns the offset of the value after the key of a line; 0 for a line without a key.
func keyEnd(body string) int {
	from := 0
	if body != "" && (body[0] == '{' || body[0] == '[') {
		return 0
	}
	if body != "" && (body[0] == '"' || body[0] == '\'') {
		from = 1 + strings.IndexByte(body[1:], body[0]) + 1
	}
	for i := from; i < len(body); i++ {
		if body[i] == ':' && (i+1 == len(body) || body[i+1] == ' ') {
			return i + 1
		}
	}
	return 0
}

// flowScan counts the keys of flow maps (in braces).
type flowScan struct {
	counts []int // for each open brace the number of its keys so far; -1 for each open square bracket
	quote  byte  // the quote of an unfinished string; 0 = none
}

// scan processes a line, and reports whether a map has too many keys.
func (f *flowScan) scan(line string) bool {
	for i := 0; i < len(line); i++ {
		c, prev, start := line[i], byte(' '), byte(' ')
		if i > 0 {
			prev = line[i-1]
		}
		if i+1 < len(line) {
			start = line[i+1]
		}
		top := len(f.counts) - 1
		switch {
		case f.quote != 0:
			if c == '\\' && f.quote == '"' {
				i++
			} else if c == f.quote {
				f.quote = 0
			}
		case (c == '"' || c == '\'') && strings.IndexByte(" ,[{:", prev) >= 0:
			f.quote = c
		case c == '{':
			f.counts = append(f.counts, 0)
		case c == '[':
			f.counts = append(f.counts, -1)
		case c == '}' || c == ']':
			f.counts = f.counts[:max(0, top)]
		case c == ':' && top >= 0 && f.counts[top] >= 0 && (prev == '"' || strings.IndexByte(" \"'[{", start) >= 0):
			f.counts[top]++
			if f.counts[top] > maxKeys {
				return true
			}
		}
	}
	return false
}

// maxWhole is the maximum length of a text that Pieces returns without splitting.
const maxWhole = 1 << 20

// pieceEntries is the number of list entries in one text that Pieces returns.
const pieceEntries = 500

// Pieces splits a YAML text that consists of one list under a key. Each piece contains the key and some of the entries, and every entry
// keeps its line number. A text that is not one list under the key is returned whole; ok is false if such a text is longer than maxWhole.
func Pieces(text []byte, key string) (pieces func(yield func([]byte) bool), ok bool) {
	starts := entryStarts(text, key)
	if len(starts) == 0 {
		return func(yield func([]byte) bool) { yield(text) }, len(text) <= maxWhole
	}
	return func(yield func([]byte) bool) {
		for i := 0; i < len(starts); i += pieceEntries {
			end := len(text)
			if i+pieceEntries < len(starts) {
				end = starts[i+pieceEntries]
			}
			lines := bytes.Count(text[:starts[i]], []byte("\n"))
			piece := append(bytes.Repeat([]byte("\n"), lines-1), key+":\n"...)
			if !yield(append(piece, text[starts[i]:end]...)) {
				return
			}
		}
	}, true
}

// entryStarts returns the offsets of the list entries of a text; none if the text is not one list under the key.
func entryStarts(text []byte, key string) (starts []int) {
	pos, column, headed := 0, -1, false
	for line := range bytes.Lines(text) {
		body := bytes.TrimSpace(line)
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		entry := len(body) > 0 && body[0] == '-' && (len(body) == 1 || body[1] == ' ')
		switch {
		case len(body) == 0 || body[0] == '#':
		case !headed && string(bytes.TrimRight(line, "\r\n ")) == key+":":
			headed = true
		case headed && column < 0 && entry, headed && indent == column && entry:
			column = indent
			starts = append(starts, pos)
		case column < 0 || indent <= column:
			return nil
		}
		pos += len(line)
	}
	return starts
}
