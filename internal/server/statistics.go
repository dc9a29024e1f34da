package server

import (
	"context"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/stats"
)

// openRegions reads the operator's region file.
func (s *Server) openRegions() error {
	if s.config.Regions == "" {
		return nil
	}
	regions, err := stats.OpenRegions(s.config.Regions)
	if err != nil {
		return usage("--regions: %v", err)
	}
	s.regions = regions
	return nil
}

// region says where an address is; nil where nobody knows.
func (s *Server) region() func(netip.Addr) string {
	if s.regions == nil {
		return nil
	}
	return s.regions.Lookup
}

// openCounter prepares the counting of what is in the ledger.
func (s *Server) openCounter() {
	s.counter = &stats.Counter{Log: s.ledger.log, Unique: s.ledger.unique, Flush: s.ledger.flush, Store: s.store, Settings: s.settings, Now: s.now, Logger: s.log, Random: s.random}
	if s.regions != nil {
		s.counter.Places = s.regions
	}
	s.metrics.watchCounter(s.counter)
}

// startCounter counts until the function that it returns is called.
func (s *Server) startCounter() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.counter.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// watchCounter shows how far the counting is.
func (m *metrics) watchCounter(c *stats.Counter) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "qrjump_scans_counted_total", Help: "Events of the ledger that this process has counted since it started."},
		func() float64 { return float64(c.Counted()) }))
}
