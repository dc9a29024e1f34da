package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// originHookStore is a store that calls a function after Origin.
type originHookStore struct {
	*Store
	afterOrigin func()
}

func (s originHookStore) Origin(ctx context.Context, node string) (*scanlog.OffsetSet, error) {
	offsets, err := s.Store.Origin(ctx, node)
	s.afterOrigin()
	return offsets, err
}

// TestNodeRegistry_RestartedNodeKept verifies that a stopped node whose events are all counted is deleted, unless it starts again
// meanwhile: it may have new scans.
func TestNodeRegistry_RestartedNodeKept(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		putNode := func(stopped bool, lastOffset int64) {
			t.Helper()
			require.NoError(t, s.PutNode(ctx, scanlog.Node{ID: "two", Name: "b:/data", LastOffset: lastOffset, StoppedCleanly: stopped,
				LastSeenAt: t0}))
		}
		for name, c := range map[string]struct {
			afterOrigin func()
			nodes       int
		}{
			"stays stopped":                     {func() {}, 0},
			"starts again":                      {func() { putNode(false, 0) }, 1},
			"starts again, has scans and stops": {func() { putNode(true, 7) }, 1},
		} {
			putNode(true, 0)
			n := &scanlog.Nodes{Store: originHookStore{s, c.afterOrigin}, Now: func() time.Time { return t0 },
				Shipper: &scanlog.Shipper{Node: "one", To: struct{ scanlog.Rewinder }{}}, Log: slog.New(slog.DiscardHandler)}
			require.NoError(t, n.Counted(ctx))
			all, _, err := s.ScanNodes(ctx)
			assert.True(t, err == nil && len(all) == c.nodes, "%s: ScanNodes() = %d nodes, %v, want %d", name, len(all), err, c.nodes)
		}
	})
}

// TestNodeRegistry_LagReported verifies that ReportNode stores the lag of a node, that PutNode keeps it, and that reports of a stopped node
// are ignored.
func TestNodeRegistry_LagReported(t *testing.T) {
	forEachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		head, _, err := s.ChangeHead(ctx)
		require.NoError(t, err)
		addRules(t, s, newRule(t, "wxa", "https://h.example/"), newRule(t, "wxa", "https://i.example/"))
		now, _, err := s.ChangeHead(ctx)
		require.True(t, err == nil && now > head, "ChangeHead() = %v, %v, want more than %v", now, err, head)
		node := scanlog.Node{ID: "two", Name: "b:/data", AckedRequest: 3, LastSeenAt: t0}
		checkNode := func(name string, wanted scanlog.Node) {
			t.Helper()
			all, _, err := s.ScanNodes(ctx)
			require.True(t, err == nil && len(all) == 1, "%s: ScanNodes() = %v, %v, want one", name, all, err)
			check(t, name, all[0], wanted)
		}
		require.NoError(t, s.ReportNode(ctx, node, head))
		all, _, err := s.ScanNodes(ctx)
		require.True(t, err == nil && len(all) == 0, "ScanNodes() after the report of an unknown node = %v, %v, want none", all, err)
		require.NoError(t, s.PutNode(ctx, node))
		checkNode("node before a report", node)
		reported := scanlog.Node{ID: "two", Name: "b:/data", AckedRequest: 3, LastOffset: 9, ShippedOffset: 7,
			LastSeenAt: t0.Add(time.Minute),
			Lag:        scanlog.Lag{InSyncAt: t0, ReportedAt: t0.Add(time.Minute)}}
		require.NoError(t, s.ReportNode(ctx, reported, head))
		reported.Lag.Changes = now - head
		checkNode("node with a lag", reported)
		require.NoError(t, s.ReportNode(ctx, reported, now+1)) // the node read a change after the head was read
		reported.Lag.Changes = 0
		checkNode("node without a lag", reported)
		put := reported
		put.AckedRequest, put.Lag = 4, scanlog.Lag{}
		require.NoError(t, s.PutNode(ctx, put))
		reported.AckedRequest = 4
		checkNode("node after PutNode", reported)
		put.StoppedCleanly = true
		require.NoError(t, s.PutNode(ctx, put))
		reported.StoppedCleanly = true
		require.NoError(t, s.ReportNode(ctx, scanlog.Node{ID: "two", LastOffset: 1, LastSeenAt: t0}, now))
		checkNode("stopped node", reported)
	})
}
