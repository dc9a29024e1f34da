package adminapi

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/webhooks"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

func wanted(in client.WebhookPut) webhooks.Filter {
	return webhooks.Filter{Rules: append([]int64{}, in.Rules...), Alarms: in.Alarms,
		Codes: mapped(in.Codes, func(c client.WebhookCodes) webhooks.Codes {
			codes := webhooks.Codes{Batch: c.ApplicationID, From: c.From, To: -1}
			if c.To != nil {
				codes.To = *c.To
			}
			return codes
		})}
}

// shownURL returns a webhook URL, or only its scheme and host for callers below operator, because the rest of a URL may contain a secret.
func shownURL(ctx context.Context, address string) string {
	if adminroute.CallerFromContext(ctx).Role.AtLeast(adminroute.Operator) {
		return address
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "…"
	case u.User == nil && u.RawQuery == "" && (u.Path == "" || u.Path == "/"):
		return address
	}
	return u.Scheme + "://" + u.Host + "/…"
}

func showWebhook(w webhooks.Webhook) client.Webhook {
	shown := client.Webhook{ID: w.ID, URL: w.URL, Rules: append([]int64{}, w.Filter.Rules...), Alarms: w.Filter.Alarms, Enabled: w.Enabled,
		CreatedAt: w.CreatedAt,
		Codes: mapped(w.Filter.Codes, func(c webhooks.Codes) client.WebhookCodes {
			codes := client.WebhookCodes{ApplicationID: c.Batch, From: c.From}
			if c.To >= 0 {
				codes.To = &c.To
			}
			return codes
		})}
	shown.HasRevision = revisionOf(shown)
	shown.FailingSince = optional(w.FailingSince)
	return shown
}

func showDelivery(d outbox.Row) client.Delivery {
	webhook, _ := strconv.ParseInt(d.Receiver, 10, 64)
	return client.Delivery{ID: d.ID, Webhook: webhook, Event: d.Event, State: d.State(), Body: json.RawMessage(d.Body),
		CreatedAt: d.CreatedAt,
		Attempts:  d.Attempts, NextAt: optional(d.NextAt), SentAt: optional(d.SentAt), Status: d.Status, Error: d.Error,
		DeliveredAt: optional(d.DeliveredAt)}
}

type WebhookPath struct {
	ID int64 `path:"id" minimum:"1"`
}

func (a webhookAPI) listWebhooks(ctx context.Context, _ *client.Empty) (client.WebhookList, error) {
	list, err := a.Webhooks.List(ctx)
	shown := client.WebhookList{Webhooks: mapped(list, showWebhook)}
	for i := range shown.Webhooks {
		shown.Webhooks[i].URL = shownURL(ctx, shown.Webhooks[i].URL)
	}
	return shown, err
}

func (a webhookAPI) createWebhook(ctx context.Context, in *struct{ Body client.WebhookPut }) (client.CreatedWebhook, error) {
	w, secret, err := a.Webhooks.Add(ctx, in.Body.URL, wanted(in.Body))
	return client.CreatedWebhook{Webhook: showWebhook(w), Secret: secret}, err
}

func (a webhookAPI) putWebhook(ctx context.Context, in *struct {
	WebhookPath
	Body client.WebhookUpdate
}) (client.Webhook, error) {
	w, err := a.Webhooks.Change(ctx, in.ID, func(w *webhooks.Webhook) error {
		w.URL, w.Filter = in.Body.URL, wanted(in.Body.WebhookPut)
		if in.Body.Enabled != nil {
			w.Enabled = *in.Body.Enabled
		}
		return nil
	})
	return showWebhook(w), err
}

func (a webhookAPI) deleteWebhook(ctx context.Context, in *WebhookPath) (client.WebhookList, error) {
	return readAfter(ctx, a.Webhooks.Delete(ctx, in.ID), a.listWebhooks, nil)
}

func (a webhookAPI) testWebhook(ctx context.Context, in *WebhookPath) (client.WebhookTest, error) {
	event, err := a.Webhooks.SendTest(ctx, in.ID)
	return client.WebhookTest{Event: event}, err
}

func (a webhookAPI) listDeliveries(ctx context.Context, in *client.DeliveryQuery) (client.DeliveryList, error) {
	q := outbox.Query{State: in.State, Before: in.Before, Limit: in.Limit}
	if in.Webhook != 0 {
		q.Receiver = strconv.FormatInt(in.Webhook, 10)
	}
	list, err := a.Webhooks.Deliveries(ctx, q)
	return client.DeliveryList{Deliveries: mapped(list, showDelivery)}, err
}

func (a webhookAPI) replayDelivery(ctx context.Context, in *struct {
	ID int64 `path:"id" minimum:"1"`
}) (client.Delivery, error) {
	d, err := a.Webhooks.Replay(ctx, in.ID)
	return showDelivery(d), err
}
