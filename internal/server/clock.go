package server

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/clockguard"
)

const clockMeta = "emulator.clock"

// emulation is the emulator's part of a server; nil without it.
type emulation struct {
	clock *emulator.Clock
	plan  *emulator.Plan
	calls *emulator.Calls[api.Record]
	wire  *api.API         // nil before the listeners open
	pages *landing.Gateway // as wire
}

// openClock chooses the clock of the server: the machine's, or the emulator's.
func (s *Server) openClock(ctx context.Context) error {
	state, err := s.store.Meta(ctx, clockMeta)
	if err != nil {
		return fmt.Errorf("reading the emulator's clock: %w", err)
	}
	if !s.config.emulates() {
		s.now = s.realNow
		if state != "" {
			s.log.WarnContext(ctx,
				"this database was used with an emulated clock; without --emulator real time counts, and what was issued under the other time may look expired or young")
		}
		return nil
	}
	s.emulation.clock = &emulator.Clock{Real: s.realNow, Save: func(state string) error {
		return s.store.PutMeta(accounts.WithActor(context.Background(), accounts.Actor{ActorID: "admin"}), clockMeta, state)
	}, OnAdvance: s.advanceLimits}
	if state != "" {
		if err := s.emulation.clock.Restore(state); err != nil {
			return fmt.Errorf("the emulator's clock as stored: %w", err)
		}
	}
	s.now = s.emulation.clock.Now
	s.emulation.plan = emulator.NewPlan(1)
	s.emulation.calls = &emulator.Calls[api.Record]{Run: strconv.FormatInt(s.realNow().UnixNano(), 36)}
	return nil
}

// advanceLimits makes what limits count older by d, on which the emulator's clock was moved.
func (s *Server) advanceLimits(d time.Duration) error {
	if s.emulation.wire != nil {
		s.emulation.wire.Advance(d)
	}
	if s.emulation.pages != nil {
		s.emulation.pages.Advance(d)
	}
	return s.store.AdvanceLimits(context.Background(), d)
}

// wallClockPart looks at the clock of this machine.
func (s *Server) wallClockPart() component {
	return component{
		name: "clock of the machine",
		start: func(context.Context) error {
			s.wall = clockguard.Open(s.config.Data, s.realNow, s.seams.Elapsed, s.log)
			return nil
		},
		// It writes into the data folder, so it must end before the folder is released.
		run: func(ctx context.Context) { s.wall.Watch(ctx) },
	}
}

// countNow returns the time whose day and month limits count for. The machine's clock, where it jumped
// ahead, begins no new day or month; an emulated clock does, since it is moved for that.
func (s *Server) countNow() time.Time {
	now := s.now()
	if s.config.emulates() {
		return now
	}
	return now.Add(-s.wall.LeadTime())
}
