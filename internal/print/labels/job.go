package labels

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// Field is a line of the file of a print job, with its values. Decision 72.
type Field struct {
	Name   string // as the flag of qrjump label is called, line-height
	At     string // file and line
	Values []string
}

// ErrNoWords is a file that is none of a job.
var ErrNoWords = errors.New("want words with values, such as batch: 500000001")

// EmptyWordError is a word of a job without a value, or with one that is no word itself.
type EmptyWordError struct{ Field }

func (e *EmptyWordError) Error() string { return e.At + ": " + e.Name + " has no value" }

// ReadJob reads the file of a print job. ErrNoWords, an *EmptyWordError, or what is wrong with the file as YAML.
func ReadJob(file string, text []byte) (words []Field, err error) {
	node, err := safeyaml.Parse(file, text)
	if err != nil {
		return nil, err
	}
	list, ok := node.(*ast.MappingNode)
	if !ok {
		return nil, ErrNoWords
	}
	for _, entry := range list.Values {
		w := Field{Name: strings.ReplaceAll(entry.Key.String(), "_", "-"), At: safeyaml.Location(file, entry.Key)}
		if w.Values, err = valuesOf(entry.Value); err != nil {
			return nil, &EmptyWordError{w}
		}
		words = append(words, w)
	}
	return words, nil
}

// errNoValue is a word without a value.
var errNoValue = errors.New("empty")

// valuesOf returns the values of a word: one, or a list.
func valuesOf(node ast.Node) ([]string, error) {
	list, is := node.(*ast.SequenceNode)
	if !is {
		scalarNode, is := node.(ast.ScalarNode)
		if !is || node.Type() == ast.NullType {
			return nil, errNoValue
		}
		return []string{fmt.Sprint(scalarNode.GetValue())}, nil
	}
	var values []string
	for _, value := range list.Values {
		if _, is := value.(*ast.SequenceNode); is {
			return nil, errNoValue
		}
		moreNames, err := valuesOf(value)
		if err != nil {
			return nil, err
		}
		values = append(values, moreNames...)
	}
	return values, nil
}
