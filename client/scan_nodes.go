package client

import (
	"context"
	"time"
)

// ScanNode is a node whose journal may contain scans that are not yet in the scan log.
type ScanNode struct {
	Node           string    `json:"node" doc:"ID of the node's journal"`
	Name           string    `json:"name" doc:"host and data directory"`
	StoppedCleanly bool      `json:"stopped_cleanly" doc:"whether the node stopped cleanly"`
	Backlog        int64     `json:"backlog" doc:"scans not yet in the scan log at the node's last heartbeat"`
	LastSeenAt     time.Time `json:"last_seen_at"`
	// Lag is nil for a node that is stopped, or that has never reported a lag.
	Lag *NodeLag `json:"lag,omitempty" doc:"lag behind the audit log at the node's last report, which it sends once a minute"`
}

// NodeLag is the lag of a node's replica behind the committed changes.
type NodeLag struct {
	Changes          int64     `json:"changes" doc:"committed changes that the node had not applied"`
	Seconds          float64   `json:"seconds" doc:"seconds since the node last had every committed change, at the time of the report"`
	ReportedAt       time.Time `json:"reported_at" doc:"time of the report by the node's clock; now for the responding node"`
	ReportAgeSeconds float64   `json:"report_age_seconds" doc:"age of the report in seconds by the responding node's clock"`
}

// ScanNodeList is the list of nodes whose journals may contain scans that are not yet in the scan log.
type ScanNodeList struct {
	Nodes []ScanNode `json:"nodes"`
}

// List lists the nodes whose journals may contain scans that are not yet in the scan log; with an embedded database, the list is empty.
func (c ScanNodesService) List(ctx context.Context) ([]ScanNode, error) {
	reply, err := OpListScanNodes.call(ctx, c.transport, Empty{})
	return reply.Nodes, err
}

// Delete removes a node that will never return, and returns the remaining nodes. Scans that the node has not shipped are lost. If
// the node does not exist, the result is a *Problem with status 404.
func (c ScanNodesService) Delete(ctx context.Context, node string) ([]ScanNode, error) {
	reply, err := OpDeleteScanNode.call(ctx, c.transport, Empty{}, node)
	return reply.Nodes, err
}

// LakeVerification compares the scan lake (serve --lake) with the scan log.
type LakeVerification struct {
	Days  []LakeDay  `json:"days" doc:"results by day; days whose scans were partly removed from the scan log are omitted"`
	Nodes []LakeNode `json:"nodes"`
}

// LakeDay compares one day of the scan log with the same day in the lake.
type LakeDay struct {
	Date       string `json:"date"`
	ScanLog    int64  `json:"scan_log" doc:"scans in the scan log"`
	Lake       int64  `json:"lake" doc:"rows in the data lake"`
	Missing    int64  `json:"missing" doc:"scans that are overdue in the data lake"`
	Pending    int64  `json:"pending" doc:"scans of the last minute that are not in the data lake yet"`
	Duplicates int64  `json:"duplicates" doc:"additional rows of scans that are in the data lake more than once"`
	Unexpected int64  `json:"unexpected" doc:"rows without a scan in the scan log"`
	NotErased  int64  `json:"not_erased" doc:"rows with the hash of an erased user"`
}

// Consistent reports whether the lake matches the scan log on this day.
func (d LakeDay) Consistent() bool { return d.Missing+d.Duplicates+d.Unexpected+d.NotErased == 0 }

// LakeNode is the time up to which a node has written its scans to the lake.
type LakeNode struct {
	Node          string    `json:"node"`
	CompleteUntil time.Time `json:"complete_until" doc:"time before which the data lake has every scan that the node recorded"`
}

// LakeQuery selects the days of a verification.
type LakeQuery struct {
	From string `query:"from" maxLength:"40" doc:"first day; default: seven days before the last"`
	To   string `query:"to" maxLength:"40" doc:"last day; default: today"`
}

// Verify compares the lake with the scan log for the days from "from" to "to"; if both are "", for the last seven days. If the server
// writes no lake, the result is a *Problem with status 404.
func (c LakeService) Verify(ctx context.Context, from, to string) (LakeVerification, error) {
	return OpVerifyLake.call(ctx, c.transport, LakeQuery{from, to})
}
