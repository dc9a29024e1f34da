package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/codes"
)

type batchImport struct {
	operator
	File        string `arg:"" help:"The codes: a line each with dot matrix, original code, index and code text, all indexes from 0 on in their order."`
	Account     string `required:"" placeholder:"APPID" help:"The service account whose codes they are."`
	ISV         string `name:"isv" required:"" placeholder:"ID" help:"A number of your own for the application; the same again goes on with the same import."`
	Application int64  `placeholder:"ID" help:"The application_id that the codes had, if programs know it; without it they get one."`
	Actor       string `placeholder:"WHO" help:"Who did it, for the history (admin)."`
}

// importAtOnce is how many lines a call brings: other writers wait for its transaction.
const importAtOnce = 10_000

// Run looks through the file, begins the batch, and brings some thousand codes a call.
// The same file again changes nothing, so a run that broke off is repeated.
func (c *batchImport) Run(s *session) error {
	f, err := os.Open(c.File)
	if err != nil {
		return absent(err)
	}
	defer f.Close()
	begin := client.NewImport{ISV: c.ISV, ID: c.Application, Actor: c.Actor}
	for l, err := range codes.ImportLines(f, 1) {
		switch {
		case err != nil:
			return fmt.Errorf("read %s, nothing was imported: %w", plain(c.File), err)
		case l.Number == 1 && l.Index != 0:
			return fmt.Errorf("read %s, nothing was imported: line 1 has index %d: an application is imported whole, from index 0 on",
				plain(c.File), l.Index)
		case l.Number == 1:
			begin.Prefix = l.Prefix
		case l.Prefix != begin.Prefix:
			return fmt.Errorf("read %s, nothing was imported: the text of line %d begins with another prefix than that of line 1",
				plain(c.File), l.Number)
		}
		begin.Count++
	}
	if begin.Count == 0 {
		return fmt.Errorf("read %s: it has no line", plain(c.File))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s a second time: %w", plain(c.File), err)
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	b, err := qrjump.BeginImport(s.ctx, c.Account, begin)
	if err != nil {
		return fmt.Errorf("import codes of %s: %w", plain(c.Account), err)
	}
	var done client.CodesImported
	in := bufio.NewReader(f)
	for done.Lines < b.Count {
		piece, err := someLines(in, importAtOnce)
		if err != nil {
			return fmt.Errorf("read %s after line %d: %w", plain(c.File), done.Lines, err)
		}
		if len(piece) == 0 {
			return fmt.Errorf("read %s: it changed while it was imported; it has %d lines now", plain(c.File), done.Lines)
		}
		one, err := qrjump.ImportCodes(s.ctx, b.ID, done.Lines+1, c.Actor, bytes.NewReader(piece))
		if err != nil {
			return aboutBatch(fmt.Sprintf("import codes (%d are) of", done.Lines), b.ID, err)
		}
		done.Lines, done.Added, done.Have = done.Lines+one.Lines, done.Added+one.Added, one.Have
	}
	said := map[string]any{"application_id": b.ID, "codes": done.Lines, "added": done.Added, "have": done.Have}
	return c.print(s, said, func(w io.Writer) {
		fmt.Fprintf(w, "imported %s as application %d, %d of them new\n", countedCodes(done.Lines), b.ID, done.Added)
	})
}

// someLines reads up to so many lines; none at the end.
func someLines(in *bufio.Reader, most int) (text []byte, err error) {
	for range most {
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
