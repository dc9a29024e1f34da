package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

type applyCodeReply struct {
	envelope
	ApplicationID int64 `json:"application_id"`
}

func readApplyCode(f *fields) (codes.Application, error) {
	count, given := f.number("code_count")
	a := codes.Application{Count: int64(count), ISV: f.textOrNumber("isv_application_id")}
	if f.err == nil && !given {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.CodesApplyCount, "code_count is missing")
	}
	return a, f.err
}

// applyCode applies for a batch of codes. Contract: marketcode §3.1.
func (a *API) applyCode(ctx context.Context, c *call, application codes.Application) (any, error) {
	b, err := a.Codes.Apply(ctx, c.caller, application)
	return applyCodeReply{envelope: success, ApplicationID: b.ID}, err
}
