package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// nameless are flags that look as if they named a file that is read or written now, with what they are instead.
var nameless = map[string]string{
	"context set --ca-file": "kept for later commands", "verification check --name": "the name of a file at a host",
	"label --per-file": "a number", "batch list-codes --per-file": "a number",
}

// namesFile reports whether a flag or an argument looks as if it named a file.
func namesFile(v *kong.Value) bool {
	if v.Flag != nil {
		return strings.HasPrefix(v.Flag.PlaceHolder, "FILE") || strings.HasSuffix(v.Name, "file") || v.Name == "out"
	}
	return v.Name == "file" || v.Name == "log" || v.Name == "job"
}

// Issue 28, 9: - was a file in some commands, and a file of this name in others. Every flag and argument that names a file
// says whether it is read or written, and takes - for it; a new one without that fails here.
func TestFileFlags_DashIsStdio(t *testing.T) {
	s := &session{}
	seen := map[string]bool{}
	checked := 0
	for _, verb := range s.fullManual().Leaves(false) {
		values := append([]*kong.Value{}, verb.Positional...)
		for _, f := range verb.Flags {
			values = append(values, f.Value)
		}
		for _, v := range values {
			at := verb.Path() + " " + flagName(v)
			if v.Flag == nil {
				at = verb.Path() + " " + v.Name
			}
			kind, self, _ := strings.Cut(v.Tag.Get(fileTag), ",")
			help := v.Help
			switch {
			case nameless[at] != "":
				seen[at] = true
				continue
			case kind == "" && namesFile(v) && !strings.Contains(help, "folder"):
				t.Errorf("%s names a file: give it the tag file, for - to be standard input or output", at)
				continue
			case kind == "", kind == "dir", kind == "new":
				continue
			case kind != "in" && kind != "out" || self != "" && self != "self":
				t.Errorf("%s has the tag file:%q: want in or out, perhaps with ,self", at, v.Tag.Get(fileTag))
				continue
			}
			checked++
			dashed(t, verb, v, at, kind, self != "")
		}
	}
	assert.True(t, checked >= 60, "only %d flags and arguments name files", checked)
	for at := range nameless {
		assert.True(t, seen[at], "there is no %s", at)
	}
}

// dashed puts - into one flag of a command, and sees that what it names then is standard input or output.
func dashed(t *testing.T, verb *kong.Node, v *kong.Value, at, kind string, self bool) {
	t.Helper()
	old := reflect.New(v.Target.Type()).Elem()
	old.Set(v.Target)
	defer v.Target.Set(old)
	text := dash
	switch v.Target.Kind() {
	case reflect.Pointer:
		v.Target.Set(reflect.ValueOf(&text))
	case reflect.Slice:
		v.Target.Set(reflect.ValueOf([]string{text}))
	default:
		v.Target.SetString(text)
	}
	var out, tr bytes.Buffer
	s := &session{in: strings.NewReader("what came"), out: &out, err: &tr}
	done, err := s.configFlags(verb)
	if err != nil {
		t.Errorf("%s -: %v", at, err)
		return
	}
	path := texts(v.Target)[0].String()
	switch {
	case self && path != dash:
		t.Errorf("%s -: it is %s, and the command reads or writes itself", at, path)
	case self:
	case kind == "in":
		for range 2 { // some read twice
			came, err := os.ReadFile(path)
			assert.True(t, err == nil && string(came) == "what came", "%s -: %q, %v", at, came, err)
		}
	default:
		assert.NoErrorf(t, os.WriteFile(path, []byte("what is written"), 0o600), "%s -", at)
		_, _ = io.WriteString(s.out, "wrote "+path)
	}
	wrong := errors.New("something is wrong")
	if kind == "in" {
		err := done(wrong)
		assert.True(t, errors.Is(err, wrong) && out.Len() <= 0, "%s -: %v and %q", at, err, out.String())
	} else if err := done(nil); !self && (err != nil || out.String() != "what is written" || tr.String() != "wrote standard output") {
		t.Errorf("%s -: %v, %q on standard output and %q beside it", at, err, out.String(), tr.String())
	}
	_, err = os.Stat(path)
	assert.True(t, self || err != nil, "%s -: %s is left behind", at, path)
}
