package main

import (
	"bytes"
	"errors"
	"testing"
)

// What CSV cannot say is refused; it is never said in part.
func TestOutputCSV_RejectsNestedValues(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"a\": [{\"b\": 1}], \"c\": [{\"d\": 2}]\n}": "--output csv: the response has several lists: use --output json or yaml",
		"[1]":                      "--output csv: the response is not a list: use --output json or yaml",
		"{\"a\":1}\n{\"b\":2}\n":   "--output csv: a later row has the field b, which is not in the header: use --output json",
		"pages: [a]":               "--output csv: the response is not JSON: remove --output",
		"{\"a\":1}\n{\"a\":":       "--output csv: the response is not JSON: remove --output",
		"{\"a\":{\"b\":-1}}\n{}\n": "",
		"{\n\"a\":1,\"l\":[]\n}\n": "",
	} {
		var out bytes.Buffer
		p := &converter{to: &out, form: "csv"}
		for _, b := range []byte(text) { // an answer may come in pieces
			_, _ = p.Write([]byte{b})
		}
		if err := p.end(); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q; %s", text, errors.Unwrap(err), want, out.String())
		}
	}
}
