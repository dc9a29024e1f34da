package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

type batchImport struct {
	operator
	Files          []string `arg:"" name:"file|range" file:"in" absent:""`
	Account        string   `placeholder:"APPID"`
	ISV            string   `name:"isv" placeholder:"ID"`
	Undo           int64    `placeholder:"ID"`
	Note           string   `placeholder:"TEXT"`
	Application    int64    `placeholder:"ID"`
	Count          int64    `placeholder:"N"`
	Text           string   `placeholder:"TEMPLATE"`
	Format         string   `enum:",columns,lines,csv" default:"" placeholder:"columns|lines|csv"`
	Column         string   `placeholder:"NAME"`
	GTIN           string   `name:"gtin" placeholder:"GTIN"`
	FixedDigits    string   `placeholder:"DIGITS"`
	AllowGuessable bool
	Actor          string `placeholder:"WHO"`
	confirmFlag
}

// importAtOnce is the number of lines per call; it is limited because other writers wait until the transaction of a call ends.
const importAtOnce = 10_000

// importPart is a file of an import.
type importPart struct {
	name  string
	codes client.CodeRange
	texts bool // true = the file is a list of texts
}

// Run checks the files, starts the import batch, and uploads several thousand codes per call. The import is idempotent, so an interrupted
// run can be repeated with the same files.
func (c *batchImport) Run(s *session, qrjump *client.Client) error {
	if c.Undo != 0 {
		return c.undo(s, qrjump)
	}
	if c.Account == "" || c.ISV == "" {
		return misused("batch_import.missing_owner")
	}
	begin := client.NewImport{ISV: c.ISV, ID: c.Application, Count: c.Count, Actor: c.Actor, Text: c.Text, GTIN: c.GTIN,
		FixedDigits: c.FixedDigits, AllowGuessable: c.AllowGuessable}
	read := c.readColumns
	if texts, err := c.takesTexts(); err != nil {
		return err
	} else if texts {
		read = c.readTexts
	}
	parts, lines, err := read(s, &begin)
	if err != nil {
		return err
	}
	b, err := qrjump.Batches.CreateImport(s.ctx, c.Account, begin)
	if err != nil {
		return fault("batch_import.import_codes_of", plain(c.Account), err)
	}
	progress := newBar(s, lines, "importing")
	defer progress.end()
	var done client.CodesImported
	for _, part := range parts {
		if err := c.sendPart(s, qrjump, b.ID, part, &done, progress); err != nil {
			progress.end()
			if p, ok := errors.AsType[*client.Problem](err); ok && p.Status < http.StatusInternalServerError && b.Arrived == 0 {
				return undoImport(s, qrjump, b, c.Actor, err)
			}
			if done.Lines == 0 {
				return err
			}
			return hintError{error: err, next: tr("batch_import.came_before_that_and_stay", countedCodes(done.Lines))}
		}
	}
	progress.end()
	answer := map[string]any{"application_id": b.ID, "codes": done.Lines, "added": done.Added, "available": done.Available}
	return c.print(s, answer, nil, func(w io.Writer) {
		printMsg(w, "batch_import.imported_as_application_of_them", countedCodes(done.Lines), b.ID, done.Added)
		if done.Available < b.Count {
			printMsg(w, "batch_import.of_its_are_here_it", done.Available, countedCodes(b.Count))
		}
	})
}

// undoImport undoes the import that this run started, because the server rejected one of its lines.
func undoImport(s *session, qrjump *client.Client, b client.Batch, actor string, refused error) error {
	for {
		all := client.ImportToUndo{To: b.Count - 1, Note: tr("batch_import.the_import_was_refused"), Actor: actor}
		done, err := qrjump.Batches.UndoImport(s.ctx, b.ID, all)
		if err != nil {
			return hintError{error: refused, next: tr("batch_import.the_application_was_begun_and", err, b.ID)}
		}
		if !done.More {
			return hintError{error: refused, next: tr("batch_import.nothing_imported")}
		}
	}
}

// readColumns reads and checks all files before the import, and sets those parameters of the import that the files determine.
func (c *batchImport) readColumns(s *session, begin *client.NewImport) (parts []importPart, lines int64, err error) {
	for _, name := range c.Files {
		part := importPart{name: name, codes: client.CodeRange{From: -1}}
		f, err := os.Open(name)
		if err != nil {
			return nil, 0, absent(err)
		}
		for l, err := range codes.ImportLines(f, 1) {
			prefix := ""
			if err = cmp.Or(err, s.ctx.Err()); err == nil && c.Text == "" {
				prefix, _, err = l.Cut()
			}
			if err == nil && begin.Prefix != "" && prefix != begin.Prefix {
				err = fault("batch_import.the_text_of_line_begins", l.Number)
			}
			if err != nil {
				_ = f.Close()
				return nil, 0, fault("batch_import.read_nothing_was_imported", plain(name), err)
			}
			if part.codes.From < 0 {
				part.codes.From, begin.Prefix = l.Index, prefix
			}
			part.codes.To = l.Index
		}
		_ = f.Close()
		if part.codes.From < 0 {
			return nil, 0, fault("batch_import.read_it_has_no_line", plain(name))
		}
		parts, lines = append(parts, part), lines+part.codes.Len()
	}
	slices.SortStableFunc(parts, func(a, b importPart) int { return cmp.Compare(a.codes.From, b.codes.From) })
	if begin.Count > 0 {
		return parts, lines, nil
	}
	for _, part := range parts {
		if part.codes.From > begin.Count {
			return nil, 0, fault("batch_import.read_nothing_was_imported_it", plain(part.name), part.codes.From, begin.Count)
		}
		begin.Count = max(begin.Count, part.codes.To+1)
	}
	return parts, lines, nil
}

// sendPart uploads the codes of a file.
func (c *batchImport) sendPart(s *session, api *client.Client, id int64, part importPart, done *client.CodesImported, progress *bar) error {
	if part.texts {
		return c.bringTexts(s, api, id, part, done, progress)
	}
	f, err := os.Open(part.name)
	if err != nil {
		return absent(err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for line := int64(0); line < part.codes.Len(); {
		piece, err := readLines(in, importAtOnce)
		if err != nil {
			return fault("batch_import.read_after_line", plain(part.name), line, err)
		}
		if len(piece) == 0 {
			return fault("batch_import.read_it_changed_while_it", plain(part.name), line)
		}
		imported, err := api.Batches.ImportCodes(s.ctx, id, client.CodeImportQuery{Line: line + 1, Actor: c.Actor}, bytes.NewReader(piece))
		if err != nil {
			return aboutBatch(tr("batch_import.import_into", plain(part.name)), id, err)
		}
		line += imported.Lines
		done.Lines, done.Added, done.Available = done.Lines+imported.Lines, done.Added+imported.Added, imported.Available
		progress.add(int(imported.Lines))
	}
	return nil
}

// readLines reads up to limit lines; text is empty at the end of the file.
func readLines(in *bufio.Reader, limit int) (text []byte, err error) {
	for range limit {
		line, err := in.ReadBytes('\n')
		text = append(text, line...)
		if errors.Is(err, io.EOF) {
			return text, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return text, nil
}

// undo deletes imported codes, several thousand per call.
func (c *batchImport) undo(s *session, qrjump *client.Client) error {
	want, all, err := parseRange(c.Files)
	if err != nil {
		return err
	}
	b, err := qrjump.Batches.Get(s.ctx, c.Undo)
	if err != nil {
		return aboutBatch(tr("batch_import.undo"), c.Undo, err)
	}
	if all {
		want = client.CodeRange{To: b.Count - 1}
	}
	if err := c.confirmed(s, tr("batch_import.codes_deleted", countedCodes(want.Len()), c.Undo)); err != nil {
		return err
	}
	progress := newBar(s, min(want.Len(), b.Arrived), tr("batch_import.undoing"))
	defer progress.end()
	var taken int64
	for {
		done, err := qrjump.Batches.UndoImport(s.ctx, c.Undo, client.ImportToUndo{From: want.From, To: want.To, Note: c.Note,
			Actor: c.Actor})
		if err != nil {
			progress.end()
			err = aboutBatch(tr("batch_import.undo"), c.Undo, err)
			if taken > 0 {
				err = hintError{error: err, next: countedCodes(taken) + tr("batch_import.undone_before")}
			}
			return err
		}
		taken += done.Removed
		progress.add(int(done.Removed))
		if done.More {
			continue
		}
		progress.end()
		return c.print(s, map[string]any{"application_id": c.Undo, "removed": taken, "available": done.Available}, nil, func(w io.Writer) {
			if all || want.Len() == b.Count {
				printMsg(w, "batch_import.undone", countedCodes(taken), c.Undo)
				return
			}
			printMsg(w, "batch_import.undone_in_part", countedCodes(taken), c.Undo, done.Available)
		})
	}
}
