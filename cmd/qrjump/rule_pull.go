package main

import (
	"fmt"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

type rulePull struct {
	member
	Target []string `placeholder:"APPID"`
}

// Run writes the account's rules to a file in the format of rule plan. Run uses only the wire API, so it works with the platform too.
func (c *rulePull) Run(s *session, wire *client.Client) error {
	all, err := everyRule(s, wire, "")
	if err != nil {
		return fault("rule.list_rules", err)
	}
	opens := map[string]string{}
	for _, target := range c.Target {
		list, err := everyRule(s, wire, target)
		if err != nil {
			return failed(tr("rule_plan.rules_that_open"), target, err)
		}
		for _, r := range list {
			opens[r.Prefix] = target
		}
	}
	file := ruleplan.File{Rules: []ruleplan.Written{}}
	for _, r := range all {
		target := opens[r.Prefix]
		if ruleplan.KindOf(r) == rules.KindService && target == "" {
			return hintError{error: fault("rule_pull.the_wire_does_not_say", r.Prefix), next: tr("rule_pull.name_the_account_s_mini")}
		}
		file.Rules = append(file.Rules, ruleplan.Write(r, target))
	}
	if c.isJSON() {
		return c.print(s, file, nil, nil)
	}
	text, err := file.Text()
	if err == nil {
		_, err = fmt.Fprint(s.out, tr("rule_pull.rules_what_a_server_has", ofAccount(c.AppID), text))
	}
	return err
}

// ofAccount returns the words "of account APPID" for a message; "" if the account is not known.
func ofAccount(appid string) string {
	if appid == "" {
		return ""
	}
	return tr("rule_pull.of_account", plain(appid))
}

// errMoving is the error of a list that changed during every attempt to read it.
var errMoving = constant("rule_pull.rules_were_added_or_deleted")

// everyRule lists all rules of the account, page by page, and starts over if the list changed in the meantime.
func everyRule(s *session, wire *client.Client, target string) ([]client.Rule, error) {
	const size = 200 // The maximum page size.
	for range 3 {
		var all []client.Rule
		seen := map[string]bool{}
		total, repeated := 0, false
		for page := 1; ; page++ {
			list, err := wire.Wire.ListRules(s.ctx, client.ListRequest{AppID: target, Page: page, PageSize: size})
			if err != nil {
				return nil, err
			}
			for _, r := range list.Rules {
				repeated = repeated || seen[r.Prefix]
				seen[r.Prefix] = true
			}
			all = append(all, list.Rules...)
			total = list.Total
			if len(list.Rules) < size {
				break
			}
		}
		if !repeated && (total == 0 || total == len(all)) { // The platform sometimes omits the total.
			return all, nil
		}
	}
	return nil, errMoving
}
