package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Flags and arguments that name a file have the struct tag "file"; its value is "in" for a file that is read, and "out" for a file that is
// written. The file name "-" means standard input or output: the command receives a temporary file, or, if the tag has the suffix ",self",
// uses the stream itself. For a folder, the value of the tag is "dir" if the folder must exist, and "new" if the command creates it.
const (
	fileTag = "file"
	dash    = "-"
)

// configFlags replaces each file argument "-" of the command with a temporary file. The caller must call the returned function done with
// the command's error: done removes the temporary files and, if the command succeeded, first copies the output file to standard output.
func (s *session) configFlags(node *kong.Node) (done func(error) error, err error) {
	dir, in := "", ""
	var names []string // paths of temporary files, each with the words that replace the path in messages
	clean := func() {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	var opened []io.Closer
	var out string
	for _, v := range fileValues(node) {
		kind, self, _ := strings.Cut(v.Tag.Get(fileTag), ",")
		for _, text := range texts(v.Target) {
			if text.String() != dash || kind != "in" && kind != "out" {
				continue
			}
			if kind == "in" {
				if in != "" {
					clean()
					return nil, misused("files.stdin_twice", in, flagName(v))
				}
				in = flagName(v)
			}
			if self != "" {
				continue
			}
			if dir == "" {
				if dir, err = os.MkdirTemp("", "qrjump-*"); err != nil { // 0700
					return nil, fault("files.making_room_for_standard_input", err)
				}
			}
			if kind == "out" {
				out = filepath.Join(dir, "out")
				names = append(names, out, tr("files.standard_output"))
				text.SetString(out)
				continue
			}
			f, path, err := spoolStdin(dir, s.in)
			if err != nil {
				clean()
				return nil, fault("files.reading_standard_input", err)
			}
			opened, names, s.in = append(opened, f), append(names, path, tr("files.standard_input")), strings.NewReader("")
			text.SetString(path)
		}
	}
	if dir == "" {
		return func(err error) error { return err }, nil
	}
	to, renamed := s.out, renaming{s.err, strings.NewReplacer(names...)}
	if out != "" {
		s.out = renamed // messages of the command go to standard error, because standard output receives the file
	}
	return func(err error) error {
		defer clean()
		for _, f := range opened {
			_ = f.Close()
		}
		s.out = to
		if err == nil && out != "" {
			err = copyToStdout(to, out)
		}
		s.err = renamed
		return err
	}, nil
}

// openInput opens the input file of a command whose tag has the suffix ",self"; the name "-" means standard input.
func (s *session) openInput(name string) (io.ReadCloser, error) {
	if name == dash {
		return io.NopCloser(s.in), nil
	}
	return os.Open(name)
}

// absentTag is the tag of a value that need not be the name of an existing file.
const absentTag = "absent"

// checkNames returns an error for an empty value, a missing input file, a missing folder of an output file, or an output file that is no
// regular file. An empty value, which a script may pass by mistake, would select all objects or none. A flag for which "" is valid has a
// pointer type. The --data folder may be missing if the command waits for the server.
func checkNames(chosen *kong.Context) error {
	for _, p := range chosen.Path {
		v := p.Positional
		if p.Flag != nil {
			v = p.Flag.Value
		}
		if v == nil || v.Passthrough || v.Enum != "" && v.EnumMap()[""] || v.Target.Kind() == reflect.Pointer || chosen.Selected().Hidden {
			continue
		}
		blank := func(value reflect.Value) bool {
			return value.String() == "" || p.Flag == nil && strings.TrimSpace(value.String()) == ""
		}
		list := v.Target.Kind() == reflect.Slice
		if list && v.Tag.Sep == -1 && p.Flag != nil {
			continue // A list flag without a separator holds literal texts, which may be empty.
		}
		if list && v.Target.Len() == 0 || slices.ContainsFunc(texts(v.Target), blank) {
			return misused("main.see", tr("parse.empty", flagName(v)), "qrjump help "+chosen.Selected().Path())
		}
	}
	waiter, ok := chosen.Selected().Target.Addr().Interface().(interface{ waits() bool })
	waits := ok && waiter.waits()
	for _, v := range fileValues(chosen.Selected()) {
		for _, text := range texts(v.Target) {
			if text.String() == "" || v.Tag.Has(absentTag) || v.Name == "data" && waits {
				continue
			}
			if key, path := missingFile(v, text.String()); key != "" {
				return misused(key, flagName(v), plain(path))
			}
		}
	}
	return nil
}

// missingFile returns the key of an error text, and the path of the missing file or folder or of the invalid output file; both are "" if
// the path is valid.
func missingFile(v *kong.Value, path string) (key, missing string) {
	kind, _, _ := strings.Cut(v.Tag.Get(fileTag), ",")
	key = "parse.no_folder"
	switch {
	// The command creates the folder of an output path that ends in a slash.
	case path == dash && kind != "dir", kind == "out" && strings.HasSuffix(path, "/"):
		return "", ""
	case kind == "out" && isSpecial(path):
		return "batch_download.out_is_neither_a_file", path
	case kind == "in":
		key = "parse.no_file"
	case kind != "dir":
		path = filepath.Dir(filepath.Clean(path))
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || kind != "in" && err == nil && !info.IsDir() {
		return key, path
	}
	return "", ""
}

// isSpecial reports whether a path exists and is neither a file nor a folder: an output file would replace a pipe, a device, or the file to
// which an open stream such as /dev/stdout writes.
func isSpecial(path string) bool {
	info, err := os.Stat(path)
	isStream := path == "/dev/stdout" || path == "/dev/stderr" || strings.HasPrefix(path, "/dev/fd/")
	return err == nil && !info.IsDir() && (isStream || !info.Mode().IsRegular())
}

// spoolStdin copies standard input to a temporary file, which can be read repeatedly and at any offset. On Linux, the file is deleted while
// it is open, because standard input may contain keys and passphrases.
func spoolStdin(dir string, in io.Reader) (*os.File, string, error) {
	f, err := os.Create(filepath.Join(dir, "in"))
	if err != nil {
		return nil, "", err
	}
	if _, err := io.Copy(f, in); err != nil {
		_ = f.Close()
		return nil, "", err
	}
	path := f.Name()
	if runtime.GOOS == "linux" {
		open := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
		if _, err := os.Stat(open); err == nil && os.Remove(path) == nil {
			path = open
		}
	}
	return f, path, nil
}

// copyToStdout copies a file to standard output.
func copyToStdout(to io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

// fileValues returns the flags and arguments of a command that hold file names.
func fileValues(node *kong.Node) []*kong.Value {
	list := append(mapped(node.Flags, func(f *kong.Flag) *kong.Value { return f.Value }), node.Positional...)
	return slices.DeleteFunc(list, func(v *kong.Value) bool { return v.Tag.Get(fileTag) == "" })
}

// texts returns the string values of a flag: a single string, or the elements of a list.
func texts(v reflect.Value) (list []reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return texts(v.Elem())
		}
	case reflect.String:
		return []reflect.Value{v}
	case reflect.Slice:
		for i := range v.Len() {
			list = append(list, v.Index(i))
		}
	}
	return list
}

// flagName returns a flag or an argument in the form that a user types.
func flagName(v *kong.Value) string {
	if v.Flag != nil {
		return "--" + v.Name
	}
	return strings.ToUpper(v.Name)
}

// renaming replaces the paths of temporary files in a text with the names "standard input" and "standard output".
type renaming struct {
	to    io.Writer
	names *strings.Replacer
}

func (r renaming) Write(b []byte) (int, error) {
	if _, err := r.names.WriteString(r.to, string(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}
