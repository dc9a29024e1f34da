package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// errWriter keeps the first error of a writer: a table that did not fit on the
// disk must not end like one that did.
type errWriter struct {
	to  io.Writer
	err error
}

func (f *errWriter) Write(b []byte) (int, error) {
	n, err := f.to.Write(b)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

type outputFlags struct {
	Output    string `short:"o" env:"QRJUMP_OUTPUT" enum:"table,json,yaml,csv" default:"table" placeholder:"FORMAT"`
	NoHeaders bool
	UTC       bool `name:"utc" env:"QRJUMP_UTC"`

	ownCSV bool // the command writes CSV itself
}

// isTable reports whether a person reads the answer.
func (o outputFlags) isTable() bool { return o.Output == "table" || o.Output == "" }

// isJSON reports whether the command writes JSON, of which YAML and CSV are made.
func (o outputFlags) isJSON() bool { return !o.isTable() && !(o.ownCSV && o.Output == "csv") }

// isCSV reports whether the command writes CSV itself.
func (o outputFlags) isCSV() bool { return o.ownCSV && o.Output == "csv" }

// zone is the one in which people read times. A process runs one command, which
// sets it.
var zone = time.Local

// formatTime returns a time as people read it, with the zone behind it.
func formatTime(t time.Time) string { return t.In(zone).Format(time.RFC3339) }

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// say returns a text of the command line with what it speaks of, in no language yet.
func say(key string, values ...any) i18n.Message { return book.Text(key, values...) }

// reader is the language in which a command prints: "zh" or "en"; "" is English.
type reader string

// readerOf reads the language from --lang, else from the environment. The help of a command is printed before its flags are.
func readerOf(args []string) reader {
	asked := ""
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--lang="); ok {
			asked = value
		} else if arg == "--lang" && i+1 < len(args) {
			asked = args[i+1]
		}
	}
	asked = cmp.Or(asked, os.Getenv("QRJUMP_LANG"), os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))
	if strings.HasPrefix(strings.ToLower(asked), "zh") {
		return "zh"
	}
	return "en"
}

// language returns the one that a person reads.
func (r reader) language() i18n.Language {
	language, _ := i18n.Parse(string(r))
	return language
}

// say returns a text in the language of its reader.
func (r reader) say(t i18n.Message) string { return t.In(r.language()) }

// inLanguage chooses between two texts of an answer by the language of its reader.
func (r reader) inLanguage(english, chinese string) string {
	if r.language() == i18n.Chinese && chinese != "" {
		return chinese
	}
	return english
}

// print writes v for programs, or lets a person read it.
func (o outputFlags) print(s *session, v any, readable func(io.Writer)) error {
	if !o.isJSON() {
		readable(s.out)
		return nil
	}
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(complete(v))
}

// complete is v with the fields that a server may leave out, so that a program
// finds them empty.
func complete(v any) any {
	if object, ok := v.(map[string]any); ok {
		for name, value := range object {
			object[name] = complete(value)
		}
		return object
	}
	t := reflect.TypeOf(v)
	if t == nil || outspoken(t) == t {
		return v
	}
	text, err := json.Marshal(v)
	dst := reflect.New(outspoken(t))
	if err != nil || json.Unmarshal(text, dst.Interface()) != nil {
		return v
	}
	return dst.Elem().Interface()
}

// outspoken returns a type whose fields that say answer:"optional" are written though
// they are empty.
func outspoken(t reflect.Type) reflect.Type {
	switch {
	case t.Kind() == reflect.Pointer:
		return reflect.PointerTo(outspoken(t.Elem()))
	case t.Kind() == reflect.Slice && t.Name() == "":
		return reflect.SliceOf(outspoken(t.Elem()))
	case t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()):
		return t
	}
	var fields []reflect.StructField
	changed := false
	for f := range t.Fields() {
		if field := f; !f.Anonymous {
			f.Type = outspoken(f.Type)
			if f.Tag.Get("answer") == "optional" {
				f.Tag = reflect.StructTag(strings.Replace(string(f.Tag), ",omitempty", "", 1))
			}
			changed = changed || f.Type != field.Type || f.Tag != field.Tag
		}
		fields = append(fields, f)
	}
	if !changed {
		return t
	}
	return reflect.StructOf(fields)
}

// onTerminal reports whether a person sees colours: on a terminal, unless NO_COLOR
// says that they are not wanted.
func onTerminal(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

// isTerminal reports whether what is written is read by a person at once.
func isTerminal(w io.Writer) bool {
	if f, ok := w.(*errWriter); ok {
		w = f.to
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// number returns a number as a cell of a table.
func number(n int64) string { return strconv.FormatInt(n, 10) }
