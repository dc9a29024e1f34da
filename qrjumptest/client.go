package qrjumptest

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/client"
)

// patience is the timeout of one call of a test. It promises nothing about the server: it is so long that even a busy machine of CI
// never needs it.
const patience = 5 * time.Minute

// As returns a client that calls the wire for an account. Its errors have types:
// *client.WireError for a number other than 0, *client.Problem for the scan and the
// admin API, *client.Unreachable where nothing answers.
func (s *Server) As(appid, secret string) *client.Client {
	s.t.Helper()
	c, err := client.New(s.URL, client.Options{AppID: appid, Secret: secret})
	if err != nil {
		s.t.Fatalf("a client of qrjump: %v", err)
	}
	return c
}

// Operator returns a client of the scan API and the admin API, which need no secret in a test.
func (s *Server) Operator() *client.Client {
	s.t.Helper()
	return s.As("", "")
}

// callContext bounds the time of one call.
func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// Freeze stops the server's clock, so that what a test reads of it is exact. Advance
// still moves it on; Run lets it run again from where it is.
func (s *Server) Freeze() {
	s.t.Helper()
	s.operate("stopping the clock", func(ctx context.Context, c *client.Client) error { return c.Emulator.FreezeClock(ctx) })
}

// Run lets a frozen clock run on.
func (s *Server) Run() {
	s.t.Helper()
	s.operate("starting the clock", func(ctx context.Context, c *client.Client) error { return c.Emulator.ResumeClock(ctx) })
}

// Calls lists what was called on the wire, newest first, with request, answer and
// what was wrong; secrets are masked. The last 1,000 are kept.
func (s *Server) Calls(q client.CallQuery) (list []client.RecordedCall) {
	s.t.Helper()
	s.operate("reading the calls", func(ctx context.Context, c *client.Client) error {
		page, err := c.Calls.List(ctx, q)
		list = page.Calls
		return err
	})
	return list
}

// Explain says what a scan by a user would open, and for each rule near the link why it opens it or
// not. It does not count as a scan. The user may be "".
func (s *Server) Explain(user, text string) (e client.Explanation) {
	s.t.Helper()
	s.operate("explaining "+text, func(ctx context.Context, c *client.Client) (err error) {
		e, err = c.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: text, User: user}})
		return err
	})
	return e
}

// Codes are the codes of one application.
type Codes struct {
	ID    int64 // application_id
	Count int64

	s     *Server
	owner *client.Client
}

// Apply applies for codes of an account, a multiple of 10,000, and waits until they
// are there. The account needs the feature marketcode; wxc0ffee0000000002 with
// c0ffee00000000000000000000000002 has it without a seed.
func (s *Server) Apply(appid, secret string, count int64) Codes {
	s.t.Helper()
	codes := Codes{Count: count, s: s, owner: s.As(appid, secret)}
	ctx, cancel := callContext()
	defer cancel()
	id, err := codes.owner.Wire.ApplyCodes(ctx, count, fmt.Sprintf("test-%d", time.Now().UnixNano()))
	if err != nil {
		s.t.Fatalf("applying for %d codes of %s: %v", count, appid, err)
	}
	codes.ID = id
	for {
		a, err := codes.owner.Wire.GetApplication(ctx, client.ApplicationKey{ID: id})
		if err != nil {
			s.t.Fatalf("asking for application %d: %v", id, err)
		}
		if a.Status == "FINISH" {
			return codes
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Activate makes the codes from one index to another, both included, open what a binding says.
func (c Codes) Activate(from, to int64, b client.CodeBinding) {
	c.s.t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	if err := c.owner.Wire.ActivateCodes(ctx, c.ID, client.CodeRange{From: from, To: to}, b); err != nil {
		c.s.t.Fatalf("activating %d to %d of application %d: %v", from, to, c.ID, err)
	}
}

// Look returns a code by its index: its text, which Scan takes, and its state.
func (c Codes) Look(index int64) (code client.StoredCode) {
	c.s.t.Helper()
	c.s.operate(fmt.Sprintf("looking at code %d of application %d", index, c.ID), func(ctx context.Context, o *client.Client) (err error) {
		code, err = o.Codes.Get(ctx, client.CodeName{ID: c.ID, Index: index})
		return err
	})
	return code
}

// Text returns the text that a camera reads from a code.
func (c Codes) Text(index int64) string {
	c.s.t.Helper()
	return c.Look(index).CodeURL
}

// operate makes calls as the operator; an error fails the test.
func (s *Server) operate(kind string, do func(context.Context, *client.Client) error) {
	s.t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	if err := do(ctx, s.Operator()); err != nil {
		s.t.Fatalf("%s: %v", kind, err)
	}
}
