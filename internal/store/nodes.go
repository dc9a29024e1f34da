package store

import (
	"context"

	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// RequestShipping implements scanlog.NodeStore. A notification informs the nodes of the request for their scans; without the notification,
// the nodes notice the request by polling once a second.
func (s *Store) RequestShipping(ctx context.Context) (ask int64, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		if err := tx.row(ctx, `UPDATE sequences SET value = value + 1 WHERE name = 'scan_sync' RETURNING value`).Scan(&ask); err != nil ||
			!s.Shared() {
			return err
		}
		return tx.run(ctx, `SELECT pg_notify(`+bell+`, $1)`, shipRequest)
	})
	return ask, err
}

// shipRequest is the NOTIFY payload that requests the scans of all nodes.
const shipRequest = "scans"

// ShipRequests returns a channel that receives a value when a node requests the scans of all nodes while the LISTEN connection is open.
func (s *Store) ShipRequests() <-chan struct{} { return s.shipRequests }

var scanNodeRows = mapper[scanlog.Node]{table: "scan_nodes", key: "node",
	columns: "node, name, acked_request, last_offset, shipped_offset, stopped_cleanly, last_seen_at, lag_changes, in_sync_at, " +
		"reported_at",
	targets: func(n *scanlog.Node) []any {
		return []any{&n.ID, &n.Name, &n.AckedRequest, &n.LastOffset, &n.ShippedOffset, &n.StoppedCleanly, moment{&n.LastSeenAt},
			&n.Lag.Changes, moment{&n.Lag.InSyncAt}, moment{&n.Lag.ReportedAt}}
	}}

// ScanNodes implements scanlog.NodeStore.
func (s *Store) ScanNodes(ctx context.Context) (all []scanlog.Node, ask int64, err error) {
	err = s.view(ctx, func(tx *Tx) error {
		if err := tx.row(ctx, `SELECT value FROM sequences WHERE name = 'scan_sync'`).Scan(&ask); err != nil {
			return err
		}
		all, err = scanNodeRows.all(ctx, tx, `ORDER BY name, node`)
		return err
	})
	return all, ask, err
}

// PutNode implements scanlog.NodeStore.
func (s *Store) PutNode(ctx context.Context, n scanlog.Node) error {
	return s.update(ctx, func(tx *Tx) error { return scanNodeRows.put(ctx, tx, n, "lag_changes", "in_sync_at", "reported_at") })
}

// ReportNode implements scanlog.NodeStore. ReportNode changes nothing if the node has no row or has stopped cleanly.
func (s *Store) ReportNode(ctx context.Context, n scanlog.Node, followed int64) error {
	return execute(ctx, s, `UPDATE scan_nodes SET last_offset = $2, shipped_offset = $3, last_seen_at = $4, in_sync_at = $5,
		reported_at = $6, lag_changes = (SELECT CASE WHEN seq > $7 THEN seq - $7 ELSE 0 END FROM audit_log_head WHERE id = 1)
		WHERE node = $1 AND stopped_cleanly = 0`, n.ID, n.LastOffset, n.ShippedOffset, millis(n.LastSeenAt), millis(n.Lag.InSyncAt),
		millis(n.Lag.ReportedAt), followed)
}

// ForgetNode implements scanlog.NodeStore.
func (s *Store) ForgetNode(ctx context.Context, node string) error {
	return execute(ctx, s, `DELETE FROM scan_nodes WHERE node = $1`, node)
}

// ForgetStopped implements scanlog.NodeStore.
func (s *Store) ForgetStopped(ctx context.Context, read scanlog.Node) error {
	return execute(ctx, s, `DELETE FROM scan_nodes WHERE node = $1 AND stopped_cleanly = 1
		AND last_offset = $2 AND last_seen_at = $3`, read.ID, read.LastOffset, millis(read.LastSeenAt))
}

// GiveUpNode implements scanlog.NodeStore.
func (s *Store) GiveUpNode(ctx context.Context, node string) (exists bool, err error) {
	err = s.update(ctx, func(tx *Tx) error {
		n, err := tx.exec(ctx, `DELETE FROM scan_nodes WHERE node = $1`, node)
		if exists = n > 0; err != nil || !exists {
			return err
		}
		return tx.note(ctx, "scans", node, "delete_node", nil)
	})
	return exists, err
}
