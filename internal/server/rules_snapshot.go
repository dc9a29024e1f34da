package server

import (
	"context"
)

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
