package server

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/ledger"
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
	s.counter = s.newCounter(s.ledger.log, s.ledger.unique, s.ledger.flush)
	if s.ledger.earlier != nil {
		s.counter.Earlier = []ledger.Log{s.ledger.earlier}
	}
	s.counter.Nodes = s.ledger.nodes
	s.metrics.watchCounter(s.counter)
}

// beginCounter looks whether the ledger beside an embedded database is the one
// that was counted, before the first scan comes into it.
func (s *Server) beginCounter(ctx context.Context) error {
	if s.ledger.log != ledger.Log(s.ledger.journal) {
		return nil
	}
	return s.counter.Begin(ctx)
}

// lacking is a line for whoever asks whether the server is ready; "" = nothing is
// missing that was counted.
func (s *Server) lacking(ctx context.Context) string {
	n, err := s.counter.Lacking(ctx)
	if err != nil || n == 0 {
		return ""
	}
	return fmt.Sprintf("the ledger lacks %d scans that were counted; their counts stay: put back the files of scans if you have them\n", n)
}

func (s *Server) newCounter(log ledger.Log, unique bool, flush func(context.Context) error) *stats.Counter {
	c := &stats.Counter{Log: log, Unique: unique, Flush: flush, Store: s.store, Settings: s.settings, Now: s.now, Logger: s.log, Random: s.random}
	if s.regions != nil {
		c.Places = s.regions
	}
	return c
}

// lastCount is how long the end of the server waits for what is not counted yet.
const lastCount = 2 * time.Second

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
		// A ledger that is left now may not be there at the next start.
		within, cancel := context.WithTimeout(context.Background(), lastCount)
		defer cancel()
		if err := s.counter.Settle(within); err != nil {
			s.log.InfoContext(within, "the last scans are counted after the next start", "reason", err)
		}
	}
}

// watchCounter shows how far the counting is.
func (m *metrics) watchCounter(c *stats.Counter) {
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "qrjump_scans_counted_total", Help: "Events of the ledger that this process has counted since it started."},
			func() float64 { return float64(c.Counted()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qrjump_scans_lacking", Help: "Scans that are counted and gone from the ledger although nothing removed them, at most; -1 while the store cannot be asked."},
			func() float64 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				n, err := c.Lacking(ctx)
				if err != nil {
					return -1
				}
				return float64(n)
			}))
}
