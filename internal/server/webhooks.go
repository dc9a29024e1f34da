package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/infra/safehttp"
)

// openWebhooks prepares the service that sends scans and alarms to webhooks.
func (s *Server) openWebhooks() {
	s.webhooks = &webhooks.Service{Store: s.store.Webhooks(), Vault: s.secrets.vault, Now: s.now, Random: s.random, Log: currentLog{s},
		Origins: s.scanning.scanLog.stream != nil, LastAlarm: s.store.LastAlarm,
		Alarms: func(ctx context.Context, start int64, limit int) ([]webhooks.Event, error) {
			list, err := s.scanning.alarms.StateChanges(ctx, start, limit)
			if err != nil {
				return nil, err
			}
			news := make([]webhooks.Event, len(list))
			for i, a := range list {
				data := alarmData{ID: a.ID, Kind: a.Kind, ApplicationID: a.Batch, CodeIndex: a.CodeIndex(),
					OccurredAt: a.CreatedAt.UTC(), ScanID: a.Scan, Score: a.Score, Details: a.Details, State: alarms.StateSuspicious}
				kind := webhooks.AlarmRaised
				if a.Decision != "" {
					data.Case, data.CaseTitle, data.Assignee = a.Case.ID, a.Case.Title, a.Case.Assignee
				}
				switch a.Decision {
				case alarms.Confirm:
					kind, data.State, data.ConfirmedBy = webhooks.AlarmConfirmed, alarms.StateConfirmed, a.ConfirmedBy
				case alarms.Assign:
					kind, data.State = webhooks.AlarmAssigned, a.State()
				case alarms.Dismiss:
					kind, data.State = webhooks.AlarmDismissed, alarms.StateDismissed
					data.Dismissed = &dismissalData{OccurredAt: a.DismissedAt.UTC(), DismissedBy: a.DismissedBy, Note: a.Note}
				}
				news[i] = webhooks.Event{Number: a.Number, At: a.At, Type: kind, Data: data}
			}
			return news, nil
		},
		Packages: s.domain.packageReminders, Check: s.requests().checkWebhook, Unknown: s.store.MissingIDs, RealNow: s.realNow,
		ClockBelieved: s.wall.Believed,
		Life:          func() time.Duration { return time.Duration(s.chosen.settings.Get().WebhookRetryDays) * 24 * time.Hour }}
}

// packageReminders implements webhooks.Service.Packages.
func (d *domain) packageReminders(ctx context.Context, kind string, after int64) ([]webhooks.Event, error) {
	// Few are read at once, because usually the first package is not due yet.
	list, err := d.codes.PrintPackages(ctx, codes.PackageQuery{After: after, Limit: 10})
	now, days := d.codes.Now(), webhooks.ReminderDays[kind]
	var events []webhooks.Event
	for _, p := range list {
		e := webhooks.Event{Number: p.ID, At: p.MadeAt.Add(time.Duration(days) * 24 * time.Hour), Data: map[string]any{"package": p.ID,
			"application_id": p.Batch, "code_start": p.Codes.From, "code_end": p.Codes.To, "printer": p.Printer, "created_by": p.MadeBy,
			"created_at": p.MadeAt.UTC()}}
		if e.At.After(now) {
			break
		}
		fulfilled := p.Sent > 0
		if kind == webhooks.PackageNotActivated {
			if _, err := d.codes.Memory.BatchOrLoad(ctx, p.Batch); err != nil {
				return nil, err
			}
			fulfilled = d.codes.Memory.HasActivation(p.Batch, p.Codes, now)
		}
		if p.RecalledAt.IsZero() && !fulfilled {
			e.Type = kind
		}
		events = append(events, e)
	}
	return events, err
}

// alarmData is the payload of an alarm for webhooks.
type alarmData struct {
	ID            int64          `json:"id"`
	Kind          string         `json:"kind"`
	ApplicationID int64          `json:"application_id"`
	CodeIndex     int64          `json:"code_index"`
	OccurredAt    time.Time      `json:"occurred_at"`
	ScanID        string         `json:"scan_id"`
	Score         int64          `json:"score"`
	Details       alarms.Details `json:"details"`
	State         string         `json:"state"`
	ConfirmedBy   string         `json:"confirmed_by,omitempty"`
	Case          int64          `json:"case,omitempty"`
	CaseTitle     string         `json:"case_title,omitempty"`
	Assignee      string         `json:"assignee,omitempty"`

	Dismissed *dismissalData `json:"dismissed,omitempty"`
}

// dismissalData describes the dismissal of an alarm.
type dismissalData struct {
	OccurredAt  time.Time `json:"occurred_at"`
	DismissedBy string    `json:"dismissed_by"`
	Note        string    `json:"note"`
}

// currentLog is the scan log that the counter reads at the time of each call, because the counter may start to read another log.
type currentLog struct{ s *Server }

func (l currentLog) ID() string { return l.s.scanning.counter.Log.ID() }

func (l currentLog) End(ctx context.Context) (int64, error) { return l.s.scanning.counter.Log.End(ctx) }

func (l currentLog) Read(ctx context.Context, start int64) iter.Seq2[scanlog.Entry, error] {
	return l.s.scanning.counter.Log.Read(ctx, start)
}

// checkWebhook returns an error if a URL cannot be used for a webhook.
func (s requests) checkWebhook(ctx context.Context, url string) error {
	if url == "" {
		return accounts.Invalid("url is missing: want http:// or https:// and a host")
	}
	client := s.outboundNow()
	if e, ok := errors.AsType[*safehttp.Error](client.Check(ctx, url)); ok {
		detail := fmt.Sprintf("url: %s (%s)", e.Detail, e.Reason)
		if e.Reason == safehttp.AddressRefused || e.Reason == safehttp.PortRefused {
			detail += "; the setting allow_private_hosts opens other ports and addresses inside the network"
		}
		return accounts.Invalid(detail)
	}
	return nil
}

// outboundNow returns the guarded HTTP client with the current settings.
func (s requests) outboundNow() safehttp.Client {
	client := s.outbound
	client.AllowPrivate = s.chosen.settings.Get().AllowPrivateHosts
	client.Now = s.now
	return client
}
