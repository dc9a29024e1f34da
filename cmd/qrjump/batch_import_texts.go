package main

import (
	"bytes"
	"cmp"
	"os"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// takesTexts reports whether the files are lists of texts, and returns an error if the format flags contradict the kind of file.
func (c *batchImport) takesTexts() (bool, error) {
	token := strings.Contains(c.Text, "{token:")
	switch {
	case !token && (c.Format == "lines" || c.Format == "csv" || c.Column != ""):
		return false, misused("batch_import.lists_want_token")
	case token && c.Format == "columns":
		return false, misused("batch_import.texts_have_no_columns")
	case (c.Format == "csv") != (c.Column != "") && c.Format != "":
		return false, misused("batch_import.csv_wants_column")
	}
	return token, nil
}

// readTexts reads the lists once, and checks every text before any of them is sent.
func (c *batchImport) readTexts(s *session, begin *client.NewImport) (parts []importPart, lines int64, err error) {
	checker, err := codes.NewTextChecker(c.Text, codes.TemplateValues{GTIN: c.GTIN, Digits: c.FixedDigits})
	if err != nil {
		return nil, 0, usageError(err.Error())
	}
	for _, name := range c.Files {
		part := importPart{name: name, codes: client.CodeRange{From: lines, To: lines - 1}, texts: true}
		for l, err := range c.texts(name) {
			if err = cmp.Or(err, s.ctx.Err()); err == nil {
				err = codes.FaultOfLine(l.Number, checker.Add(l.Text))
			}
			if err != nil {
				return nil, 0, fault("batch_import.read_nothing_was_imported", plain(name), err)
			}
			part.codes.To++
		}
		if part.codes.Len() == 0 {
			return nil, 0, fault("batch_import.read_it_has_no_line", plain(name))
		}
		parts, lines = append(parts, part), lines+part.codes.Len()
	}
	if first, second, found := checker.Duplicate(); found {
		name, line := c.lineOf(parts, second)
		before, earlier := c.lineOf(parts, first)
		return nil, 0, fault("batch_import.text_stands_twice", plain(name), line, plain(before), earlier)
	}
	if begin.Count != 0 && begin.Count != lines {
		return nil, 0, fault("batch_import.lists_have_another_count", lines, begin.Count)
	}
	begin.Count = lines
	return parts, lines, nil
}

// texts returns an iterator over the texts in a list file.
func (c *batchImport) texts(name string) func(yield func(codes.ImportText, error) bool) {
	return func(yield func(codes.ImportText, error) bool) {
		f, err := os.Open(name)
		if err != nil {
			yield(codes.ImportText{}, absent(err))
			return
		}
		defer f.Close()
		codes.ImportTexts(f, c.Column, 1)(yield)
	}
}

// lineOf returns the file name and the line number of the text for a code index.
func (c *batchImport) lineOf(parts []importPart, index int64) (name string, line int64) {
	for _, part := range parts {
		if index > part.codes.To {
			continue
		}
		for l := range c.texts(part.name) {
			if index == part.codes.From {
				return part.name, l.Number
			}
			index--
		}
	}
	return "", 0
}

// bringTexts uploads the texts of a list. Each call sends consecutive lines only, because the server receives only the number of the first
// line of a call.
func (c *batchImport) bringTexts(s *session, qrjump *client.Client, id int64, part importPart, done *client.CodesImported,
	progress *bar) error {
	var piece bytes.Buffer
	first, count, index := int64(0), int64(0), part.codes.From
	send := func() error {
		imported, err := qrjump.Batches.ImportCodes(s.ctx, id, client.CodeImportQuery{Line: first, Start: index, Actor: c.Actor}, &piece)
		if err != nil {
			return aboutBatch(tr("batch_import.import_into", plain(part.name)), id, err)
		}
		index += imported.Lines
		done.Lines, done.Added, done.Available = done.Lines+imported.Lines, done.Added+imported.Added, imported.Available
		progress.add(int(imported.Lines))
		piece.Reset()
		count = 0
		return nil
	}
	for l, err := range c.texts(part.name) {
		if err != nil {
			return fault("batch_import.read_after_line", plain(part.name), first+count, err)
		}
		if count > 0 && (count == importAtOnce || l.Number != first+count) {
			if err := send(); err != nil {
				return err
			}
		}
		if count == 0 {
			first = l.Number
		}
		piece.WriteString(l.Text + "\n")
		count++
	}
	return send()
}
