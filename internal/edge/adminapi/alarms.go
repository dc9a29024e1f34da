package adminapi

import (
	"cmp"
	"context"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/alarms"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// inBoth returns a reason in English and Chinese.
func inBoth(reason i18n.Message) client.AlarmReason {
	return client.AlarmReason{English: reason.English(), Chinese: reason.Chinese()}
}

func (a scanAPI) showAlarm(ctx context.Context, item alarms.Alarm) (client.Alarm, error) {
	account, err := a.accountOf(ctx, item)
	group := caseOf(ctx, item)
	return client.Alarm{ID: item.ID, Kind: item.Kind, State: item.State(), Account: account, ApplicationID: item.Batch,
		CodeIndex: item.CodeIndex(), Prefix: item.Details.Prefix, OccurredAt: item.CreatedAt, ScanID: item.Scan, Score: item.Score,
		Reasons:        mapped(item.Reasons(), inBoth),
		AcknowledgedAt: optional(item.AcknowledgedAt), AcknowledgedBy: item.AcknowledgedBy,
		ConfirmedAt: optional(item.ConfirmedAt), ConfirmedBy: item.ConfirmedBy,
		DismissedAt: optional(item.DismissedAt), DismissedBy: item.DismissedBy, Note: item.Note,
		Case: group.ID, CaseTitle: group.Title, Assignee: group.Assignee, Details: item.Details}, err
}

// caseOf returns the case of an alarm; the zero Case if the caller may not see it.
func caseOf(ctx context.Context, item alarms.Alarm) alarms.Case {
	if !adminroute.CallerFromContext(ctx).CanAccess(item.Case.Account) {
		return alarms.Case{}
	}
	return item.Case
}

// accountOf returns the account of an alarm; "" = batches of several accounts have its prefix.
func (a scanAPI) accountOf(ctx context.Context, item alarms.Alarm) (string, error) {
	if item.Batch == 0 {
		return "", nil
	}
	b, err := a.Codes.Memory.BatchOrLoad(ctx, item.Batch)
	return b.Account, err
}

// alarmQuery returns the query for the alarms that the caller selects and may see.
func alarmQuery(ctx context.Context, f client.AlarmQuery) (alarms.Query, error) {
	accountIDs, err := owners(ctx, f.Owner)
	return alarms.Query{Owners: accountIDs, After: f.After, Before: f.Before, Newest: f.Newest, State: f.State,
		Acknowledged: f.Acknowledged, Case: f.Case, Assignee: f.Assignee, Batch: f.ApplicationID}, err
}

func (a scanAPI) listAlarms(ctx context.Context, in *client.AlarmQuery) (client.AlarmList, error) {
	q, err := alarmQuery(ctx, *in)
	if err != nil {
		return client.AlarmList{}, err
	}
	q.Limit = cmp.Or(in.Limit, 100)
	list, err := a.Alarms.Alarms(ctx, q)
	shown := client.AlarmList{Alarms: make([]client.Alarm, len(list))}
	for i := 0; i < len(list) && err == nil; i++ {
		shown.Alarms[i], err = a.showAlarm(ctx, list[i])
	}
	if err != nil {
		return client.AlarmList{}, err
	}
	shown.Unacknowledged, err = a.Alarms.Unacknowledged(ctx, q.Owners)
	return shown, err
}

func (a scanAPI) acknowledgeAlarm(ctx context.Context, in *struct {
	ID   int64 `path:"id" minimum:"1"`
	Body client.Acknowledgement
}) (client.Alarm, error) {
	ctx = acting(ctx, "")
	change := alarms.Acknowledgement{Confirm: in.Body.Confirm, Case: in.Body.Case, Note: in.Body.Note,
		Owners: adminroute.CallerFromContext(ctx).Accounts}
	found, err := a.Alarms.Acknowledge(ctx, in.ID, accounts.ActorFromContext(ctx).ActorID, change)
	return readAfter(ctx, err, a.showAlarm, found)
}

func (a scanAPI) dismissAlarm(ctx context.Context, in *struct {
	ID   int64 `path:"id" minimum:"1"`
	Body client.DismissAlarmRequest
}) (client.Alarm, error) {
	ctx = acting(ctx, "")
	found, err := a.Alarms.Dismiss(ctx, in.ID, accounts.ActorFromContext(ctx).ActorID, in.Body.Note)
	return readAfter(ctx, err, a.showAlarm, found)
}

func (a scanAPI) getBatchAlarm(ctx context.Context, in *BatchPath) (client.BatchAlarm, error) {
	b, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID)
	if err != nil {
		return client.BatchAlarm{}, err
	}
	threshold, err := a.Alarms.Threshold(ctx, in.ID)
	if err != nil {
		return client.BatchAlarm{}, err
	}
	shown := client.BatchAlarm{ApplicationID: in.ID, Threshold: threshold.Score, Off: threshold.Score == alarms.NoAlarm,
		Overridden: threshold.HasOwnThreshold}
	chosen := shown
	if !chosen.Overridden { // the threshold is the server-wide default and was not set for this application
		chosen = client.BatchAlarm{ApplicationID: in.ID}
	}
	shown.HasRevision = revisionOf(chosen)
	if shown.ProposedThreshold, shown.ProposalCodes, err = a.Alarms.Propose(ctx, in.ID); err != nil {
		return client.BatchAlarm{}, err
	}
	standing, err := a.Alarms.Alarmed(ctx, in.ID, codes.Range{From: 0, To: b.Count - 1})
	shown.OpenAlarmCount = int64(len(standing))
	return shown, err
}

// ThresholdPath identifies the batch of a threshold. A threshold has its own revision, separate from the revision of its batch.
type ThresholdPath struct {
	ID int64 `path:"application_id" minimum:"1"`
}

func (a scanAPI) putBatchAlarm(ctx context.Context, in *struct {
	ThresholdPath
	Body client.BatchAlarmPut
}) (client.BatchAlarm, error) {
	if _, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID); err != nil {
		return client.BatchAlarm{}, err
	}
	var chosen *int64
	switch {
	case in.Body.Off && in.Body.Threshold != 0:
		return client.BatchAlarm{}, refused("threshold and off: choose one, or neither to use the setting alarm_threshold")
	case in.Body.Off:
		chosen = new(int64(alarms.NoAlarm))
	case in.Body.Threshold != 0:
		chosen = &in.Body.Threshold
	}
	return readAfter(ctx, a.Alarms.SetThreshold(ctx, in.ID, chosen), a.getBatchAlarm, &BatchPath{in.ID})
}

func (a scanAPI) replayAlarms(ctx context.Context, in *struct {
	BatchPath
	client.AlarmReplayQuery
}) (client.AlarmReplay, error) {
	if _, err := a.Codes.Memory.BatchOrLoad(ctx, in.ID); err != nil {
		return client.AlarmReplay{}, err
	}
	if in.Threshold == 0 {
		currentThreshold, err := a.Alarms.Threshold(ctx, in.ID)
		if err != nil {
			return client.AlarmReplay{}, err
		}
		if in.Threshold = currentThreshold.Score; in.Threshold == alarms.NoAlarm {
			return client.AlarmReplay{}, refused("threshold: application %d has no threshold now, because its alarms are off: give one, such as 100", in.ID)
		}
	}
	counted, err := a.Scans.Reached(ctx)
	if err != nil {
		return client.AlarmReplay{}, err
	}
	r, err := a.Alarms.Replay(ctx, counted, in.ID, in.Threshold)
	return client.AlarmReplay{ApplicationID: in.ID, Threshold: r.Threshold, From: r.From, To: r.To, Scanned: r.Scanned, Alarms: r.Alarms,
		Raised: r.Raised, Dismissed: r.Dismissed, StillDismissed: r.StillDismissed, Since: optional(r.Since),
		FirstAlarms: mapped(r.First, func(c alarms.Crossed) client.ReplayedAlarm {
			return client.ReplayedAlarm{CodeIndex: c.Index, OccurredAt: c.At, Score: c.Score}
		})}, err
}

// addAlarms adds, to each CodeRun, the indexes of the codes in its range that have an undismissed alarm; runs must be sorted by index.
func (a scanAPI) addAlarms(ctx context.Context, batch int64, runs []client.CodeRun) error {
	if len(runs) == 0 {
		return nil
	}
	alarmed, err := a.Alarms.Alarmed(ctx, batch, codes.Range{From: runs[0].From, To: runs[len(runs)-1].To})
	for i := range runs {
		n, _ := slices.BinarySearch(alarmed, runs[i].To+1)
		runs[i].OpenAlarms, alarmed = alarmed[:n:n], alarmed[n:]
	}
	return err
}
