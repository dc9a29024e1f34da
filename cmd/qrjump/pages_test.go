package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/qrjump/qrjump/internal/guide/tables"
)

// The pages of the documents that are tables of the code say what the code says. They are printed by docs/print.
func TestPagesAreFresh(t *testing.T) {
	var commands bytes.Buffer
	if code := run(session{ctx: t.Context(), out: &commands, err: io.Discard}, []string{"__commands"}); code != exitDone {
		t.Fatalf("__commands ends with %d", code)
	}
	pages, err := tables.Pages(t.Context(), "../..", commands.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 90 {
		t.Errorf("%d pages are printed, wanted more than 90", len(pages))
	}
	for _, name := range tables.Stale("../..", pages) {
		t.Errorf("%s is not what the code says: run %s in the folder of the repository, and read the diff", name, tables.Command)
	}
}

func TestEveryCommandHasHelpAndAnExample(t *testing.T) {
	for _, verb := range commandModel(t).Leaves(true) {
		if verb.Help == "" || verb.Tag.Get("example") == "" || verb.Group == nil {
			t.Errorf("%s has no help, no example or no group", verb.Path())
		}
	}
}
