package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/rules"
)

// recheckInterval is how often it is looked which verification files are due.
const recheckInterval = time.Minute

// openRechecks prepares the nightly look at verification files.
func (s *Server) openRechecks() {
	var failing atomic.Int64
	s.metrics.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qrjump_verification_files_failing", Help: "Verification files that were not in place when they were looked at last; their rules go on."},
		func() float64 { return float64(failing.Load()) }))
	s.rechecks = &rules.Rechecker{Book: s.rules, Store: s.store, Log: s.log, Failing: failing.Store, Off: func() bool { return !s.settings.Get().RecheckFiles }}
}

// startRechecks begins to look. The returned function stops it and waits for
// what is on its way.
func (s *Server) startRechecks() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.rechecks.Run(ctx, recheckInterval)
	}()
	return func() {
		cancel()
		<-done
	}
}
