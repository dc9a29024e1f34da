package adminapi

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// StatisticsFilter contains the query parameters that restrict statistics to scans with given values of dimensions.
type StatisticsFilter struct {
	Activity string `query:"activity" doc:"only scans of this activity; - = scans without one, also in the filters below"`
	Brand    string `query:"brand"`
	Product  string `query:"product" doc:"product code"`
	Batch    string `query:"batch" doc:"application_id"`
	Rule     string `query:"rule" doc:"ID of a rule or GS1 key"`
	App      string `query:"app" doc:"AppID that was opened"`
	Source   string `query:"source"`
	Result   string `query:"result" doc:"result such as open_mini_program/code or show_message/frozen"`
	Region   string `query:"region" doc:"region such as CN-SH"`
}

func (f StatisticsFilter) dims() map[stats.Dimension]string {
	all := map[stats.Dimension]string{}
	for d, value := range map[stats.Dimension]string{stats.Activity: f.Activity, stats.Brand: f.Brand, stats.Product: f.Product,
		stats.Batch: f.Batch, stats.Rule: f.Rule,
		stats.App: f.App, stats.Source: f.Source, stats.Result: f.Result, stats.Region: f.Region} {
		switch value {
		case "":
		case "-":
			all[d] = ""
		default:
			all[d] = value
		}
	}
	return all
}

// statisticsRow is like client.StatisticsRow, but distinguishes an absent number from 0.
type statisticsRow struct {
	StartsAt   *time.Time `json:"starts_at,omitempty" doc:"start of the hour, day, week or month"`
	Value      string     `json:"value" doc:"value of the group; empty for scans without one"`
	Scans      *int64     `json:"scans,omitempty"`
	FirstScans *int64     `json:"first_scans,omitempty" doc:"scans that were the first of their code"`
	Users      *int64     `json:"users,omitempty" doc:"distinct users, with an error of about 1 %"`
}

type statisticsResponse struct {
	From    time.Time             `json:"from" doc:"start of the period, extended to whole hours, days, weeks or months"`
	To      time.Time             `json:"to"`
	Now     time.Time             `json:"now" doc:"server's time in the time zone of its days"`
	Rows    []statisticsRow       `json:"rows"`
	More    bool                  `json:"more" doc:"whether there are more rows; continue with offset"`
	Counted countedUpTo           `json:"counted" doc:"last scan up to which every scan is counted"`
	Marks   []client.ScanPosition `json:"marks,omitempty" doc:"events in the period, the newest 100 of each kind"`
	Since   *time.Time            `json:"marks_since,omitempty" doc:"time from which marks are complete; omitted if complete for the whole period"`
}

type countedUpTo struct {
	ScanID     string     `json:"scan_id,omitempty" doc:"omitted for a caller who is restricted to some accounts"`
	OccurredAt *time.Time `json:"occurred_at,omitempty"`
	Scans      *int64     `json:"scans,omitempty" doc:"omitted for a caller who is restricted to some accounts"`
}

// Period contains the query parameters for a period of time.
type Period struct {
	From string `query:"from" maxLength:"40" doc:"RFC 3339 time or date, or today or yesterday; default: 30 days before to"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339 time or date, which includes the whole day, or today or yesterday; default: now"`
	Wait bool   `query:"wait" doc:"if true, waits until every scan before the request is counted"`
}

// counted parses the period of a request. If p.Wait is set, counted blocks until all scans so far are counted.
func (a scanAPI) counted(ctx context.Context, p Period) (from, to time.Time, err error) {
	from, to, err = a.period(p.From, p.To, 30)
	if err == nil && p.Wait {
		err = a.Scans.CatchUpAll(ctx)
	}
	return from, to, err
}

// StatisticsQuestion contains the query parameters of a statistics request.
type StatisticsQuestion struct {
	StatisticsFilter
	OwnedBy
	Period
	By    string `query:"by" enum:"hour,day,week,month" doc:"interval of the rows; weeks start on Monday; default: one row for the whole period"`
	Group string `query:"group" enum:"activity,brand,product,batch,rule,app,source,result,region,owner"`
	Count string `query:"count" enum:"scans,first,users" default:"scans"`
}

// question converts the query parameters to a stats.Question. If in.Wait is set, question blocks until all scans so far are counted.
func (a scanAPI) question(ctx context.Context, in *StatisticsQuestion) (stats.Question, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return stats.Question{}, err
	}
	from, to, err := a.counted(ctx, in.Period)
	q := stats.Question{From: from, To: to, Interval: stats.Interval(in.By), Filter: in.dims(), Owners: accountIDs,
		Metric: stats.Metric(in.Count)}
	if in.Group != "" {
		q.Group, _ = stats.ParseDim(in.Group)
	}
	return q, err
}

func (a scanAPI) getStatistics(ctx context.Context, in *struct {
	StatisticsQuestion
	Offset int  `query:"offset" minimum:"0" maximum:"100000"`
	Marks  bool `query:"marks" doc:"if true, includes publishes of rules, freezes of codes and alarms; limited by rule and batch"`
	Page
}) (statisticsResponse, error) {
	q, err := a.question(ctx, &in.StatisticsQuestion)
	if err != nil {
		return statisticsResponse{}, err
	}
	q.Limit, q.Offset = in.Limit, in.Offset
	found, err := a.Scans.Execute(ctx, q)
	if err != nil {
		return statisticsResponse{}, err
	}
	shown := showAnswers(q, found)
	if adminroute.CallerFromContext(ctx).Scoped() {
		shown.Counted = countedUpTo{OccurredAt: shown.Counted.OccurredAt}
	}
	shown.Now = a.Scans.Now().In(shown.To.Location())
	if in.Marks {
		var since time.Time
		shown.Marks, since, err = a.marks(ctx, q, found.From, found.To)
		shown.Since = optional(since)
	}
	return shown, err
}

// UnmatchedFilter contains the query parameters that select misses, which are scans that matched nothing.
type UnmatchedFilter struct {
	OwnedBy
	Period
	Below string `query:"below" maxLength:"4096" doc:"prefix of a rule: only places, by host and first path segment, of links below it"`
}

func (a scanAPI) listUnmatched(ctx context.Context, in *struct {
	UnmatchedFilter
	Page
}) (client.UnmatchedList, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return client.UnmatchedList{}, err
	}
	from, to, err := a.counted(ctx, in.Period)
	if err != nil {
		return client.UnmatchedList{}, err
	}
	list, err := a.Scans.UnmatchedRows(ctx, accountIDs, in.Below, from, to)
	answer := client.UnmatchedList{Locations: []client.UnmatchedPrefix{}}
	for i, m := range list {
		if answer.Scans += m.Scans; i < in.Limit {
			answer.Locations = append(answer.Locations, client.UnmatchedPrefix{Location: m.Value, Scans: m.Scans})
		}
	}
	return answer, err
}

func (a scanAPI) recountStatistics(ctx context.Context, _ *client.Empty) (client.Recount, error) {
	r, err := verify.Recounter{Counter: a.Scans, Scratch: a.Spool}.Run(ctx)
	return client.Recount{Scans: r.Scans, Missing: r.Missing, Compared: r.Compared, DifferenceCount: r.Differences,
		Differences: mapped(r.Shown, func(d verify.Difference) client.Difference {
			return client.Difference{Name: d.Subject, Counted: d.Counted, Recounted: d.Recounted}
		}), Since: optional(r.Since)}, err
}

func showAnswers(q stats.Question, found stats.QueryResult) statisticsResponse {
	zone := time.FixedZone("", int(found.Offset)*3600)
	shown := statisticsResponse{From: found.From.In(zone), To: found.To.In(zone), Rows: make([]statisticsRow, 0, len(found.Rows)),
		More: found.More, Counted: countedUpTo{ScanID: found.Scan, OccurredAt: optional(found.ScanAt), Scans: &found.Scans}}
	for _, r := range found.Rows {
		row := statisticsRow{Value: r.Value}
		if q.Interval != stats.AllTime {
			t := q.Interval.Start(r.Bucket, found.Offset).In(zone)
			row.StartsAt = &t
		}
		if q.Metric == stats.Users {
			row.Users = &r.Users
		} else {
			row.Scans, row.FirstScans = &r.Scans, &r.FirstScans
		}
		shown.Rows = append(shown.Rows, row)
	}
	return shown
}
