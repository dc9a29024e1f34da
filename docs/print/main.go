// Command print generates the pages of the documentation that are derived from tables in the code. Run the command in the root
// folder of the repository:
//
//	go run ./docs/print
//
// With -size, the command writes only docs/size.md; no other run writes this file. With -evidence, the command writes to standard output
// the behaviours whose evidence has a date, with search terms, sorted by the age of the evidence.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/qrjump/qrjump/docs/docgen"
)

func main() {
	evidence := flag.Bool("evidence", false, "write the behaviours by the age of their evidence to standard output")
	size := flag.Bool("size", false, "write docs/size.md, the lines of the source by capability and layer, and nothing else")
	flag.Parse()
	if *size {
		measured, err := docgen.MeasureSize(".")
		if err == nil {
			err = os.WriteFile("docs/size.md", []byte(measured.Page()), 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "measuring the source:", err)
			os.Exit(1)
		}
		return
	}
	if *evidence {
		fmt.Print(docgen.Evidence())
		return
	}
	if err := printPages(context.Background(), "."); err != nil {
		fmt.Fprintln(os.Stderr, "printing the documents:", err)
		os.Exit(1)
	}
}

// printPages writes the pages that changed, and prints their names.
func printPages(ctx context.Context, root string) error {
	list := exec.CommandContext(ctx, "go", "run", "./cmd/qrjump", "help", "--all", "--output=json")
	list.Dir, list.Stderr = root, os.Stderr
	commands, err := list.Output()
	if err != nil {
		return fmt.Errorf("asking qrjump for its commands: %w", err)
	}
	pages, err := docgen.Pages(ctx, root, commands)
	if err != nil {
		return err
	}
	for _, name := range docgen.Stale(root, pages) {
		fmt.Println(name)
	}
	return docgen.Write(root, pages)
}
