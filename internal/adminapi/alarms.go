package adminapi

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/stats"
)

// alarm is what the scans of a code gave rise to. client.Alarm passes on what was
// known of the code, whatever a later server says.
type alarm struct {
	ID             int64          `json:"id"`
	Kind           string         `json:"kind"`
	ApplicationID  int64          `json:"application_id"`
	CodeIndex      int64          `json:"code_index"`
	At             time.Time      `json:"at" doc:"of the scan that gave rise to it"`
	ScanID         string         `json:"scan_id"`
	Score          int64          `json:"score"`
	Why            stats.Why      `json:"why" doc:"what was known of the code then"`
	Reasons        []stats.Reason `json:"reasons" doc:"the same for people, the heaviest first"`
	AcknowledgedAt *time.Time     `json:"acknowledged_at,omitempty"`
	AcknowledgedBy string         `json:"acknowledged_by,omitempty"`
}

type alarmList struct {
	Alarms []alarm `json:"alarms"`
}

func showAlarm(a stats.Alarm) alarm {
	return alarm{ID: a.ID, Kind: a.Kind, ApplicationID: a.Batch, CodeIndex: a.Index, At: a.At, ScanID: a.Scan, Score: a.Score,
		Why: a.Why, Reasons: a.Reasons(),
		AcknowledgedAt: optional(a.SeenAt), AcknowledgedBy: a.SeenBy}
}

func (a *Admin) listAlarms(ctx context.Context, in *struct {
	After int64 `query:"after" minimum:"0" doc:"only alarms after this id"`
	Open  bool  `query:"open" doc:"only those that nobody acknowledged"`
	Page
}) (alarmList, error) {
	list, err := a.Scans.Alarms(ctx, in.After, in.Open, in.Limit)
	return alarmList{each(list, showAlarm)}, err
}

func (a *Admin) acknowledgeAlarm(ctx context.Context, in *struct {
	ID   int64 `path:"id" minimum:"1"`
	Body struct {
		Actor string `json:"actor,omitempty" maxLength:"128" doc:"who; left out: admin"`
	}
}) (alarm, error) {
	actor := cmp.Or(in.Body.Actor, "admin")
	found, err := a.Scans.Acknowledge(ctx, in.ID, actor)
	if err == nil {
		err = a.History.Note(ctx, "alarm", strconv.FormatInt(in.ID, 10), "acknowledge", map[string]string{"actor": actor})
	}
	return showAlarm(found), err
}
