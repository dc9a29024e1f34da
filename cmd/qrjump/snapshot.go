package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/qrjump/qrjump/client"
)

type snapshotList struct{ operator }

// Run lists the states that are saved.
func (c *snapshotList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListSnapshots(s.ctx)
	return listing[client.Snapshot]{name: "snapshots", none: said("snapshot.none"),
		heads: []string{"NAME", "SAVED", "VERSION", "ACCOUNTS", "RULES", "BATCHES", "BYTES"}, row: func(one client.Snapshot) []string {
			return []string{one.Name, when(one.CreatedAt), one.Program, fmt.Sprint(one.Accounts), fmt.Sprint(one.Rules),
				fmt.Sprint(one.Batches), fmt.Sprint(one.Bytes)}
		}}.print(s, c.outputFlags, list, noSnapshots("list", err))
}

// noSnapshots says of a server that is no emulator what does there what was asked for.
func noSnapshots(did string, err error) error {
	if w, ok := errors.AsType[*client.WrongServer](err); ok && w.NoSuchCall {
		return exitError{hintError{error: fault("named.the_server_at_has_no", maybeSaid("did."+did, did), w.URL),
			next: said("snapshot.instead")}, exitRefused}
	}
	return failed(did, "snapshots", err)
}

// ofSnapshot returns the numbers of a saved state.
func ofSnapshot(one client.Snapshot) string {
	return said("snapshot.has", counted(int(one.Accounts), "account"), counted(int(one.Rules), "rule"),
		counted(int(one.Batches), "batch"))
}

type snapshotSave struct {
	operator
	Name string `arg:""`
	ending
}

// Run saves the state of the server.
func (c *snapshotSave) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListSnapshots(s.ctx)
	if err != nil {
		return noSnapshots("save", err)
	}
	for _, one := range list {
		if one.Name != c.Name {
			continue
		}
		if err := c.confirmed(s, said("snapshot.replaced", plain(one.Name), when(one.CreatedAt))); err != nil {
			return err
		}
	}
	one, err := qrjump.Emulator.SaveSnapshot(s.ctx, c.Name)
	return c.outcome(s, one, failed("save", c.Name, err), "snapshot.saved", plain(one.Name), ofSnapshot(one))
}

// snapshotEnd is of a verb that ends a state: the one that is, or one that was saved.
type snapshotEnd struct {
	operator
	Name   string `arg:""`
	DryRun bool
	ending
}

// agreed finds the snapshot, and asks; sure = it may be done. would and lost say what would be done, and what is lost by it.
func (c *snapshotEnd) agreed(s *session, qrjump *client.Client, did, would, lost string) (one client.Snapshot, sure bool, err error) {
	list, err := qrjump.Emulator.ListSnapshots(s.ctx)
	if err != nil {
		return one, false, noSnapshots(did, err)
	}
	one, err = named(list, func(one client.Snapshot) string { return one.Name }, did, c.Name, "snapshot", "qrjump snapshot list")
	if err != nil {
		return one, false, err
	}
	if c.DryRun {
		return one, false, c.print(s, one, func(w io.Writer) {
			tell(w, would, plain(one.Name), when(one.CreatedAt), ofSnapshot(one))
		})
	}
	return one, true, c.confirmed(s, said(lost, plain(one.Name), when(one.CreatedAt), plain(qrjump.URL())))
}

type snapshotLoad struct{ snapshotEnd }

// Run takes the server back to a saved state.
func (c *snapshotLoad) Run(s *session, qrjump *client.Client) error {
	_, sure, err := c.agreed(s, qrjump, "load", "snapshot.would_load", "snapshot.lost_by_load")
	if err != nil || !sure {
		return err
	}
	one, err := qrjump.Emulator.LoadSnapshot(s.ctx, c.Name)
	return c.outcome(s, one, failed("load", c.Name, err), "snapshot.loaded", plain(one.Name), when(one.CreatedAt), ofSnapshot(one))
}

type snapshotDelete struct{ snapshotEnd }

// Run removes a saved state.
func (c *snapshotDelete) Run(s *session, qrjump *client.Client) error {
	one, sure, err := c.agreed(s, qrjump, "delete", "snapshot.would_delete", "snapshot.lost_by_delete")
	if err != nil || !sure {
		return err
	}
	return c.outcome(s, one, failed("delete", c.Name, qrjump.Emulator.DeleteSnapshot(s.ctx, c.Name)), "delete.did", plain(c.Name))
}
