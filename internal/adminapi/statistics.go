package adminapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/internal/stats"
)

// statisticsProblem is problem for questions.
func (a *Admin) statisticsProblem(ctx context.Context, err error) error {
	if bad, ok := errors.AsType[stats.BadQuestion](err); ok {
		return huma.Error422UnprocessableEntity(string(bad))
	}
	return a.problem(ctx, err)
}

// StatisticsFilter keeps only scans with these values. Exported because huma
// sees no embedded field that is not.
type StatisticsFilter struct {
	Activity string `query:"activity" doc:"only scans of this activity; - is those that have none, here and below"`
	Brand    string `query:"brand"`
	Product  string `query:"product" doc:"a product code"`
	Batch    string `query:"batch" doc:"an application_id"`
	Rule     string `query:"rule" doc:"a rule's number"`
	App      string `query:"app" doc:"the AppID that opened"`
	Source   string `query:"source"`
	Result   string `query:"result" doc:"such as open_mini_program/code or show_message/frozen"`
	Region   string `query:"region" doc:"such as CN-SH"`
}

func (f StatisticsFilter) dims() map[stats.Dim]string {
	all := map[stats.Dim]string{}
	for d, value := range map[stats.Dim]string{stats.Activity: f.Activity, stats.Brand: f.Brand, stats.Product: f.Product, stats.Batch: f.Batch, stats.Rule: f.Rule,
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

type statisticsRow struct {
	At    *time.Time `json:"at,omitempty" doc:"when the hour or day begins"`
	Value string     `json:"value" doc:"of the group; empty where the scans have none"`
	Scans *int64     `json:"scans,omitempty"`
	First *int64     `json:"first,omitempty" doc:"scans that were the first of their code"`
	Users *int64     `json:"users,omitempty" doc:"different ones, within 1 %"`
}

type statisticsAnswer struct {
	From    time.Time       `json:"from"`
	To      time.Time       `json:"to"`
	Rows    []statisticsRow `json:"rows"`
	More    bool            `json:"more" doc:"there are further rows: ask with offset"`
	Counted countedUpTo     `json:"counted" doc:"up to which scan everything is counted"`
}

type countedUpTo struct {
	ScanID string     `json:"scan_id,omitempty"`
	At     *time.Time `json:"at,omitempty"`
	Scans  int64      `json:"scans"`
}

func (a *Admin) registerStatistics(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/statistics", "askStatistics", "How often was scanned, by time and by what the scans have in common"), func(ctx context.Context, in *struct {
		StatisticsFilter
		From   string `query:"from" maxLength:"40" doc:"RFC 3339, or a day; left out: 30 days before to"`
		To     string `query:"to" maxLength:"40" doc:"RFC 3339, or a day, which belongs to it; left out: now"`
		By     string `query:"by" enum:"hour,day" doc:"a row for each; left out: one for the whole time"`
		Group  string `query:"group" enum:"activity,brand,product,batch,rule,app,source,result,region"`
		Count  string `query:"count" enum:"scans,first,users" default:"scans"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		Offset int    `query:"offset" minimum:"0" maximum:"100000"`
		Wait   bool   `query:"wait" doc:"first count everything that was scanned before this call"`
	}) (*answer[statisticsAnswer], error) {
		from, to, err := a.period(in.From, in.To, 30)
		if err != nil {
			return nil, err
		}
		if in.Wait {
			if err := a.Scans.CatchUpAll(ctx); err != nil {
				return nil, a.problem(ctx, err)
			}
		}
		q := stats.Question{From: from, To: to, By: stats.By(in.By), Filter: in.dims(), What: stats.What(in.Count), Limit: in.Limit, Offset: in.Offset}
		if in.Group != "" {
			q.Group, _ = stats.ParseDim(in.Group)
		}
		found, err := a.Scans.Ask(ctx, q)
		if err != nil {
			return nil, a.statisticsProblem(ctx, err)
		}
		return &answer[statisticsAnswer]{showAnswers(q, found)}, nil
	})

	type missed struct {
		Place string `json:"place" doc:"host and first path segment; * is all that a day had no room for"`
		Scans int64  `json:"scans"`
	}
	type missedList struct {
		Places []missed `json:"places"`
	}
	huma.Register(api, operation(http.MethodGet, "/statistics/misses", "listMisses", "What was scanned and found nothing, the most scanned first"), func(ctx context.Context, in *struct {
		From  string `query:"from" maxLength:"40"`
		To    string `query:"to" maxLength:"40"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		Wait  bool   `query:"wait"`
	}) (*answer[missedList], error) {
		from, to, err := a.period(in.From, in.To, 30)
		if err != nil {
			return nil, err
		}
		if in.Wait {
			if err := a.Scans.CatchUpAll(ctx); err != nil {
				return nil, a.problem(ctx, err)
			}
		}
		list, err := a.Scans.Misses(ctx, from, to, in.Limit)
		if err != nil {
			return nil, a.statisticsProblem(ctx, err)
		}
		shown := missedList{Places: []missed{}}
		for _, m := range list {
			shown.Places = append(shown.Places, missed{m.Place, m.Scans})
		}
		return &answer[missedList]{shown}, nil
	})

	type difference struct {
		What      string `json:"what"`
		Counted   int64  `json:"counted"`
		Recounted int64  `json:"recounted"`
	}
	type recounted struct {
		Scans       int64        `json:"scans" doc:"in the ledger"`
		Duplicates  int64        `json:"duplicates" doc:"events that stand in it a second time and do not count"`
		Lacking     int64        `json:"lacking" doc:"scans that are counted and gone from the ledger although nothing removed them, as with a file of it that is lost; if there are any, they are one difference"`
		Compared    int64        `json:"compared" doc:"how many numbers were compared"`
		Differences int64        `json:"differences"`
		Shown       []difference `json:"shown" doc:"at most 100 of them"`
		Since       *time.Time   `json:"since,omitempty" doc:"only days from then on were compared, because older scans are gone from the ledger"`
	}
	op := operation(http.MethodPost, "/statistics/recount", "recountStatistics", "Count the whole ledger again and say where that differs from what is counted")
	op.Middlewares = huma.Middlewares{patient}
	var running sync.Mutex
	huma.Register(api, op, func(ctx context.Context, _ *struct{}) (*answer[recounted], error) {
		if !running.TryLock() {
			return nil, huma.Error409Conflict("another recount is running: wait for its end")
		}
		defer running.Unlock()
		r, err := a.Scans.Recount(ctx)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := recounted{Scans: r.Scans, Duplicates: r.Duplicates, Lacking: r.Lacking, Compared: r.Compared, Differences: r.Differences, Shown: []difference{}}
		for _, d := range r.Shown {
			shown.Shown = append(shown.Shown, difference(d))
		}
		if !r.Since.IsZero() {
			shown.Since = &r.Since
		}
		return &answer[recounted]{shown}, nil
	})
}

// patient lets an answer take as long as the ledger is long.
func patient(hctx huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(hctx)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	next(hctx)
}

func showAnswers(q stats.Question, found stats.Answers) statisticsAnswer {
	zone := time.FixedZone("", int(found.Offset)*3600)
	shown := statisticsAnswer{From: found.From.In(zone), To: found.To.In(zone), Rows: make([]statisticsRow, 0, len(found.Rows)), More: found.More,
		Counted: countedUpTo{ScanID: found.Scan, Scans: found.Scans}}
	if !found.ScanAt.IsZero() {
		shown.Counted.At = &found.ScanAt
	}
	for _, r := range found.Rows {
		row := statisticsRow{Value: r.Value}
		if q.By != stats.AllTime {
			per := stats.PerHour
			if q.By == stats.ByDay {
				per = stats.PerDay
			}
			at := per.Start(r.At, found.Offset).In(zone)
			row.At = &at
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
