package digitallink

import (
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/gs1"
)

// identifier is a GS1 key parsed from a request, a text or an entry, with its data attributes.
type identifier struct{ gs1.Data }

// key returns the identifier in its stored form: a path without the leading slash.
func (id identifier) key() string { return id.Key.String() }

// root returns the primary key of the identifier.
func (id identifier) root() string { return id.Key.Root().String() }

// keys returns the identifier's key and all keys above it, nearest first.
func (id identifier) keys() []string {
	parents := id.Key.Parents()
	keys := make([]string, 1, 1+len(parents))
	keys[0] = id.key()
	for _, parentKey := range parents {
		keys = append(keys, parentKey.String())
	}
	return keys
}

// readPath parses the GS1 key in the path and query of a request. The key must begin the path, because a resolver serves the root
// of its host.
func readPath(path, query string) (identifier, error) {
	data, err := gs1.ParseURI(path, query)
	if err == nil && data.Stem != "" {
		err = accounts.Invalidf("%.100q: a path before the GS1 key is not allowed here", path)
	}
	return identifier{data}, err
}

// parseKey parses the key of an entry.
func parseKey(text string) (identifier, error) {
	key, _, err := gs1.ParseKey(text)
	if err != nil {
		return identifier{}, accounts.Invalidf("GS1 key %.100q: %v", text, err)
	}
	return identifier{gs1.Data{Key: key}}, nil
}

// KeyOf returns a key in its stored form; any text that is not a key is returned unchanged.
func KeyOf(text string) string {
	id, err := parseKey(text)
	if err != nil {
		return text
	}
	return id.key()
}

func isAddress(text string) bool {
	lower := strings.ToLower(text[:min(len(text), len("https://"))])
	return strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")
}

// mayBeElements reports whether a text begins like a GS1 element string or like AIs in brackets.
func mayBeElements(text string) bool {
	return text != "" && (strings.IndexByte("](\x1d", text[0]) >= 0 || '0' <= text[0] && text[0] <= '9')
}
