package server

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/domain/replica"
)

// changePurpose is the purpose of the keyed hashes of the log of changes.
const changePurpose = "changes"

// erasures are changes of the log of scans by which a user is forgotten.
const erasures = "scans"

// keepChanges lets the store write its log of changes: dated by the server's
// clock, chained by a key that is not in the database.
func (s *Server) keepChanges() {
	hash := s.secrets.vault
	s.store.ConfigureChangeLog(func() time.Time { return s.now() }, func(text string) string { return hash.Hash(changePurpose, text) })
}

// followed makes the memory follow what other nodes do. Rules, accounts and codes are read by live;
// everything else is read again here.
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
		// A user was erased, or everything was: this node may remember tickets of that user.
		erasures: func(context.Context, string) error {
			if s.domain.press != nil {
				s.domain.press.Forget()
			}
			return nil
		},
		replica.AppearanceChange: func(_ context.Context, appid string) error {
			s.domain.appearances.Forget(appid)
			return nil
		},
		replica.GS1Change:     func(ctx context.Context, _ string) error { return s.domain.products.Load(ctx) },
		replica.ScanKeyChange: func(ctx context.Context, _ string) error { return s.domain.keys.Load(ctx) },
	}
	if s.store.Shared() {
		s.domain.current.Changes = s.store
	}
}

// followPart follows what other nodes do.
func (s *Server) followPart() component {
	return component{name: "changes of other nodes", run: func(ctx context.Context) {
		if s.domain.current.Changes != nil {
			s.domain.current.Follow(ctx)
		}
	}}
}

// minutePart returns the component that writes each minute on each of several nodes, even if nothing happens.
func (s *Server) minutePart() component {
	return component{name: "report of this node", run: func(ctx context.Context) {
		for s.scanning.ledger.nodes != nil {
			if err := s.scans().eachMinute(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "other nodes cannot be told how this one is, and old counts of calls a second stay", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Minute):
			}
		}
	}}
}

// eachMinute reports how this node is, and removes rows of the shared limit of calls that are not
// needed any more, in one transaction.
func (s scanRecords) eachMinute(ctx context.Context) error {
	return s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.scanning.ledger.nodes.Report(ctx); err != nil {
			return err
		}
		return s.store.ForgetLimits(ctx)
	})
}

// followClock shows the time that another node set.
func (s seeder) followClock(ctx context.Context) error {
	if s.emulation.clock == nil {
		return nil
	}
	return s.emulation.clock.Follow(func() (string, error) { return s.store.Meta(ctx, clockMeta) })
}

// watchFollowing shows how far this node is behind.
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
