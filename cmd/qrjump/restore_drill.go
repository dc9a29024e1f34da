package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

type restoreDrill struct {
	passphraseFlags
	operator
	File string `arg:"" file:"in"`
	Note bool
}

// Run restores an archive into a temporary folder, tests the restored data, and removes the folder.
func (c *restoreDrill) Run(s *session) error {
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

// note reports the drill's result to the server. An interrupted drill, or a drill with a missing file, has no result to report.
func (c *restoreDrill) note(s *session, r server.DrillReport, found error) error {
	if s.ctx.Err() != nil || errors.Is(found, fs.ErrNotExist) {
		return nil
	}
	if _, isMine := errors.AsType[usageError](found); isMine {
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
		err = qrjump.Archive.RecordDrill(s.ctx, d)
	}
	if err != nil {
		return fault("drill.note_the_drill", err)
	}
	return nil
}

func printDrill(w io.Writer, file string, r server.DrillReport) {
	rows := [][]string{
		{"archive", said("drill.exported_at_by_from_schema", plain(file), formatTime(r.CreatedAt),
			plain(r.Program), plain(r.Engine), r.Schema)},
		{"restored", said("drill.of_in", counted(int(r.Rows), "row"), counted(r.Tables, "table"), r.Restored.Round(1e6),
			inReader(errors.New(r.Compared())))},
		{"started", said("drill.ready_after_every_key_opens", r.Started.Round(1e6))},
		{"rules", said("drill.of_published_scans_of_them", r.Published, counted(r.Rules, "rule"),
			r.Opened, r.Explained)},
		{"codes", said("drill.codes_of_them_made_read", counted(r.Batches, "batch"), r.Codes)},
	}
	printTable(w, []string{"STEP", "FOUND"}, rows)
	tell(w, "drill.this_archive_restores_nothing_of")
}
