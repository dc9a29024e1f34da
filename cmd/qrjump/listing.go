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
	if err != nil {
		return err
	}
	return o.print(s, map[string]any{l.name: append([]T{}, list...)}, func(w io.Writer) {
		if len(list) == 0 && l.none != "" {
			fmt.Fprintln(w, l.none)
			return
		}
		rows := [][]string{}
		for _, item := range list {
			rows = append(rows, l.row(item))
		}
		if l.newestFirst {
			slices.Reverse(rows)
		}
		printTable(w, l.heads, rows)
		if l.more != "" {
			fmt.Fprintln(w, l.more)
		}
	})
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
	if err != nil {
		return err
	}
	return o.print(s, answer, func(w io.Writer) { printMsg(w, key, values...) })
}
