package server

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

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
