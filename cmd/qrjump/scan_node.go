package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/qrjump/qrjump/client"
)

type scanNodeList struct{ operator }

// Run lists the nodes whose scans may not be in the ledger yet.
func (c *scanNodeList) Run(s *session) error {
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	list, err := qrjump.ScanNodes(s.ctx)
	if err != nil {
		return fmt.Errorf("list scan nodes: %w", err)
	}
	return c.print(s, map[string]any{"nodes": append([]client.ScanNode{}, list...)}, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "no node is waited for: with an embedded database every scan is in the ledger")
			return
		}
		rows := [][]string{}
		for _, n := range list {
			state := "runs"
			if n.Stopped {
				state = "stopped in order"
			}
			lag := "-" // it is stopped, or never said
			if n.Lag != nil {
				lag = fmt.Sprintf("%d (%.1f s), %.0f s ago", n.Lag.Changes, n.Lag.Seconds, n.Lag.SaidAgo)
			}
			rows = append(rows, []string{n.Node, n.Name, state, strconv.FormatInt(n.Behind, 10), lag, when(n.SeenAt)})
		}
		printTable(w, []string{"NODE", "WHERE", "STATE", "SCANS BEHIND", "CHANGES BEHIND", "LAST HEARD OF"}, rows)
		if len(list) > 1 {
			fmt.Fprintln(w, "each node says once a minute how far it is behind; one that said nothing for longer is cut off, or older than "+
				"this server: qrjump doctor --node URL asks it")
		}
	})
}

type scanNodeForget struct {
	operator
	Node string `arg:""`
	Yes  bool
}

// Run waits no more for the scans of a node.
func (c *scanNodeForget) Run(s *session) error {
	qrjump, err := c.client()
	if err != nil {
		return err
	}
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
	if err != nil {
		return seeList("forget scan node", c.Node, "qrjump scan-node list", err)
	}
	return c.print(s, map[string]any{"nodes": append([]client.ScanNode{}, left...)}, func(w io.Writer) {
		fmt.Fprintf(w, "the node %s is waited for no more; %s left\n", plain(c.Node), counted(len(left), "node"))
	})
}
