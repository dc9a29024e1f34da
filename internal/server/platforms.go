package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/consent"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/outbound"
)

const (
	// pushTimeout is how long a platform may take to answer a push.
	pushTimeout = 5 * time.Second
	// pushInterval is how often it is looked for what is due, by real time.
	pushInterval = time.Second
)

// pushesPart sends platforms their tickets and events.
func (s *Server) pushesPart() part {
	var p *accounts.Pusher
	return part{
		name: "pushes",
		start: func(ctx context.Context) error {
			p = accounts.NewPusher(s.accounts, s.log, s.realNow, s.postEvent)
			return s.accounts.CompleteGrants(ctx)
		},
		run: func(ctx context.Context) { p.Run(ctx, pushInterval) },
	}
}

// postEvent posts to an event URL through the guarded client.
func (s *Server) postEvent(ctx context.Context, url string, body []byte) (int, []byte, error) {
	client := s.outbound
	client.AllowPrivate = s.settings.Get().AllowPrivateHosts
	client.Now = s.now
	client.UserAgent = "Mozilla/4.0" // the platform's own
	answer, _, err := client.Do(ctx, outbound.Request{Method: http.MethodPost, URL: url, Body: body,
		Header: http.Header{"Content-Type": {"text/xml"}}, Timeout: pushTimeout, MaxBody: 4 << 10})
	return answer.Status, answer.Body, err
}

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
