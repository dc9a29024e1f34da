package server

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/internal/domain/replica"
)

// changePurpose is the purpose string of the keyed hashes in the audit log.
const changePurpose = "changes"

// erasures is the kind of change records that report erased users of the scan log.
const erasures = "scans"

// keepChanges makes the store write its audit log with the server's clock and a hash chain; the chain's key is sealed with the master key.
func (s *Server) keepChanges() {
	hash := s.secrets.vault
	s.store.ConfigureChangeLog(func() time.Time { return s.now() }, func(text string) string { return hash.Hash(changePurpose, text) })
}

// followed prepares the in-memory copy for following the changes of other nodes. The replica itself reads changed rules, accounts and
// codes; the handlers here reload all other data.
func (s *Server) followed() {
	s.domain.current.Now = s.realNow
	s.domain.current.Products = s.domain.products.Read
	s.domain.current.Handlers = map[string]func(context.Context, string) error{
		replica.MetaChange: func(ctx context.Context, name string) error {
			if name == clockMeta || name == "" {
				if err := s.seeder().followClock(ctx); err != nil {
					return err
				}
			}
			if name == settingsMeta || name == "" {
				return s.settings().loadSettings(ctx)
			}
			return nil
		},
		// This node may have tickets of the erased users in memory, so the tickets are deleted.
		erasures: func(context.Context, string) error {
			if s.domain.codes != nil {
				s.domain.codes.ClearTicketCache()
			}
			return nil
		},
		replica.AppearanceChange: func(_ context.Context, appid string) error {
			s.domain.appearances.Invalidate(appid)
			return nil
		},
		replica.GS1Change:     func(ctx context.Context, _ string) error { return s.domain.products.Load(ctx) },
		replica.ScanKeyChange: func(ctx context.Context, _ string) error { return s.domain.keys.Load(ctx) },
	}
	if s.store.Shared() {
		s.domain.current.Changes = s.store
	}
}

// minuteComponent returns the component that stores the status of this node every minute, if several nodes share the database.
func (s *Server) minuteComponent() component {
	return component{name: "report of this node", run: func(ctx context.Context) {
		for s.scanning.scanLog.nodes != nil {
			if err := s.scans().eachMinute(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "node status report failed", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Minute):
			}
		}
	}}
}

// eachMinute stores this node's status, and deletes expired rows of the rate limits that the nodes share.
func (s scanRecords) eachMinute(ctx context.Context) error {
	if err := s.scanning.scanLog.nodes.Report(ctx); err != nil {
		return err
	}
	return s.store.RateLimits().Forget(ctx)
}

// followClock sets the emulator's clock of this node to the stored state, which another node has changed.
func (s seeder) followClock(ctx context.Context) error {
	if s.emulation.clock == nil {
		return nil
	}
	return s.emulation.clock.Follow(func() (string, error) { return s.store.Meta(ctx, clockMeta) })
}

// snapshotFile is the name of the file in the data folder with a copy of the rules, which makes the next start fast.
const snapshotFile = "rules.snapshot"

// snapshotsComponent returns the component that writes the rules to the snapshot file, periodically and at shutdown.
func (s *Server) snapshotsComponent() component {
	return component{
		name: "snapshots of the rules",
		run:  func(ctx context.Context) { s.domain.current.KeepSnapshot(ctx) },
		stop: func(ctx context.Context) error {
			if err := s.domain.current.SaveSnapshot(ctx); err != nil {
				s.log.Warn("rules snapshot not written", "error", err)
			}
			return nil
		},
	}
}
