package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// outboxInterval is the interval, in real time, at which senders look for due rows.
const outboxInterval = time.Second

// webhooksComponent returns the component that sends scans and alarms to subscribed webhooks.
func (s *Server) webhooksComponent() component {
	return s.outboxComponent("webhooks", func(context.Context) (outbox.Policy, *func(), error) {
		s.openWebhooks()
		return s.webhooks.Policy(), &s.webhooks.Wake, nil
	})
}

// messagesComponent returns the component that sends events to accounts.
func (s *Server) messagesComponent() component {
	return s.outboxComponent("messages", func(context.Context) (outbox.Policy, *func(), error) {
		s.domain.rules.Queued = func() { s.domain.accounts.Queued() }
		return s.domain.accounts.MessagePolicy(), &s.domain.accounts.Queued, nil
	})
}

// pushesComponent returns the component that sends tickets and events to third-party platforms.
func (s *Server) pushesComponent() component {
	return s.outboxComponent("pushes", func(ctx context.Context) (outbox.Policy, *func(), error) {
		return s.domain.accounts.PushPolicy(), &s.domain.accounts.Wake, s.domain.accounts.CompleteGrants(ctx)
	})
}

// outboxComponent returns the component that sends the outbox rows of one kind. open returns the policy for sending, and a pointer to the
// variable in which start stores the function that wakes the sender.
func (s *Server) outboxComponent(name string, open func(context.Context) (outbox.Policy, *func(), error)) component {
	var o *outbox.Sender
	return component{
		name: name,
		start: func(ctx context.Context) error {
			policy, wake, err := open(ctx)
			if err != nil {
				return err
			}
			options := outbox.Options{Post: s.requests().post, Now: s.now, RealNow: s.realNow,
				OnAttempt: s.metrics.countAttempt, Log: s.log}
			// the platform has no webhooks, so a slow webhook receiver is no deviation from the platform
			if policy.Kind != outbox.Deliveries {
				options.OnTimeout = s.requests().recordSlow
			}
			o = outbox.New(policy, s.store, options)
			*wake = o.Wake
			return nil
		},
		run: func(ctx context.Context) { o.Run(ctx, outboxInterval) },
	}
}

// recordSlow records a deviation: a receiver did not respond within the time that the platform waits. recordSlow records a call with a new
// request id, because the delivery belongs to no API call.
func (s requests) recordSlow(kind outbox.Kind, r outbox.Row) {
	t, row := s.now(), behaviour.MessageSlow
	record := api.Record{RID: api.NewRID(s.random, t), At: t, Account: r.Receiver, Method: http.MethodPost,
		URL: strings.TrimSpace(string(kind) + " " + r.Event), Request: r.Shown, Detail: "no answer within five seconds",
		Behaviours: []behaviour.Row{row}}
	if s.config.emulates() {
		s.emulation.calls.Add(record)
	}
	s.domain.usage.Record(record.LogEntry())
	var notes behaviour.Notes
	notes.Add(row)
	s.domain.usage.Deviate(record.Account, record.URL, record.RID, t, &notes)
	s.log.Warn("call", "rid", record.RID, "endpoint", record.URL, "account", record.Account, "detail", record.Detail,
		"behaviours", record.Behaviours)
}

// post sends a POST request through the guarded client.
func (s requests) post(ctx context.Context, r safehttp.Request) (safehttp.Answer, error) {
	client := s.outboundNow()
	answer, _, err := client.Do(ctx, r)
	return answer, err
}
