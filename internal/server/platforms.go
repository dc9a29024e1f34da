package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/consent"
	"github.com/qrjump/qrjump/internal/emulator"
)

// consentPage is the authorisation page: without --dev the admin token agrees.
func (s *Server) consentPage() http.Handler {
	p := &consent.Page{Accounts: s.accounts, Log: s.log}
	if !s.config.Dev {
		p.Admin = func(token string) bool { return sameSecret(token, s.adminToken) }
	}
	return p.Handler()
}

// platformControls are the emulator's calls for third-party platforms.
func (s *Server) platformControls() emulator.Platforms {
	problem := func(ctx context.Context, err error) error {
		invalid, isInvalid := errors.AsType[accounts.Invalid](err)
		taken, isTaken := errors.AsType[accounts.Taken](err)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, accounts.ErrNoComponent):
			return huma.Error404NotFound("there is no third-party platform with this appid")
		case errors.Is(err, accounts.ErrNoAccount):
			return huma.Error404NotFound("there is no account with this appid")
		case isInvalid:
			return huma.Error422UnprocessableEntity(string(invalid))
		case isTaken:
			return huma.Error409Conflict(taken.Error() + `: say "move": true to take it away from there`)
		}
		s.log.ErrorContext(ctx, "an emulator call failed", "error", err)
		return huma.Error500InternalServerError("the call failed inside the server: its log says why")
	}
	return emulator.Platforms{
		Authorize: func(ctx context.Context, a emulator.Agreed) (string, error) {
			if a.PermissionSets == nil {
				a.PermissionSets = accounts.AskedByDefault
			}
			code, err := s.accounts.Agree(ctx, accounts.Agreement{Component: a.Component, PreAuthCode: a.PreAuthCode, AppID: a.AppID, Sets: a.PermissionSets, Move: a.Move})
			return code.Text, problem(ctx, err)
		},
		Ticket: func(ctx context.Context, component string) (string, error) {
			text, err := s.accounts.NewTicket(ctx, component)
			return text, problem(ctx, err)
		},
	}
}
