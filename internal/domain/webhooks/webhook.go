// Package webhooks knows which receivers want to hear of which scans and alarms, in which words.
// Each delivery is stored in the outbox before it is sent. It may be sent more than once; the
// receiver recognises it by its id.
package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/eventlog/outbox"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
)

// Webhook is one receiver.
type Webhook struct {
	ID     int64
	URL    string
	Secret string // sealed
	Wanted Wanted
	// Enabled is false for a webhook that is told nothing: the operator said so, or the receiver
	// answered 410.
	Enabled bool
	// ScansFrom and AlarmsFrom are positions: only what came later is sent.
	ScansFrom  int64
	AlarmsFrom int64
	CreatedAt  time.Time
}

// Wanted says what a receiver is told of: scans of some codes or rules, and alarms.
type Wanted struct {
	Codes  []Codes `json:"codes"`
	Rules  []int64 `json:"rules"` // by their ids
	Alarms bool    `json:"alarms"`
}

// Codes are codes of one application.
type Codes struct {
	Batch int64 `json:"application_id"`
	From  int64 `json:"from"`
	To    int64 `json:"to"` // inclusive; -1 = to the end
}

const (
	// MaxWebhooks is the maximum number of webhooks.
	MaxWebhooks = 100
	// MaxWaiting is the maximum number of pending deliveries of a webhook. Of more, the oldest are given up. A receiver that is
	// away must not fill the database.
	MaxWaiting = 100_000
)

// maxWanted is the maximum number of ranges or rules in a webhook's filter.
const maxWanted = 1000

// Validate returns an error that says what of it is not valid.
func (w Wanted) Validate() error {
	switch {
	case len(w.Codes) > maxWanted || len(w.Rules) > maxWanted:
		return accounts.Invalid(fmt.Sprintf("codes and rules: want at most %d of each", maxWanted))
	case len(w.Codes) == 0 && len(w.Rules) == 0 && !w.Alarms:
		return accounts.Invalid("codes, rules and alarms are all missing: the webhook would never be told anything")
	}
	for _, c := range w.Codes {
		if c.Batch <= 0 || c.From < 0 || c.To < -1 || c.To >= 0 && c.To < c.From {
			return accounts.Invalid(
				fmt.Sprintf("codes: application_id %d, from %d, to %d: want a range of an application, to -1 for its end", c.Batch, c.From,
					c.To))
		}
	}
	for _, id := range w.Rules {
		if id <= 0 {
			return accounts.Invalid(fmt.Sprintf("rules: %d is the id of no rule", id))
		}
	}
	return nil
}

// HearsScans reports whether it is told of any scan.
func (w Webhook) HearsScans() bool {
	return w.Enabled && (len(w.Wanted.Codes) > 0 || len(w.Wanted.Rules) > 0)
}

// Scan reports whether the receiver wants to know of a scan.
func (w Wanted) Scan(e scanlog.Event) bool {
	if e.Batch != 0 {
		return slices.ContainsFunc(w.Codes, func(c Codes) bool {
			return c.Batch == e.Batch && e.Index >= c.From && (c.To < 0 || e.Index <= c.To)
		})
	}
	return e.RuleID != 0 && slices.Contains(w.Rules, e.RuleID)
}

// Sentinels of the store and of Book.
var (
	ErrNoWebhook  = errors.New("webhooks: no such webhook")
	ErrNoDelivery = errors.New("webhooks: no such delivery")
)

// Store is the persistence interface of the senders.
type Store interface {
	// UpdateWebhooks runs f in one transaction. It may run f again after a
	// conflict, so f must not keep state between runs.
	UpdateWebhooks(ctx context.Context, f func(Tx) error) error
	// ViewWebhooks runs f on a consistent state that f does not change.
	ViewWebhooks(ctx context.Context, f func(Tx) error) error
}

// Tx is one transaction on webhooks.
type Tx interface {
	// NewWebhookID gives out a number.
	NewWebhookID(ctx context.Context) (int64, error)
	// PutWebhook adds or replaces a webhook.
	PutWebhook(ctx context.Context, w Webhook) error
	// Webhook returns ErrNoWebhook where there is none.
	Webhook(ctx context.Context, id int64) (Webhook, error)
	Webhooks(ctx context.Context) ([]Webhook, error)
	// DeleteWebhook removes a webhook with its deliveries.
	DeleteWebhook(ctx context.Context, id int64) error

	// Position returns the offset up to which a source was read; 0 = not at all.
	Position(ctx context.Context, source string) (int64, error)
	// Advance moves a position; false = another reader moved it meanwhile.
	Advance(ctx context.Context, source string, from, to int64) (bool, error)
	// HoldReader keeps everybody else from moving the position of a source until the transaction
	// ends.
	HoldReader(ctx context.Context, source string) error
	// Mark returns the scan that stands at the position, see marked; PutMark stores it.
	Mark(ctx context.Context, source string) (string, error)
	PutMark(ctx context.Context, source, mark string) error
	// Counting returns the id of the ledger that the position of scans is of; "" = nothing was
	// counted yet.
	Counting(ctx context.Context) (ledger string, err error)
	// Told says which events of each node's journal were told; PutTold stores that for some
	// journals. all says that of a journal that is not among them no event was told.
	Told(ctx context.Context) (of map[string]*scanlog.OffsetSet, all bool, err error)
	PutTold(ctx context.Context, of map[string]*scanlog.OffsetSet) error
	// LearnTold is for journals of which Told knows nothing: it notes that the counted events of
	// each were told, and that Told now knows every journal. It does nothing unless the position of
	// the counting lies between from and to.
	LearnTold(ctx context.Context, from, to int64) error
	// BeginTelling lets the reader of scans begin at the position of the counting, because no
	// webhook wanted scans until now.
	BeginTelling(ctx context.Context) error

	outbox.Tx // deliveries
	// CountForgettable counts what ForgetDeliveries would remove, up to one.
	CountForgettable(ctx context.Context, before time.Time) (int, error)
	// ForgetDeliveries removes at most limit finished deliveries that were made before a moment.
	ForgetDeliveries(ctx context.Context, before time.Time, limit int) (int, error)
}

// message is the body of a request to a receiver. It follows the Standard Webhooks specification 1.0: type, timestamp, data.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// The types of messages.
const (
	ScanRecorded   = "scan.recorded"
	AlarmRaised    = "alarm.raised"
	AlarmDismissed = "alarm.dismissed"
	Test           = "webhook.test"
)

// scanData is a scan as a receiver reads it. It does not say who scanned.
type scanData struct {
	ScanID        string    `json:"scan_id"`
	OccurredAt    time.Time `json:"occurred_at"`
	Source        string    `json:"source"`
	Action        string    `json:"action"`
	Kind          string    `json:"kind,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	AppID         string    `json:"appid,omitempty"`
	Version       string    `json:"version,omitempty"`
	RuleID        int64     `json:"rule_id,omitempty"`
	ApplicationID int64     `json:"application_id,omitempty"`
	CodeIndex     *int64    `json:"code_index,omitempty"`
	Region        string    `json:"region,omitempty"`
	Text          string    `json:"text,omitempty"`
}

// scanMessage returns the id and the body of a scan.
func scanMessage(e scanlog.Event) (id, body string, err error) {
	data := scanData{ScanID: e.ID.String(), OccurredAt: e.At.UTC(), Source: e.Source, Action: e.Action, Kind: e.Kind, Reason: e.Reason,
		AppID:   e.App,
		Version: e.Version, RuleID: e.RuleID, ApplicationID: e.Batch, Region: e.Region, Text: e.Text}
	if e.Batch != 0 {
		data.CodeIndex = &e.Index
	}
	body, err = encode(message{ScanRecorded, e.At.UTC(), data})
	return "scan_" + data.ScanID, body, err
}

func encode(m message) (string, error) {
	b, err := json.Marshal(m)
	return string(b), err
}
