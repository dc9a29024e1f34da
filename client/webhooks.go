package client

import (
	"context"
	"encoding/json"
	"time"
)

// Webhook is a receiver of scans and alarms, without its secret.
type Webhook struct {
	ID        int64          `json:"id"`
	URL       string         `json:"url"`
	Codes     []WebhookCodes `json:"codes"`
	Rules     []int64        `json:"rules"`
	Alarms    bool           `json:"alarms"`
	Enabled   bool           `json:"enabled" doc:"whether events are collected and sent; a response with status 410 disables the webhook"`
	CreatedAt time.Time      `json:"created_at"`
	HasRevision
	FailingSince *time.Time `json:"failing_since,omitempty" doc:"in lists: creation time of the oldest pending delivery that failed"`
}

// WebhookCodes selects codes whose scans are sent to a webhook.
type WebhookCodes struct {
	ApplicationID int64  `json:"application_id" minimum:"1"`
	From          int64  `json:"from,omitempty" answer:"optional" minimum:"0" doc:"first code_index; default: 0"`
	To            *int64 `json:"to,omitempty" minimum:"0" doc:"last code_index; default: the last of the application"`
}

// WebhookList is the list of all webhooks.
type WebhookList struct {
	Webhooks []Webhook `json:"webhooks"`
}

// WebhookPut is the requested state of a webhook.
type WebhookPut struct {
	URL    string         `json:"url" maxLength:"2048" doc:"http or https URL; private addresses require the setting allow_private_hosts"`
	Codes  []WebhookCodes `json:"codes,omitempty" maxItems:"1000" doc:"codes whose scans are sent"`
	Rules  []int64        `json:"rules,omitempty" maxItems:"1000" doc:"IDs of the rules whose scans are sent"`
	Alarms bool           `json:"alarms,omitempty" doc:"if true, sends alarms about codes, as in listAlarms, and reminders of packages"`
}

// WebhookUpdate is the request of Update.
type WebhookUpdate struct {
	WebhookPut
	Enabled *bool `json:"enabled,omitempty" doc:"whether events are sent; omit to keep the stored value"`
}

// Put returns a WebhookPut that leaves the webhook unchanged.
func (w Webhook) Put() WebhookPut {
	return WebhookPut{URL: w.URL, Codes: w.Codes, Rules: w.Rules, Alarms: w.Alarms}
}

// CreatedWebhook is a new webhook with its secret.
type CreatedWebhook struct {
	Webhook Webhook `json:"webhook"`
	Secret  string  `json:"secret" doc:"secret for verifying signatures as in the Standard Webhooks specification; returned only once"`
}

// List lists the webhooks, oldest first.
func (c WebhooksService) List(ctx context.Context) ([]Webhook, error) {
	reply, err := OpListWebhooks.call(ctx, c.transport, Empty{})
	return reply.Webhooks, err
}

// Create adds a webhook, which receives scans and alarms from now on. The webhook's secret is shown only in this response. If w is
// invalid, the result is a *Problem with status 422 that describes the error.
func (c WebhooksService) Create(ctx context.Context, w WebhookPut) (CreatedWebhook, error) {
	return OpCreateWebhook.call(ctx, c.transport, w)
}

// Update changes the events and the address of a webhook. Update also enables or disables the webhook, unless enabled is nil.
// Pending events of the webhook are kept. If the webhook does not exist, the result is a *Problem with status 404.
func (c WebhooksService) Update(ctx context.Context, id int64, w WebhookPut, enabled *bool) (Webhook, error) {
	return OpPutWebhook.call(ctx, c.transport, WebhookUpdate{w, enabled}, id)
}

// Delete deletes a webhook with its pending events, and returns the remaining webhooks. If the webhook does not exist, the result
// is a *Problem with status 404.
func (c WebhooksService) Delete(ctx context.Context, id int64) ([]Webhook, error) {
	reply, err := OpDeleteWebhook.call(ctx, c.transport, Empty{}, id)
	return reply.Webhooks, err
}

// WebhookTest identifies a test message that was sent.
type WebhookTest struct {
	Event string `json:"event" doc:"event ID, by which the delivery can be found"`
}

// Test sends a test message, and returns the event ID with which ListDeliveries shows the message. If the webhook does not exist,
// the result is a *Problem with status 404.
func (c WebhooksService) Test(ctx context.Context, id int64) (event string, err error) {
	sent, err := OpTestWebhook.call(ctx, c.transport, Empty{}, id)
	return sent.Event, err
}

// Delivery is the state of an event's delivery to a webhook.
type Delivery struct {
	ID          int64           `json:"id"`
	Webhook     int64           `json:"webhook"`
	Event       string          `json:"event" doc:"event ID, equal for all attempts; header webhook-id"`
	State       string          `json:"state" enum:"pending,delivered,failed"`
	Body        json.RawMessage `json:"body"`
	CreatedAt   time.Time       `json:"created_at"`
	Attempts    int             `json:"attempts"`
	NextAt      *time.Time      `json:"next_at,omitempty"`
	SentAt      *time.Time      `json:"sent_at,omitempty" doc:"time of the last attempt"`
	Status      int             `json:"status,omitempty" answer:"optional" doc:"HTTP status of the last response"`
	Error       string          `json:"error,omitempty" answer:"optional" doc:"error of the last attempt"`
	DeliveredAt *time.Time      `json:"delivered_at,omitempty"`
}

// DeliveryList is a page of deliveries.
type DeliveryList struct {
	Deliveries []Delivery `json:"deliveries"`
}

// DeliveryQuery selects deliveries, newest first; the zero value selects all deliveries.
type DeliveryQuery struct {
	Webhook int64  `query:"webhook" minimum:"0"`                   // ID of a webhook; 0 means all webhooks.
	State   string `query:"state" enum:"pending,delivered,failed"` // "" = any
	Before  int64  `query:"before" minimum:"0" doc:"only deliveries with a smaller ID"`
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// ListDeliveries lists the webhook deliveries with their results, newest first.
func (c WebhooksService) ListDeliveries(ctx context.Context, q DeliveryQuery) ([]Delivery, error) {
	reply, err := OpListDeliveries.call(ctx, c.transport, q)
	return reply.Deliveries, err
}

// RetryDelivery sends a message again with the same event ID, whatever the state of the delivery is. If the delivery does not
// exist, the result is a *Problem with status 404.
func (c WebhooksService) RetryDelivery(ctx context.Context, id int64) (Delivery, error) {
	return OpReplayDelivery.call(ctx, c.transport, Empty{}, id)
}
