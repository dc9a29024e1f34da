package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// unnamedFiles are flags that look like names of files, with their actual meaning.
var unnamedFiles = map[string]string{
	"context set --ca-file": "kept for later commands", "verification check --name": "the name of a file at a host",
	"label --per-file": "a number", "batch list-codes --per-file": "a number",
}

// valuesOf returns the arguments and flags of a command.
func valuesOf(verb *kong.Node) []*kong.Value {
	values := slices.Clone(verb.Positional)
	for _, f := range verb.Flags {
		values = append(values, f.Value)
	}
	return values
}

// namesFile reports whether a flag or an argument looks like the name of a file.
func namesFile(v *kong.Value) bool {
	if v.Flag != nil {
		return strings.HasPrefix(v.Flag.PlaceHolder, "FILE") || strings.HasSuffix(v.Name, "file") || v.Name == "out"
	}
	return v.Name == "file" || v.Name == "log" || v.Name == "job"
}

// TestFileFlags_DashIsStdio verifies that every flag and argument that names a file has the tag file (in or out) and accepts - for
// standard input or output.
func TestFileFlags_DashIsStdio(t *testing.T) {
	s := &session{}
	seen := map[string]bool{}
	checked := 0
	for _, verb := range s.fullManual().Leaves(false) {
		for _, v := range valuesOf(verb) {
			name := verb.Path() + " " + flagName(v)
			if v.Flag == nil {
				name = verb.Path() + " " + v.Name
			}
			kind, self, _ := strings.Cut(v.Tag.Get(fileTag), ",")
			help := v.Help
			switch {
			case unnamedFiles[name] != "":
				seen[name] = true
				continue
			case kind == "" && namesFile(v) && !strings.Contains(help, "folder"):
				t.Errorf("%s names a file: add the tag file, so that - is standard input or output", name)
				continue
			case kind == "", kind == "dir", kind == "new":
				continue
			case kind != "in" && kind != "out" || self != "" && self != "self":
				t.Errorf("%s has the tag file:%q, want in or out, optionally with ,self", name, v.Tag.Get(fileTag))
				continue
			}
			checked++
			checkDash(t, verb, v, name, kind, self != "")
		}
	}
	assert.True(t, checked >= 60, "%d flags and arguments name files, want at least 60", checked)
	for name := range unnamedFiles {
		assert.True(t, seen[name], "unnamedFiles has %s, want a flag of the program", name)
	}
}

// checkDash sets a flag of a command to - and verifies that the file it names is standard input or output. With self, the command itself
// handles -.
func checkDash(t *testing.T, verb *kong.Node, v *kong.Value, name, kind string, self bool) {
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
	var out, errs bytes.Buffer
	s := &session{in: strings.NewReader("input"), out: &out, err: &errs}
	done, err := s.configFlags(verb)
	if err != nil {
		t.Errorf("%s -: %v", name, err)
		return
	}
	path := texts(v.Target)[0].String()
	switch {
	case self && path != dash:
		t.Errorf("%s - has the value %s, want - for a command that handles it", name, path)
	case self:
	case kind == "in":
		for range 2 { // some commands read the file twice
			text, err := os.ReadFile(path)
			assert.True(t, err == nil && string(text) == "input", "%s -: read %q, %v, want standard input", name, text, err)
		}
	default:
		assert.NoErrorf(t, os.WriteFile(path, []byte("output"), 0o600), "%s -", name)
		_, _ = io.WriteString(s.out, "wrote "+path)
	}
	failure := errors.New("the command failed")
	if kind == "in" {
		err := done(failure)
		assert.True(t, errors.Is(err, failure) && out.Len() == 0, "%s -: %v, output %q, want the command's error", name, err, out.String())
	} else if err := done(nil); !self && (err != nil || out.String() != "output" || errs.String() != "wrote standard output") {
		t.Errorf("%s -: %v, %q on standard output and %q on standard error", name, err, out.String(), errs.String())
	}
	_, err = os.Stat(path)
	assert.True(t, self || err != nil, "%s -: the temporary file %s still exists", name, path)
}
