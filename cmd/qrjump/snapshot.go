package main

import (
	"errors"
	"io"
	"strings"

	"github.com/qrjump/qrjump/client"
)

// noSnapshots explains the error of a snapshot command; if the server has no emulator, the error names the flag that the server needs.
func noSnapshots(did string, err error) error {
	if w, ok := errors.AsType[*client.WrongServer](err); ok && w.NoSuchCall {
		return exitError{hintError{error: fault("named.the_server_at_has_no", localizeOr("did."+did, did), w.URL),
			next: tr("snapshot.requires_dev")}, exitRefused}
	}
	return failed(did, "snapshots", err)
}

// ofSnapshot returns the numbers of objects in a snapshot, as text.
func ofSnapshot(snapshot client.Snapshot) string {
	return tr("snapshot.has", counted(int(snapshot.Accounts), "account"), counted(int(snapshot.Rules), "rule"),
		counted(int(snapshot.Batches), "batch"))
}

type snapshotSave struct {
	operator
	Name string `arg:""`
	confirmFlag
}

// Run saves the state of the server as a snapshot.
func (c *snapshotSave) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListSnapshots(s.ctx)
	if err != nil {
		return noSnapshots("save", err)
	}
	for _, snapshot := range list {
		if snapshot.Name != c.Name {
			continue
		}
		if err := c.confirmed(s, tr("snapshot.replaced", plain(snapshot.Name), formatTime(snapshot.CreatedAt))); err != nil {
			return err
		}
	}
	snapshot, err := qrjump.Emulator.SaveSnapshot(s.ctx, c.Name)
	return c.outcome(s, snapshot, failed("save", c.Name, err), "snapshot.saved", plain(snapshot.Name), ofSnapshot(snapshot))
}

type snapshotLoad struct {
	operator
	Name   string `arg:""`
	DryRun bool
	confirmFlag
}

// Run restores the state of a snapshot on the server.
func (c *snapshotLoad) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Emulator.ListSnapshots(s.ctx)
	nameOf := func(snapshot client.Snapshot) string { return snapshot.Name }
	snapshot, err := named(list, noSnapshots("load", err), nameOf, "load", c.Name, "snapshot", "qrjump api listSnapshots")
	if err != nil && len(list) > 0 {
		next, _ := remedy(err)
		existing := tr("snapshot.existing", strings.Join(mapped(list, nameOf), ", "))
		return hintError{error: err, next: next.String(), details: []string{existing}}
	}
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.print(s, snapshot, nil, func(w io.Writer) {
			printMsg(w, "snapshot.would_load", plain(snapshot.Name), formatTime(snapshot.CreatedAt), ofSnapshot(snapshot))
		})
	}
	err = c.confirmed(s, tr("snapshot.lost_by_load", plain(snapshot.Name), formatTime(snapshot.CreatedAt), plain(qrjump.URL())))
	if err != nil {
		return err
	}
	snapshot, err = qrjump.Emulator.LoadSnapshot(s.ctx, c.Name)
	return c.outcome(s, snapshot, failed("load", c.Name, err), "snapshot.loaded", plain(snapshot.Name),
		formatTime(snapshot.CreatedAt), ofSnapshot(snapshot))
}

// maxSeedSize is the maximum size in bytes of a seed file that the command sends to a running server.
const maxSeedSize = 1 << 20

type seedCommand struct {
	operator
	File string `arg:"" file:"in,self"`
}

// Run applies a seed file to a running emulator.
func (c *seedCommand) Run(s *session, qrjump *client.Client) error {
	in, err := s.openInput(c.File)
	if err != nil {
		return usageError(err.Error())
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxSeedSize+1))
	if err != nil {
		return usageError(err.Error())
	}
	if len(text) > maxSeedSize {
		return misused("seed.is_above_1_mib_start", c.File)
	}
	done, err := qrjump.Emulator.Seed(s.ctx, string(text))
	return c.print(s, done, emulated(tr("seed.apply_the_seed")+plain(c.File), err), func(w io.Writer) {
		if !done.Applied {
			printMsg(w, "seed.nothing_was_done_this_very")
			return
		}
		printMsg(w, "seed.the_seed_is_applied", counted(done.Accounts, "account"), counted(done.Components, "platform"),
			counted(done.Rules, "rule"))
	})
}
