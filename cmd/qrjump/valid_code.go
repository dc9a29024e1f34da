package main

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/print/labels"
)

// probeWithin is the timeout of a request that asks the server to check texts.
const probeWithin = 5 * time.Second

// codeCheck finds texts that look like codes of a server but are no valid codes; labels with such texts would open nothing.
type codeCheck struct {
	s        *session
	scanner  *client.Client // If scanner is nil, no server can be queried, and only the form of a text is checked.
	operator *client.Client // operator lists the codes of an application; without operator, each text needs its own request.
	prefix   string         // The prefix of the server's codes; the default prefix until a response contains the server's prefix.
}

// The method codeCheck returns a check of texts that queries the server that the flags select.
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

// rows checks a page of rows with consecutive indexes; it returns the position of the first row with an invalid text, and the error. A text
// that is in the application's code list needs no request of its own.
func (c *codeCheck) rows(id int64, page []labels.Row) (n int, err error) {
	listed := map[int64]string{}
	if c.operator != nil && len(page) > 0 {
		parent, cancel := context.WithTimeout(c.s.ctx, probeWithin)
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

// form returns an error for a text that has the code prefix but not the form of a code.
func (c *codeCheck) form(text string) error {
	if codes.HasPrefix(text, c.prefix) && !codes.HasForm(text, c.prefix) {
		return misused("symbol.no_code", text, c.prefix)
	}
	return nil
}

// text returns an error if a server would treat the text as a code but the code is not valid; a text that a rule opens is no error.
func (c *codeCheck) text(text string) error {
	if c.scanner == nil {
		return c.form(text)
	}
	parent, cancel := context.WithTimeout(c.s.ctx, probeWithin)
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
		return nil // The server looks up the GS1 key in the text, so the text is no code.
	}
	if opensNone || e.Reason == string(codes.UnknownCode) {
		return misused("symbol.no_code", text, c.prefix)
	}
	return nil
}
