// Package webhooks implements webhooks: it selects the scans and alarms for each receiver, and formats the messages. Each delivery
// is stored in the outbox before it is sent. A delivery may be sent more than once; the receiver recognizes duplicates by the ID.
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

// Webhook is a receiver of events.
type Webhook struct {
	ID     int64
	URL    string
	Secret string // encrypted
	Filter Filter
	// Enabled is false if the operator disabled the webhook or its receiver responded 410; the webhook then receives nothing.
	Enabled bool
	// AfterScanOffset and AfterAlarmID are positions: only events after these positions are sent to the webhook.
	AfterScanOffset int64
	AfterAlarmID    int64
	CreatedAt       time.Time
	// FailingSince is set by Tx.Webhooks: creation time of the oldest pending delivery whose last attempt failed; zero = none.
	FailingSince time.Time
}

// Filter is the filter of a webhook: scans of some codes or rules, and alarms.
type Filter struct {
	Codes  []Codes `json:"codes"`
	Rules  []int64 `json:"rules"` // by their ids
	Alarms bool    `json:"alarms"`
}

// Codes is a range of codes of one application.
type Codes struct {
	Batch int64 `json:"application_id"`
	From  int64 `json:"from"`
	To    int64 `json:"to"` // inclusive; -1 = to the last code
}

const (
	// MaxWebhooks is the maximum number of webhooks.
	MaxWebhooks = 100
	// MaxWaiting is the maximum number of pending deliveries of a webhook. Beyond MaxWaiting pending deliveries, the oldest
	// deliveries are given up. An unreachable receiver must not fill the database.
	MaxWaiting = 100_000
)

// maxFilterItems is the maximum number of ranges or rules in a webhook's filter.
const maxFilterItems = 1000

// Validate returns an error that names the first invalid part of the filter.
func (w Filter) Validate() error {
	switch {
	case len(w.Codes) > maxFilterItems || len(w.Rules) > maxFilterItems:
		return accounts.Invalid(fmt.Sprintf("codes and rules: want at most %d of each", maxFilterItems))
	case len(w.Codes) == 0 && len(w.Rules) == 0 && !w.Alarms:
		return accounts.Invalid("codes, rules and alarms are all missing: the webhook would never receive an event")
	}
	for _, c := range w.Codes {
		if c.Batch <= 0 || c.From < 0 || c.To < -1 || c.To >= 0 && c.To < c.From {
			return accounts.Invalid(fmt.Sprintf("codes: application_id %d, from %d, to %d: want a range of indexes of an application; to "+
				"may be -1 for the last index", c.Batch, c.From, c.To))
		}
	}
	for _, id := range w.Rules {
		if id <= 0 {
			return accounts.Invalid(fmt.Sprintf("rules: no rule has the id %d", id))
		}
	}
	return nil
}

// WantsScans reports whether the webhook can receive any scan.
func (w Webhook) WantsScans() bool {
	return w.Enabled && (len(w.Filter.Codes) > 0 || len(w.Filter.Rules) > 0)
}

// Scan reports whether the filter matches a scan.
func (w Filter) Scan(e scanlog.Event) bool {
	if e.Batch != 0 {
		return slices.ContainsFunc(w.Codes, func(c Codes) bool {
			return c.Batch == e.Batch && e.Index >= c.From && (c.To < 0 || e.Index <= c.To)
		})
	}
	return e.RuleID != 0 && slices.Contains(w.Rules, e.RuleID)
}

// Errors of the store and of Service.
var (
	ErrNoWebhook  = errors.New("webhooks: no such webhook")
	ErrNoDelivery = errors.New("webhooks: no such delivery")
)

// Tx is one database transaction on webhooks.
type Tx interface {
	// LockWebhooks serializes changes of webhooks until the transaction ends, so that a change cannot restore a webhook that another
	// transaction deletes, or fields that it changes. It must be called before LockReader.
	LockWebhooks(ctx context.Context) error
	// NewWebhookID returns a new ID for a webhook.
	NewWebhookID(ctx context.Context) (int64, error)
	// PutWebhook adds or replaces a webhook.
	PutWebhook(ctx context.Context, w Webhook) error
	// Webhook returns a webhook, or ErrNoWebhook if it does not exist.
	Webhook(ctx context.Context, id int64) (Webhook, error)
	// Webhooks returns all webhooks with FailingSince, oldest first.
	Webhooks(ctx context.Context) ([]Webhook, error)
	// DeleteWebhook deletes a webhook and its deliveries.
	DeleteWebhook(ctx context.Context, id int64) error

	// Position returns the offset up to which a source was read; 0 = nothing was read.
	Position(ctx context.Context, source string) (int64, error)
	// Advance moves a position; false = another reader moved it in the meantime.
	Advance(ctx context.Context, source string, from, to int64) (bool, error)
	// LockReader prevents other transactions from moving the position of a source until this transaction ends.
	LockReader(ctx context.Context, source string) error
	// Checkpoint returns the mark of the scan at the position, see markOf; PutMark stores the mark.
	Checkpoint(ctx context.Context, source string) (string, error)
	PutMark(ctx context.Context, source, mark string) error
	// Counting returns the ID of the scan log to which the position of scans refers; "" = nothing was counted yet.
	Counting(ctx context.Context) (ledger string, err error)
	// ReportedSets returns the events of each node's journal that were queued for webhooks; all is true if no event was queued from any
	// other journal. PutQueuedOffsets stores the queued events of some journals.
	ReportedSets(ctx context.Context) (of map[string]*scanlog.OffsetSet, all bool, err error)
	PutQueuedOffsets(ctx context.Context, of map[string]*scanlog.OffsetSet) error
	// AdoptCountedOffsets records as queued the counted events of all journals that ReportedSets does not return; from then on,
	// ReportedSets returns all = true. AdoptCountedOffsets does nothing unless the counted position lies between from and to.
	AdoptCountedOffsets(ctx context.Context, from, to int64) error
	// StartReader starts the reader of scans at the counted position, because no webhook wanted scans until now.
	StartReader(ctx context.Context) error

	outbox.Tx // deliveries
	// CountForgettable returns 1 if ForgetDeliveries would delete at least one delivery, otherwise 0.
	CountForgettable(ctx context.Context, before time.Time) (int, error)
	// ForgetDeliveries deletes at most limit finished deliveries that were created before a time.
	ForgetDeliveries(ctx context.Context, before time.Time, limit int) (int, error)
}

// message is the body of a request to a webhook. The format follows the Standard Webhooks specification 1.0: type, timestamp, data.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// The types of messages.
const (
	ScanRecorded   = "scan.recorded"
	AlarmRaised    = "alarm.raised"
	AlarmConfirmed = "alarm.confirmed"
	AlarmAssigned  = "alarm.assigned"
	AlarmDismissed = "alarm.dismissed"
	Test           = "webhook.test"
	// PackageNotDownloaded and PackageNotActivated also name the reader positions of the packages that were examined.
	PackageNotDownloaded = "package.not_downloaded"
	PackageNotActivated  = "package.not_activated"
)

// ReminderDays is the number of days after the creation of a package at which a reminder is due. The home page uses the same days.
var ReminderDays = map[string]int{PackageNotDownloaded: 3, PackageNotActivated: 14}

// eventPrefixes maps a type of message to the text before the number in an event ID, for events that are not scans.
var eventPrefixes = map[string]string{AlarmRaised: "alarm_", AlarmConfirmed: "alarm_confirmed_", AlarmAssigned: "alarm_assigned_",
	AlarmDismissed:       "alarm_dismissed_",
	PackageNotDownloaded: "package_not_downloaded_", PackageNotActivated: "package_not_activated_"}

// scanData is the data of a scan in a message. The data do not identify the user who scanned.
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

// scanMessage returns the event ID and the message body of a scan.
func scanMessage(e scanlog.Event) (id, body string, err error) {
	data := scanData{ScanID: e.ID.String(), OccurredAt: e.OccurredAt.UTC(), Source: e.Source, Action: e.Action, Kind: e.Kind,
		Reason: e.Reason, AppID: e.App, Version: e.Version, RuleID: e.RuleID, ApplicationID: e.Batch, Region: e.Region, Text: e.Text}
	if e.Batch != 0 {
		data.CodeIndex = &e.Index
	}
	body, err = encode(message{ScanRecorded, e.OccurredAt.UTC(), data})
	return "scan_" + data.ScanID, body, err
}

func encode(m message) (string, error) {
	b, err := json.Marshal(m)
	return string(b), err
}
