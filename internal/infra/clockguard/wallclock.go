// Package clockguard decides whether the clock of a machine can be trusted.
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
	// A clock that is ahead by at most Lead is trusted at once. If the clock is further ahead, the server must run for Lead before it
	// trusts the clock.
	Lead = 24 * time.Hour
	// keptEvery is the interval at which the observed time is stored.
	keptEvery = 10 * time.Minute
)

// Clock decides whether the machine's clock is trusted for deletions by age (scan retention, webhook retries, expired codes, tickets,
// logins and tokens, the call log) and for daily and monthly quotas. Without a Clock, a system clock that jumps ahead by years would cause
// all data with a maximum age to be deleted within the hour, on all nodes. After a jump, the server must run for a day before it trusts the
// clock. The times of several runs are added up, so that a machine that is switched off each night still deletes old data. A server that
// was off for more than a day also runs for a day before it trusts the clock, because it cannot distinguish a pause from a jump.
type Clock struct {
	file    string
	now     func() time.Time
	elapsed func() time.Duration // time since the start, independent of the clock
	log     *slog.Logger

	mu        sync.Mutex
	trusted   time.Time     // the last trusted time
	trustedAt time.Duration // running time (see the field elapsed) at which the field trusted was set
	storedAt  time.Duration // running time at which the field trusted was last stored
	ahead     bool
	since     time.Duration // running time at which the clock was first ahead, minus the field spent
	spent     time.Duration // total running time of earlier runs with the clock ahead
}

// Open reads the time stored by an earlier run. If the stored time is absent or unreadable, the clock is trusted. elapsed returns
// the running time of this process; nil = the real running time.
func Open(folder string, now func() time.Time, elapsed func() time.Duration, log *slog.Logger) *Clock {
	if elapsed == nil {
		start := time.Now()
		elapsed = func() time.Duration { return time.Since(start) }
	}
	c := &Clock{file: filepath.Join(folder, "clock"), now: now, elapsed: elapsed, log: log, storedAt: -keptEvery}
	if b, err := os.ReadFile(c.file); err == nil {
		text, spent, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
		if seen, err := time.Parse(time.RFC3339, text); err == nil {
			c.trusted = seen
			c.spent, _ = time.ParseDuration(spent) // 0 if absent
		}
	}
	return c
}

// Believed reports whether the clock is trusted, so that data may be deleted by age. A caller that deletes must read the time
// before it calls Believed: a later jump then does not affect the time.
func (c *Clock) Believed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	running := c.elapsed()
	ok, _ := c.check(running)
	c.keep(running)
	return ok
}

// LeadTime returns the time by which the clock is ahead because of a jump; 0 if the clock is trusted. Daily and monthly quotas use
// the time without the jump, so that a jump grants no additional quota. LeadTime writes no file, because API calls use it.
func (c *Clock) LeadTime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, lead := c.check(c.elapsed())
	return lead
}

// check returns the results of Believed and LeadTime at the given running time.
func (c *Clock) check(running time.Duration) (believed bool, leadingWait time.Duration) {
	// Round drops the monotonic reading, because a difference of two monotonic readings ignores changes of the clock.
	now := c.now().Round(0)
	lead := now.Sub(c.trusted.Add(running - c.trustedAt))
	switch {
	case c.trusted.IsZero() || lead <= Lead:
	case !c.ahead:
		c.ahead, c.since = true, running-c.spent
		c.log.Warn("system clock jumped ahead; deletion by age and limit resets are suspended for a day",
			"hint", "correct the clock if it is wrong", "clock", now.UTC().Format(time.RFC3339),
			"last_trusted_at", c.trusted.UTC().Format(time.RFC3339))
		return false, lead - c.spent
	case running-c.since < Lead:
		return false, lead - c.spent
	default:
		c.log.Info("system clock accepted after one day; deletion by age resumed", "clock", now.UTC().Format(time.RFC3339))
	}
	if c.ahead || c.spent > 0 {
		c.ahead, c.spent = false, 0
		// forces a write of the trusted time, so that the server trusts the clock after its next start
		c.storedAt = running - keptEvery
	}
	c.trusted, c.trustedAt = now, running
	return true, 0
}

// keep stores the last trusted time at intervals, for the next start.
func (c *Clock) keep(running time.Duration) {
	if running-c.storedAt < keptEvery {
		return
	}
	c.storedAt = running
	text := c.trusted.UTC().Format(time.RFC3339)
	if c.ahead {
		text += " " + (running - c.since).Round(time.Second).String()
	}
	if err := atomicfile.Replace(c.file, []byte(text+"\n"), 0o600); err != nil {
		c.log.Debug("clock file not written; the clock is trusted after a restart", "file", c.file, "error", err)
	}
}

// Watch checks the clock once a minute until ctx ends, so that the last trusted time is at most a minute old when the clock jumps.
func (c *Clock) Watch(ctx context.Context) {
	tick := time.Tick(time.Minute)
	for c.Believed(); ; c.Believed() {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
	}
}
