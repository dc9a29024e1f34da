package server

import (
	"fmt"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// maxYAMLDepth is how deep a file may be nested: seeds need six.
const maxYAMLDepth = 32

// CheckYAML returns an error for a text that takes far more memory to read than
// it is long: nested deeper than maxYAMLDepth, or with aliases, which may stand
// for each other. It only splits the text into its words.
func CheckYAML(text []byte) error {
	var columns []int // of the block lists and maps that a word is in
	flow := 0
	var last *token.Token
	for _, t := range lexer.Tokenize(string(text)) {
		switch t.Type {
		case token.AliasType:
			return fmt.Errorf("line %d: aliases (*) are not read here: write out what it stands for", t.Position.Line)
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(0, flow-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			if flow > 0 {
				break
			}
			column := t.Position.Column
			if t.Type == token.MappingValueType && last != nil && last.Position.Line == t.Position.Line {
				column = last.Position.Column // the key's
			}
			for len(columns) > 0 && columns[len(columns)-1] > column {
				columns = columns[:len(columns)-1]
			}
			if len(columns) == 0 || columns[len(columns)-1] < column {
				columns = append(columns, column)
			}
		}
		if len(columns)+flow > maxYAMLDepth {
			return fmt.Errorf("line %d: it is nested deeper than %d levels", t.Position.Line, maxYAMLDepth)
		}
		last = t
	}
	return nil
}
