package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/outbound"
)

const (
	// messageTimeout is how long a message URL may take to answer, as on the platform.
	messageTimeout = 5 * time.Second
	// messageInterval is how often it is looked whether an event is due.
	messageInterval = time.Second
)

// messagesPart sends accounts their events.
func (s *Server) messagesPart() part {
	var m *accounts.Messenger
	return part{
		name: "messages",
		start: func(context.Context) error {
			m = accounts.NewMessenger(s.accounts, s.log, s.realNow, s.sendMessage)
			s.rules.Queued = s.accounts.Queued
			return nil
		},
		run: func(ctx context.Context) { m.Run(ctx, messageInterval) },
	}
}

// sendMessage posts an event to a message URL through the guarded client. Any
// answer with status 200 takes it: what the platform would do with its body,
// a reply to the user, nobody would see here.
func (s *Server) sendMessage(ctx context.Context, address string, body []byte) error {
	client := s.outbound
	client.AllowPrivate = s.settings.Get().AllowPrivateHosts
	client.Now = s.now
	answer, _, err := client.Do(ctx, outbound.Request{
		Method: http.MethodPost, URL: address, Header: http.Header{"Content-Type": {"text/xml"}}, Body: body, Timeout: messageTimeout,
	})
	if e, ok := errors.AsType[*outbound.Error](err); ok {
		return fmt.Errorf("%s (%s)", e.Detail, e.Reason)
	}
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("the answer's status is %d, not 200", answer.Status)
	}
	return err
}
