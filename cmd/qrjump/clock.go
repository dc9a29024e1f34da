package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type clockShow struct{ operator }

// Run shows the emulator's clock.
func (c *clockShow) Run(s *session, qrjump *client.Client) error {
	return c.clock(s, qrjump, tr("clock.show_the_clock"), nil)
}

// clock shows the emulator's clock; if the function move is not nil, clock first calls move, which changes the clock.
func (o operator) clock(s *session, qrjump *client.Client, did string, move func() error) error {
	if move != nil {
		err := move()
		if isProblem(err, http.StatusConflict) {
			p, _ := errors.AsType[*client.Problem](err)
			return exitError{hintError{error: fault("clock.of", did, p.Detail),
				next: "qrjump reset goes back to the seed and to real time"},
				exitRefused}
		}
		if err != nil {
			return emulated(did, err)
		}
	}
	currentClock, err := qrjump.Emulator.GetClock(s.ctx)
	return o.print(s, currentClock, emulated(did, err), func(w io.Writer) { fmt.Fprintln(w, clockText(currentClock)) })
}

// clockText describes the state of a clock.
func clockText(c client.Clock) string {
	text := tr("clock.the_clock_shows") + formatTime(c.Now)
	if c.Frozen {
		text += tr("clock.frozen")
	}
	if c.RealTime.IsZero() {
		return text
	}
	leadingWait := c.Now.Sub(c.RealTime).Round(time.Second)
	switch {
	case leadingWait == 0 && !c.Frozen:
		return text + tr("clock.which_is_real_time")
	case leadingWait < 0:
		return text + ", " + longTime(-leadingWait) + tr("clock.behind_real_time")
	}
	return text + ", " + longTime(leadingWait) + tr("clock.ahead_of_real_time")
}

// longTime formats a duration; three days or more are formatted as a number of days and a remainder.
func longTime(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 3*day {
		return d.String()
	}
	return tr("clock.days_and", d/day, d%day)
}

type clockSet struct {
	operator
	Time     string `arg:"" optional:"" placeholder:"TIME|+SPAN"`
	Freeze   bool
	Resume   bool
	RealTime bool
}

// Run sets, advances, stops or restarts the clock, or makes it follow real time again.
func (c *clockSet) Run(s *session, qrjump *client.Client) error {
	asked := 0
	for _, single := range []bool{c.Time != "", c.Freeze, c.Resume, c.RealTime} {
		if single {
			asked++
		}
	}
	if asked != 1 {
		return misused("clock.missing_time")
	}
	var t time.Time
	span, forward := strings.CutPrefix(c.Time, "+")
	d, ok := parseSpan(span)
	switch {
	case forward && (!ok || d <= 0):
		return misused("clock.want_a_time_such_as_2", c.Time)
	case c.Time != "" && !forward:
		var err error
		if t, err = parseTime("clock set", c.Time, true); err != nil {
			return err
		}
	}
	clock := qrjump.Emulator
	switch {
	case c.Freeze:
		return c.clock(s, qrjump, tr("clock.freeze_the_clock"), func() error { return clock.FreezeClock(s.ctx) })
	case c.Resume:
		return c.clock(s, qrjump, tr("clock.let_the_clock_run"), func() error { return clock.ResumeClock(s.ctx) })
	case forward:
		return c.clock(s, qrjump, tr("clock.advance_the_clock_by")+d.String(), func() error { return clock.Advance(s.ctx, d) })
	case c.RealTime:
		return c.clock(s, qrjump, tr("clock.go_back_to_real_time"), func() error { return clock.FollowRealTime(s.ctx) })
	}
	return c.clock(s, qrjump, tr("clock.set_the_clock_to")+c.Time, func() error { return clock.SetClock(s.ctx, t) })
}

type resetCommand struct {
	operator
	Account []string `placeholder:"APPID"`
	confirmFlag
}

// Run resets the accounts of --account to the seed; without --account, it resets the whole server to the seed and the clock to real time.
func (c *resetCommand) Run(s *session, qrjump *client.Client) error {
	// checks that the server has an emulator before the user is asked for confirmation
	if _, err := qrjump.Emulator.GetClock(s.ctx); err != nil {
		return emulated("reset", err)
	}
	if len(c.Account) > 0 {
		names := plain(strings.Join(c.Account, ", "))
		if err := c.confirmed(s, tr("clock.all_of", names)); err != nil {
			return err
		}
		return c.outcome(s, map[string]any{"reset": true, "accounts": c.Account},
			emulated("reset", qrjump.Emulator.ResetAccounts(s.ctx, c.Account)), "clock.account_reset", names)
	}
	if err := c.confirmed(s, tr("clock.data_lost")+qrjump.URL()+tr("clock.data_lost_unless_in_seed")); err != nil {
		return err
	}
	err := qrjump.Emulator.Reset(s.ctx)
	return c.outcome(s, map[string]any{"reset": true}, emulated("reset", err), "clock.server_reset")
}
