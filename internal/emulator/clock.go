// Package emulator provides test features that the real platform lacks: an adjustable clock, fault injection, and a record of the
// last calls. The emulator is active only if an operator has enabled it.
package emulator

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Clock provides the time for the whole server. The clock runs at real speed from the time that was set, or is frozen.
type Clock struct {
	Real func() time.Time
	// Save stores a new state of the clock for the next start, before the state takes effect. Save may wait for transactions that
	// call Now; therefore, Now never waits for Save.
	Save func(state string) error
	// OnAdvance is called after a change has advanced the clock by d; nil = no callback. The duration d contains only the change,
	// not the passing of real time.
	OnAdvance func(d time.Duration) error

	moving sync.Mutex // serializes changes of the clock, including Save
	mu     sync.Mutex // guards state; held only briefly
	state  clockState
}

type clockState struct {
	Offset time.Duration `json:"offset"` // added to real time
	Frozen bool          `json:"frozen"`
	At     time.Time     `json:"frozen_at"` // the time shown while frozen
}

// Restore sets the state from a text that was passed to Save.
func (c *Clock) Restore(state string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return json.Unmarshal([]byte(state), &c.state)
}

// Follow adopts the clock state that another node has saved. read returns that state as a text; "" means real time.
func (c *Clock) Follow(read func() (state string, err error)) error {
	c.moving.Lock() // waits until a local change is saved and active
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

// Frozen reports whether the clock is frozen.
func (c *Clock) Frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Frozen
}

// Move is a change of the clock.
type Move struct {
	Now     *time.Time    // time to set; nil = the current time of the clock
	Advance time.Duration // duration by which the clock moves forward, in addition to Now
	Freeze  *bool         // whether the clock is frozen after the move; nil = unchanged
	Real    bool          // the clock follows real time again; the other fields are ignored
}

// latest is the last time that the clock can show, because a request id contains the Unix time in 32 bits.
var latest = time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC)

// Apply moves the clock. Apply rejects a move back, which would keep issued tokens valid for longer. Use Reset to return to real time.
func (c *Clock) Apply(m Move) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	s := c.current()
	now := c.timeOf(s)
	if m.Real {
		actual := c.Real()
		if actual.Before(now) {
			return fmt.Errorf("the clock shows %s and cannot go back to the real time %s: reset the emulator instead",
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

// advance activates a state whose time is d later than the current time of the clock.
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

// Reset returns the clock to real time.
func (c *Clock) Reset() error {
	c.moving.Lock()
	defer c.moving.Unlock()
	return c.set(clockState{}, false)
}

// set saves and then activates a state. If forward is true and s freezes the clock, the frozen time is not before the end of the save.
func (c *Clock) set(s clockState, forward bool) error {
	if c.Save != nil {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if err := c.Save(string(text)); err != nil {
			return fmt.Errorf("storing the clock: %w", err)
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
