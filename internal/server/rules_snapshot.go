package server

import (
	"context"
)

// snapshotFile is the name of the file in the data folder that holds the rules for a fast next start.
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
