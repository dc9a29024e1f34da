package main

import (
	"bytes"
	"errors"
	"testing"
)

// What CSV cannot say is refused; it is never said in part.
func TestOutputCSV_RejectsNestedValues(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"a\": [{\"b\": 1}], \"c\": [{\"d\": 2}]\n}": "--output csv: this answer has several lists: choose --output json or yaml",
		"[1]":                      "--output csv: this answer is no list of things: choose --output json or yaml",
		"{\"a\":1}\n{\"b\":2}\n":   "--output csv: a later line has the field b, for which there is no column: choose --output json",
		"pages: [a]":               "--output csv: this answer is no JSON that could be written so: leave out --output",
		"{\"a\":1}\n{\"a\":":       "--output csv: this answer is no JSON that could be written so: leave out --output",
		"{\"a\":{\"b\":-1}}\n{}\n": "",
		"{\n\"a\":1,\"l\":[]\n}\n": "",
	} {
		var out bytes.Buffer
		p := &shaper{to: &out, form: "csv"}
		for _, b := range []byte(text) { // an answer may come in pieces
			_, _ = p.Write([]byte{b})
		}
		if err := p.end(); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q; %s", text, errors.Unwrap(err), want, out.String())
		}
	}
}
