package main

import (
	"fmt"

	"github.com/qrjump/qrjump/client"
)

type scanNodeList struct{ operator }

// Run lists the nodes whose scans may not be in the ledger yet.
func (c *scanNodeList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanNodes.List(s.ctx)
	more := ""
	if len(list) > 1 {
		more = said("scan_node.each_node_says_once_a")
	}
	return listing[client.ScanNode]{name: "nodes", none: said("scan_node.no_node_is_waited_for"),
		heads: []string{"NODE", "WHERE", "STATE", "SCANS BEHIND", "CHANGES BEHIND", "LAST HEARD OF"},
		more:  more,
		row: func(n client.ScanNode) []string {
			state := "runs"
			if n.Stopped {
				state = said("scan_node.stopped_in_order")
			}
			lag := "-" // it is stopped, or never said
			if n.Lag != nil {
				lag = fmt.Sprintf("%d (%.1f s), %.0f s ago", n.Lag.Changes, n.Lag.Seconds, n.Lag.SaidAgo)
			}
			return []string{n.Node, n.Name, state, number(n.Behind), lag, when(n.SeenAt)}
		}}.print(s, c.outputFlags, list, failed("list", said("scan_node.scan_nodes"), err))
}

type scanNodeDelete struct {
	operator
	Node string `arg:""`
	ending
}

// Run waits no more for the scans of a node.
func (c *scanNodeDelete) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.ScanNodes.List(s.ctx)
	if err != nil {
		return failed(said("scan_node.forget_scan_node"), c.Node, err)
	}
	one, err := named(list, func(n client.ScanNode) string { return n.Node }, "forget", c.Node,
		said("scan_node.scan_node"), "qrjump scan-node list")
	if err != nil {
		return err
	}
	if err := c.confirmed(s, said("scan_node.the_node_is_waited_for", one.Node,
		one.Name, one.Behind)); err != nil {
		return err
	}
	left, err := qrjump.ScanNodes.Delete(s.ctx, c.Node)
	return c.outcome(s, map[string]any{"nodes": append([]client.ScanNode{}, left...)},
		seeList(said("scan_node.forget_scan_node"), c.Node, "qrjump scan-node list", err),
		"scan_node.the_node_is_waited_for_2", plain(c.Node), counted(len(left), "node"))
}
