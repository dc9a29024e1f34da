package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/client"
)

type webhookList struct{ operator }

// Run lists the webhooks, which receive scans and alarms.
func (c *webhookList) Run(s *session, qrjump *client.Client) error {
	list, err := qrjump.Webhooks.List(s.ctx)
	return listing[client.Webhook]{name: "webhooks", none: tr("webhook.none"),
		heads: []string{"ID", "STATE", "URL", "EVENTS", "CREATED"},
		row: func(item client.Webhook) []string {
			return []string{number(item.ID), onOff(item.Enabled), item.URL, orDash(describeEvents(item)), formatTime(item.CreatedAt)}
		}}.print(s, c.outputFlags, list, failed("list", "webhooks", err))
}

// describeEvents describes in words the events that a webhook receives.
func describeEvents(w client.Webhook) string {
	var parts []string
	for _, code := range w.Codes {
		text := tr("webhook.codes", code.ApplicationID)
		switch {
		case code.To != nil:
			text += ":" + rangeText(client.CodeRange{From: code.From, To: *code.To})
		case code.From > 0:
			text += fmt.Sprintf(":%d-", code.From)
		}
		parts = append(parts, text)
	}
	for _, id := range w.Rules {
		parts = append(parts, tr("webhook.rule", id))
	}
	if w.Alarms {
		parts = append(parts, tr("webhook.alarms"))
	}
	return strings.Join(parts, ", ")
}

// webhookChanges holds the flags that select a webhook's events.
type webhookChanges struct {
	Codes  []string `sep:"none" placeholder:"ID[:RANGE]"`
	Rule   []int64  `sep:"none" placeholder:"ID"`
	Alarms *bool    `negatable:""`
}

var webhookCodesForm = regexp.MustCompile(`^([1-9][0-9]{0,17})(?::(.*))?$`)

// apply sets the fields of w for which a flag is given; fields without a flag remain unchanged.
func (c webhookChanges) apply(w *client.WebhookPut) error {
	if c.Codes != nil {
		w.Codes = nil
	}
	for _, text := range c.Codes {
		m := webhookCodesForm.FindStringSubmatch(text)
		if m == nil {
			return misused("webhook.codes_want_an_application_and", text)
		}
		id, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits fit
		codes := client.WebhookCodes{ApplicationID: id}
		if m[2] != "" {
			r, all, err := parseRange([]string{m[2]})
			if err != nil {
				return misused("webhook.codes_2", text, err)
			}
			if !all {
				codes.From, codes.To = r.From, &r.To
			}
		}
		w.Codes = append(w.Codes, codes)
	}
	if c.Rule != nil {
		w.Rules = c.Rule
	}
	assign(&w.Alarms, c.Alarms)
	return nil
}

type webhookAdd struct {
	operator
	URL string `arg:""`
	webhookChanges
}

// Run adds a webhook. The webhook's secret is shown only once.
func (c *webhookAdd) Run(s *session, qrjump *client.Client) error {
	want := client.WebhookPut{URL: c.URL}
	if err := c.apply(&want); err != nil {
		return err
	}
	if len(want.Codes)+len(want.Rules) == 0 && !want.Alarms {
		return misused("webhook.missing_events", plain(c.URL))
	}
	added, err := qrjump.Webhooks.Create(s.ctx, want)
	return c.print(s, added, failed(tr("webhook.add_webhook"), c.URL, err), func(w io.Writer) {
		printMsg(w, "webhook.added", added.Webhook.ID, plain(added.Webhook.URL), describeEvents(added.Webhook), plain(added.Secret))
		printMsg(s.err, "webhook.the_secret_is_shown_this", added.Webhook.ID)
	})
}

// webhook finds a webhook by its ID.
func webhook(s *session, qrjump *client.Client, did string, id int64) (client.Webhook, error) {
	list, err := qrjump.Webhooks.List(s.ctx)
	if err != nil {
		return client.Webhook{}, fault("webhook.webhook", localizeOr("did."+did, did), id, err)
	}
	i := slices.IndexFunc(list, func(w client.Webhook) bool { return w.ID == id })
	if i < 0 {
		storedNumbers := mapped(list, func(item client.Webhook) int64 { return item.ID })
		return client.Webhook{}, absent(hintError{error: fault("webhook.webhook_there_is_no_webhook", localizeOr("did."+did, did), id,
			nearNumber(id, storedNumbers)), next: tr("webhook.see_qrjump_webhook_list")})
	}
	return list[i], nil
}

type webhookUpdate struct {
	operator
	ID      int64   `arg:""`
	URL     *string `name:"url" placeholder:"URL"`
	Enabled *bool   `negatable:""`
	webhookChanges
}

// Run changes those fields of a webhook whose flags are set.
func (c *webhookUpdate) Run(s *session, qrjump *client.Client) error {
	if c.URL == nil && c.Enabled == nil && c.Codes == nil && c.Rule == nil && c.Alarms == nil {
		return misused("webhook.nothing_to_change")
	}
	item, err := webhook(s, qrjump, "change", c.ID)
	if err != nil {
		return err
	}
	want := item.Put()
	if err := c.apply(&want); err != nil {
		return err
	}
	assign(&want.URL, c.URL)
	changed, err := qrjump.Webhooks.Update(client.IfMatch(s.ctx, item.Revision), c.ID, want, c.Enabled)
	return c.outcome(s, changed,
		withListCommand(tr("webhook.change_webhook"), number(c.ID), "qrjump webhook list", describeConflict("qrjump webhook list", err)),
		"webhook.changed_webhook_it_is_and", changed.ID, onOff(changed.Enabled), plain(changed.URL),
		cmp.Or(describeEvents(changed), tr("webhook.nothing")))
}

type webhookDelete struct {
	operator
	ID int64 `arg:""`
	confirmFlag
}

// Run deletes a webhook.
func (c *webhookDelete) Run(s *session, qrjump *client.Client) error {
	item, err := webhook(s, qrjump, "delete", c.ID)
	if err != nil {
		return err
	}
	if err := c.confirmed(s, tr("webhook.deletes", c.ID, item.URL)); err != nil {
		return err
	}
	_, err = qrjump.Webhooks.Delete(client.IfMatch(s.ctx, item.Revision), c.ID)
	return c.outcome(s, item, withListCommand(tr("webhook.delete_webhook"), number(c.ID), "qrjump webhook list",
		describeConflict("qrjump webhook list", err)),
		"webhook.deleted_webhook_to", item.ID, plain(item.URL))
}

type webhookTest struct {
	operator
	ID   int64         `arg:""`
	Wait time.Duration `default:"15s" placeholder:"TIME"`
}

// Run sends a test message without an event and prints the receiver's response.
func (c *webhookTest) Run(s *session, qrjump *client.Client) error {
	if _, err := webhook(s, qrjump, "test", c.ID); err != nil {
		return err
	}
	event, err := qrjump.Webhooks.Test(s.ctx, c.ID)
	if err != nil {
		return withListCommand(tr("webhook.test_webhook"), number(c.ID), "qrjump webhook list", err)
	}
	sent, err := c.sendTest(s.ctx, qrjump, event)
	err = c.print(s, sent, wrapped("webhook.the_test_message_of_webhook", c.ID, err), func(w io.Writer) {
		switch {
		case sent.State == "delivered":
			printMsg(w, "webhook.webhook_works_the_receiver_answered", c.ID, sent.Status, sent.ID)
		case sent.Attempts == 0:
			printMsg(w, "webhook.the_test_message_of_webhook_2", c.ID, plain(event), c.ID)
		}
	})
	if err == nil && sent.Attempts > 0 && sent.State != "delivered" {
		text := cmp.Or(sent.Error, tr("webhook.the_receiver_answered", sent.Status))
		err = hintError{error: fault("webhook.webhook_delivery", c.ID, text, sent.ID), next: tr("webhook.retried") + number(sent.ID)}
	}
	return err
}

// sendTest waits until the server has tried to send the test message, at most for the time of --wait.
func (c *webhookTest) sendTest(ctx context.Context, qrjump *client.Client, event string) (client.Delivery, error) {
	until := time.After(c.Wait)
	for {
		list, err := qrjump.Webhooks.ListDeliveries(ctx, client.DeliveryQuery{Webhook: c.ID})
		if err != nil {
			return client.Delivery{}, err
		}
		sent := client.Delivery{Webhook: c.ID, Event: event, State: "pending"}
		if i := slices.IndexFunc(list, func(d client.Delivery) bool { return d.Event == event }); i >= 0 {
			sent = list[i]
		}
		if sent.Attempts > 0 || c.Wait == 0 {
			return sent, nil
		}
		select {
		case <-ctx.Done():
			return sent, ctx.Err()
		case <-until:
			return sent, nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

type webhookDeliveries struct {
	operator
	Webhook int64  `placeholder:"ID"`
	State   string `enum:",pending,delivered,failed" default:"" placeholder:"STATE"`
	Before  int64  `placeholder:"ID"`
	Limit   int    `default:"50" placeholder:"N"`
}

// Run lists the webhook deliveries with their results.
func (c *webhookDeliveries) Run(s *session, qrjump *client.Client) error {
	if c.Webhook != 0 {
		if _, err := webhook(s, qrjump, tr("webhook.deliveries_of"), c.Webhook); err != nil {
			return err
		}
	}
	list, err := qrjump.Webhooks.ListDeliveries(s.ctx, client.DeliveryQuery{Webhook: c.Webhook, State: c.State, Before: c.Before,
		Limit: c.Limit})
	return listing[client.Delivery]{name: "deliveries", none: tr("webhook.no_deliveries"), newestFirst: true,
		heads: []string{"ID", "WEBHOOK", "EVENT", "STATE", "ATTEMPTS", "RESPONSE", "LAST ATTEMPT", "NEXT ATTEMPT", "ERROR"},
		row: func(d client.Delivery) []string {
			answered := cmp.Or(numberOrNone(int64(d.Status)), "-")
			return []string{number(d.ID), number(d.Webhook), d.Event, d.State,
				strconv.Itoa(d.Attempts), answered, moment(d.SentAt), moment(d.NextAt), orDash(d.Error)}
		}}.print(s, c.outputFlags, list, failed("list", "deliveries", err))
}
