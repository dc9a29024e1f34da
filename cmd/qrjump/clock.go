package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/client"
)

type clockShow struct{ operator }

// Run shows the emulator's clock.
func (c *clockShow) Run(s *session, qrjump *client.Client) error {
	return c.clock(s, qrjump, "show the clock", nil)
}

// clock makes a move, if there is one, and shows the clock.
func (o operator) clock(s *session, qrjump *client.Client, did string, move func() error) error {
	if move != nil {
		err := move()
		if isProblem(err, http.StatusConflict) {
			p, _ := errors.AsType[*client.Problem](err)
			return coded{advised{error: fmt.Errorf("%s: %s", did, p.Detail), next: "qrjump reset goes back to the seed and to real time"},
				exitRefused}
		}
		if err != nil {
			return emulated(did, err)
		}
	}
	now, err := qrjump.Clock(s.ctx)
	if err != nil {
		return emulated(did, err)
	}
	return o.print(s, now, func(w io.Writer) { fmt.Fprintln(w, clockText(now)) })
}

// clockText says in words what a clock shows.
func clockText(c client.Clock) string {
	text := "the clock shows " + when(c.Now)
	if c.Frozen {
		text += " and stands still"
	}
	if c.Real.IsZero() {
		return text
	}
	ahead := c.Now.Sub(c.Real).Round(time.Second)
	switch {
	case ahead == 0 && !c.Frozen:
		return text + ", which is real time"
	case ahead < 0:
		return text + ", " + longTime(-ahead) + " behind real time"
	}
	return text + ", " + longTime(ahead) + " ahead of real time"
}

// longTime is a duration, with its days where it has many.
func longTime(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 3*day {
		return d.String()
	}
	return fmt.Sprintf("%d days and %s", d/day, d%day)
}

type clockSet struct {
	operator
	Time string `arg:"" placeholder:"TIME"`
}

// Run sets the clock.
func (c *clockSet) Run(s *session) error {
	at, err := time.Parse(time.RFC3339, c.Time)
	if err != nil {
		return misused("%q: want a time such as 2026-01-31T15:04:05Z; to move the clock by a time: qrjump clock advance 36h", c.Time)
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	return c.clock(s, qrjump, "set the clock to "+c.Time, func() error { return qrjump.SetClock(s.ctx, at) })
}

type clockAdvance struct {
	operator
	By time.Duration `arg:""`
}

// Run moves the clock on.
func (c *clockAdvance) Run(s *session) error {
	if c.By <= 0 {
		return misused("%s: want a time such as 36h; the clock cannot go back", c.By)
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	return c.clock(s, qrjump, "advance the clock by "+c.By.String(), func() error { return qrjump.Advance(s.ctx, c.By) })
}

type clockFreeze struct{ operator }

// Run stops the clock.
func (c *clockFreeze) Run(s *session, qrjump *client.Client) error {
	return c.clock(s, qrjump, "freeze the clock", func() error { return qrjump.FreezeClock(s.ctx) })
}

type clockRun struct{ operator }

// Run lets the clock run on from where it stands.
func (c *clockRun) Run(s *session, qrjump *client.Client) error {
	return c.clock(s, qrjump, "let the clock run", func() error { return qrjump.RunClock(s.ctx) })
}

type clockReal struct{ operator }

// Run lets the clock follow real time again.
func (c *clockReal) Run(s *session, qrjump *client.Client) error {
	return c.clock(s, qrjump, "go back to real time", func() error { return qrjump.RealClock(s.ctx) })
}

type resetCommand struct {
	operator
	Yes bool
}

// Run brings the server back to its seed and to real time.
func (c *resetCommand) Run(s *session, qrjump *client.Client) error {
	if _, err := qrjump.Clock(s.ctx); err != nil { // before anything is asked
		return emulated("reset", err)
	}
	if err := confirmed(s, c.Yes, "everything on "+qrjump.URL()+" that its seed does not say is lost"); err != nil {
		return err
	}
	err := qrjump.Reset(s.ctx)
	return c.outcome(s, map[string]any{"reset": true}, emulated("reset", err),
		"the server is back at its seed and at real time; scan keys and the admin token stay")
}
