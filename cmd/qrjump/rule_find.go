package main

import (
	"strings"

	"github.com/qrjump/qrjump/client"
)

type ruleFind struct {
	operator
	Owner  string `placeholder:"APPID"`
	Target string `placeholder:"APPID"`
	After  int64  `placeholder:"ID"`
	Limit  int    `default:"100" placeholder:"N"`
}

// Run lists rules of all accounts, oldest first.
func (c *ruleFind) Run(s *session) error {
	if c.Limit < 0 {
		return misused("rule_find.limit_want_a_number_from", c.Limit)
	}
	qrjump, err := c.client()
	if err != nil {
		return err
	}
	const page = 1000
	all := []client.StoredRule{}
	after, more := c.After, true
	for more {
		limit := page
		if c.Limit > 0 {
			limit = min(page, c.Limit-len(all))
		}
		list, err := qrjump.Rules.List(s.ctx, client.StoredRuleQuery{Owner: c.Owner, Target: c.Target, After: after, Limit: limit})
		if err != nil {
			return fault("rule_find.find_rules", err)
		}
		all = append(all, list...)
		if len(list) > 0 {
			after = list[len(list)-1].ID
		}
		if more = len(list) == limit; more && len(all) == c.Limit {
			break
		}
	}
	for _, appid := range []string{c.Owner, c.Target} {
		if err := emptyFor(s, qrjump, said("rule_find.find_rules_of"), appid, len(all)); err != nil {
			return err
		}
	}
	below := ""
	if more {
		below = said("rule_find.there_may_be_more_after", after)
	}
	return listing[client.StoredRule]{name: "rules", none: said("rule_find.no_rule_is_like_that"),
		heads: []string{"ID", "OWNER", "PREFIX", "STATE", "OPENS", "PAGE", "TEST LINKS"},
		more:  below,
		row: func(r client.StoredRule) []string {
			return []string{number(r.ID), r.Owner, r.Prefix, state(r.Published), orElse(r.Target, r.Owner), r.Path,
				orDash(strings.Join(r.TestLinks, " "))}
		}}.print(s, c.outputFlags, all, nil)
}
