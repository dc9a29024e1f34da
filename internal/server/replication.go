package server

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/domain/replica"
)

// changePurpose is the purpose string of the keyed hashes in the audit log.
const changePurpose = "changes"

// erasures is the kind of change records that report erased users of the scan log.
const erasures = "scans"

// keepChanges makes the store write its audit log with the server's clock and with a hash chain whose key is outside the database.
func (s *Server) keepChanges() {
	hash := s.secrets.vault
	s.store.ConfigureChangeLog(func() time.Time { return s.now() }, func(text string) string { return hash.Hash(changePurpose, text) })
}

// followed makes the in-memory copy follow the changes of other nodes. The replica reads rules, accounts and codes itself; all
// other data is reloaded here.
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
		// After the erasure of a user or of all data, this node may still have tickets of erased users in memory.
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

// followComponent returns the component that follows the changes of other nodes.
func (s *Server) followComponent() component {
	return component{name: "changes of other nodes", run: func(ctx context.Context) {
		if s.domain.current.Changes != nil {
			s.domain.current.Follow(ctx)
		}
	}}
}

// minuteComponent returns the component that, in a cluster, stores the status of this node once a minute, even if the node is idle.
func (s *Server) minuteComponent() component {
	return component{name: "report of this node", run: func(ctx context.Context) {
		for s.scanning.ledger.nodes != nil {
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

// eachMinute stores this node's status and deletes expired rows of the shared call limits.
func (s scanRecords) eachMinute(ctx context.Context) error {
	if err := s.scanning.ledger.nodes.Report(ctx); err != nil {
		return err
	}
	return s.store.RateLimits().Forget(ctx)
}

// followClock sets the emulator's clock to the time that another node set.
func (s seeder) followClock(ctx context.Context) error {
	if s.emulation.clock == nil {
		return nil
	}
	return s.emulation.clock.Follow(func() (string, error) { return s.store.Meta(ctx, clockMeta) })
}

// watchFollowing registers the metrics of this node's replication lag.
func (m *metrics) watchFollowing(c *replica.Replica) {
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("qrjump_replication_lag_seconds")),
			func() float64 { return c.Staleness().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(metric("qrjump_replication_lag_changes")),
			func() float64 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				n, err := c.Lag(ctx)
				if err != nil {
					return math.NaN()
				}
				return float64(n)
			}))
}
