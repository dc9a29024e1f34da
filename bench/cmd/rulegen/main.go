// Command rulegen writes the rules and links of package rulegen.
//
//	rulegen -n 1000000 -format ndjson          a rule a line: owner, prefix, path, published
//	rulegen -n 1000000 -format haproxy         a map file for map_beg
//	rulegen -n 1000000 -format nginx           a map block's lines, exact rules only
//	rulegen -n 1000000 -format sqlite-seed -data DIR
//	                                           fills the embedded database of a data folder that qrjump serve
//	                                           has created, while no process uses it
//	rulegen -n 1000000 -links 100000 [-zipf]   links, one a line
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/qrjump/qrjump/bench/fill"
	"github.com/qrjump/qrjump/bench/rulegen"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "rulegen:", err)
		os.Exit(1)
	}
}

func run() error {
	n := flag.Int("n", 10_000, "number of rules")
	seed := flag.Uint64("seed", 1, "seed of the generator")
	format := flag.String("format", "ndjson", "ndjson, haproxy, nginx or sqlite-seed")
	data := flag.String("data", "", "sqlite-seed: the data folder")
	links := flag.Int("links", 0, "write so many links instead")
	zipf := flag.Bool("zipf", false, "links by Zipf's law, exponent 1.05")
	flag.Parse()
	if *n < 1 || *n > rulegen.Limit {
		return fmt.Errorf("-n %d: want 1 to %d", *n, rulegen.Limit)
	}
	set := rulegen.New(*n, *seed)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	switch {
	case *links > 0:
		for _, text := range rulegen.Take(set.Links(*zipf, *seed), *links) {
			out.WriteString(text)
			out.WriteByte('\n')
		}
	case *format == "ndjson":
		if err := ndjson(out, set); err != nil {
			return err
		}
	case *format == "haproxy":
		if err := set.WriteHAProxy(out); err != nil {
			return err
		}
	case *format == "nginx":
		if err := set.WriteNginx(out); err != nil {
			return err
		}
	case *format == "sqlite-seed":
		if *data == "" {
			return fmt.Errorf("-format sqlite-seed wants -data DIR")
		}
		return fill.SQLite(*data, set)
	default:
		return fmt.Errorf("-format %s: want ndjson, haproxy, nginx or sqlite-seed", *format)
	}
	return out.Flush()
}

func ndjson(w io.Writer, set *rulegen.Set) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for r := range set.All() {
		if err := e.Encode(struct {
			Owner     string `json:"owner"`
			Prefix    string `json:"prefix"`
			Path      string `json:"path"`
			Published bool   `json:"published"`
		}{rulegen.AppID(r.Owner), r.Prefix, r.Page, r.Published}); err != nil {
			return err
		}
	}
	return nil
}
