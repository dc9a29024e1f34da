package main

import (
	"bytes"
	"errors"
	"os"
	"path"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestOutputJSON_OmittedFields verifies that --output json prints fields that the server omits as null, 0 or "", except optional ones.
func TestOutputJSON_OmittedFields(t *testing.T) {
	t.Parallel()
	changes := []client.RuleChange{{Seq: 1, Rule: client.StoredRule{Prefix: "https://a.example/"}}}
	code := client.StoredCode{Code: "abcdefghi", Activation: &client.CodeEvent{Binding: &client.CodeBinding{WxaPath: "p"}}}
	for _, c := range []struct {
		print      any
		want, none []string
	}{
		{map[string]any{"changes": changes}, []string{`"seq": 1`, `"rid": ""`, `"reason": ""`, `"open_version": 0`, `"published_at": null`,
			`"prefix": "https://a.example/"`}, nil},
		{code, []string{`"code": "abcdefghi"`, `"wxa_type": 0`, `"wxa_path": "p"`}, []string{"note", "warning", "rid"}},
		{client.CodeScans{Scans: 0}, []string{`"first_at": null`, `"last_at": null`}, nil},
		{map[string]any{"nothing": nil}, []string{`"nothing": null`}, nil},
	} {
		var out strings.Builder
		require.NoError(t, (outputFlags{Output: "json"}).print(&session{out: &out}, c.print, nil, nil))
		for _, want := range c.want {
			assert.Contains(t, out.String(), want, "output of %+v", c.print)
		}
		for _, none := range c.none {
			assert.True(t, !strings.Contains(out.String(), `"`+none+`"`), "output has the optional field %s: %s", none, &out)
		}
	}
}

func TestPlain_StripsControlSequences(t *testing.T) {
	assert.Equal(t, plain("a\x1b[2Jb\nc\u202ed\xff"), "a [2Jb c d\ufffd", "plain")
}

// TestErrorJSON_HelpPageAnchor verifies that the URL of an error in JSON leads to an existing heading: for every error number, for a number
// that only the real platform returns, and for errors without a number.
func TestErrorJSON_HelpPageAnchor(t *testing.T) {
	t.Parallel()
	anchors := map[string]bool{}
	for _, page := range []string{"errors.md", "commands.md"} {
		text := require.Value(os.ReadFile("../../docs/en/" + page))(t)
		for line := range strings.Lines(string(text)) {
			if title, ok := strings.CutPrefix(strings.TrimSpace(line), "## "); ok {
				anchors[page+"#"+strings.ReplaceAll(strings.ToLower(title), " ", "-")] = true
			}
		}
	}
	const exitKind = "commands.md#exit-codes"
	failed := map[error]string{errors.New("any"): exitKind, usageError("any"): exitKind, &client.Problem{Status: 404}: exitKind,
		&client.WireError{Code: 999999}: exitKind}
	for _, code := range errcode.All() {
		if code.Number != 0 {
			failed[&client.WireError{Code: code.Number}] = "errors.md#" + strconv.Itoa(code.Number)
		}
	}
	for err, want := range failed {
		page := path.Base(failureOf(err).URL)
		assert.True(t, page == want && anchors[page], "URL of %v = %s, want %s; the heading exists: %v", err, page, want, anchors[page])
	}
}

// TestPrintJob_MatchesConsoleFields verifies that each field of client.LabelDrawing, from which the console writes a job file, is a key
// that the command reads.
func TestPrintJob_MatchesConsoleFields(t *testing.T) {
	t.Parallel()
	parser := require.Value(newParser(session{}, &struct {
		Label labelCommand `cmd:""`
	}{}))(t)
	known := jobFlags(parser.Model)
	drawing := reflect.TypeFor[client.LabelDrawing]()
	for field := range drawing.Fields() {
		word, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if word == "lines" {
			word = "line" // one key for each line
		}
		assert.True(t, known[strings.ReplaceAll(word, "_", "-")] != nil, "a job file has no key %s", word)
	}
}

// TestOutputCSV_RejectsNestedValues verifies that a response that CSV cannot represent is an error.
func TestOutputCSV_RejectsNestedValues(t *testing.T) {
	for text, want := range map[string]string{
		"{\n\"a\": [{\"b\": 1}], \"c\": [{\"d\": 2}]\n}": "--output csv: the response has several lists: use --output json or yaml",
		"[1]":                         "--output csv: the response is not a list: use --output json or yaml",
		"{\"a\":1}\n{\"b\":2}\n":      "--output csv: a later row has the field b, which is not in the header: use --output json",
		"pages: [a]":                  "--output csv: the response is not JSON: remove --output",
		"{\"a\":1}\n{\"a\":":          "--output csv: the response is not JSON: remove --output",
		"{\"a\":{\"b\":-1}}\n{}\n":    "",
		"{\n\"a\":1,\"l\":[]\n}\n":    "",
		"[\n{\"a\":1},\n{\"a\":2}\n]": "",
		"[]\n":                        "",
	} {
		var out bytes.Buffer
		p := &converter{to: &out, form: "csv"}
		for _, b := range []byte(text) { // a response may arrive in pieces
			_, _ = p.Write([]byte{b})
		}
		if err := p.end(); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("CSV of %q: %v, want error %q; output %s", text, errors.Unwrap(err), want, out.String())
		}
	}
}
