package adminroute

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Bounds of a body and of the answer that rejects it.
const (
	maxKeys    = 1000   // of one object
	maxDepth   = 10_000 // of encoding/json
	maxDetails = 10
	maxValue   = 100 // characters of a value, and of the place where it is
	maxMessage = 300 // characters
	maxDetail  = 2000
)

// Bound limits what a rejected body costs: an object with more than 1,000 keys is rejected before
// it is validated, and a rejection names ten faults at most, without objects, long values and secrets.
func Bound(config *huma.Config) {
	unmarshal := func(body []byte, v any) error {
		if _, validates := v.(*any); validates {
			if err := checkKeys(body); err != nil {
				return err
			}
		}
		return json.Unmarshal(body, v)
	}
	formats := map[string]huma.Format{}
	for name, format := range config.Formats {
		format.Unmarshal = unmarshal
		formats[name] = format
	}
	config.Formats = formats
	config.Transformers = append(config.Transformers, func(_ huma.Context, _ string, v any) (any, error) {
		if rejected, ok := v.(*huma.ErrorModel); ok {
			bound(rejected)
		}
		return v, nil
	})
}

// checkKeys returns an error if an object of a JSON text has more than maxKeys keys. What else may be
// wrong with the text is left to the parser.
func checkKeys(text []byte) error {
	var keys []int // of the objects around the current byte
	inString, escaped := false, false
	for _, c := range text {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{':
			if keys = append(keys, 0); len(keys) > maxDepth {
				return nil
			}
		case c == '}' && len(keys) > 0:
			keys = keys[:len(keys)-1]
		case c == ':' && len(keys) > 0:
			if keys[len(keys)-1]++; keys[len(keys)-1] > maxKeys {
				return fmt.Errorf("an object has more than %d keys", maxKeys)
			}
		}
	}
	return nil
}

func bound(rejected *huma.ErrorModel) {
	rejected.Detail = truncate(rejected.Detail, maxDetail)
	if rejected.Detail != "validation failed" { // its errors are the operation's own, such as the lines of an import
		return
	}
	if n := len(rejected.Errors); n > maxDetails {
		rejected.Errors = rejected.Errors[:maxDetails]
		rejected.Detail = fmt.Sprintf("validation failed: %d faults, of which the first %d are named", n, maxDetails)
	}
	for _, e := range rejected.Errors {
		if e == nil {
			continue
		}
		switch value := e.Value.(type) {
		case string:
			if e.Value = truncate(value, maxValue); isSecret(e.Location) {
				e.Value = nil
			}
		case bool, float64, int, int64, nil:
		default: // an object or a list may be all that was sent
			e.Value = nil
		}
		e.Location, e.Message = truncate(e.Location, maxValue), truncate(e.Message, maxMessage)
	}
}

// isSecret reports whether the value at a location may be a secret; the body as a whole may hold one.
func isSecret(location string) bool {
	name := strings.ToLower(location[strings.LastIndexByte(location, '.')+1:])
	for _, part := range []string{"secret", "password", "passphrase", "token", "key", "url"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return name == "body" || name == "code"
}

// truncate returns at most n characters of s, with an ellipsis where some are left out.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}
