package main

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// askWithin is the time that a server may take to say whether a text is a code of it.
const askWithin = 5 * time.Second

// codeCheck rejects texts that begin as codes of a server do and that are none: they would be printed and open nothing.
type codeCheck struct {
	s        *session
	scanner  *client.Client // nil = no server can be asked: the form alone is judged
	operator *client.Client // lists the codes of an application; nil = each text is asked about
	prefix   string         // of the codes, as far as it is known
}

// codeCheck returns the check of texts by the server of the flags.
func (f serverFlags) codeCheck(s *session, a adminFlags) *codeCheck {
	c := &codeCheck{s: s, prefix: codes.DefaultPrefix}
	loc, err := f.scan("")
	if err != nil || isPlatform(loc.url) {
		return c
	}
	if token, err := f.token(a, loc.url); err == nil {
		c.scanner, _ = f.connect(loc, client.Options{ScanKey: token})
	}
	c.operator, _ = f.asOperator(a)
	return c
}

// rows returns the first of a file's rows, one index after the other, whose text is none of the server's codes, and why it is none.
// The server is asked about a text of its own only where it is not the one that the application lists.
func (c *codeCheck) rows(id int64, page []labels.Row) (n int, err error) {
	listed := map[int64]string{}
	if c.operator != nil && len(page) > 0 {
		parent, cancel := context.WithTimeout(c.s.ctx, askWithin)
		defer cancel()
		src := rowSource{id: id, operator: c.operator}
		if err := src.listed(parent, client.CodeRange{From: page[0].Index, To: page[len(page)-1].Index}, func(r labels.Row) bool {
			listed[r.Index] = r.Text
			return true
		}); err != nil {
			c.operator = nil
		}
	}
	for i, r := range page {
		if listed[r.Index] == r.Text {
			continue
		}
		if err := c.text(r.Text); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// form returns an error for a text under the prefix that has not the form of a code.
func (c *codeCheck) form(text string) error {
	if codes.HasPrefix(text, c.prefix) && !codes.HasForm(text, c.prefix) {
		return misused("symbol.no_code", text, c.prefix)
	}
	return nil
}

// text returns an error for a text that the server would read as a code, and that is none; a text that a rule opens is no code.
func (c *codeCheck) text(text string) error {
	if c.scanner == nil {
		return c.form(text)
	}
	parent, cancel := context.WithTimeout(c.s.ctx, askWithin)
	defer cancel()
	e, err := c.scanner.Scans.Explain(parent, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: text}, AssumePublished: true})
	if err != nil {
		c.scanner = nil
		return c.form(text)
	}
	if e.CodePrefix != "" {
		c.prefix = e.CodePrefix
	}
	opensNone := e.CodePrefix != "" && (e.Action == client.OpenURL || e.Action == client.ShowText)
	if _, err := gs1.Parse(text); opensNone && err == nil {
		return nil // its key is looked up, and no code
	}
	if opensNone || e.Reason == string(codes.UnknownCode) {
		return misused("symbol.no_code", text, c.prefix)
	}
	return nil
}
