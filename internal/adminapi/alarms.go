package adminapi

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/stats"
)

// alarm is what the scans of a code gave rise to.
type alarm struct {
	ID             int64      `json:"id"`
	Kind           string     `json:"kind"`
	ApplicationID  int64      `json:"application_id"`
	CodeIndex      int64      `json:"code_index"`
	At             time.Time  `json:"at" doc:"of the scan that gave rise to it"`
	ScanID         string     `json:"scan_id"`
	Score          int64      `json:"score"`
	Why            stats.Why  `json:"why" doc:"what was known of the code then"`
	AcknowledgedAt *time.Time `json:"acknowledged_at,omitempty"`
	AcknowledgedBy string     `json:"acknowledged_by,omitempty"`
}

func showAlarm(a stats.Alarm) alarm {
	shown := alarm{ID: a.ID, Kind: a.Kind, ApplicationID: a.Batch, CodeIndex: a.Index, At: a.At, ScanID: a.Scan, Score: a.Score, Why: a.Why, AcknowledgedBy: a.SeenBy}
	if !a.SeenAt.IsZero() {
		shown.AcknowledgedAt = &a.SeenAt
	}
	return shown
}

func (a *Admin) registerAlarms(api huma.API) {
	type alarmList struct {
		Alarms []alarm `json:"alarms"`
	}
	huma.Register(api, operation(http.MethodGet, "/alarms", "listAlarms", "Codes that look as if they were copied, oldest alarm first"), func(ctx context.Context, in *struct {
		After int64 `query:"after" minimum:"0" doc:"only alarms after this id"`
		Open  bool  `query:"open" doc:"only those that nobody acknowledged"`
		Limit int   `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[alarmList], error) {
		list, err := a.Scans.Alarms(ctx, in.After, in.Open, in.Limit)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := alarmList{Alarms: []alarm{}}
		for _, one := range list {
			shown.Alarms = append(shown.Alarms, showAlarm(one))
		}
		return &answer[alarmList]{shown}, nil
	})
	huma.Register(api, operation(http.MethodPost, "/alarms/{id}/acknowledge", "acknowledgeAlarm", "Note that somebody has seen an alarm; the first one stays"), func(ctx context.Context, in *struct {
		ID   int64 `path:"id" minimum:"1"`
		Body struct {
			Actor string `json:"actor,omitempty" maxLength:"128" doc:"who; left out: admin"`
		}
	}) (*answer[alarm], error) {
		found, err := a.Scans.Acknowledge(ctx, in.ID, cmp.Or(in.Body.Actor, "admin"))
		if errors.Is(err, stats.ErrNoAlarm) {
			return nil, huma.Error404NotFound("there is no alarm with this id")
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		if err := a.History.Note(ctx, "alarm", strconv.FormatInt(in.ID, 10), "acknowledge", map[string]string{"actor": cmp.Or(in.Body.Actor, "admin")}); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[alarm]{showAlarm(found)}, nil
	})
}
