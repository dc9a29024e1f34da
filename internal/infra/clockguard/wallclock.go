// Package clockguard judges whether the clock of a machine may be believed.
package clockguard

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

const (
	// Lead is the time by which the clock may run ahead of its last observation, and for which it has to stay there to be believed.
	Lead = 24 * time.Hour
	// keptEvery is the interval at which the observed time is stored.
	keptEvery = 10 * time.Minute
)

// Clock judges whether the clock of this machine may be believed by what
// destroys something for its age: the retention of scans, the end of a
// webhook's tries, the removal of expired codes, tickets, logins and tokens, the
// log of calls; and by what is given out once a day or a month. A clock that
// jumps ahead by years would otherwise take everything with it within the hour,
// for all nodes. It is
// believed after a day of running time, which may be of several runs: else a
// machine that is switched off each night would never remove anything again. A
// server that was off for longer than a day waits as long, as it cannot tell one
// from the other.
type Clock struct {
	file    string
	now     func() time.Time
	elapsed func() time.Duration // since the start, whatever the clock shows
	log     *slog.Logger

	mu    sync.Mutex
	seen  time.Time     // the last time that was believed
	at    time.Duration // when that was
	kept  time.Duration // when it was stored
	ahead bool
	since time.Duration // when it was found ahead
	spent time.Duration // how long earlier runs found it ahead
}

// Open reads what an earlier run saw. Without it, or when it cannot be
// read, the clock is believed. elapsed is how long this run lasts; nil = as it really passes.
func Open(folder string, now func() time.Time, elapsed func() time.Duration, log *slog.Logger) *Clock {
	if elapsed == nil {
		start := time.Now()
		elapsed = func() time.Duration { return time.Since(start) }
	}
	c := &Clock{file: filepath.Join(folder, "clock"), now: now, elapsed: elapsed, log: log,
		kept: -keptEvery}
	if b, err := os.ReadFile(c.file); err == nil {
		text, spent, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
		if seen, err := time.Parse(time.RFC3339, text); err == nil {
			c.seen = seen
			c.spent, _ = time.ParseDuration(spent) // 0 where it is not there
		}
	}
	return c
}

// Believed reports whether what is old by this clock may be destroyed. A caller
// that removes reads the time first and asks then: a jump in between is no danger.
func (c *Clock) Believed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	running := c.elapsed()
	ok, _ := c.check(running)
	c.keep(running)
	return ok
}

// LeadTime returns the time by which the clock is ahead of the time that it would show without its jump; 0 if it is believed. Shares
// of a day or a month are counted by that time, so that a jump grants no second one. It writes nothing: calls ask for it.
func (c *Clock) LeadTime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, lead := c.check(c.elapsed())
	return lead
}

// check is Believed and Ahead at a moment of running time.
func (c *Clock) check(running time.Duration) (believed bool, leadingWait time.Duration) {
	// Round drops the monotonic reading: with it, two times of one process differ by what passed
	// between them, whatever the clock shows.
	now := c.now().Round(0)
	lead := now.Sub(c.seen.Add(running - c.at))
	switch {
	case c.seen.IsZero() || lead <= Lead:
	case !c.ahead:
		c.ahead, c.since = true, running-c.spent
		c.log.Warn("this machine's clock is further ahead than the time that passed since it was last seen: repair it if it is wrong; "+
			"for a day nothing is removed for its age, and daily and monthly limits are those of the time before",
			"clock", now.UTC().Format(time.RFC3339), "last seen", c.seen.UTC().Format(time.RFC3339))
		return false, lead - c.spent
	case running-c.since < Lead:
		return false, lead - c.spent
	default:
		c.log.Info("this machine's clock was ahead for a day and is believed: what is old is removed again", "clock",
			now.UTC().Format(time.RFC3339))
	}
	if c.ahead || c.spent > 0 {
		c.ahead, c.spent = false, 0
		c.kept = running - keptEvery // the next start is to know it
	}
	c.seen, c.at = now, running
	return true, 0
}

// keep stores now and then what was seen, for the next start.
func (c *Clock) keep(running time.Duration) {
	if running-c.kept < keptEvery {
		return
	}
	c.kept = running
	text := c.seen.UTC().Format(time.RFC3339)
	if c.ahead {
		text += " " + (running - c.since).Round(time.Second).String()
	}
	if err := atomicfile.Replace(c.file, []byte(text+"\n"), 0o600); err != nil {
		c.log.Debug("the time cannot be stored; after a restart the clock is believed", "file", c.file, "error", err)
	}
}

// Watch looks at the clock until ctx ends, so that a jump is measured from
// right before it.
func (c *Clock) Watch(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for c.Believed(); ; c.Believed() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
