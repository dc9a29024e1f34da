package scanlog

import (
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestRecorder_DurableExactlyOnce(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, JournalOptions{SegmentSize: 50_000})
	r := NewRecorder(j, RecorderOptions{})
	const clients, each = 16, 200
	var wg sync.WaitGroup
	for c := range int64(clients) {
		wg.Go(func() {
			for i := range int64(each) {
				e := newEvent(c*each + i)
				g, err := r.Enqueue(&e)
				if err == nil {
					e = Event{} // Enqueue copied it
					err = g.Wait(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	assert.True(t, r.Waiting() == 0 && r.Recorded() == clients*each && r.Flushes() > 0 && r.Flushes() <= clients*each &&
		!r.IsLate() && r.LastError() == nil, "waiting %d, recorded %d, flushes %d, late %v, %v, want all %d scans recorded",
		r.Waiting(), r.Recorded(), r.Flushes(), r.IsLate(), r.LastError(), clients*each)
	require.NoError(t, r.Close())
	assert.ErrorIs(t, assert.ErrorOf(r.Enqueue(&Event{})), ErrClosed, "Enqueue() after Close()")
	j.Close()
	j = openJournal(t, dir, JournalOptions{})
	seen := map[ScanID]bool{}
	for i, e := range require.All(t, j.Read(t.Context(), 0)) {
		require.True(t, e.Position == int64(i)+1 && !seen[e.ID] && e.Event == newEvent(e.Index+e.RuleID),
			"entry %d = %+v, want each event once", i, e)
		seen[e.ID] = true
	}
	assert.Equal(t, len(seen), clients*each, "number of events")
}

// TestRecorder_CloseReportsLostAsyncScans verifies that Close reports lost scans without a waiting caller only. A waiting caller gets the
// error from Wait.
func TestRecorder_CloseReportsLostAsyncScans(t *testing.T) {
	for waits, want := range map[bool]string{true: "", false: "1 queued scans were lost"} {
		j := openJournal(t, t.TempDir(), JournalOptions{})
		r := NewRecorder(j, RecorderOptions{})
		j.Close() // lets all writes fail
		g := require.Value(r.Enqueue(&Event{}))(t)
		require.True(t, !waits || g.Wait(t.Context()) != nil, "Wait() with a closed journal succeeds, want an error")
		got := ""
		if err := r.Close(); err != nil {
			got = err.Error()
		}
		assert.True(t, (want == "") == (got == "") && strings.HasPrefix(got, want), "waits %v: Close() = %q, want %q", waits, got, want)
	}
}
