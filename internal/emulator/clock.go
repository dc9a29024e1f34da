// Package emulator knows what the real platform lacks: a clock that can be
// moved, faults that can be injected, and a record of the last calls. It is
// wired only where an operator asked for it.
package emulator

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Clock is the time of the whole server. It runs at real speed from where it
// was set, or stands still.
type Clock struct {
	Real func() time.Time
	// Save keeps the state over a restart, before it takes effect. It may wait
	// for transactions that ask for the time, so Now never waits for it.
	Save func(state string) error
	// OnAdvance is called when a move has put the clock on by d; nil = not. The machine's own time goes on besides.
	OnAdvance func(d time.Duration) error

	moving sync.Mutex // one move at a time, saving included
	mu     sync.Mutex // guards state, for moments only
	state  clockState
}

type clockState struct {
	Offset time.Duration `json:"offset"` // ahead of real time
	Frozen bool          `json:"frozen"`
	At     time.Time     `json:"at"` // the time while frozen
}

// Restore continues from a state that Save was given.
func (c *Clock) Restore(state string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return json.Unmarshal([]byte(state), &c.state)
}

// Follow shows the time that was set on another node: what read returns, which
// is what Save was given last; "" is real time.
func (c *Clock) Follow(read func() (state string, err error)) error {
	c.moving.Lock() // a move of ours is saved and in force, or neither
	defer c.moving.Unlock()
	text, err := read()
	if err != nil {
		return err
	}
	var s clockState
	if text != "" {
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return fmt.Errorf("the emulator's clock as stored: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	return nil
}

// Now returns the server's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeOf(c.state)
}

func (c *Clock) timeOf(s clockState) time.Time {
	if s.Frozen {
		return s.At
	}
	return c.Real().Add(s.Offset)
}

// Frozen reports whether the clock stands still.
func (c *Clock) Frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Frozen
}

// Move is a change of the clock.
type Move struct {
	Now     *time.Time    // set to
	Advance time.Duration // or move on by
	Freeze  *bool         // then stop or run on
	Real    bool          // or follow real time again
}

// latest keeps the clock where a request id can still carry the second.
var latest = time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC)

// Apply moves the clock. Moving back is refused: what was issued would become
// young again; a reset does it.
func (c *Clock) Apply(m Move) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	s := c.current()
	now := c.timeOf(s)
	if m.Real {
		actual := c.Real()
		if actual.Before(now) {
			return fmt.Errorf("the clock shows %s and cannot go back to %s, which is real: reset the emulator instead",
				now.UTC().Format(time.RFC3339), actual.UTC().Format(time.RFC3339))
		}
		return c.advance(clockState{}, actual.Sub(now))
	}
	moment := now.Add(m.Advance)
	if m.Now != nil {
		moment = m.Now.Add(m.Advance)
	}
	switch {
	case moment.Before(now):
		return fmt.Errorf("the clock shows %s and cannot go back to %s: reset the emulator instead", now.UTC().Format(time.RFC3339),
			moment.UTC().Format(time.RFC3339))
	case moment.After(latest):
		return fmt.Errorf("%s is after %s", moment.UTC().Format(time.RFC3339), latest.Format(time.RFC3339))
	}
	if m.Freeze != nil {
		s.Frozen = *m.Freeze
	}
	s.At, s.Offset = moment, moment.Sub(c.Real())
	return c.advance(s, moment.Sub(now))
}

// advance puts a state in force that is ahead by d.
func (c *Clock) advance(s clockState, d time.Duration) error {
	if err := c.set(s, true); err != nil || c.OnAdvance == nil {
		return err
	}
	return c.OnAdvance(d)
}

func (c *Clock) current() clockState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Reset returns to real time.
func (c *Clock) Reset() error {
	c.moving.Lock()
	defer c.moving.Unlock()
	return c.set(clockState{}, false)
}

// set saves a state and puts it in force. A time that was shown while it was saved is
// shown again only where the clock may go back.
func (c *Clock) set(s clockState, forward bool) error {
	if c.Save != nil {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if err := c.Save(string(text)); err != nil {
			return fmt.Errorf("keeping the clock over a restart: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if shown := c.timeOf(c.state); forward && s.Frozen && s.At.Before(shown) {
		s.At = shown
	}
	c.state = s
	return nil
}
