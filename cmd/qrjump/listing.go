package main

import (
	"fmt"
	"io"
	"slices"
)

// listing is a list as a verb shows it: to programs under its name, to people as a table, or in a sentence where it is empty.
type listing[T any] struct {
	name, none string
	heads      []string
	row        func(T) []string
	more       string // a line below the table
	// newestFirst says so of the answer; the table has the newest last, above the prompt.
	newestFirst bool
}

// print shows the list, or returns why there is none.
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

// everyPage reads a list page by page, each of what comes after the last one of the page before; the zero T is before all.
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

// outcome says what a change did: an answer to programs, a sentence to people; or it returns why nothing was done.
func (o outputFlags) outcome(s *session, answer any, err error, key string, values ...any) error {
	if err != nil {
		return err
	}
	return o.print(s, answer, func(w io.Writer) { tell(w, key, values...) })
}
