package main

import (
	"fmt"
	"io"

	"github.com/qrjump/qrjump/internal/server"
)

type drillCommand struct {
	passphraseFlags
	outputFlags
	File string `arg:"" help:"The archive that qrjump export made."`
}

// Run restores an archive into a temporary folder, tries it, and removes it.
func (c *drillCommand) Run(s *session) error {
	r, err := server.Drill(s.ctx, c.File, func() (string, error) { return c.passphrase(s, false) })
	if err != nil {
		return failed("drill", c.File, err)
	}
	return c.print(s, r, func(w io.Writer) { printDrill(w, c.File, r) })
}

func printDrill(w io.Writer, file string, r server.DrillReport) {
	rows := [][]string{
		{"archive", fmt.Sprintf("%s, exported at %s by %s from %s, schema %d", plain(file), when(r.CreatedAt),
			plain(r.Program), plain(r.Engine), r.Schema)},
		{"restored", fmt.Sprintf("%s of %s in %v, %s", counted(int(r.Rows), "row"), counted(r.Tables, "table"), r.Restored.Round(1e6),
			r.Compared())},
		{"started", fmt.Sprintf("ready after %v: every key opens", r.Started.Round(1e6))},
		{"rules", fmt.Sprintf("%d of %s published; %d scans of them open, %d do not and say why", r.Published, counted(r.Rules, "rule"),
			r.Opened, r.Explained)},
		{"codes", fmt.Sprintf("%s: %d codes of them made, read and found again", counted(r.Batches, "batch"), r.Codes)},
	}
	printTable(w, []string{"STEP", "FOUND"}, rows)
	fmt.Fprintln(w, "this archive restores; nothing of the drill is left behind")
}
