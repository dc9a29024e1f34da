package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/store"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestScanLog_CompleteReadAfterAsyncScan verifies that a complete read on this node, and one on another node, include the scans that were
// acknowledged before they were in the journal. The time of the test advances only while all goroutines wait, so these scans reach the
// journal only if the read waits for them.
func TestScanLog_CompleteReadAfterAsyncScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := require.Value(store.Open(t.Context(), store.Target{Dir: t.TempDir()}))(t)
		defer s.Close()
		journal := require.Value(scanlog.OpenJournal(t.TempDir(), scanlog.JournalOptions{Random: rand.Reader}))(t)
		defer journal.Close()
		l := &scanLog{journal: journal, recorder: scanlog.NewRecorder(journal, scanlog.RecorderOptions{})}
		defer l.recorder.Close()
		record := func(n byte) {
			t.Helper()
			require.NoError(t, assert.ErrorOf(l.recorder.Enqueue(&scanlog.Event{ID: scanlog.ScanID{n}, OccurredAt: time.Now()})))
		}
		record(1)
		require.NoError(t, l.flush(t.Context()))
		end, err := journal.End(t.Context())
		assert.True(t, err == nil && end == 1, "End() of the journal after a flush = %d, %v, want 1", end, err)
		nodes := &scanlog.Nodes{Store: s, Shipper: &scanlog.Shipper{Journal: journal, Node: "one"}, Flush: l.flush, Name: "one",
			Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		require.NoError(t, nodes.Join(t.Context()))
		ask := require.Value(s.RequestShipping(t.Context()))(t)
		record(2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go nodes.Run(ctx)
		time.Sleep(time.Second / 2) // until the node has answered the request, and the scans are in the journal
		list, _, err := s.ScanNodes(t.Context())
		require.True(t, err == nil && len(list) == 1, "ScanNodes() = %v, %v, want one node", list, err)
		assert.True(t, list[0].AckedRequest == ask && list[0].LastOffset == 2,
			"node after request %d = %+v, want it answered after both scans were in the journal", ask, list[0])
	})
}
