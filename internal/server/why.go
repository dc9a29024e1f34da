package server

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/apiusage"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// whyBelow returns the path below which a developer finds the record of a call; "" if the admin API wants a token, which callers of
// the wire need not have.
func (s *Server) whyBelow() string {
	if !s.config.Dev {
		return ""
	}
	return adminroute.Base + "/calls/"
}

// call finds a call by its request id: among the latest of the emulator, of any caller, then in the log.
func (s *Server) call(ctx context.Context, rid string) (apiusage.Call, error) {
	if s.config.emulates() {
		last, _ := s.emulation.calls.Last(1, func(r api.Record) bool { return r.RID == rid })
		for _, r := range last {
			return r.Kept(), nil
		}
	}
	return s.domain.book.Look(ctx, rid)
}
