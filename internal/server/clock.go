package server

import (
	"context"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/clockguard"
)

const clockMeta = "emulator.clock"

// emulation holds the state of the emulator; all fields are nil if the emulator is off.
type emulation struct {
	clock *emulator.Clock
	plan  *emulator.Plan
	calls *emulator.Calls[api.Record]
	wire  *api.API         // the wire API; nil until the listeners open
	pages *landing.Gateway // the landing pages; nil until the listeners open
}

// openClock selects the clock of the server: the machine's clock or the emulator's clock.
func (s *Server) openClock(ctx context.Context) error {
	if !s.config.emulates() {
		s.now = s.realNow
		state, err := s.store.Meta(ctx, clockMeta)
		if state != "" {
			s.log.WarnContext(ctx,
				"database was used with an emulated clock", "hint", "what was issued under emulated time may look expired or not yet valid without --emulator")
		}
		return err
	}
	byAdmin := accounts.WithActor(context.WithoutCancel(ctx), accounts.Actor{ActorID: "admin"})
	s.emulation.clock = &emulator.Clock{Real: s.realNow, Update: func(change func(string) (string, error)) error {
		return editMeta(byAdmin, s.store, clockMeta, change)
	}, OnAdvance: s.advanceLimits}
	s.now = s.emulation.clock.Now
	s.emulation.plan = emulator.NewPlan(1)
	s.emulation.calls = &emulator.Calls[api.Record]{Run: strconv.FormatInt(s.realNow().UnixNano(), 36)}
	return s.seeder().followClock(ctx)
}

// advanceLimits makes the counters of rate limits older by d, after the emulator's clock was moved ahead by d.
func (s *Server) advanceLimits(d time.Duration) error {
	if s.emulation.wire != nil {
		s.emulation.wire.Advance(d)
	}
	if s.emulation.pages != nil {
		s.emulation.pages.Advance(d)
	}
	return s.store.RateLimits().Advance(context.Background(), d)
}

// wallClockComponent returns the component that watches this machine's clock.
func (s *Server) wallClockComponent() component {
	return component{
		name: "clock of the machine",
		start: func(context.Context) error {
			s.wall = clockguard.Open(s.config.Data, s.realNow, s.testHooks.Elapsed, s.log)
			return nil
		},
		// Watch writes into the data folder, so it must end before the folder's lock is released.
		run: func(ctx context.Context) { s.wall.Watch(ctx) },
	}
}

// countNow returns the time that decides to which day and month a call belongs for limits. A jump of the machine's clock does not begin a
// new day or month, but a move of the emulator's clock does, because its callers expect this.
func (s *Server) countNow() time.Time {
	now := s.now()
	if s.config.emulates() {
		return now
	}
	return now.Add(-s.wall.LeadTime())
}
