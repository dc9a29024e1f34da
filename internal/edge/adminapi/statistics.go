package adminapi

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/domain/stats/verify"
)

// StatisticsFilter holds the query parameters that restrict statistics to scans with given values of dimensions.
type StatisticsFilter struct {
	Activity string `query:"activity" doc:"only scans of this activity; - is those that have none, here and below"`
	Brand    string `query:"brand"`
	Product  string `query:"product" doc:"a product code"`
	Batch    string `query:"batch" doc:"an application_id"`
	Rule     string `query:"rule" doc:"the number of a rule, or of a GS1 key"`
	App      string `query:"app" doc:"the AppID that opened"`
	Source   string `query:"source"`
	Result   string `query:"result" doc:"such as open_mini_program/code or show_message/frozen"`
	Region   string `query:"region" doc:"such as CN-SH"`
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

// statisticsRow differs from client.StatisticsRow in that an absent number can be told apart from 0.
type statisticsRow struct {
	At    *time.Time `json:"at,omitempty" doc:"when the hour, day, week or month begins"`
	Value string     `json:"value" doc:"of the group; empty where the scans have none"`
	Scans *int64     `json:"scans,omitempty"`
	First *int64     `json:"first,omitempty" doc:"scans that were the first of their code"`
	Users *int64     `json:"users,omitempty" doc:"different ones, within 1 %"`
}

type statisticsAnswer struct {
	From    time.Time       `json:"from" doc:"what was asked for, widened to whole hours, days, weeks or months"`
	To      time.Time       `json:"to"`
	Now     time.Time       `json:"now" doc:"the server's time, in the zone of its days"`
	Rows    []statisticsRow `json:"rows"`
	More    bool            `json:"more" doc:"there are further rows: ask with offset"`
	Counted countedUpTo     `json:"counted" doc:"up to which scan everything is counted"`
	Marks   []client.Mark   `json:"marks,omitempty" doc:"what happened in this time, the newest 300 of each kind at most"`
	Since   *time.Time      `json:"marks_since,omitempty" doc:"from when on there are all marks; left out: in the whole time"`
}

type countedUpTo struct {
	ScanID string     `json:"scan_id,omitempty"`
	At     *time.Time `json:"at,omitempty"`
	Scans  int64      `json:"scans"`
}

// Period holds the query parameters for a period of time.
type Period struct {
	From string `query:"from" maxLength:"40" doc:"RFC 3339, or a day; left out: 30 days before to"`
	To   string `query:"to" maxLength:"40" doc:"RFC 3339, or a day, which belongs to it; left out: now"`
	Wait bool   `query:"wait" doc:"first count everything that was scanned before this call"`
}

// counted parses the period of a request. With wait, counted blocks until all scans so far are counted.
func (a scanAPI) counted(ctx context.Context, p Period) (from, to time.Time, err error) {
	from, to, err = a.period(p.From, p.To, 30)
	if err == nil && p.Wait {
		err = a.Scans.CatchUpAll(ctx)
	}
	return from, to, err
}

// StatisticsQuestion holds the query parameters of a statistics request.
type StatisticsQuestion struct {
	StatisticsFilter
	OwnedBy
	Period
	By    string `query:"by" enum:"hour,day,week,month" doc:"a row for each; weeks begin on Monday; left out: one for the whole time"`
	Group string `query:"group" enum:"activity,brand,product,batch,rule,app,source,result,region,owner"`
	Count string `query:"count" enum:"scans,first,users" default:"scans"`
}

// question converts the query parameters to a stats.Question. With wait, question blocks until all scans so far are counted.
func (a scanAPI) question(ctx context.Context, in *StatisticsQuestion) (stats.Question, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return stats.Question{}, err
	}
	from, to, err := a.counted(ctx, in.Period)
	q := stats.Question{From: from, To: to, By: stats.Interval(in.By), Filter: in.dims(), Owners: accountIDs, What: stats.Metric(in.Count)}
	if in.Group != "" {
		q.Group, _ = stats.ParseDim(in.Group)
	}
	return q, err
}

func (a scanAPI) askStatistics(ctx context.Context, in *struct {
	StatisticsQuestion
	Offset int  `query:"offset" minimum:"0" maximum:"100000"`
	Marks  bool `query:"marks" doc:"also say when somebody published rules or froze codes, and when alarms were raised; with a rule or batch, of that one"`
	Page
}) (statisticsAnswer, error) {
	q, err := a.question(ctx, &in.StatisticsQuestion)
	if err != nil {
		return statisticsAnswer{}, err
	}
	q.Limit, q.Offset = in.Limit, in.Offset
	found, err := a.Scans.Ask(ctx, q)
	if err != nil {
		return statisticsAnswer{}, err
	}
	shown := showAnswers(q, found)
	shown.Now = a.Scans.Now().In(shown.To.Location())
	if in.Marks {
		var since time.Time
		shown.Marks, since, err = a.marks(ctx, q, found.From, found.To)
		shown.Since = optional(since)
	}
	return shown, err
}

// MissFilter holds the query parameters that select misses, which are scans that matched nothing.
type MissFilter struct {
	OwnedBy
	Period
	Below string `query:"below" maxLength:"4096" doc:"the prefix of a rule: only the places that links below it have, by its host and the first segment of its path"`
}

func (a scanAPI) listUnmatched(ctx context.Context, in *struct {
	MissFilter
	Page
}) (client.MissList, error) {
	accountIDs, err := owners(ctx, in.Owner)
	if err != nil {
		return client.MissList{}, err
	}
	from, to, err := a.counted(ctx, in.Period)
	if err != nil {
		return client.MissList{}, err
	}
	list, err := a.Scans.Misses(ctx, accountIDs, in.Below, from, to, in.Limit)
	return client.MissList{Places: mapped(list, func(m stats.MissRow) client.Miss { return client.Miss{Place: m.Place, Scans: m.Scans} })},
		err
}

func (a scanAPI) recountStatistics(ctx context.Context, _ *noInput) (client.Recount, error) {
	r, err := verify.Recounter{Counter: a.Scans, Scratch: a.Spool}.Run(ctx)
	return client.Recount{Scans: r.Scans, Missing: r.Lacking, Compared: r.Compared, Differences: r.Differences,
		Shown: mapped(r.Shown, func(d verify.Difference) client.Difference {
			return client.Difference{Name: d.What, Counted: d.Counted, Recounted: d.Recounted}
		}), Since: optional(r.Since)}, err
}

func showAnswers(q stats.Question, found stats.Answers) statisticsAnswer {
	zone := time.FixedZone("", int(found.Offset)*3600)
	shown := statisticsAnswer{From: found.From.In(zone), To: found.To.In(zone), Rows: make([]statisticsRow, 0, len(found.Rows)),
		More:    found.More,
		Counted: countedUpTo{ScanID: found.Scan, At: optional(found.ScanAt), Scans: found.Scans}}
	for _, r := range found.Rows {
		row := statisticsRow{Value: r.Value}
		if q.By != stats.AllTime {
			t := q.By.Start(r.At, found.Offset).In(zone)
			row.At = &t
		}
		if q.What == stats.Users {
			row.Users = &r.Users
		} else {
			row.Scans, row.First = &r.Scans, &r.Firsts
		}
		shown.Rows = append(shown.Rows, row)
	}
	return shown
}
