package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// addRuleRequest is a parsed request to add or edit a rule, before validation.
type addRuleRequest struct {
	draft  rules.Draft
	isEdit bool
}

// readAddRule parses the request and checks the required fields for the kind of account. Contract: rules §1.1.
func readAddRule(f *fields, kind accounts.Kind) (addRuleRequest, error) {
	var req addRuleRequest
	req.draft.Prefix, req.draft.Path, req.draft.AppID = f.text("prefix"), f.text("path"), f.targetAppID(kind)
	isEdit, given := f.number("is_edit")
	if f.err == nil && (!given || isEdit != 0 && isEdit != 1) {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.RulesEditFlag, "is_edit: want 0 to add or 1 to edit")
	}
	req.isEdit = isEdit == 1
	if kind != accounts.ServiceAccount {
		permit, _ := f.number("permit_sub_rule")
		if f.err == nil && permit != 1 && permit != 2 {
			f.err = errcode.InvalidArgs.WithDetail(behaviour.RulesOccupyFlag, "permit_sub_rule is %d: want 1, or 2 to occupy the links below",
				permit)
		}
		req.draft.Occupy = permit == 2
		req.draft.OpenVersion, _ = f.number("open_version")
		links, given := f.texts("debug_url")
		req.draft.TestLinks, req.draft.KeepLinks = links, !given && !f.settings.Refuses(behaviour.RulesEditKeeps)
	}
	if f.err == nil && req.draft.Prefix == "" {
		f.err = errcode.InvalidArgs.WithDetail(behaviour.RulesPrefixMissing, "prefix is missing")
	}
	return req, f.err
}

// addRule adds or edits a rule. Contract: rules §1.1, §1.2.
func (a *API) addRule(ctx context.Context, c *call, f *fields) (any, error) {
	req, err := readAddRule(f, c.caller.Kind)
	if err != nil {
		return nil, err
	}
	if req.isEdit {
		if len(req.draft.TestLinks) == 0 && !req.draft.KeepLinks && !a.Settings.Refuses(behaviour.RulesEditKeepsEmpty) {
			req.draft.KeepLinks, req.draft.EmptyLinks = true, true
		}
		return success, a.Rules.Edit(ctx, c.caller, req.draft)
	}
	return success, a.Rules.Add(ctx, c.caller, req.draft)
}
