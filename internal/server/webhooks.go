package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/ledger"
	"github.com/qrjump/qrjump/internal/outbound"
	"github.com/qrjump/qrjump/internal/stats"
	"github.com/qrjump/qrjump/internal/webhooks"
)

const (
	// webhookTimeout is how long a receiver may take to answer.
	webhookTimeout = 15 * time.Second
	// webhookInterval is how often it is looked for what happened and what is
	// due, by real time.
	webhookInterval = time.Second
)

// webhooksPart collects scans and alarms, and sends them to their receivers.
func (s *Server) webhooksPart() part {
	var p *webhooks.Postman
	return part{
		name: "webhooks",
		start: func(context.Context) error {
			s.openWebhooks()
			p = s.postman()
			return nil
		},
		run: func(ctx context.Context) { p.Run(ctx, webhookInterval) },
	}
}

// openWebhooks prepares who is told of scans and alarms.
func (s *Server) openWebhooks() {
	s.webhooks = &webhooks.Book{Store: s.store, Vault: s.vault, Now: s.now, Random: s.random, Log: currentLog{s}, Turned: s.counter.Turned, LastAlarm: s.store.LastAlarm,
		Alarms: func(ctx context.Context, after int64, limit int) ([]webhooks.Alarm, error) {
			list, err := s.counter.Alarms(ctx, after, false, limit)
			if err != nil {
				return nil, err
			}
			told := make([]webhooks.Alarm, len(list))
			for i, a := range list {
				told[i] = webhooks.Alarm{ID: a.ID, At: a.At, Data: toldAlarm{ID: a.ID, Kind: a.Kind, ApplicationID: a.Batch, CodeIndex: a.Index,
					At: a.At.UTC(), ScanID: a.Scan, Score: a.Score, Why: a.Why}}
			}
			return told, nil
		},
		Check: s.checkWebhook}
}

// toldAlarm is an alarm as receivers read it.
type toldAlarm struct {
	ID            int64     `json:"id"`
	Kind          string    `json:"kind"`
	ApplicationID int64     `json:"application_id"`
	CodeIndex     int64     `json:"code_index"`
	At            time.Time `json:"at"`
	ScanID        string    `json:"scan_id"`
	Score         int64     `json:"score"`
	Why           stats.Why `json:"why"`
}

// currentLog is the ledger that counts at the moment of asking.
type currentLog struct{ s *Server }

func (l currentLog) End(ctx context.Context) (int64, error) { return l.s.counter.Log.End(ctx) }

func (l currentLog) Read(ctx context.Context, after int64) iter.Seq2[ledger.Entry, error] {
	return l.s.counter.Log.Read(ctx, after)
}

// checkWebhook says why an address cannot be a receiver's.
func (s *Server) checkWebhook(ctx context.Context, url string) error {
	if url == "" {
		return accounts.Invalid("url is missing: want http:// or https:// and a host")
	}
	client := s.outboundNow()
	if e, ok := errors.AsType[*outbound.Error](client.Check(ctx, url)); ok {
		detail := fmt.Sprintf("url: %s (%s)", e.Detail, e.Reason)
		if e.Reason == outbound.AddressRefused || e.Reason == outbound.PortRefused {
			detail += "; the setting allow_private_hosts opens other ports and addresses inside the network"
		}
		return accounts.Invalid(detail)
	}
	return nil
}

// outboundNow is the guarded client as the settings have it.
func (s *Server) outboundNow() outbound.Client {
	client := s.outbound
	client.AllowPrivate = s.settings.Get().AllowPrivateHosts
	client.Now = s.now
	return client
}

// postman sends webhooks through the guarded client.
func (s *Server) postman() *webhooks.Postman {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "qrjump_webhook_tries_total", Help: "Tries to deliver an event to a webhook, by whether it was taken."}, []string{"result"})
	s.metrics.registry.MustRegister(sent)
	p := webhooks.NewPostman(s.webhooks, s.log)
	p.RealNow = s.realNow
	p.Life = func() time.Duration { return time.Duration(s.settings.Get().WebhookDays) * 24 * time.Hour }
	p.ClockBelieved = s.wall.believed
	p.Sent = func(delivered bool) {
		result := "failed"
		if delivered {
			result = "delivered"
		}
		sent.WithLabelValues(result).Inc()
	}
	p.Send = func(ctx context.Context, url string, header http.Header, body []byte) (int, error) {
		client := s.outboundNow()
		client.UserAgent = "qrjump (webhook)"
		answer, _, err := client.Do(ctx, outbound.Request{Method: http.MethodPost, URL: url, Header: header, Body: body, Timeout: webhookTimeout, MaxBody: 64 << 10})
		// The status says whether it was taken. A body that is too long, packed or
		// broken off changes nothing of that.
		if took := answer.Status/100 == 2 || answer.Status == http.StatusGone; took {
			return answer.Status, nil
		}
		if e, ok := errors.AsType[*outbound.Error](err); ok {
			return answer.Status, fmt.Errorf("%s (%s)", e.Detail, e.Reason)
		}
		return answer.Status, err
	}
	return p
}
