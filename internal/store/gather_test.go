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

// joining is a store that runs a function after a node has read the counted events of a journal.
type joining struct {
	*Store
	then func()
}

func (j joining) Origin(ctx context.Context, node string) (*scanlog.OffsetSet, error) {
	taken, err := j.Store.Origin(ctx, node)
	j.then()
	return taken, err
}

// A node that is stopped and owes nothing is forgotten, but not one that was
// started again while that was found out: it may have scans by now.
func TestNodeRegistry_RestartedNodeKept(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tell := func(stopped bool, ended int64) {
			t.Helper()
			require.NoError(t, s.PutNode(ctx, scanlog.Node{ID: "two", Name: "b:/data", LastOffset: ended, StoppedCleanly: stopped,
				LastSeenAt: at}))
		}
		for name, one := range map[string]struct {
			then func()
			left int
		}{
			"stays stopped": {func() {}, 0},
			"starts again":  {func() { tell(false, 0) }, 1},
			"starts again, has scans and stops in haste": {func() { tell(true, 7) }, 1},
		} {
			tell(true, 0)
			n := &scanlog.Nodes{Store: joining{s, one.then}, Shipper: &scanlog.Shipper{Node: "one", To: struct{ scanlog.Rewinder }{}},
				Now: func() time.Time { return at }, Log: slog.New(slog.DiscardHandler)}
			require.NoError(t, n.Counted(ctx))
			all, _, err := s.ScanNodes(ctx)
			assert.True(t, err == nil && len(all) == one.left, "%s: %d nodes are left, want %d (%v)", name, len(all), one.left, err)
		}
	})
}

// A node says how far it is behind; what others are told at other times leaves that alone, and one that ended says nothing more.
func TestNodeRegistry_LagReported(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		head, _, err := s.ChangeHead(ctx)
		require.NoError(t, err)
		addRules(t, s, aRule(t, "wxa", "https://h.example/"), aRule(t, "wxa", "https://i.example/"))
		now, _, err := s.ChangeHead(ctx)
		require.True(t, err == nil && now > head, "%v %v %v", head, now, err)
		node := scanlog.Node{ID: "two", Name: "b:/data", AckedRequest: 3, LastSeenAt: at}
		known := func(what string, wanted scanlog.Node) {
			t.Helper()
			all, _, err := s.ScanNodes(ctx)
			require.True(t, err == nil && len(all) == 1, "%v %v %v", what, all, err)
			want(t, what, all[0], wanted)
		}
		do := func(err error) {
			t.Helper()
			require.NoError(t, err)
		}
		do(s.ReportNode(ctx, node, head))
		all, _, err := s.ScanNodes(ctx)
		require.True(t, err == nil && len(all) == 0, "a node that nobody knows: %v %v", all, err)
		do(s.PutNode(ctx, node))
		known("before it said anything", node)
		said := scanlog.Node{ID: "two", Name: "b:/data", AckedRequest: 3, LastOffset: 9, ShippedOffset: 7, LastSeenAt: at.Add(time.Minute),
			Lag: scanlog.Lag{InSyncAt: at, ReportedAt: at.Add(time.Minute)}}
		do(s.ReportNode(ctx, said, head))
		said.Lag.Changes = now - head
		known("it is behind", said)
		do(s.ReportNode(ctx, said, now+1)) // its memory followed while it spoke
		said.Lag.Changes = 0
		known("it is level", said)
		put := said
		put.AckedRequest, put.Lag = 4, scanlog.Lag{}
		do(s.PutNode(ctx, put))
		said.AckedRequest = 4
		known("it answered a question", said)
		put.StoppedCleanly = true
		do(s.PutNode(ctx, put))
		said.StoppedCleanly = true
		do(s.ReportNode(ctx, scanlog.Node{ID: "two", LastOffset: 1, LastSeenAt: at}, now))
		known("it ended", said)
	})
}
