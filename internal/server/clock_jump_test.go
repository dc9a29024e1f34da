package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScanRetention_ClockJump verifies that retention deletes no scan while the clock is ten years ahead for a few hours, and deletes the
// scan once the clock has been there for 29 hours of running time.
func TestScanRetention_ClockJump(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	const year = 365 * 24 * time.Hour
	var offset, uptime atomic.Int64
	c := Default()
	c.Data, c.Listen, c.Dev = t.TempDir(), "127.0.0.1:0", true
	s, err := Start(t.Context(), c, io.Discard, TestHooks{RealNow: func() time.Time { return start.Add(time.Duration(offset.Load())) },
		Elapsed: func() time.Duration { return time.Duration(uptime.Load()) }})
	require.NoError(t, err)
	defer s.Close()
	resp, err := http.Post(s.ScanURL+"/scan/v1/resolve", "application/json", strings.NewReader(`{"text":"https://nowhere.example/"}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	var scan struct {
		ID string `json:"scan_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&scan); err != nil || scan.ID == "" {
		t.Fatal(resp.Status, err)
	}
	put := require.Value(http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/admin/v1/settings",
		strings.NewReader(`{"hourly_stats_retention_days":100}`)))(t)
	put.Header.Set("Content-Type", "application/json")
	resp, err = http.DefaultClient.Do(put)
	require.True(t, err == nil && resp.StatusCode == 200, "%v %v", resp, err)
	for _, step := range []struct {
		jump, uptime time.Duration
		want         string
	}{{0, 0, "200"}, {10 * year, time.Hour, "200"}, {10 * year, 2 * time.Hour, "200"}, {0, 3 * time.Hour, "200"},
		{10 * year, 4 * time.Hour, "200"}, {10 * year, 29 * time.Hour, "404"}} {
		offset.Store(int64(step.jump + step.uptime))
		uptime.Store(int64(step.uptime))
		s.scans().forgetOldScans(t.Context())
		s.scans().pruneCounts(t.Context())
		for interval, want := range map[string]string{"hour": strings.Replace(step.want, "404", "422", 1), "day": "200", "month": "200"} {
			resp := require.Value(http.Get(s.URL + "/admin/v1/statistics?wait=true&from=" + start.Format(time.DateOnly) + "&to=" +
				start.Format(time.DateOnly) + "&by=" + interval))(t)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got := fmt.Sprint(resp.StatusCode); got != want || want == "200" && !strings.Contains(string(body), `"scans":1,`) {
				t.Errorf("%v ahead, after %v of running, by %s: %s %s, want %s", step.jump, step.uptime, interval, got, body, want)
			}
		}
		resp := require.Value(http.Get(s.URL + "/admin/v1/scans/" + scan.ID))(t)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		got := fmt.Sprint(resp.StatusCode)
		assert.True(t, got == step.want, "%v ahead, after %v of running: %s %s, want %s", step.jump, step.uptime, got, body, step.want)
	}
}
