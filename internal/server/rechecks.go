package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/store"
)

// recheckInterval is the interval between two searches for verification files that are due.
const recheckInterval = time.Minute

func (s *Server) openRechecks(context.Context) error {
	var failing atomic.Int64
	watchGauge(s.metrics, "qrjump_verification_files_failing", failing.Load)
	s.rechecks = &rules.Verifier{Service: s.domain.rules, Store: store.Rechecks{Store: s.store}, Log: s.log, Failing: failing.Store,
		Off: func() bool { return !s.chosen.settings.Get().ReverifyDomains }}
	return nil
}
