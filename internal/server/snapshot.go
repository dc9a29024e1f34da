package server

import (
	"context"
	"path/filepath"
)

// snapshotFile is where the rules lie for the next start, in the data folder.
const snapshotFile = "rules.snapshot"

// keepSnapshots lets the next start of this node read the rules from a file.
func (s *Server) keepSnapshots() {
	s.current.History = s.store
	s.current.SnapshotFile = filepath.Join(s.config.Data, snapshotFile)
}

// startSnapshots writes the file from time to time, and once more when the
// function that it returns is called.
func (s *Server) startSnapshots() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.current.KeepSnapshot(ctx)
	}()
	return func() {
		cancel()
		<-done
		ctx, cancel := context.WithTimeout(context.Background(), DrainTimeout)
		defer cancel()
		if err := s.current.LastSnapshot(ctx); err != nil {
			s.log.Warn("the next start will be slower", "error", err)
		}
	}
}
