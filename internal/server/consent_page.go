package server

import (
	"context"
	"net/http"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/consent"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/emulator"
)

// consentPage returns the page on which a person approves an authorisation; without --dev, the approval needs the admin token.
func (s *Server) consentPage() http.Handler {
	p := &consent.Page{Accounts: s.domain.accounts, Log: s.log, HandOver: func(reference string) string {
		return s.AdminURL + console.AgreePage(reference)
	}}
	if !s.config.Dev {
		p.Admin = s.access().isAdminToken
	}
	return p.Handler()
}

// platformControls returns the emulator controls for third-party platforms.
func (s *Server) platformControls() emulator.Platforms {
	return emulator.Platforms{
		Authorize: func(ctx context.Context, a emulator.Agreement) (string, error) {
			if a.PermissionSets == nil {
				a.PermissionSets = accounts.AskedByDefault
			}
			code, err := s.domain.accounts.Agree(ctx, accounts.Agreement{Component: a.Component, PreAuthCode: a.PreAuthCode, AppID: a.AppID,
				Sets: a.PermissionSets, ForceExclusive: a.Move})
			return code.Text, err
		},
		Ticket: func(ctx context.Context, component string) (string, error) {
			return s.domain.accounts.NewTicket(ctx, component)
		},
	}
}
