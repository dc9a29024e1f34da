package server

import (
	"crypto/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 12, 10: scans that could not be written make a node not ready until it is known that the next can be; then it looks no more.
func TestReady_ScanJournalUnwritable(t *testing.T) {
	journal, err := scanlog.OpenJournal(t.TempDir(), scanlog.JournalOptions{Random: rand.Reader})
	require.NoError(t, err)
	l := &scanLedger{journal: journal, recorder: scanlog.NewRecorder(journal, scanlog.RecorderOptions{})}
	away := filepath.Join(t.TempDir(), "away")
	assert.NoErrorf(t, l.room(away), "before")
	require.NoError(t, journal.Close())
	g, err := l.recorder.Enqueue(&scanlog.Event{OccurredAt: time.UnixMilli(1)})
	require.NoError(t, err)
	require.True(t, g.Wait(t.Context()) != nil, "a closed journal took a scan")
	for range 2 {
		assert.True(t, l.room(away) != nil, "ready, and no scan can be written")
	}
	assert.NoErrorf(t, l.room(t.TempDir()), "when there is room")
	assert.NoErrorf(t, l.room(away), "it looks again although nothing failed since")
	_ = l.recorder.Close() // it tells of the scan once more
}
