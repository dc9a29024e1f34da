package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/verification"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// outboxInterval is the interval, in real time, at which senders look for due rows.
const outboxInterval = time.Second

// webhooksComponent returns the component that sends scans and alarms to subscribed webhooks.
func (s *Server) webhooksComponent() component {
	return s.outboxComponent("webhooks", func() (outbox.Policy, *func()) {
		s.openWebhooks()
		return s.webhooks.Policy(), &s.webhooks.Wake
	})
}

// messagesComponent returns the component that sends events to accounts.
func (s *Server) messagesComponent() component {
	return s.outboxComponent("messages", func() (outbox.Policy, *func()) {
		s.domain.rules.Queued = func() { s.domain.accounts.Queued() }
		return s.domain.accounts.MessagePolicy(), &s.domain.accounts.Queued
	})
}

// pushesComponent returns the component that sends tickets and events to third-party platforms.
func (s *Server) pushesComponent() component {
	return s.outboxComponent("pushes", func() (outbox.Policy, *func()) {
		return s.domain.accounts.PushPolicy(), &s.domain.accounts.Wake
	})
}

// outboxComponent returns the component that sends the outbox rows of one kind. open returns the policy for sending, and a pointer to the
// variable in which start stores the function that wakes the sender.
func (s *Server) outboxComponent(name string, open func() (outbox.Policy, *func())) component {
	var o *outbox.Sender
	return component{
		name: name,
		start: func(context.Context) error {
			policy, wake := open()
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
		URL: strings.TrimSpace(string(kind) + " " + r.Event), Request: r.Shown, Detail: "no response within five seconds",
		Behaviours: []string{row.String()}}
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

// fetch downloads a verification file through the guarded HTTP client. Contract: rules §2.7.
func (s requests) fetch(ctx context.Context, url string, allowPrivate bool) ([]byte, []rules.FetchStep, error) {
	client := s.outbound
	client.AllowPrivate = allowPrivate
	client.Now = s.now
	answer, did, err := client.Do(ctx, safehttp.Request{
		Method: http.MethodGet, URL: url, Timeout: rules.ConfirmTimeout, MaxBody: rules.MaxConfirmBody,
	})
	steps := make([]rules.FetchStep, len(did))
	for i, step := range did {
		steps[i] = rules.FetchStep{OccurredAt: step.OccurredAt, Action: step.Action, Detail: step.Detail, Failed: step.Failed}
	}
	if err == nil && answer.Status != http.StatusOK {
		err = fmt.Errorf("the host returned status %d, want 200", answer.Status)
	}
	result := "ok"
	if err != nil {
		result = "failed"
		if e, ok := errors.AsType[*safehttp.Error](err); ok {
			result = string(e.Reason)
			err = fmt.Errorf("%s (%s)", e.Detail, e.Reason)
		}
		s.log.WarnContext(ctx, "verification file fetch failed", "url", url, "reason", result, "error", err)
	}
	s.metrics.confirms.WithLabelValues(result).Inc()
	return answer.Body, steps, err
}

// inspectFile fetches a verification file as an add operation does, and returns the result of each step.
func (s requests) inspectFile(ctx context.Context, url, content string) ([]verification.Step, error) {
	client := s.outboundNow()
	return verification.Walk(ctx, client, url, content)
}

// outboundClient returns the HTTP client that is copied for each outbound request.
func outboundClient(given *safehttp.Client) safehttp.Client {
	if given != nil {
		return *given
	}
	return safehttp.Client{Now: time.Now, UserAgent: "qrjump (verification file)"}
}
