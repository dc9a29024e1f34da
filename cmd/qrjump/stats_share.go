package main

import (
	"github.com/qrjump/qrjump/client"
)

type statsShare struct {
	operator
	Question string `arg:""`
	Title    string `placeholder:"TEXT"`
	Days     int    `default:"7" placeholder:"N"`
}

// Run makes a link to a chart.
func (c *statsShare) Run(s *session, qrjump *client.Client) error {
	one, err := qrjump.Charts.Create(s.ctx, client.NewSharedChart{Question: c.Question, Title: c.Title, Days: c.Days})
	if err != nil {
		return failed(said("stats_share.share"), c.Question, err)
	}
	return c.outcome(s, one, nil, "stats_share.made", one.URL, when(one.EndsAt), one.ID)
}

type statsShared struct {
	operator
	End string `placeholder:"ID"`
	ending
}

// Run lists the charts that are shared, or ends one.
func (c *statsShared) Run(s *session, qrjump *client.Client) error {
	if c.End != "" {
		if err := c.confirmed(s, said("stats_share.ends", plain(c.End))); err != nil {
			return err
		}
		one, err := qrjump.Charts.Revoke(s.ctx, c.End)
		if err != nil {
			return failed(said("stats_share.end"), c.End, err)
		}
		return c.outcome(s, one, nil, "stats_share.ended", one.ID)
	}
	list, err := qrjump.Charts.List(s.ctx)
	return listing[client.SharedChart]{name: "charts", none: said("stats_share.none"), newestFirst: true,
		heads: []string{"ID", "TITLE", "QUESTION", "SHARED BY", "ENDS"},
		row: func(one client.SharedChart) []string {
			return []string{one.ID, orDash(one.Title), orDash(one.Question), one.SharedBy, when(one.EndsAt)}
		}}.print(s, c.outputFlags, list, err)
}
