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
				e := anEvent(c*each + i)
				g, err := r.Enqueue(&e)
				if err == nil {
					e = Event{} // it was copied
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
	if r.Waiting() != 0 || r.Recorded() != clients*each || r.Flushes() == 0 || r.Flushes() > clients*each ||
		r.IsLate() || r.LastError() != nil {
		t.Errorf("waiting %d, recorded %d, flushes %d, late %v, %v", r.Waiting(), r.Recorded(), r.Flushes(), r.IsLate(), r.LastError())
	}
	require.NoError(t, r.Close())
	assert.ErrorIs(t, assert.ErrorOf(r.Enqueue(&Event{})), ErrClosed, "after the end")
	j.Close()
	j = openJournal(t, dir, JournalOptions{})
	seen := map[ScanID]bool{}
	for i, e := range require.All(t, j.Read(t.Context(), 0)) {
		require.True(t, e.Position == int64(i)+1 && !seen[e.ID] && e.Event == anEvent(e.Index+e.RuleID), "entry %d: %+v", i, e)
		seen[e.ID] = true
	}
	assert.Equal(t, len(seen), clients*each, "events")
}

// Issue 28, 9: a stop on a full disk said that something was lost, where all that was lost had been refused to its caller.
func TestRecorder_CloseReportsLostAsyncScans(t *testing.T) {
	for waits, wanted := range map[bool]string{true: "", false: "1 queued scans were lost"} {
		j := openJournal(t, t.TempDir(), JournalOptions{})
		r := NewRecorder(j, RecorderOptions{})
		j.Close() // from now on nothing can be written
		g, err := r.Enqueue(&Event{})
		require.NoError(t, err)
		require.True(t, !waits || g.Wait(t.Context()) != nil, "a closed journal takes scans")
		said := ""
		if err := r.Close(); err != nil {
			said = err.Error()
		}
		assert.True(t, (wanted == "") == (said == "") && strings.HasPrefix(said, wanted),
			"with a caller that waits %v: the end says %q, want %q", waits, said, wanted)
	}
}
