package labels

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/internal/infra/safeyaml"
)

// Field is an entry of a print job file: a name with its values. Decision 72.
type Field struct {
	Name     string // the name of the corresponding flag of qrjump label, such as line-height
	Location string // file and line
	Values   []string
}

// ErrNoWords is returned for a file that is not a print job.
var ErrNoWords = errors.New("want words with values, such as batch: 500000001")

// EmptyWordError is returned for a field of a print job without a value or with a nested value.
type EmptyWordError struct{ Field }

func (e *EmptyWordError) Error() string { return e.Location + ": " + e.Name + " has no value" }

// ReadJob parses a print job file. The error is ErrNoWords, an *EmptyWordError, or a YAML syntax error.
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
		w := Field{Name: strings.ReplaceAll(entry.Key.String(), "_", "-"), Location: safeyaml.Location(file, entry.Key)}
		values, ok := safeyaml.Scalars(entry.Value)
		if !ok {
			return nil, &EmptyWordError{w}
		}
		w.Values = values
		words = append(words, w)
	}
	return words, nil
}
