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
	// Update stores the state that change returns for the stored state, for the next start and the other nodes, before the state takes
	// effect. No other change is stored meanwhile; change may run twice. Update may wait for transactions that call Now; therefore, Now
	// never waits for Update.
	Update func(change func(state string) (string, error)) error
	// OnAdvance is called after a change has advanced the clock by d; nil = no callback. The duration d contains only the change,
	// not the passing of real time.
	OnAdvance func(d time.Duration) error

	moving sync.Mutex // serializes changes of the clock, including Update
	mu     sync.Mutex // guards state; held only briefly
	state  clockState
}

type clockState struct {
	Offset time.Duration `json:"offset"` // added to real time
	Frozen bool          `json:"frozen"`
	At     time.Time     `json:"frozen_at"` // the time shown while frozen or paused
	paused bool          // the clock stands still while a change is stored
}

// parseState parses a stored state; "" means real time.
func parseState(text string) (s clockState, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &s)
	}
	if err != nil {
		err = fmt.Errorf("the emulator's clock as stored: %w", err)
	}
	return s, err
}

// Follow adopts the stored state, which another node may have changed. read returns that state as a text; "" means real time.
func (c *Clock) Follow(read func() (state string, err error)) error {
	c.moving.Lock() // waits until a local change is saved and active
	defer c.moving.Unlock()
	text, err := read()
	if err != nil {
		return err
	}
	s, err := parseState(text)
	if err != nil {
		return err
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
	if s.Frozen || s.paused {
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
	var d time.Duration
	err := c.set(func(s clockState) (clockState, error) {
		now := c.timeOf(s)
		if m.Real {
			if d = c.Real().Sub(now); d < 0 {
				return s, fmt.Errorf("the clock shows %s and cannot go back to the real time %s: reset the emulator instead",
					now.UTC().Format(time.RFC3339), now.Add(d).UTC().Format(time.RFC3339))
			}
			return clockState{}, nil
		}
		moment := now.Add(m.Advance)
		if m.Now != nil {
			moment = m.Now.Add(m.Advance)
		}
		switch {
		case moment.Before(now):
			return s, fmt.Errorf("the clock shows %s and cannot go back to %s: reset the emulator instead", now.UTC().Format(time.RFC3339),
				moment.UTC().Format(time.RFC3339))
		case moment.After(latest):
			return s, fmt.Errorf("%s is after %s", moment.UTC().Format(time.RFC3339), latest.Format(time.RFC3339))
		}
		if m.Freeze != nil {
			s.Frozen = *m.Freeze
		}
		s.At, s.Offset, d = moment, moment.Sub(c.Real()), moment.Sub(now)
		return s, nil
	})
	if err != nil || c.OnAdvance == nil {
		return err
	}
	return c.OnAdvance(d)
}

// Reset returns the clock to real time.
func (c *Clock) Reset() error {
	return c.set(func(clockState) (clockState, error) { return clockState{}, nil })
}

// set stores and then activates the state that change returns for the stored state, which another node may have changed. Until then the
// clock stands still, because a clock that freezes at the stored time would otherwise go back.
func (c *Clock) set(change func(clockState) (clockState, error)) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	c.mu.Lock()
	before := c.state
	c.state.At, c.state.paused = c.timeOf(before), true
	c.mu.Unlock()
	next := before
	err := c.Update(func(text string) (string, error) {
		stored, err := parseState(text)
		if err == nil {
			stored, err = change(stored)
		}
		if err != nil {
			return "", err
		}
		next = stored
		b, err := json.Marshal(stored)
		return string(b), err
	})
	if err != nil {
		next = before
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = next
	return err
}
