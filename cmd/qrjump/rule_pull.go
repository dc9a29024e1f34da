package main

import (
	"errors"
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
	all, err := allRules(s, wire, "")
	if err != nil {
		return fault("rule.list_rules", err)
	}
	opens := map[string]string{}
	for _, target := range c.Target {
		list, err := allRules(s, wire, target)
		if err != nil {
			return failed(tr("rule_plan.rules_that_open"), target, err)
		}
		for _, r := range list.Rules {
			opens[r.Prefix] = target
		}
	}
	file := ruleplan.File{Rules: []ruleplan.Written{}}
	for _, r := range all.Rules {
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

// allRules lists all rules of the account; for a service account, target is the Mini Program that the rules open.
func allRules(s *session, wire *client.Client, target string) (client.RuleList, error) {
	list, err := wire.Wire.ListAllRules(s.ctx, target)
	if errors.Is(err, client.ErrRulesChanged) {
		err = errMoving
	}
	return list, err
}
