package client

import (
	"context"
	"net/url"
)

// OwnRule is a rule that an operator sets for an account.
type OwnRule struct {
	Prefix string `json:"prefix"`
	Path   string `json:"path" doc:"page, for example pages/index/index"`
	AppID  string `json:"appid,omitempty" doc:"of a service account's rule: the Mini Program to open"`
	Occupy bool   `json:"occupy,omitempty" doc:"nobody else may set a rule below"`
	// An OpenVersion of 0 means OpenRelease.
	OpenVersion int `json:"open_version,omitempty" minimum:"0" maximum:"3" doc:"what test links open: 1 development, 2 trial, 3 release; 0 or left out: 3"`
	// A nil TestLinks leaves the test links unchanged in an edit.
	TestLinks *[]string `json:"test_links,omitempty" doc:"at most five; left out of an edit: they stay"`
}

// FileStep is one step of fetching a verification file.
type FileStep struct {
	Action string `json:"action" doc:"address, DNS, public, connect, TLS, redirect, status, type, size, content or time"`
	OK     bool   `json:"ok"`
	Warns  bool   `json:"warns" doc:"it works here, and may not on the platform"`
	Detail string `json:"detail"`
	Next   string `json:"next" doc:"what to do about it"`
	Cure   string `json:"cure,omitempty" doc:"a word for what next says, the same in every language"`
}

// RuleCheck is the expected result of adding a rule.
type RuleCheck struct {
	ErrCode     int         `json:"errcode" doc:"0: nothing but the file could be in the way"`
	Detail      string      `json:"detail" doc:"what exactly is wrong"`
	File        string      `json:"file" doc:"where the verification file must be; empty: none is asked for, or the prefix is no prefix"`
	ConfirmFile ConfirmFile `json:"confirm_file"`
	Trusted     bool        `json:"trusted" doc:"the operator vouches for the host: an add does not look for the file"`
	InPlace     bool        `json:"in_place" doc:"the file was looked for, and is as it must be"`
	Steps       []FileStep  `json:"steps" doc:"none where the file was not looked for"`
}

func ownRules(appid string) string { return "accounts/" + url.PathEscape(appid) + "/rules" }

// Create adds an unpublished rule for an account, with the same checks as Wire.CreateRule, but without a token of the account. The
// *Problem with status 422 for an invalid rule describes the error.
func (c RulesService) Create(ctx context.Context, appid string, r OwnRule) (StoredRule, error) {
	return post[StoredRule](ctx, c.patient(), ownRules(appid), r)
}

// Update changes a rule of an account; see Wire.UpdateRule.
func (c RulesService) Update(ctx context.Context, appid string, r OwnRule) (StoredRule, error) {
	return put[StoredRule](ctx, c.transport, ownRules(appid), r)
}

// Publish publishes a rule of an account, which uses one of the account's publishes of this month; see PublishRule.
func (c RulesService) Publish(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return post[StoredRule](ctx, c.transport, ownRules(appid)+"/publish", map[string]string{"prefix": prefix})
}

// Delete deletes a rule of an account and returns the deleted rule.
func (c RulesService) Delete(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return remove[StoredRule](ctx, c.transport, withQuery(ownRules(appid), params{"prefix": prefix}))
}

// Check returns the expected result of Create and the required address of the verification file; with fetch, the server fetches the
// file. It changes nothing.
func (c RulesService) Check(ctx context.Context, appid string, r OwnRule, fetch bool) (RuleCheck, error) {
	return post[RuleCheck](ctx, c.patient(), ownRules(appid)+"/check", struct {
		OwnRule
		Fetch bool `json:"fetch,omitempty"`
	}{r, fetch})
}
