package server

import (
	"context"
)

// snapshotFile is the name, in the data folder, of the file with the rules for the next start.
const snapshotFile = "rules.snapshot"

// snapshotsPart writes the rules into a file for the next start of this node, from
// time to time and at the end.
func (s *Server) snapshotsPart() component {
	return component{
		name: "snapshots of the rules",
		run:  func(ctx context.Context) { s.domain.current.KeepSnapshot(ctx) },
		stop: func(ctx context.Context) error {
			if err := s.domain.current.SaveSnapshot(ctx); err != nil {
				s.log.Warn("the next start will be slower", "error", err)
			}
			return nil
		},
	}
}
