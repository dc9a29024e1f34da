package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/store/archive"
)

// passphraseFlags select the source of an archive's passphrase. The passphrase is never a flag value, because the process list
// would show it.
type passphraseFlags struct {
	PassphraseFile string `env:"QRJUMP_PASSPHRASE_FILE" placeholder:"FILE" file:"in"`
}

// passphrase returns the passphrase; if repeat is true, the user must type the passphrase twice.
func (p passphraseFlags) passphrase(s *session, repeat bool) (string, error) {
	if p.PassphraseFile != "" {
		f, err := os.Open(p.PassphraseFile)
		if err != nil {
			return "", misused("backup.passphrase_file", err)
		}
		defer f.Close()
		line, err := firstLine(f)
		if err != nil {
			return "", fault("backup.passphrase_file_2", err)
		}
		if line == "" {
			return "", misused("backup.passphrase_file_its_first_line", p.PassphraseFile)
		}
		return line, nil
	}
	if word := os.Getenv("QRJUMP_PASSPHRASE"); word != "" {
		return word, nil
	}
	terminal, ok := fileOf(s.in)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", misused("backup.the_passphrase_is_missing_give")
	}
	ask := func(question string) (string, error) {
		fmt.Fprint(s.err, question)
		word, err := typed(s.ctx, int(terminal.Fd()))
		fmt.Fprintln(s.err)
		return string(word), err
	}
	word, err := ask(tr("backup.passphrase_of_the_archive"))
	if err != nil || !repeat {
		return word, err
	}
	if second, err := ask(tr("backup.repeat_passphrase")); err != nil || second != word {
		return "", errors.Join(err, fault("backup.passphrases_differ"))
	}
	return word, nil
}

// typed reads a line without echo; Ctrl-C ends the read and restores the echo of the terminal.
func typed(ctx context.Context, terminal int) ([]byte, error) {
	oldState, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	word, err := unlessEnded(ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	if ctx.Err() != nil {
		_ = term.Restore(terminal, oldState)
		return nil, fault("ask.interrupted_nothing_was_done")
	}
	return word, err
}

type exportCommand struct {
	adminAccess
	passphraseFlags
	Account []string `placeholder:"APPID"`
	File    string   `arg:"" file:"out"`
}

// Run exports an archive to a temporary file in the target's folder, verifies the archive, and then gives the file its final name.
func (c *exportCommand) Run(s *session, qrjump *client.Client) error {
	word, err := c.passphrase(s, true)
	if err != nil {
		return err
	}
	if err := archive.CheckPassphrase(word); err != nil {
		return usageError(err.Error())
	}
	var m archive.Manifest
	size, err := atomicfile.Write(c.File, 0o600, func(f *os.File) error {
		if err := qrjump.Archive.Export(s.ctx, word, c.Account, f); err != nil {
			return err
		}
		m, err = checked(f)
		return err
	})
	if err != nil {
		return failed(tr("backup.export_to"), c.File, err)
	}
	_, err = printMsg(s.out, "backup.exported_of_to", counted(int(m.Rows()), "row"), counted(len(m.Tables()), "table"), c.File,
		counted(int(size), "byte"))
	return err
}

// checked verifies an archive that was just written.
func checked(f *os.File) (archive.Manifest, error) {
	info, err := f.Stat()
	if err != nil {
		return archive.Manifest{}, err
	}
	a, err := archive.Open(f, info.Size())
	if err != nil {
		return archive.Manifest{}, err
	}
	return a.Manifest, a.Check()
}

type importCommand struct {
	passphraseFlags
	Data     string `env:"QRJUMP_DATA" default:"./qrjump-data" placeholder:"DIR"`
	Database string `env:"QRJUMP_DATABASE" placeholder:"URL"`
	File     string `arg:"" file:"in"`
}

// Run loads an archive into an empty database.
func (c *importCommand) Run(s *session) error {
	m, err := server.Import(s.ctx, server.Config{Data: c.Data, Database: c.Database, MasterKey: os.Getenv("QRJUMP_MASTER_KEY")}, c.File,
		func() (string, error) {
			return c.passphrase(s, false)
		})
	if err != nil {
		return failed("import", c.File, err)
	}
	printMsg(s.out, "backup.imported_of_exported_at_by", counted(int(m.Rows()), "row"), counted(len(m.Tables()), "table"),
		formatTime(m.CreatedAt), plain(m.Program))
	for _, table := range m.Tables() {
		if table.Name == "tables/batches.ndjson" && table.Rows > 0 {
			printMsg(s.out, "backup.if_the_old_server_gave", codes.FloorAt(time.Now()))
		}
	}
	return nil
}
