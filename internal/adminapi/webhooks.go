package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

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
	w := webhooks.Wanted{Codes: []webhooks.Codes{}, Rules: append([]int64{}, in.Rules...), Alarms: in.Alarms}
	for _, c := range in.Codes {
		one := webhooks.Codes{Batch: c.ApplicationID, From: c.From, To: -1}
		if c.To != nil {
			one.To = *c.To
		}
		w.Codes = append(w.Codes, one)
	}
	return w
}

func showWebhook(w webhooks.Webhook) webhook {
	shown := webhook{ID: w.ID, URL: w.URL, Codes: []webhookCodes{}, Rules: append([]int64{}, w.Wanted.Rules...), Alarms: w.Wanted.Alarms, Enabled: w.Enabled, CreatedAt: w.CreatedAt}
	for _, c := range w.Wanted.Codes {
		one := webhookCodes{ApplicationID: c.Batch, From: c.From}
		if c.To >= 0 {
			one.To = &c.To
		}
		shown.Codes = append(shown.Codes, one)
	}
	return shown
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
	shown := delivery{ID: d.ID, Webhook: webhook, Event: d.Event, State: d.State(), Body: json.RawMessage(d.Body), CreatedAt: d.CreatedAt,
		Attempts: d.Attempts, Status: d.Status, Fault: d.Fault}
	for _, m := range []struct {
		from time.Time
		to   **time.Time
	}{{d.NextAt, &shown.NextAt}, {d.SentAt, &shown.SentAt}, {d.DeliveredAt, &shown.DeliveredAt}} {
		if !m.from.IsZero() {
			*m.to = &m.from
		}
	}
	return shown
}

// webhookProblem is problem for what concerns webhooks.
func (a *Admin) webhookProblem(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, webhooks.ErrNoWebhook):
		return huma.Error404NotFound("there is no webhook with this id")
	case errors.Is(err, webhooks.ErrNoDelivery):
		return huma.Error404NotFound("there is no delivery with this id")
	}
	return a.problem(ctx, err)
}

// WebhookPath is exported because huma sees no embedded field that is not.
type WebhookPath struct {
	ID int64 `path:"id" minimum:"1"`
}

func (a *Admin) registerWebhooks(api huma.API) {
	type webhookList struct {
		Webhooks []webhook `json:"webhooks"`
	}
	huma.Register(api, operation(http.MethodGet, "/webhooks", "listWebhooks", "Who is told of scans and alarms, without the secrets"), func(ctx context.Context, _ *struct{}) (*answer[webhookList], error) {
		list, err := a.Webhooks.List(ctx)
		if err != nil {
			return nil, a.webhookProblem(ctx, err)
		}
		shown := webhookList{Webhooks: []webhook{}}
		for _, w := range list {
			shown.Webhooks = append(shown.Webhooks, showWebhook(w))
		}
		return &answer[webhookList]{shown}, nil
	})

	type createdWebhook struct {
		Webhook webhook `json:"webhook"`
		Secret  string  `json:"secret" doc:"shown this once: by it the receiver checks the signature, see the Standard Webhooks specification"`
	}
	huma.Register(api, operation(http.MethodPost, "/webhooks", "createWebhook", "Tell somebody of scans of chosen codes and rules, and of alarms, from now on"), func(ctx context.Context, in *struct {
		Body WebhookInput
	}) (*answer[createdWebhook], error) {
		w, secret, err := a.Webhooks.Add(ctx, in.Body.URL, in.Body.wanted())
		if err != nil {
			return nil, a.webhookProblem(ctx, err)
		}
		return &answer[createdWebhook]{createdWebhook{showWebhook(w), secret}}, nil
	})

	huma.Register(api, operation(http.MethodPut, "/webhooks/{id}", "putWebhook", "Change what a webhook is told, where it is, or whether it is on; what waits for it stays"), func(ctx context.Context, in *struct {
		WebhookPath
		Body struct {
			WebhookInput
			Enabled *bool `json:"enabled,omitempty" doc:"left out: as it is"`
		}
	}) (*answer[webhook], error) {
		w, err := a.Webhooks.Change(ctx, in.ID, func(w *webhooks.Webhook) error {
			input := in.Body.WebhookInput
			w.URL, w.Wanted = input.URL, input.wanted()
			if in.Body.Enabled != nil {
				w.Enabled = *in.Body.Enabled
			}
			return nil
		})
		if err != nil {
			return nil, a.webhookProblem(ctx, err)
		}
		return &answer[webhook]{showWebhook(w)}, nil
	})

	huma.Register(api, operation(http.MethodDelete, "/webhooks/{id}", "deleteWebhook", "Remove a webhook and what waits for it"), func(ctx context.Context, in *WebhookPath) (*struct{}, error) {
		return nil, a.webhookProblem(ctx, a.Webhooks.Delete(ctx, in.ID))
	})

	huma.Register(api, operation(http.MethodPost, "/webhooks/{id}/test", "testWebhook", "Send a message that tells of nothing"), func(ctx context.Context, in *WebhookPath) (*struct{}, error) {
		return nil, a.webhookProblem(ctx, a.Webhooks.SendTest(ctx, in.ID))
	})

	type deliveryList struct {
		Deliveries []delivery `json:"deliveries"`
	}
	huma.Register(api, operation(http.MethodGet, "/deliveries", "listDeliveries", "What was sent to webhooks and what became of it, newest first"), func(ctx context.Context, in *struct {
		Webhook int64  `query:"webhook" minimum:"0"`
		State   string `query:"state" enum:"waiting,delivered,dead"`
		Before  int64  `query:"before" minimum:"0" doc:"only deliveries with a smaller id"`
		Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[deliveryList], error) {
		q := outbox.Query{State: in.State, Before: in.Before, Limit: in.Limit}
		if in.Webhook != 0 {
			q.Receiver = strconv.FormatInt(in.Webhook, 10)
		}
		list, err := a.Webhooks.Deliveries(ctx, q)
		if err != nil {
			return nil, a.webhookProblem(ctx, err)
		}
		shown := deliveryList{Deliveries: []delivery{}}
		for _, d := range list {
			shown.Deliveries = append(shown.Deliveries, showDelivery(d))
		}
		return &answer[deliveryList]{shown}, nil
	})

	huma.Register(api, operation(http.MethodPost, "/deliveries/{id}/replay", "replayDelivery", "Send something again, whatever became of it, with the same event id"), func(ctx context.Context, in *WebhookPath) (*answer[delivery], error) {
		d, err := a.Webhooks.Replay(ctx, in.ID)
		if err != nil {
			return nil, a.webhookProblem(ctx, err)
		}
		return &answer[delivery]{showDelivery(d)}, nil
	})
}
