package adminapi

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/outbox"
	"github.com/qrjump/qrjump/internal/webhooks"
)

// webhook is a receiver as an operator sees it, without its secret.
type webhook struct {
	ID        int64          `json:"id"`
	URL       string         `json:"url"`
	Codes     []webhookCodes `json:"codes"`
	Rules     []int64        `json:"rules"`
	Alarms    bool           `json:"alarms"`
	Enabled   bool           `json:"enabled" doc:"false: nothing is collected and sent; an answer with status 410 does that"`
	CreatedAt time.Time      `json:"created_at"`
}

type webhookCodes struct {
	ApplicationID int64  `json:"application_id" minimum:"1"`
	From          int64  `json:"from,omitempty" minimum:"0" doc:"the first code_index; left out: 0"`
	To            *int64 `json:"to,omitempty" minimum:"0" doc:"the last one; left out: the end"`
}

// WebhookInput is what an operator may say of a webhook.
type WebhookInput struct {
	URL    string         `json:"url" maxLength:"2048" doc:"http or https; inside the network only if the setting allow_private_hosts is on"`
	Codes  []webhookCodes `json:"codes,omitempty" maxItems:"1000" doc:"scans of these codes"`
	Rules  []int64        `json:"rules,omitempty" maxItems:"1000" doc:"scans that fell on the rules with these ids"`
	Alarms bool           `json:"alarms,omitempty" doc:"codes that look as if they were copied"`
}

func (in WebhookInput) wanted() webhooks.Wanted {
	return webhooks.Wanted{Rules: append([]int64{}, in.Rules...), Alarms: in.Alarms,
		Codes: each(in.Codes, func(c webhookCodes) webhooks.Codes {
			one := webhooks.Codes{Batch: c.ApplicationID, From: c.From, To: -1}
			if c.To != nil {
				one.To = *c.To
			}
			return one
		})}
}

func showWebhook(w webhooks.Webhook) webhook {
	return webhook{ID: w.ID, URL: w.URL, Rules: append([]int64{}, w.Wanted.Rules...), Alarms: w.Wanted.Alarms, Enabled: w.Enabled,
		CreatedAt: w.CreatedAt,
		Codes: each(w.Wanted.Codes, func(c webhooks.Codes) webhookCodes {
			one := webhookCodes{ApplicationID: c.Batch, From: c.From}
			if c.To >= 0 {
				one.To = &c.To
			}
			return one
		})}
}

// delivery is what became of an event for a webhook.
type delivery struct {
	ID          int64           `json:"id"`
	Webhook     int64           `json:"webhook"`
	Event       string          `json:"event" doc:"the same for every try: the header webhook-id"`
	State       string          `json:"state" enum:"waiting,delivered,dead"`
	Body        json.RawMessage `json:"body"`
	CreatedAt   time.Time       `json:"created_at"`
	Attempts    int             `json:"attempts"`
	NextAt      *time.Time      `json:"next_at,omitempty"`
	SentAt      *time.Time      `json:"sent_at,omitempty" doc:"the last try"`
	Status      int             `json:"status,omitempty" doc:"of the last answer"`
	Fault       string          `json:"fault,omitempty" doc:"why the last try failed"`
	DeliveredAt *time.Time      `json:"delivered_at,omitempty"`
}

func showDelivery(d outbox.Row) delivery {
	webhook, _ := strconv.ParseInt(d.Receiver, 10, 64)
	return delivery{ID: d.ID, Webhook: webhook, Event: d.Event, State: d.State(), Body: json.RawMessage(d.Body), CreatedAt: d.CreatedAt,
		Attempts: d.Attempts, NextAt: optional(d.NextAt), SentAt: optional(d.SentAt), Status: d.Status, Fault: d.Fault,
		DeliveredAt: optional(d.DeliveredAt)}
}

type WebhookPath struct {
	ID int64 `path:"id" minimum:"1"`
}

type webhookList struct {
	Webhooks []webhook `json:"webhooks"`
}

func (a *Admin) listWebhooks(ctx context.Context, _ *none) (webhookList, error) {
	list, err := a.Webhooks.List(ctx)
	return webhookList{each(list, showWebhook)}, err
}

type createdWebhook struct {
	Webhook webhook `json:"webhook"`
	Secret  string  `json:"secret" doc:"shown this once: by it the receiver checks the signature, see the Standard Webhooks specification"`
}

func (a *Admin) createWebhook(ctx context.Context, in *struct{ Body WebhookInput }) (createdWebhook, error) {
	w, secret, err := a.Webhooks.Add(ctx, in.Body.URL, in.Body.wanted())
	return createdWebhook{showWebhook(w), secret}, err
}

func (a *Admin) putWebhook(ctx context.Context, in *struct {
	WebhookPath
	Body struct {
		WebhookInput
		Enabled *bool `json:"enabled,omitempty" doc:"left out: as it is"`
	}
}) (webhook, error) {
	w, err := a.Webhooks.Change(ctx, in.ID, func(w *webhooks.Webhook) error {
		w.URL, w.Wanted = in.Body.URL, in.Body.wanted()
		if in.Body.Enabled != nil {
			w.Enabled = *in.Body.Enabled
		}
		return nil
	})
	return showWebhook(w), err
}

func (a *Admin) deleteWebhook(ctx context.Context, in *WebhookPath) (webhookList, error) {
	if err := a.Webhooks.Delete(ctx, in.ID); err != nil {
		return webhookList{}, err
	}
	return a.listWebhooks(ctx, nil)
}

func (a *Admin) testWebhook(ctx context.Context, in *WebhookPath) (operations.Nothing, error) {
	return operations.Nothing{}, a.Webhooks.SendTest(ctx, in.ID)
}

type deliveryList struct {
	Deliveries []delivery `json:"deliveries"`
}

func (a *Admin) listDeliveries(ctx context.Context, in *struct {
	Webhook int64  `query:"webhook" minimum:"0"`
	State   string `query:"state" enum:"waiting,delivered,dead"`
	Before  int64  `query:"before" minimum:"0" doc:"only deliveries with a smaller id"`
	Page
}) (deliveryList, error) {
	q := outbox.Query{State: in.State, Before: in.Before, Limit: in.Limit}
	if in.Webhook != 0 {
		q.Receiver = strconv.FormatInt(in.Webhook, 10)
	}
	list, err := a.Webhooks.Deliveries(ctx, q)
	return deliveryList{each(list, showDelivery)}, err
}

func (a *Admin) replayDelivery(ctx context.Context, in *WebhookPath) (delivery, error) {
	d, err := a.Webhooks.Replay(ctx, in.ID)
	return showDelivery(d), err
}
