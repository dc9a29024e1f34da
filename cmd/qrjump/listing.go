package main

import (
	"fmt"
	"io"
	"slices"
)

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
			fmt.Fprintln(w, l.none)
			return
		}
		if l.newestFirst {
			list = reversed(list)
		}
		printRows(w, l.heads, list, l.row)
		if l.more != "" {
			fmt.Fprintln(w, l.more)
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
