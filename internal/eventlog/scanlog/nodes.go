package scanlog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Node is a process whose journal may contain scans that are not in the shared log yet.
type Node struct {
	ID             string // Shipper.ID of the node's journal
	Name           string // the name shown to operators: host and data folder
	AckedRequest   int64  // number of the last request after which the node shipped all its scans
	LastOffset     int64  // position of the node's last scan at its last report
	ShippedOffset  int64  // position up to which the node had shipped its scans at its last report
	StoppedCleanly bool   // the node was shut down cleanly
	LastSeenAt     time.Time
	Lag            Lag
}

// Lag is the distance between a node's in-memory copy and the change log, as reported by the node.
type Lag struct {
	Changes    int64     // number of changes that the in-memory copy has not applied yet
	InSyncAt   time.Time // time at which the node last had every change
	ReportedAt time.Time // time of the report; zero = no report yet
}

// NodeStore lets nodes discover each other and request each other's scans. Each request has a higher number than the requests before it.
type NodeStore interface {
	// RequestShipping requests that all nodes ship their scans, and returns the number of the request.
	RequestShipping(ctx context.Context) (ask int64, err error)
	// ScanNodes returns the nodes and the number of the last request.
	ScanNodes(ctx context.Context) (all []Node, ask int64, err error)
	// PutNode stores the state of a node, except its lag.
	PutNode(ctx context.Context, n Node) error
	// ReportNode stores the state that a running node reports. followed is the last change in the node's memory; the node's lag is
	// the number of later changes in the change log.
	ReportNode(ctx context.Context, n Node, followed int64) error
	// ForgetNode removes a node that has no unshipped scans.
	ForgetNode(ctx context.Context, node string) error
	// ForgetStopped removes a stopped node, unless it has reported since the caller read its state; the argument (read) is that state.
	ForgetStopped(ctx context.Context, read Node) error
	// GiveUpNode removes a node that is lost for good, and reports whether the node existed.
	GiveUpNode(ctx context.Context, node string) (there bool, err error)
	// Origin returns the journal positions of a node's counted events.
	Origin(ctx context.Context, node string) (*OffsetSet, error)
}

// Nodes brings the scans of all nodes into the shared log: each node ships its scans on request, and a node that fails to do so is
// named in an error.
type Nodes struct {
	Store   NodeStore
	Shipper *Shipper
	// Flush moves every scan that this node has acknowledged into the shared log.
	Flush        func(context.Context) error
	Name         string
	ShipRequests <-chan struct{}  // signals that nodes received a request; signals may be lost
	Now          func() time.Time // the real time
	Log          *slog.Logger
	// Memory is the in-memory copy that follows the change log.
	Memory interface {
		AppliedSeq() (change int64)
		Staleness() time.Duration
	}
	// Wait is the time that SyncAll waits for other nodes; 0 = 10 s.
	Wait time.Duration
}

// UnreachableError is returned if scans of some nodes may be missing; it lists the reason for each node.
type UnreachableError []string

// Error returns the reason for each node.
func (u UnreachableError) Error() string {
	return "not all acknowledged scans are in the scan log: " + strings.Join(u, "; ") +
		". Start the node or wait for it; if it is lost permanently, so are its scans: DELETE /admin/v1/scan-nodes/{node}"
}

// Join registers this node; it must be called before the node acknowledges its first scan.
func (n *Nodes) Join(ctx context.Context) error {
	err := n.put(ctx, 0, false)
	if err != nil {
		return fmt.Errorf("registering this node: %w", err)
	}
	return nil
}

func (n *Nodes) put(ctx context.Context, answered int64, stopped bool) error {
	node := n.thisNode()
	node.AckedRequest, node.StoppedCleanly = answered, stopped
	return n.Store.PutNode(ctx, node)
}

// thisNode returns the current state of this node.
func (n *Nodes) thisNode() Node {
	s := n.Shipper
	return Node{ID: s.ID(), Name: n.Name, LastOffset: s.Journal.end(), ShippedOffset: s.position.Load(), LastSeenAt: n.Now()}
}

// Report stores the state of this node, so that other nodes can show it.
func (n *Nodes) Report(ctx context.Context) error {
	node, followed := n.thisNode(), n.Memory.AppliedSeq()
	node.Lag = Lag{InSyncAt: node.LastSeenAt.Add(-n.Memory.Staleness()), ReportedAt: node.LastSeenAt}
	return n.Store.ReportNode(ctx, node, followed)
}

// Run responds to requests of other nodes until ctx ends; nil Nodes have no other nodes.
func (n *Nodes) Run(ctx context.Context) {
	if n == nil {
		return
	}
	tick := time.Tick(time.Second)
	failing := false
	for {
		err := n.answer(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			n.Log.WarnContext(ctx, "scan node report failed", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-n.ShipRequests:
		case <-tick:
		}
	}
}

// answer ships all scans if a request is pending.
func (n *Nodes) answer(ctx context.Context) error {
	all, ask, err := n.Store.ScanNodes(ctx)
	if err != nil {
		return err
	}
	for _, node := range all {
		if node.ID == n.Shipper.ID() && node.AckedRequest >= ask && !node.StoppedCleanly {
			return nil
		}
	}
	if err := n.Flush(ctx); err != nil {
		return err
	}
	return n.put(ctx, ask, false)
}

// SyncAll brings every scan that any node acknowledged before the call into the shared log. Unreached.
func (n *Nodes) SyncAll(ctx context.Context) error {
	others, err := n.peers(ctx)
	if err != nil || len(others) == 0 {
		return err
	}
	ask, err := n.Store.RequestShipping(ctx)
	if err != nil {
		return fmt.Errorf("requesting the scans of other nodes: %w", err)
	}
	// The wait uses real time, because it waits for other processes.
	end := time.NewTimer(cmp.Or(n.Wait, 10*time.Second))
	defer end.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if others, err = n.peers(ctx); err != nil {
			return err
		}
		var silent UnreachableError
		for _, node := range others {
			switch {
			case node.StoppedCleanly && node.ShippedOffset < node.LastOffset:
				silent = append(silent, fmt.Sprintf("node %s (%s) is stopped and has not shipped its last %d scans", node.ID, node.Name,
					node.LastOffset-node.ShippedOffset))
			case !node.StoppedCleanly && node.AckedRequest < ask:
				silent = append(silent, fmt.Sprintf("node %s (%s) does not respond; last seen at %s", node.ID, node.Name,
					node.LastSeenAt.UTC().Format(time.RFC3339)))
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

// peers returns all nodes except this node.
func (n *Nodes) peers(ctx context.Context) (others []Node, err error) {
	all, _, err := n.Store.ScanNodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	for _, node := range all {
		if node.ID != n.Shipper.ID() {
			others = append(others, node)
		}
	}
	return others, nil
}

// Counted returns an error if scans of stopped nodes are not counted, and removes the stopped nodes whose scans are all counted;
// call it after everything in the log is counted. After the loss of a stream, only the journals of stopped nodes still contain the scans of
// these nodes. The returned UnreachableError names the nodes whose scans are missing.
func (n *Nodes) Counted(ctx context.Context) error {
	others, err := n.peers(ctx)
	if err != nil {
		return err
	}
	if _, allowed := n.Shipper.To.(Rewinder); !allowed {
		return nil
	}
	var trailingError UnreachableError
	for _, node := range others {
		if !node.StoppedCleanly {
			continue
		}
		taken, err := n.Store.Origin(ctx, node.ID)
		if err != nil {
			return err
		}
		if missing := taken.Missing(node.LastOffset); missing > 0 {
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

// Leave records that this node shuts down cleanly. If the node still has unshipped events, the other nodes keep requesting the
// events until the node is started again.
func (n *Nodes) Leave(ctx context.Context) error {
	s := n.Shipper
	if _, allowed := s.To.(Rewinder); !allowed && s.Backlog() == 0 {
		return n.Store.ForgetNode(ctx, s.ID())
	}
	return n.put(ctx, 0, true)
}

// ID returns the node name under which the journal is shipped.
func (s *Shipper) ID() string {
	if id := s.id.Load(); id != nil {
		return *id
	}
	return s.Node
}
