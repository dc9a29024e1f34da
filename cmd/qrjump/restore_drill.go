package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
)

type restoreDrill struct {
	passphraseFlags
	operator
	File     string `arg:"" optional:"" file:"in"`
	Database string `placeholder:"URL"`
	Note     bool
}

// Run tests a backup: it restores an archive into a temporary folder and tests the data there, or it tests a database (--database).
func (c *restoreDrill) Run(s *session) error {
	if (c.File == "") == (c.Database == "") {
		return misused("drill.file_or_database")
	}
	name := c.File
	var r server.DrillReport
	var err error
	if c.Database == "" {
		r, err = server.Drill(s.ctx, c.File, func() (string, error) { return c.passphrase(s, false) })
	} else {
		name = "--database"
		r, err = c.drillDatabase(s)
	}
	if c.Note {
		if noted := c.note(s, r, err); noted != nil {
			return errors.Join(noted, failed("drill", name, err))
		}
	}
	return c.print(s, r, failed("drill", name, err), func(w io.Writer) { printDrill(w, c.File, r) })
}

// drillDatabase tests a restored database with the master key of QRJUMP_MASTER_KEY or of the data folder.
func (c *restoreDrill) drillDatabase(s *session) (server.DrillReport, error) {
	key := os.Getenv("QRJUMP_MASTER_KEY")
	if key == "" {
		text, err := os.ReadFile(filepath.Join(cmp.Or(c.Data, server.Default().Data), "master.key"))
		if err != nil {
			return server.DrillReport{}, misused("drill.master_key", err)
		}
		key = strings.TrimSpace(string(text))
	}
	return server.DrillDatabase(s.ctx, c.Database, key)
}

// note reports the drill's result to the server. Nothing is reported if the drill was interrupted or could not begin.
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
		{"started", tr("drill.ready_after_every_key_opens", r.Started.Round(1e6))},
		{"rules", tr("drill.of_published_scans_of_them", r.Published, counted(r.Rules, "rule"),
			r.Opened, r.Explained)},
		{"codes", tr("drill.codes_of_them_made_read", counted(r.Batches, "batch"), r.Codes)},
	}
	if file == "" {
		rows = append(rows, []string{"changes", tr("drill.log_and_rows_match", counted(int(r.Changes), "change"))})
		printTable(w, []string{"STEP", "FOUND"}, rows)
		printMsg(w, "drill.database_works")
		return
	}
	rows = append([][]string{
		{"archive", tr("drill.exported_at_by_from_schema", plain(file), formatTime(r.CreatedAt),
			plain(r.Program), plain(r.Engine), r.Schema)},
		{"restored", tr("drill.of_in", counted(int(r.Rows), "row"), counted(r.Tables, "table"), r.Restored.Round(1e6),
			inReader(errors.New(r.Compared())))},
	}, rows...)
	printTable(w, []string{"STEP", "FOUND"}, rows)
	printMsg(w, "drill.this_archive_restores_nothing_of")
}
