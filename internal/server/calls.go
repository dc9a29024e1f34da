package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// exact maps paths to daily limits that hold exactly: a call of such a path is counted in the same transaction that executes the call.
var exact = map[string]func(settings.Settings) int{
	"/cgi-bin/token":                         func(s settings.Settings) int { return s.TokenDailyLimit },
	"/cgi-bin/component/api_component_token": func(s settings.Settings) int { return s.TokenDailyLimit },
	"/intp/marketcode/applycode":             func(settings.Settings) int { return codes.AppliesPerDay },
}

// openUsage prepares the call counters and the call log.
func (s *Server) openUsage() {
	s.domain.usage = &apiusage.Service{Store: s.store.Calls(), Settings: s.chosen.settings, Now: s.countNow, ClockBelieved: s.wall.Believed,
		Log: s.log, Exact: exact, Interfaces: api.Paths(), SingleNode: !s.store.Shared()}
	if s.store.Shared() {
		s.domain.usage.Minutes.Shared = func(ctx context.Context, key string, limit int) (bool, error) {
			if s.chosen.settings.Get().RateLimitPerNode {
				return true, nil
			}
			return s.store.RateLimits().AllowTimes(ctx, key, limit)
		}
	}
}

// countsComponent returns the component that writes the call counters and the call log.
func (s *Server) countsComponent() component {
	return component{name: "counts of calls", run: func(ctx context.Context) { s.domain.usage.Run(ctx) },
		stop: func(ctx context.Context) error {
			// A failure is only logged: call counts may be lost, as they are if the process is killed.
			if err := s.domain.usage.Flush(ctx); err != nil {
				s.log.WarnContext(ctx, "call statistics not saved", "error", err)
			}
			return nil
		}}
}

// checkLimits returns an error if daily_limits contains an unknown path, or a path whose limit is fixed or is another setting.
func checkLimits(object []byte) error {
	var given struct {
		DailyLimits settings.Limits `json:"daily_limits"`
	}
	if err := json.Unmarshal(object, &given); err != nil {
		return accounts.Invalid("settings: " + err.Error())
	}
	for path := range given.DailyLimits {
		switch {
		case path == "/intp/marketcode/applycode":
			return accounts.Invalid(fmt.Sprintf("settings: daily_limits: the limit of %s is fixed at %d a day", path, codes.AppliesPerDay))
		case exact[path] != nil:
			return accounts.Invalid(fmt.Sprintf("settings: daily_limits: the limit of %s is token_daily_limit", path))
		case !slices.Contains(api.Paths(), path):
			return accounts.Invalid(fmt.Sprintf("settings: daily_limits: no endpoint has the path %s%s", path,
				suggest.DidYouMean(path, api.Paths()...)))
		}
	}
	return nil
}

// tracePathPrefix returns the base path of the pages that explain recorded calls; "" if these pages need a token.
func (s *Server) tracePathPrefix() string {
	if !s.config.Dev {
		return ""
	}
	return adminroute.Base + "/calls/"
}

// call finds a call by its request id: first among the emulator's latest calls, of any caller, then in the call log.
func (s *Server) call(ctx context.Context, rid string) (apiusage.Call, error) {
	if s.config.emulates() {
		last, _ := s.emulation.calls.Last(1, func(r api.Record) bool { return r.RID == rid })
		for _, r := range last {
			return r.LogEntry(), nil
		}
	}
	return s.domain.usage.Get(ctx, rid)
}
