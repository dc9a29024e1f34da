package scanlog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Node is a process whose journal may hold scans that are not in the log of all
// nodes yet.
type Node struct {
	ID       string // of its journal
	Name     string // what an operator knows it by: host and data folder
	Answered int64  // the number of the last question for which it shipped all it had
	Ended    int64  // the position of its last scan when it last said so
	Shipped  int64  // up to where it had shipped them by then
	Stopped  bool   // it ended in order
	SeenAt   time.Time
	Lag      Lag
}

// Lag is the distance of a node's memory from the log of changes, as reported by the node.
type Lag struct {
	Changes int64     // how many it had not followed
	LevelAt time.Time // when it last held every change
	At      time.Time // when it said so; zero = it never did
}

// NodeStore lets nodes discover each other and request each other's scans. Questions are numbered.
type NodeStore interface {
	// AskNodes asks all nodes to ship what they have, and returns the number of the question.
	AskNodes(ctx context.Context) (ask int64, err error)
	// ScanNodes returns the nodes and the last question.
	ScanNodes(ctx context.Context) (all []Node, ask int64, err error)
	// PutNode stores what is known of a node, except its lag.
	PutNode(ctx context.Context, n Node) error
	// ReportNode stores what a running node says of itself. followed is the last change that it has
	// in memory; its lag is what the log of changes has after that.
	ReportNode(ctx context.Context, n Node, followed int64) error
	// ForgetNode removes a node that owes nothing.
	ForgetNode(ctx context.Context, node string) error
	// ForgetStopped removes a stopped node, unless it reported after it was read.
	ForgetStopped(ctx context.Context, read Node) error
	// GiveUpNode removes a node that never comes back; false = there was none.
	GiveUpNode(ctx context.Context, node string) (there bool, err error)
	// Origin says which events of a node's journal are counted.
	Origin(ctx context.Context, node string) (*OffsetSet, error)
}

// Nodes brings the scans of all nodes into the log that they share: each node ships its scans when
// it is asked, and a node that does not is named.
type Nodes struct {
	Store   NodeStore
	Shipper *Shipper
	Name    string
	Asked   <-chan struct{}  // rings when nodes are asked; it may miss a question
	Now     func() time.Time // the real time
	Log     *slog.Logger
	// Memory follows the log of changes.
	Memory interface {
		AppliedSeq() (change int64)
		Staleness() time.Duration
	}
	// Wait is the time that Gather waits for other nodes; 0 = 10 s.
	Wait time.Duration
}

// UnreachableError is returned where scans of some nodes may be missing.
type UnreachableError []string

// Error says of each node why.
func (u UnreachableError) Error() string {
	return "not every scan that was acknowledged is in the ledger: " + strings.Join(u, "; ") +
		". Start it or wait for it; if it never comes back, its scans are lost: DELETE /admin/v1/scan-nodes/{node}"
}

// Join makes this node known, before it acknowledges its first scan.
func (n *Nodes) Join(ctx context.Context) error {
	err := n.put(ctx, 0, false)
	if err != nil {
		return fmt.Errorf("making this node known to those who ask for its scans: %w", err)
	}
	return nil
}

func (n *Nodes) put(ctx context.Context, answered int64, stopped bool) error {
	ownNode := n.thisNode()
	ownNode.Answered, ownNode.Stopped = answered, stopped
	return n.Store.PutNode(ctx, ownNode)
}

// own describes this node as it is now.
func (n *Nodes) thisNode() Node {
	s := n.Shipper
	return Node{ID: s.ID(), Name: n.Name, Ended: s.Journal.end(), Shipped: s.position.Load(), SeenAt: n.Now()}
}

// Report stores how this node is, so that the others can show it.
func (n *Nodes) Report(ctx context.Context) error {
	ownNode, followed := n.thisNode(), n.Memory.AppliedSeq()
	ownNode.Lag = Lag{LevelAt: ownNode.SeenAt.Add(-n.Memory.Staleness()), At: ownNode.SeenAt}
	return n.Store.ReportNode(ctx, ownNode, followed)
}

// Run answers until ctx ends.
func (n *Nodes) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		err := n.answer(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			n.Log.WarnContext(ctx, "who asks for everything that was scanned gets no answer from this node", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-n.Asked:
		case <-tick.C:
		}
	}
}

// answer ships everything, if that was asked for.
func (n *Nodes) answer(ctx context.Context) error {
	all, ask, err := n.Store.ScanNodes(ctx)
	if err != nil {
		return err
	}
	for _, node := range all {
		if node.ID == n.Shipper.ID() && node.Answered >= ask && !node.Stopped {
			return nil
		}
	}
	if err := n.Shipper.Flush(ctx); err != nil {
		return err
	}
	return n.put(ctx, ask, false)
}

// SyncAll brings everything that was acknowledged before it was called, on any
// node, into the log of all nodes. Unreached.
func (n *Nodes) SyncAll(ctx context.Context) error {
	otherNodes, err := n.peers(ctx)
	if err != nil || len(otherNodes) == 0 {
		return err
	}
	ask, err := n.Store.AskNodes(ctx)
	if err != nil {
		return fmt.Errorf("asking the other nodes for their scans: %w", err)
	}
	// By real time: a process waits for others.
	end := time.NewTimer(cmp.Or(n.Wait, 10*time.Second))
	defer end.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if otherNodes, err = n.peers(ctx); err != nil {
			return err
		}
		var silent UnreachableError
		for _, node := range otherNodes {
			switch {
			case node.Stopped && node.Shipped < node.Ended:
				silent = append(silent, fmt.Sprintf("node %s (%s) is stopped and did not bring its last %d scans", node.ID, node.Name,
					node.Ended-node.Shipped))
			case !node.Stopped && node.Answered < ask:
				silent = append(silent, fmt.Sprintf("node %s (%s) does not answer; it was last heard of at %s", node.ID, node.Name,
					node.SeenAt.UTC().Format(time.RFC3339)))
			}
		}
		if silent == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return silent
		case <-time.After(pause):
		}
	}
}

// peers returns all nodes except this one.
func (n *Nodes) peers(ctx context.Context) (otherNodes []Node, err error) {
	all, _, err := n.Store.ScanNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking which nodes there are: %w", err)
	}
	for _, node := range all {
		if node.ID != n.Shipper.ID() {
			otherNodes = append(otherNodes, node)
		}
	}
	return otherNodes, nil
}

// Counted makes sure that the scans of stopped nodes are counted, once everything in the log is. A
// stream that held them may have been lost: then only the nodes' own journals have them. Unreached
// names these nodes.
func (n *Nodes) Counted(ctx context.Context) error {
	otherNodes, err := n.peers(ctx)
	if err != nil {
		return err
	}
	if _, allowed := n.Shipper.To.(Rewinder); !allowed {
		return nil
	}
	var trailingError UnreachableError
	for _, node := range otherNodes {
		if !node.Stopped {
			continue
		}
		taken, err := n.Store.Origin(ctx, node.ID)
		if err != nil {
			return err
		}
		if missing := taken.Missing(node.Ended); missing > 0 {
			trailingError = append(trailingError,
				fmt.Sprintf("node %s (%s) is stopped, and %d of its scans were lost with the stream before they were counted", node.ID,
					node.Name, missing))
		} else if err := n.Store.ForgetStopped(ctx, node); err != nil {
			return err
		}
	}
	if trailingError != nil {
		return trailingError
	}
	return nil
}

// Leave notes that this node ends in order. If it still has events, the others go on to ask for
// them until it is started again.
func (n *Nodes) Leave(ctx context.Context) error {
	s := n.Shipper
	if _, allowed := s.To.(Rewinder); !allowed && s.Backlog() == 0 {
		return n.Store.ForgetNode(ctx, s.ID())
	}
	return n.put(ctx, 0, true)
}

// ID returns the name under which the journal is shipped.
func (s *Shipper) ID() string {
	if id := s.id.Load(); id != nil {
		return *id
	}
	return s.Node
}
