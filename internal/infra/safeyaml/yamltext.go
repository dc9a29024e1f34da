// Package safeyaml reads YAML written by people, with limits on resources and with errors in one line, and writes YAML.
package safeyaml

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxDepth is the maximum nesting depth of a YAML file: seed files need six levels.
	maxDepth = 32
	// maxKeys is the maximum number of keys in a map with one key per line, because the parser copies all existing keys for each
	// new key. A seed file that sets every behaviour has less than half of maxKeys keys.
	maxKeys = 1000
)

// Check returns an error for a text whose parsing takes disproportionate time or memory: nested deeper than maxDepth, with more than
// maxKeys keys in a map, with several documents, or with aliases, which may expand to each other. Check only tokenizes the text.
func Check(text []byte) error {
	if line := crowded(text); line > 0 {
		return fmt.Errorf("line %d: a map has more than %d keys: write a list", line, maxKeys)
	}
	var columns, keys []int // columns and numbers of keys of the block lists and maps around the current token
	flow := 0
	begun, ended := false, false // whether the only document has begun or ended
	directive := 0               // line of the last directive
	var last *token.Token
	for _, t := range lexer.Tokenize(string(text)) {
		if t.Type == token.DirectiveType {
			directive = t.Position.Line
		}
		if t.Type == token.CommentType || t.Position.Line == directive {
			continue
		}
		switch t.Type {
		case token.AliasType:
			return fmt.Errorf("line %d: aliases (*) are not read here: write out what it stands for", t.Position.Line)
		case token.DocumentHeaderType:
			if begun || ended {
				return fmt.Errorf("line %d: a second document begins: want one document", t.Position.Line)
			}
			begun = true
			continue
		case token.DocumentEndType:
			ended = true
			continue
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
				columns, keys = columns[:len(columns)-1], keys[:len(keys)-1]
			}
			if len(columns) == 0 || columns[len(columns)-1] < column {
				columns, keys = append(columns, column), append(keys, 0)
			}
			if t.Type == token.SequenceEntryType {
				break
			}
			keys[len(keys)-1]++
			if keys[len(keys)-1] > maxKeys {
				return fmt.Errorf("line %d: a map has more than %d keys: write a list", t.Position.Line, maxKeys)
			}
		}
		if ended {
			return fmt.Errorf("line %d: a second document begins: want one document", t.Position.Line)
		}
		if begun = true; len(columns)+flow > maxDepth {
			return fmt.Errorf("line %d: it is nested deeper than %d levels", t.Position.Line, maxDepth)
		}
		last = t
	}
	return nil
}

// Parse returns the only document of a file; nil for an empty file.
func Parse(file string, text []byte) (ast.Node, error) {
	if err := Check(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, errors.New(ErrorLine(file, err))
	}
	for _, d := range parsed.Docs { // the parser returns empty documents as well
		if d.Body != nil && d.Body.Type() != ast.NullType && d.Body.Type() != ast.CommentType {
			return d.Body, nil
		}
	}
	return nil, nil
}

// Marshal returns the YAML form of a value. Marshal quotes texts that the encoder leaves plain although they are read as another value,
// such as .inf.
func Marshal(value any) ([]byte, error) {
	node, err := yaml.ValueToNode(value)
	if err != nil {
		return nil, err
	}
	for _, found := range ast.Filter(ast.StringType, node) {
		text, again := found.(*ast.StringNode), any(nil)
		lines := strings.TrimRight(text.Value, "\n")
		isBlock := strings.Contains(text.Value, "\n") && !strings.Contains(lines, "\r") && strings.TrimSpace(lines) == lines && lines != ""
		if strings.HasPrefix(text.Value, `"`) || isBlock {
			continue // The text is already quoted, or in a block of lines, which loses a CR and white space at the beginning and end.
		}
		if yaml.Unmarshal([]byte(text.Value), &again) != nil || again != any(text.Value) {
			text.Token.Type = token.DoubleQuoteType
		}
	}
	return []byte(node.String() + "\n"), nil
}

// Scalars returns the texts of the scalars of a value, a single one or those of a list. Numbers are as written, because as a number 0042
// is 34; a block ends without a line break. ok is false if the value is empty or has nested values.
func Scalars(value ast.Node) (list []string, ok bool) {
	nodes := []ast.Node{value}
	if sequence, is := value.(*ast.SequenceNode); is {
		nodes = sequence.Values
	}
	for _, node := range nodes {
		if tag, is := node.(*ast.TagNode); is {
			node = tag.Value
		}
		switch scalar := node.(type) {
		case *ast.BoolNode:
			list = append(list, fmt.Sprint(scalar.Value))
		case *ast.LiteralNode:
			list = append(list, strings.TrimRight(scalar.Value.Value, "\n"))
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
			list = append(list, node.GetToken().Value)
		default:
			return nil, false
		}
	}
	return list, true
}

// Location returns the file and line of a node.
func Location(file string, node ast.Node) string {
	return fmt.Sprintf("%s:%d", file, node.GetToken().Position.Line)
}

// ErrorLine returns an error with its file and line, in one line of text.
func ErrorLine(file string, err error) string {
	if y, ok := errors.AsType[yaml.Error](err); ok && y.GetToken() != nil {
		return fmt.Sprintf("%s:%d: %s", file, y.GetToken().Position.Line, y.GetMessage())
	}
	return file + ": " + Message(err)
}

// Message returns the error in one line, without an excerpt of the file.
func Message(err error) string {
	if y, ok := errors.AsType[yaml.Error](err); ok {
		return y.GetMessage()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
