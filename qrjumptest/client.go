package qrjumptest

import (
	"context"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/client"
)

// patience is the timeout of one call of a test. The timeout is this long because of busy CI machines; calls are usually much faster.
const patience = 5 * time.Minute

// As returns a client that calls the wire API for an account. Errors have the type *client.WireError (an errcode other than 0),
// *client.Problem (scan API and admin API), or *client.Unreachable (no server responds).
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

// callContext returns a context with the timeout of one call.
func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// Freeze stops the server's clock, so that a test can read exact times. Advance can move a frozen clock forward; Run resumes the
// clock from its current time.
func (s *Server) Freeze() {
	s.t.Helper()
	s.operate("stopping the clock", func(ctx context.Context, c *client.Client) error { return c.Emulator.FreezeClock(ctx) })
}

// Run resumes a frozen clock.
func (s *Server) Run() {
	s.t.Helper()
	s.operate("starting the clock", func(ctx context.Context, c *client.Client) error { return c.Emulator.ResumeClock(ctx) })
}

// Calls lists the calls of the wire API, newest first, with request, response and error; secrets are masked. The server keeps the
// last 1,000 calls.
func (s *Server) Calls(q client.CallQuery) (list []client.RecordedCall) {
	s.t.Helper()
	s.operate("reading the calls", func(ctx context.Context, c *client.Client) error {
		page, err := c.Calls.List(ctx, q)
		list = page.Calls
		return err
	})
	return list
}

// Explain returns the result that a user's scan would have. For each rule with a prefix similar to the link, Explain also returns why the
// rule matches or does not match. An explanation is not recorded as a scan. An empty user means an anonymous scan.
func (s *Server) Explain(user, text string) (e client.Explanation) {
	s.t.Helper()
	s.operate("explaining "+text, func(ctx context.Context, c *client.Client) (err error) {
		e, err = c.Scans.Explain(ctx, client.ExplainRequest{ScanRequest: client.ScanRequest{Text: text, User: user}})
		return err
	})
	return e
}

// Codes represents the codes of one application.
type Codes struct {
	ID    int64 // application_id
	Count int64

	s     *Server
	owner *client.Client
}

// Apply applies for codes as an account, and waits until the codes are produced; count is a multiple of 10,000. The account needs the
// feature marketcode; without a seed file, the account wxc0ffee0000000002 with the secret c0ffee00000000000000000000000002 has the feature.
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

// Activate binds the codes from one index to another, both included, to a page.
func (c Codes) Activate(from, to int64, b client.CodeBinding) {
	c.s.t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	if err := c.owner.Wire.ActivateCodes(ctx, c.ID, client.CodeRange{From: from, To: to}, b); err != nil {
		c.s.t.Fatalf("activating %d to %d of application %d: %v", from, to, c.ID, err)
	}
}

// Get returns a code by its index, with its state and the text that Scan accepts.
func (c Codes) Get(index int64) (code client.StoredCode) {
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
	return c.Get(index).CodeURL
}

// operate makes calls of the admin API; an error fails the test.
func (s *Server) operate(kind string, do func(context.Context, *client.Client) error) {
	s.t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	if err := do(ctx, s.Operator()); err != nil {
		s.t.Fatalf("%s: %v", kind, err)
	}
}
