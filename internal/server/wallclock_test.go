package server

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// machine is a clock that somebody turns, beside time that really passes.
type machine struct {
	*wallClock
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
	m.wallClock = openWallClock(m.folder, func() time.Time { return m.shown }, slog.New(slog.NewTextHandler(&m.logs, nil)))
	m.elapsed = func() time.Duration { return m.running }
}

// pass lets time pass, on the clock as well.
func (m *machine) pass(d time.Duration) {
	m.shown, m.running = m.shown.Add(d), m.running+d
}

func (m *machine) want(t *testing.T, what string, believed bool) {
	t.Helper()
	if m.believed() != believed {
		t.Errorf("%s: believed %v, want %v", what, !believed, believed)
	}
}

const year = 365 * 24 * time.Hour

func TestAClockThatJumpedAheadIsBelievedAfterADay(t *testing.T) {
	m := newMachine(t)
	m.want(t, "the first look", true)
	m.pass(400 * 24 * time.Hour)
	m.want(t, "after a long quiet time", true)
	m.shown = m.shown.Add(year)
	m.want(t, "right after the jump", false)
	m.pass(clockLead - time.Second)
	m.want(t, "almost a day later", false)
	m.pass(time.Second)
	m.want(t, "a day later", true)
	m.pass(time.Minute)
	m.want(t, "and from then on", true)
	if n := strings.Count(m.logs.String(), "further ahead"); n != 1 {
		t.Errorf("it was said %d times: %s", n, m.logs.String())
	}
}

func TestAClockThatWasRepairedIsBelievedAtOnce(t *testing.T) {
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

func TestAStartKnowsTheClockOfTheLastRun(t *testing.T) {
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
		if err := os.WriteFile(filepath.Join(m.folder, "clock"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m.shown = m.shown.Add(5 * year)
		m.start()
		m.want(t, name, true)
	}
}

// Times of one process are compared by what passed between them, unless they are
// told to forget it: then no jump would ever be seen.
func TestAJumpIsSeenByWhatTheClockShows(t *testing.T) {
	c := openWallClock(t.TempDir(), time.Now, slog.New(slog.DiscardHandler))
	if !c.believed() || strings.Contains(c.seen.String(), "m=") {
		t.Errorf("the time that was seen is %v, beside what passed since the start", c.seen)
	}
}

// A clock that shows the year 2036 for a while takes no scan with it.
func TestAJumpOfTheClockRemovesNoScans(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	var ahead, running atomic.Int64
	c := Default()
	c.Data, c.Listen, c.Dev = t.TempDir(), "127.0.0.1:0", true
	s, err := Start(t.Context(), c, io.Discard, Seams{RealNow: func() time.Time { return began.Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.wall.mu.Lock()
	s.wall.elapsed = func() time.Duration { return time.Duration(running.Load()) }
	s.wall.at, s.wall.kept = 0, 0
	s.wall.mu.Unlock()
	resp, err := http.Post(s.ScanURL+"/scan/v1/resolve", "application/json", strings.NewReader(`{"text":"https://nowhere.example/"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var old struct {
		ID string `json:"scan_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&old); err != nil || old.ID == "" {
		t.Fatal(resp.Status, err)
	}
	put, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/admin/v1/settings",
		strings.NewReader(`{"statistics_hour_days":100}`))
	if err != nil {
		t.Fatal(err)
	}
	put.Header.Set("Content-Type", "application/json")
	if resp, err := http.DefaultClient.Do(put); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	for _, look := range []struct {
		jump, running time.Duration
		want          string
	}{{0, 0, "200"}, {10 * year, time.Hour, "200"}, {10 * year, 2 * time.Hour, "200"}, {0, 3 * time.Hour, "200"},
		{10 * year, 4 * time.Hour, "200"}, {10 * year, 29 * time.Hour, "404"}} {
		ahead.Store(int64(look.jump + look.running))
		running.Store(int64(look.running))
		s.forgetOldScans(t.Context())
		s.tidyCounts(t.Context())
		for by, want := range map[string]string{"hour": strings.Replace(look.want, "404", "422", 1), "day": "200", "month": "200"} {
			resp, err := http.Get(s.URL + "/admin/v1/statistics?wait=true&from=" + began.Format(time.DateOnly) + "&to=" +
				began.Format(time.DateOnly) + "&by=" + by)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode); got != want || want == "200" && !strings.Contains(string(body), `"scans":1,`) {
				t.Errorf("%v ahead, after %v of running, by %s: %s %s, want %s", look.jump, look.running, by, got, body, want)
			}
		}
		resp, err := http.Get(s.URL + "/admin/v1/scans/" + old.ID)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode); got != look.want {
			t.Errorf("%v ahead, after %v of running: %s %s, want %s", look.jump, look.running, got, body, look.want)
		}
	}
}
