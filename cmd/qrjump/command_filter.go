package main

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// tableFor returns the table of commands; if the arguments begin with a command, the table contains only that command and the global flags.
// A partial table is faster, because parsing the flags of all commands takes longer than most commands take to run.
func tableFor(args []string) any {
	table := reflect.TypeFor[commands]()
	if typ := singleCommand(table, args); typ != nil {
		fields := []reflect.StructField{typ.Field(0)}
		for f := range table.Fields() {
			if !isVerb(f) { // The field is a global flag.
				fields = append(fields, f)
			}
		}
		table = reflect.StructOf(fields)
	}
	return reflect.New(table).Interface()
}

// singleCommand returns a table with a single command, or nil if the arguments begin with no command of the table.
func singleCommand(table reflect.Type, args []string) reflect.Type {
	for f := range table.Fields() {
		if len(args) == 0 || args[0] != wordOf(f) || !isVerb(f) {
			continue
		}
		if f.Type.Name() == "" { // A noun's table of commands is a struct type without a name.
			noun := f.Type
			if f.Type = singleCommand(noun, args[1:]); f.Type == nil {
				f.Type = defaultCommand(noun, args[1:])
			}
			if f.Type == nil {
				return nil
			}
		}
		return reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}})
	}
	return nil
}

// defaultCommand returns a table with the default command of a noun, such as "draw" for the noun "symbol". The result is nil if the noun
// has no default command, if no arguments follow the noun, or if help is requested.
func defaultCommand(table reflect.Type, args []string) reflect.Type {
	for f := range table.Fields() {
		if len(args) > 0 && !slices.Contains(args, "--help") && f.Tag.Get("default") == "withargs" {
			return reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}})
		}
	}
	return nil
}

// isVerb reports whether a field of the table is a command or a group of commands: its tag is `cmd:""`, or `kong:"cmd,…"` if keys repeat.
func isVerb(f reflect.StructField) bool {
	_, is := f.Tag.Lookup("cmd")
	return is || strings.HasPrefix(f.Tag.Get("kong"), "cmd,")
}

// wordOf returns the typed name of a command or of a group of commands.
func wordOf(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	var word strings.Builder
	for i, r := range f.Name {
		if unicode.IsUpper(r) && i > 0 {
			word.WriteByte('-')
		}
		word.WriteRune(unicode.ToLower(r))
	}
	return word.String()
}
