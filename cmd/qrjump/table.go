package main

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// tableFor returns the table of commands with the one verb that the arguments begin with, and with every verb where they
// begin with none. Reading the flags of all verbs takes longer than most verbs take to run.
func tableFor(args []string) any {
	table := reflect.TypeFor[commands]()
	if typ := withOnly(table, args); typ != nil {
		fields := []reflect.StructField{typ.Field(0)}
		for f := range table.Fields() {
			if !isVerb(f) { // a flag of every verb
				fields = append(fields, f)
			}
		}
		table = reflect.StructOf(fields)
	}
	return reflect.New(table).Interface()
}

// withOnly returns a table with one verb, and nil where the arguments begin with none of its verbs.
func withOnly(table reflect.Type, args []string) reflect.Type {
	for f := range table.Fields() {
		if len(args) == 0 || args[0] != wordOf(f) || !isVerb(f) {
			continue
		}
		if f.Type.Name() == "" { // a noun, which has a table of its own
			noun := f.Type
			if f.Type = withOnly(noun, args[1:]); f.Type == nil {
				f.Type = withUnnamed(noun, args[1:])
			}
			if f.Type == nil {
				return nil
			}
		}
		return reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}})
	}
	return nil
}

// withUnnamed returns a table with the verb of a noun that need not be named, as symbol draw, and nil where there is none or help is asked for.
func withUnnamed(table reflect.Type, args []string) reflect.Type {
	for f := range table.Fields() {
		if len(args) > 0 && !slices.Contains(args, "--help") && f.Tag.Get("default") == "withargs" {
			return reflect.StructOf([]reflect.StructField{{Name: f.Name, Type: f.Type, Tag: f.Tag}})
		}
	}
	return nil
}

// isVerb reports whether a field of the table is a verb or a noun.
func isVerb(f reflect.StructField) bool {
	_, is := f.Tag.Lookup("cmd")
	return is
}

// wordOf returns the typed form of a verb or a noun of the table.
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
