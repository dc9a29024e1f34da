package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

type drillCommand struct {
	passphraseFlags
	operator
	File string `arg:"" file:"in"`
	Note bool
}

// Run restores an archive into a temporary folder, tries it, and removes it.
func (c *drillCommand) Run(s *session) error {
	r, err := server.Drill(s.ctx, c.File, func() (string, error) { return c.passphrase(s, false) })
	if c.Note {
		if noted := c.note(s, r, err); noted != nil {
			return errors.Join(noted, failed("drill", c.File, err))
		}
	}
	if err != nil {
		return failed("drill", c.File, err)
	}
	return c.print(s, r, func(w io.Writer) { printDrill(w, c.File, r) })
}

// note tells the server what the drill found. A drill that nobody finished, or of a file
// that is not there, found nothing.
func (c *drillCommand) note(s *session, r server.DrillReport, found error) error {
	if s.ctx.Err() != nil || errors.Is(found, fs.ErrNotExist) {
		return nil
	}
	if _, mine := errors.AsType[misuse](found); mine {
		return nil
	}
	qrjump, err := c.client()
	if err == nil {
		d := client.Drill{OK: found == nil, Rows: r.Rows, Rules: int64(r.Rules), Codes: int64(r.Codes)}
		if !r.CreatedAt.IsZero() {
			d.Archive = &r.CreatedAt
		}
		if found != nil {
			d.Problem = fmt.Sprintf("%.900s", plain(found.Error()))
		}
		err = qrjump.NoteDrill(s.ctx, d)
	}
	if err != nil {
		return fmt.Errorf("note the drill: %w", err)
	}
	return nil
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
