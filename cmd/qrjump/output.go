package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// faithful keeps the first error of a writer: a table that did not fit on the
// disk must not end like one that did.
type faithful struct {
	to  io.Writer
	err error
}

func (f *faithful) Write(b []byte) (int, error) {
	n, err := f.to.Write(b)
	if f.err == nil {
		f.err = err
	}
	return n, err
}

type outputFlags struct {
	JSON bool `name:"json" env:"QRJUMP_JSON" help:"Print JSON, for programs."`
}

// print writes v for programs, or lets a person read it.
func (o outputFlags) print(s *session, v any, readable func(io.Writer)) error {
	if !o.JSON {
		readable(s.out)
		return nil
	}
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable writes rows under a header in columns.
func printTable(w io.Writer, header []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	t.Flush()
}

// printFields writes names and values; pairs without a value are left out.
func printFields(w io.Writer, pairs ...[2]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", p[0], plain(p[1]))
		}
	}
	t.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "sh") || strings.HasSuffix(noun, "ch") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
