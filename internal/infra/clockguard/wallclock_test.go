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

// machine is a clock that somebody turns, beside time that really passes.
type machine struct {
	*Clock
	logs    strings.Builder
	folder  string
	shown   time.Time
	running time.Duration
}

func newMachine(t *testing.T) *machine {
	m := &machine{folder: t.TempDir(), shown: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)}
	m.start()
	return m
}

// start is a start of the server.
func (m *machine) start() {
	m.running = 0
	m.Clock = Open(m.folder, func() time.Time { return m.shown }, func() time.Duration { return m.running },
		slog.New(slog.NewTextHandler(&m.logs, nil)))
}

// pass lets time pass, on the clock as well.
func (m *machine) pass(d time.Duration) { m.shown, m.running = m.shown.Add(d), m.running+d }

func (m *machine) want(t *testing.T, what string, believed bool) {
	t.Helper()
	assert.True(t, m.Believed() == believed, "%s: believed %v, want %v", what, !believed, believed)
}

const year = 365 * 24 * time.Hour

func TestClockGuard_ForwardJumpAcceptedAfterDay(t *testing.T) {
	m := newMachine(t)
	m.want(t, "the first look", true)
	m.pass(400 * 24 * time.Hour)
	m.want(t, "after a long quiet time", true)
	m.shown = m.shown.Add(year)
	m.want(t, "right after the jump", false)
	m.pass(Lead - time.Second)
	m.want(t, "almost a day later", false)
	m.pass(time.Second)
	m.want(t, "a day later", true)
	m.pass(time.Minute)
	m.want(t, "and from then on", true)
	if n := strings.Count(m.logs.String(), "system clock jumped ahead"); n != 1 {
		t.Errorf("it was said %d times: %s", n, m.logs.String())
	}
}

func TestClockGuard_CorrectedClockAcceptedAtOnce(t *testing.T) {
	m := newMachine(t)
	m.want(t, "before", true)
	m.shown = m.shown.Add(10 * year)
	m.want(t, "ten years ahead", false)
	m.pass(23 * time.Hour)
	m.shown = m.shown.Add(-10 * year)
	m.want(t, "repaired", true)
	m.shown = m.shown.Add(10 * year)
	m.want(t, "the next jump", false)
	m.pass(2 * time.Hour)
	m.want(t, "the day begins anew", false)
	// The other way nothing is destroyed, and the way back is a jump again.
	m.shown = m.shown.Add(-20 * year)
	m.want(t, "in the past", true)
	m.shown = m.shown.Add(20 * year)
	m.want(t, "back from the past", false)
}

func TestClockGuard_PersistsAcrossRestart(t *testing.T) {
	m := newMachine(t)
	m.want(t, "the first run", true)
	m.pass(time.Hour)
	m.want(t, "an hour later", true)
	m.shown = m.shown.Add(20 * time.Hour)
	m.start()
	m.want(t, "after a night", true)
	m.shown = m.shown.Add(5 * year)
	m.start()
	m.want(t, "with the clock years ahead", false)
	// Nights in which the machine is off neither count nor begin the day anew.
	for range 2 {
		m.pass(10 * time.Hour)
		m.want(t, "in the evening", false)
		m.shown = m.shown.Add(14 * time.Hour)
		m.start()
		m.want(t, "in the morning", false)
	}
	m.pass(4*time.Hour - time.Minute)
	m.want(t, "almost a day of running", false)
	m.pass(time.Minute)
	m.want(t, "a day of running", true)
	m.start()
	m.want(t, "and the next start knows", true)
	for name, content := range map[string]string{"an empty file": "", "no time": "soon"} {
		require.NoError(t, os.WriteFile(filepath.Join(m.folder, "clock"), []byte(content), 0o600))
		m.shown = m.shown.Add(5 * year)
		m.start()
		m.want(t, name, true)
	}
}

// Times of one process are compared by what passed between them, unless they are told to forget it: then no jump would ever be seen.
func TestClockGuard_IgnoresMonotonicReading(t *testing.T) {
	c := Open(t.TempDir(), time.Now, nil, slog.New(slog.DiscardHandler))
	assert.True(t, c.Believed() && !strings.Contains(c.trusted.String(), "m="),
		"the time that was seen is %v, beside what passed since the start", c.trusted)
}
