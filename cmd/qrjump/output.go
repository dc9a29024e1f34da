package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// errWriter keeps the first write error, so that the command reports incomplete output, for example on a full disk.
type errWriter struct {
	to  io.Writer
	err error
}

func (f *errWriter) Write(b []byte) (int, error) {
	n, err := f.to.Write(b)
	f.err = cmp.Or(f.err, err)
	return n, err
}

type outputFlags struct {
	Output    string `short:"o" env:"${env}" enum:"${enum}" default:"${format}" placeholder:"FORMAT"`
	NoHeaders bool
	UTC       bool `name:"utc" env:"QRJUMP_UTC"`

	direct bool // true = the command itself writes CSV, and formats that other commands do not have
}

// isTable reports whether the output is a table for people.
func (o outputFlags) isTable() bool { return o.Output == "table" || o.Output == "" }

// isJSON reports whether the command writes JSON, which is also the source for YAML and CSV output.
func (o outputFlags) isJSON() bool {
	return !o.isTable() && !(o.direct && o.Output != "json" && o.Output != "yaml")
}

// zone returns the zone in which the command prints times.
func (o outputFlags) zone() *time.Location {
	if o.UTC {
		return time.UTC
	}
	return time.Local
}

// zone is the time zone of printed times. A process runs a single command, which sets zone at its start.
var zone = time.Local

// formatTime returns a time in RFC 3339 in the configured time zone.
func formatTime(t time.Time) string { return t.In(zone).Format(time.RFC3339) }

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// msg returns a text of the message catalogue with its values; the language is chosen later.
func msg(key string, values ...any) i18n.Message { return catalog.Text(key, values...) }

// reader is the language of a command's output: "zh" or "en"; "" means English.
type reader string

// readerOf returns the language from --lang, else from the environment. The arguments are searched directly, because a command's
// help is printed before its flags are parsed.
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

// language returns the language of messages for people.
func (r reader) language() i18n.Language {
	language, _ := i18n.Parse(string(r))
	return language
}

// msg returns a message in the reader's language.
func (r reader) msg(t i18n.Message) string { return t.In(r.language()) }

// inLanguage returns the English or the Chinese text, in the reader's language.
func (r reader) inLanguage(english, chinese string) string {
	if r.language() == i18n.Chinese && chinese != "" {
		return chinese
	}
	return english
}

// print writes v as JSON, or calls readable to print text. If err, the error of reading v, is not nil, print only returns err.
func (o outputFlags) print(s *session, v any, err error, readable func(io.Writer)) error {
	if err != nil {
		return err
	}
	if !o.isJSON() {
		readable(s.out)
		return nil
	}
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(complete(v))
}

// complete returns v in a form whose JSON contains all optional fields, so that an empty field is printed instead of omitted.
func complete(v any) any {
	if object, ok := v.(map[string]any); ok {
		for name, value := range object {
			object[name] = complete(value)
		}
		return object
	}
	t := reflect.TypeOf(v)
	if t == nil || withoutOmitEmpty(t) == t {
		return v
	}
	text, err := json.Marshal(v)
	dst := reflect.New(withoutOmitEmpty(t))
	if err != nil || json.Unmarshal(text, dst.Interface()) != nil {
		return v
	}
	return dst.Elem().Interface()
}

// withoutOmitEmpty returns a copy of a type without omitempty in the fields with the tag answer:"optional".
func withoutOmitEmpty(t reflect.Type) reflect.Type {
	switch {
	case t.Kind() == reflect.Pointer:
		return reflect.PointerTo(withoutOmitEmpty(t.Elem()))
	case t.Kind() == reflect.Slice && t.Name() == "":
		return reflect.SliceOf(withoutOmitEmpty(t.Elem()))
	case t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[json.Marshaler]()):
		return t
	}
	var fields []reflect.StructField
	changed := false
	for f := range t.Fields() {
		if !f.Anonymous {
			field := f
			f.Type = withoutOmitEmpty(f.Type)
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

// onTerminal reports whether colours are used: on a terminal, unless NO_COLOR is set.
func onTerminal(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

// isTerminal reports whether a writer is a terminal.
func isTerminal(w io.Writer) bool {
	if f, ok := w.(*errWriter); ok {
		w = f.to
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// number formats a number for a table cell.
func number(n int64) string { return strconv.FormatInt(n, 10) }

// listing describes how to print a list: as JSON under the key in name, or as a table; if the list is empty, as the sentence in none.
type listing[T any] struct {
	name, none string
	heads      []string
	row        func(T) []string
	more       string // A line that is printed below the table.
	// newestFirst means that the list has the newest row first; the table prints the newest row last, just above the prompt.
	newestFirst bool
}

// print prints the list, or returns err, the error of reading the list.
func (l listing[T]) print(s *session, o outputFlags, list []T, err error) error {
	return o.print(s, map[string]any{l.name: append([]T{}, list...)}, err, func(w io.Writer) {
		if len(list) == 0 && l.none != "" {
			fmt.Fprintln(s.err, l.none)
			return
		}
		if l.newestFirst {
			list = reversed(list)
		}
		printRows(w, l.heads, list, l.row)
		if l.more != "" {
			fmt.Fprintln(s.err, l.more)
		}
	})
}

// printRows writes a header and a row for each item in aligned columns, like printTable.
func printRows[T any](w io.Writer, heads []string, list []T, row func(T) []string) {
	printTable(w, heads, mapped(list, row))
}

// reversed returns a copy of a list in reverse order.
func reversed[T any](list []T) []T {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// everyPage reads a list page by page; read returns the page after a given item, or the first page if the item is the zero value.
func everyPage[T any](size int, read func(item T) ([]T, error)) (all []T, err error) {
	for {
		var item T
		if len(all) > 0 {
			item = all[len(all)-1]
		}
		list, err := read(item)
		all = append(all, list...)
		if err != nil || len(list) < size {
			return all, err
		}
	}
}

// outcome prints the result of a change, as JSON or as a sentence, or returns the error of the change.
func (o outputFlags) outcome(s *session, answer any, err error, key string, values ...any) error {
	return o.print(s, answer, err, func(w io.Writer) { printMsg(w, key, values...) })
}
