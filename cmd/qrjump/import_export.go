package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/qrjump/qrjump/client"
)

// linesExport holds the flags of commands that write JSON lines.
type linesExport struct {
	adminAccess
	File string `arg:"" file:"out,self"`
}

type importer func(context.Context, io.Reader, bool) (client.Imported, error)

func (c *linesExport) write(s *session, kind string, export func(context.Context, io.Writer) error) error {
	if c.File == "-" {
		return failed("export", kind, export(s.ctx, s.out))
	}
	size, err := replaceFile(c.File, func(w io.Writer) error { return export(s.ctx, w) })
	if err != nil {
		return failed(tr("lines.export_to", localizeOr("thing."+kind, kind)), c.File, err)
	}
	_, err = printMsg(s.out, "lines.exported_all_to", localizeOr("thing."+kind, kind), plain(c.File), counted(int(size), "byte"))
	return err
}

type ruleExport struct{ linesExport }

// Run exports all rules.
func (c *ruleExport) Run(s *session, qrjump *client.Client) error {
	return c.write(s, "rules", qrjump.Rules.Export)
}

type accountExport struct{ linesExport }

// Run exports all accounts.
func (c *accountExport) Run(s *session, qrjump *client.Client) error {
	return c.write(s, "accounts", qrjump.Accounts.Export)
}

// linesImport holds the flags of commands that import JSON lines.
type linesImport struct {
	operator
	File   string `arg:"" file:"in,self"`
	DryRun bool
}

func (c *linesImport) load(s *session, noun string, load importer) error {
	in, size := s.in, int64(-1)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return usageError(err.Error())
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil || info.IsDir() {
			return misused("lines.not_a_file", c.File)
		}
		in, size = f, info.Size()
	}
	in, finish := followUpload(s, in, size)
	done, err := load(s.ctx, in, c.DryRun)
	finish()
	return c.print(s, done, failed("import", c.File, withInvalidLines(err)), func(w io.Writer) {
		did := textOr(c.DryRun, tr("lines.would_import"), tr("lines.imported"))
		printMsg(w, "lines.new_changed_as_before", did, counted(done.Lines, noun), done.Added, done.Changed, done.Unchanged)
	})
}

// withInvalidLines adds the invalid lines to the error of a rejected import, as details.
func withInvalidLines(err error) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || len(p.Errors) == 0 {
		return err
	}
	details := mapped(p.Errors, func(e client.ProblemError) string { return strings.TrimSpace(e.Location + ": " + e.Message) })
	return hintError{error: errors.New(p.Detail), next: tr("lines.invalid"), details: details}
}

// followUpload shows a progress bar for an upload if standard error is a terminal.
func followUpload(s *session, in io.Reader, size int64) (followed io.Reader, finish func()) {
	out, ok := s.err.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return in, func() {}
	}
	shown := progressbar.NewOptions64(size, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription("importing"),
		progressbar.OptionShowBytes(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))
	reader := progressbar.NewReader(in, shown)
	return &reader, func() { _ = shown.Clear() } // An error here only means that the terminal is gone.
}

type ruleImport struct{ linesImport }

// Run loads rules.
func (c *ruleImport) Run(s *session, qrjump *client.Client) error {
	return c.load(s, "rule", qrjump.Rules.Import)
}

type accountImport struct {
	linesImport
	passphraseFlags
}

// Run loads accounts: lines, or an archive of accounts.
func (c *accountImport) Run(s *session, qrjump *client.Client) error {
	return c.load(s, "account", func(ctx context.Context, in io.Reader, dryRun bool) (client.Imported, error) {
		lines := bufio.NewReader(in)
		if begin, _ := lines.Peek(2); string(begin) != "\x1f\x8b" { // a gzip file
			return qrjump.Accounts.Import(ctx, lines, dryRun)
		}
		if dryRun {
			return client.Imported{}, misused("lines.archive_without_dry_run")
		}
		word, err := c.passphrase(s, false)
		if err != nil {
			return client.Imported{}, err
		}
		return qrjump.Accounts.ImportArchive(ctx, word, lines)
	})
}
