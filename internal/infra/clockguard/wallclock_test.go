package clockguard

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// fakeMachine is a Clock on a settable wall clock and an independent uptime.
type fakeMachine struct {
	*Clock
	logs   strings.Builder
	folder string
	wall   time.Time
	uptime time.Duration
}

func newMachine(t *testing.T) *fakeMachine {
	m := &fakeMachine{folder: t.TempDir(), wall: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)}
	m.start()
	return m
}

// start opens the Clock as a start of the server does.
func (m *fakeMachine) start() {
	m.uptime = 0
	m.Clock = Open(m.folder, func() time.Time { return m.wall }, func() time.Duration { return m.uptime },
		slog.New(slog.NewTextHandler(&m.logs, nil)))
}

// advance advances wall clock and uptime.
func (m *fakeMachine) advance(d time.Duration) { m.wall, m.uptime = m.wall.Add(d), m.uptime+d }

func (m *fakeMachine) wantBelieved(t *testing.T, name string, want bool) {
	t.Helper()
	assert.Equal(t, m.Believed(), want, "%s: Believed()", name)
}

const year = 365 * 24 * time.Hour

func TestClockGuard_ForwardJumpAcceptedAfterDay(t *testing.T) {
	m := newMachine(t)
	m.wantBelieved(t, "first check", true)
	m.advance(400 * 24 * time.Hour)
	m.wantBelieved(t, "after 400 days without a check", true)
	m.wall = m.wall.Add(year)
	m.wantBelieved(t, "right after the jump", false)
	m.advance(Lead - time.Second)
	m.wantBelieved(t, "a second less than Lead later", false)
	m.advance(time.Second)
	m.wantBelieved(t, "Lead later", true)
	m.advance(time.Minute)
	m.wantBelieved(t, "a minute later", true)
	if n := strings.Count(m.logs.String(), "system clock jumped ahead"); n != 1 {
		t.Errorf("jump was logged %d times, want once: %s", n, m.logs.String())
	}
}

func TestClockGuard_CorrectedClockAcceptedAtOnce(t *testing.T) {
	m := newMachine(t)
	m.wantBelieved(t, "before", true)
	m.wall = m.wall.Add(10 * year)
	m.wantBelieved(t, "ten years ahead", false)
	m.advance(23 * time.Hour)
	m.wall = m.wall.Add(-10 * year)
	m.wantBelieved(t, "corrected", true)
	m.wall = m.wall.Add(10 * year)
	m.wantBelieved(t, "second jump", false)
	m.advance(2 * time.Hour)
	m.wantBelieved(t, "two hours later: the day starts again", false)
	// A jump back is accepted because it expires nothing; the way forward is a jump again.
	m.wall = m.wall.Add(-20 * year)
	m.wantBelieved(t, "in the past", true)
	m.wall = m.wall.Add(20 * year)
	m.wantBelieved(t, "back from the past", false)
}

func TestClockGuard_PersistsAcrossRestart(t *testing.T) {
	m := newMachine(t)
	m.wantBelieved(t, "the first run", true)
	m.advance(time.Hour)
	m.wantBelieved(t, "an hour later", true)
	m.wall = m.wall.Add(20 * time.Hour)
	m.start()
	m.wantBelieved(t, "after a night", true)
	m.wall = m.wall.Add(5 * year)
	m.start()
	m.wantBelieved(t, "with the clock years ahead", false)
	// Time while the machine is off neither counts towards the day nor restarts it.
	for range 2 {
		m.advance(10 * time.Hour)
		m.wantBelieved(t, "in the evening", false)
		m.wall = m.wall.Add(14 * time.Hour)
		m.start()
		m.wantBelieved(t, "in the morning", false)
	}
	m.advance(4*time.Hour - time.Minute)
	m.wantBelieved(t, "almost a day of running", false)
	m.advance(time.Minute)
	m.wantBelieved(t, "a day of running", true)
	m.start()
	m.wantBelieved(t, "after the next start", true)
	for name, content := range map[string]string{"an empty file": "", "no time": "soon"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.folder, "clock"), []byte(content), 0o600))
		m.wall = m.wall.Add(5 * year)
		m.start()
		m.wantBelieved(t, name, true)
	}
}

// TestClockGuard_IgnoresMonotonicReading verifies that stored times have no monotonic reading: Go compares times with one by elapsed time,
// which would hide a jump of the wall clock.
func TestClockGuard_IgnoresMonotonicReading(t *testing.T) {
	c := Open(t.TempDir(), time.Now, nil, slog.New(slog.DiscardHandler))
	assert.True(t, c.Believed() && !strings.Contains(c.trusted.String(), "m="),
		"trusted time = %v, want none with a monotonic reading", c.trusted)
}
