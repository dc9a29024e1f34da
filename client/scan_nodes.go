package client

import (
	"context"
	"net/url"
	"time"
)

// ScanNode is a node whose journal may contain scans that are not yet in the scan log.
type ScanNode struct {
	Node    string    `json:"node" doc:"the id of its journal"`
	Name    string    `json:"name" doc:"host and data folder"`
	Stopped bool      `json:"stopped" doc:"it ended in order"`
	Backlog int64     `json:"backlog" doc:"scans that it had not brought to the ledger when it was last heard of"`
	SeenAt  time.Time `json:"seen_at"`
	// Lag is nil for a node that is stopped, or that has never reported a lag.
	Lag *NodeLag `json:"lag,omitempty" doc:"how far its memory was behind the log of changes when it last said so, which it does once a minute"`
}

// NodeLag is the lag of a node's replica behind the committed changes.
type NodeLag struct {
	Changes          int64     `json:"changes" doc:"committed changes that the node had not followed"`
	Seconds          float64   `json:"seconds" doc:"how long before that it last held every committed change"`
	ReportedAt       time.Time `json:"reported_at" doc:"when it said so, by its own clock; of the node that answers: now"`
	ReportAgeSeconds float64   `json:"report_age_seconds" doc:"the same in seconds, by the clock of the node that answers"`
}

// ScanNodeList is the list of nodes whose journals may contain scans that are not yet in the scan log.
type ScanNodeList struct {
	Nodes []ScanNode `json:"nodes"`
}

// List lists the nodes whose journals may contain scans that are not yet in the scan log; with an embedded database, the list is
// empty.
func (c ScanNodesService) List(ctx context.Context) ([]ScanNode, error) {
	reply, err := get[ScanNodeList](ctx, c.transport, "scan-nodes")
	return reply.Nodes, err
}

// Delete removes a node that will never return, and returns the remaining nodes. Scans that the node has not shipped are lost. If
// the node does not exist, the result is a *Problem with status 404.
func (c ScanNodesService) Delete(ctx context.Context, node string) ([]ScanNode, error) {
	reply, err := remove[ScanNodeList](ctx, c.transport, "scan-nodes/"+url.PathEscape(node))
	return reply.Nodes, err
}
