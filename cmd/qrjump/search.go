package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

type searchCommand struct {
	operator
	Text    string `arg:""`
	Account string `placeholder:"APPID"`
}

// Run searches for objects that a text identifies completely or in part.
func (c *searchCommand) Run(s *session, qrjump *client.Client) error {
	found, err := qrjump.Search(s.ctx, client.SearchQuery{Text: c.Text, Account: c.Account})
	if err != nil {
		return failed("find", c.Text, err)
	}
	rest := ""
	if len(found.Partial) > 0 {
		rest = tr("find.there_may_be_more_of") + strings.Join(found.Partial, ", ") + tr("find.enter_more_text")
	}
	empty := tr("find.none")
	if rest != "" {
		empty += tr("find.incomplete") + strings.Join(found.Partial, ", ")
	}
	return listing[client.SearchHit]{name: "hits", none: empty, more: rest, heads: []string{"KIND", "WHAT", "NAME", "ACCOUNT"},
		row: func(h client.SearchHit) []string {
			return []string{h.Kind, plain(h.Key), orDash(plain(h.Name)), orDash(h.Account)}
		}}.print(s, c.outputFlags, found.Hits, nil)
}
