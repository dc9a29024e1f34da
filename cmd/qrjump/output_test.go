package main

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
)

// A program that reads --json finds every field, also those that a server leaves
// out, and none that a server says only where it has it.
func TestJSONHasWhatAServerLeavesOut(t *testing.T) {
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
		if err := (outputFlags{JSON: true}).print(&session{out: &out}, c.print, nil); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %s in %s", want, &out)
			}
		}
		for _, none := range c.none {
			if strings.Contains(out.String(), `"`+none+`"`) {
				t.Errorf("%s in %s", none, &out)
			}
		}
	}
}

func TestATerminalObeysNobodyElse(t *testing.T) {
	if got := plain("a\x1b[2Jb\nc\u202ed\xff"); got != "a [2Jb c d\ufffd" {
		t.Errorf("got %q", got)
	}
}
