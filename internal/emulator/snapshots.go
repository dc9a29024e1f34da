package emulator

import (
	"context"
	"errors"
	"regexp"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	o "github.com/qrjump/qrjump/internal/infra/adminroute"
)

// Snapshots implements the emulator operations that save and restore states.
type Snapshots struct {
	List   func(context.Context) ([]client.Snapshot, error)
	Save   func(ctx context.Context, name string) (client.Snapshot, error)
	Load   func(ctx context.Context, name string) (client.Snapshot, error)
	Delete func(ctx context.Context, name string) error
}

// ErrNoSnapshot is returned if no snapshot has the name.
var ErrNoSnapshot = errors.New("there is no snapshot with this name")

// SnapshotRefused is an error text: the reason why a state cannot be saved or loaded, and the next step for the operator.
type SnapshotRefused string

func (r SnapshotRefused) Error() string { return string(r) }

func (s Snapshots) operations() []o.Route {
	return []o.Route{
		o.Serve(client.OpListSnapshots, o.Viewer, s.listSnapshots, "List the snapshots by name"),
		o.Serve(client.OpSaveSnapshot, o.Admin, s.saveSnapshot, "Save the state under a name; replaces a snapshot with the same name").
			Description("A snapshot contains accounts, platforms, rules, codes, tokens, quotas, settings, webhooks, the " +
				"applied seeds and the clock. It does not contain people, keys, faults, scans, statistics, calls or " +
				"the audit log. Its secrets are sealed. Exports do not contain snapshots, and a reset does not delete " +
				"them. A server keeps at most 20 snapshots, each with at most 128 MiB of rows."),
		o.Serve(client.OpLoadSnapshot, o.Admin, s.loadSnapshot, "Restore a snapshot; all later changes are lost").
			Description("The restore is atomic and applies to all nodes. People, admin keys and scan keys do not change; " +
				"faults, scans, statistics, calls and the audit log start empty. A frozen clock shows the time of the " +
				"snapshot; a running clock is as far ahead of real time as it was then. A snapshot of an earlier " +
				"version is migrated."),
		o.Serve(client.OpDeleteSnapshot, o.Admin, s.deleteSnapshot, "Delete a snapshot; returns the remaining snapshots"),
	}
}

// snapshotPath holds the path parameter of a snapshot operation.
type snapshotPath struct {
	Name string `path:"name" doc:"at most 64 letters, digits, dots, underscores and hyphens, starting with a letter or digit"`
}

func (s Snapshots) listSnapshots(ctx context.Context, _ *client.Empty) (client.SnapshotList, error) {
	all, err := s.List(ctx)
	return client.SnapshotList{Snapshots: append([]client.Snapshot{}, all...)}, err
}

var snapshotName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$`)

func (s Snapshots) saveSnapshot(ctx context.Context, in *snapshotPath) (client.Snapshot, error) {
	if !snapshotName.MatchString(in.Name) {
		return client.Snapshot{}, huma.Error422UnprocessableEntity(
			"name: want letters, digits, dots, underscores and hyphens, 64 at most, a letter or a digit first")
	}
	snapshot, err := s.Save(ctx, in.Name)
	return snapshot, ofSnapshot(err)
}

func (s Snapshots) loadSnapshot(ctx context.Context, in *snapshotPath) (client.Snapshot, error) {
	// The load completes even if the client disconnects, so that memory and database show the same state.
	snapshot, err := s.Load(context.WithoutCancel(ctx), in.Name)
	return snapshot, ofSnapshot(err)
}

func (s Snapshots) deleteSnapshot(ctx context.Context, in *snapshotPath) (client.SnapshotList, error) {
	if err := s.Delete(ctx, in.Name); err != nil {
		return client.SnapshotList{}, ofSnapshot(err)
	}
	return s.listSnapshots(ctx, nil)
}

func ofSnapshot(err error) error {
	if errors.Is(err, ErrNoSnapshot) {
		return huma.Error404NotFound(err.Error())
	}
	if refused, is := errors.AsType[SnapshotRefused](err); is {
		return huma.Error409Conflict(refused.Error())
	}
	return err
}
