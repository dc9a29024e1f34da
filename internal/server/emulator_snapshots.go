package server

import (
	"context"
	"errors"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/store"
)

// snapshotControls returns the emulator's controls for saved states.
func (s seeder) snapshotControls() emulator.Snapshots {
	return emulator.Snapshots{
		List: func(ctx context.Context) (list []client.Snapshot, err error) {
			all, err := s.store.SavedStates(ctx)
			for _, saved := range all {
				list = append(list, snapshotOf(saved))
			}
			return list, err
		},
		Save:   s.saveState,
		Load:   s.loadState,
		Delete: func(ctx context.Context, name string) error { return savedFault(s.store.DeleteSaved(ctx, name)) },
	}
}

func snapshotOf(saved store.Saved) client.Snapshot {
	return client.Snapshot{Name: saved.Name, CreatedAt: saved.At.UTC(), Program: saved.Program,
		Accounts: saved.Accounts, Rules: saved.Rules,
		Batches: saved.Batches, Bytes: saved.Bytes}
}

func savedFault(err error) error {
	switch {
	case errors.Is(err, store.ErrNotSaved):
		return emulator.ErrNoSnapshot
	case errors.Is(err, store.ErrDamaged):
		return emulator.SnapshotRefused(store.ErrDamaged.Error())
	case errors.Is(err, store.ErrManySaved), errors.Is(err, store.ErrLargeState), errors.Is(err, store.ErrSavedByNewer):
		return emulator.SnapshotRefused(err.Error())
	}
	return err
}

func (s seeder) saveState(ctx context.Context, name string) (client.Snapshot, error) {
	if err := s.domain.usage.Flush(ctx); err != nil {
		return client.Snapshot{}, err
	}
	saved, err := s.store.SaveState(ctx, name, version.Number(), s.realNow())
	return snapshotOf(saved), savedFault(err)
}

// loadState restores a saved state; keys are kept.
func (s seeder) loadState(ctx context.Context, name string) (client.Snapshot, error) {
	var saved store.Saved
	err := s.anew(ctx, func() (err error) {
		saved, err = s.store.LoadState(ctx, name)
		return err
	})
	if errors.Is(err, store.ErrDamaged) {
		s.log.WarnContext(ctx, "snapshot rejected", "name", name, "error", err)
	}
	if err == nil {
		err = s.followClock(ctx)
	}
	if err == nil {
		err = s.forgetAll(ctx)
	}
	return snapshotOf(saved), savedFault(err)
}
