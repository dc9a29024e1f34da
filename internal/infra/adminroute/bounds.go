package adminroute

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// Limits of a request body and of the error response that rejects it.
const (
	maxKeys    = 1000   // of one object
	maxDepth   = 10_000 // of encoding/json
	maxDetails = 10
	maxValue   = 100 // characters of a rejected value, and of its location, in an error response
	maxMessage = 300 // characters
	maxDetail  = 2000
)

// bounded returns the configuration of an operation, which limits the cost of rejected bodies: a body with more than 1,000 keys in one
// object is rejected before validation. An error response lists at most ten errors and contains no objects, long values or secrets.
func bounded() huma.Config {
	format := huma.DefaultJSONFormat
	format.Unmarshal = func(body []byte, v any) error {
		if _, validates := v.(*any); validates {
			if err := checkKeys(body); err != nil {
				return err
			}
		}
		return json.Unmarshal(body, v)
	}
	return huma.Config{OpenAPI: &huma.OpenAPI{Components: &huma.Components{}}, DefaultFormat: "application/json",
		RejectUnknownQueryParameters: true, Formats: map[string]huma.Format{"application/json": format, "json": format},
		Transformers: []huma.Transformer{func(_ huma.Context, _ string, v any) (any, error) {
			if rejected, ok := v.(*huma.ErrorModel); ok {
				bound(rejected)
			}
			return v, nil
		}}}
}

// checkKeys returns an error if any object in a JSON text has more than maxKeys keys. Other faults of the JSON text are reported by
// the JSON parser.
func checkKeys(text []byte) error {
	var keys []int // number of keys so far in each object that encloses the current byte
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
			keys[len(keys)-1]++
			if keys[len(keys)-1] > maxKeys {
				return fmt.Errorf("an object has more than %d keys", maxKeys)
			}
		}
	}
	return nil
}

func bound(rejected *huma.ErrorModel) {
	rejected.Detail = truncate(rejected.Detail, maxDetail)
	if rejected.Detail != "validation failed" { // an error from the operation itself, such as an import, keeps its details
		return
	}
	if n := len(rejected.Errors); n > maxDetails {
		rejected.Errors = rejected.Errors[:maxDetails]
		rejected.Detail = fmt.Sprintf("validation failed: %d errors, the first %d are listed", n, maxDetails)
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
		default: // not shown: an object or a list may contain the whole request body
			e.Value = nil
		}
		e.Location, e.Message = truncate(e.Location, maxValue), truncate(e.Message, maxMessage)
	}
}

// isSecret reports whether the value at a location may be a secret; the location of the whole body counts as secret.
func isSecret(location string) bool {
	name := strings.ToLower(location[strings.LastIndexByte(location, '.')+1:])
	for _, part := range []string{"secret", "password", "passphrase", "token", "key", "url"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return name == "body" || name == "code"
}

// truncate returns at most n characters of s, followed by an ellipsis if s was longer.
func truncate(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n]) + "…"
}
