package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/ledger"
)

// joining is where nodes meet, and something happens after it was asked what is
// counted of one.
type joining struct {
	*Store
	then func()
}

func (j joining) Origin(ctx context.Context, node string) (*ledger.Taken, error) {
	taken, err := j.Store.Origin(ctx, node)
	j.then()
	return taken, err
}

// A node that is stopped and owes nothing is forgotten, but not one that was
// started again while that was found out: it may have scans by now.
func TestANodeThatStartsAgainIsNotForgotten(t *testing.T) {
	eachBackend(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		tell := func(stopped bool, ended int64) {
			t.Helper()
			if err := s.PutNode(ctx, ledger.Node{ID: "two", Name: "b:/data", Ended: ended, Stopped: stopped, SeenAt: at}); err != nil {
				t.Fatal(err)
			}
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
			n := &ledger.Nodes{Store: joining{s, one.then}, Shipper: &ledger.Shipper{Node: "one", To: struct{ ledger.Rewinder }{}},
				Now: func() time.Time { return at }, Log: slog.New(slog.DiscardHandler)}
			if err := n.Counted(ctx); err != nil {
				t.Fatal(err)
			}
			if all, _, err := s.ScanNodes(ctx); err != nil || len(all) != one.left {
				t.Errorf("%s: %d nodes are left, want %d (%v)", name, len(all), one.left, err)
			}
		}
	})
}
