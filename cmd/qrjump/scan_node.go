package main

import (
	"fmt"

	"github.com/qrjump/qrjump/client"
)

type scanNodeList struct{ operator }

// Run lists the nodes whose scans may not be in the ledger yet.
func (c *scanNodeList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanNodes(s.ctx)
	more := ""
	if len(list) > 1 {
		more = "each node says once a minute how far it is behind; one that said nothing for longer is cut off, or older than " +
			"this server: qrjump doctor --node URL asks it"
	}
	return listing[client.ScanNode]{name: "nodes", none: "no node is waited for: with an embedded database every scan is in the ledger",
		heads: []string{"NODE", "WHERE", "STATE", "SCANS BEHIND", "CHANGES BEHIND", "LAST HEARD OF"},
		more:  more,
		row: func(n client.ScanNode) []string {
			state := "runs"
			if n.Stopped {
				state = "stopped in order"
			}
			lag := "-" // it is stopped, or never said
			if n.Lag != nil {
				lag = fmt.Sprintf("%d (%.1f s), %.0f s ago", n.Lag.Changes, n.Lag.Seconds, n.Lag.SaidAgo)
			}
			return []string{n.Node, n.Name, state, number(n.Behind), lag, when(n.SeenAt)}
		}}.print(s, c.outputFlags, list, failed("list", "scan nodes", err))
}

type scanNodeForget struct {
	operator
	Node string `arg:""`
	Yes  bool
}

// Run waits no more for the scans of a node.
func (c *scanNodeForget) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanNodes(s.ctx)
	if err != nil {
		return failed("forget scan node", c.Node, err)
	}
	one, err := named(list, func(n client.ScanNode) string { return n.Node }, "forget", c.Node, "scan node", "qrjump scan-node list")
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, fmt.Sprintf("the node %s (%s) is waited for no more: %d scans that it did not bring are lost", one.Node,
		one.Name, one.Behind)); err != nil {
		return err
	}
	left, err := qrjump.ForgetScanNode(s.ctx, c.Node)
	return c.outcome(s, map[string]any{"nodes": append([]client.ScanNode{}, left...)},
		seeList("forget scan node", c.Node, "qrjump scan-node list", err),
		"the node %s is waited for no more; %s left", plain(c.Node), counted(len(left), "node"))
}
