package client

import (
	"context"
)

// OwnRule is a rule that an operator sets for an account.
type OwnRule struct {
	Prefix string `json:"prefix"`
	Path   string `json:"path" doc:"page, for example pages/index/index"`
	AppID  string `json:"appid,omitempty" doc:"AppID of the Mini Program to open, for a service account's rule"`
	Occupy bool   `json:"occupy,omitempty" doc:"if true, other accounts cannot add rules below the prefix"`
	// An OpenVersion of 0 means OpenRelease.
	OpenVersion int `json:"open_version,omitempty" minimum:"0" maximum:"3" doc:"version that test links open: 1 development, 2 trial, 3 release; 0 or omitted = 3"`
	// A nil TestLinks leaves the test links unchanged in an edit.
	TestLinks *[]string `json:"test_links,omitempty" doc:"test links, at most five; an edit without them keeps the stored ones"`
}

// FileStep is one step of fetching a verification file.
type FileStep struct {
	Action  string `json:"action" doc:"address, DNS, public, connect, TLS, redirect, status, type, size, content or time"`
	OK      bool   `json:"ok"`
	Warning bool   `json:"warning" doc:"whether the check passes here and may fail on the platform"`
	Detail  string `json:"detail"`
	Hint    string `json:"hint" doc:"suggested correction"`
	Remedy  string `json:"remedy,omitempty" doc:"language-independent keyword for the suggestion in next"`
}

// RuleCheck is the expected result of adding a rule.
type RuleCheck struct {
	ErrCode     int         `json:"errcode" doc:"errcode that an add would return; 0 = only the verification file could fail"`
	Detail      string      `json:"detail" doc:"description of the error"`
	File        string      `json:"file" doc:"URL of the verification file; empty if no file is required or the prefix is invalid"`
	ConfirmFile ConfirmFile `json:"confirm_file"`
	Trusted     bool        `json:"trusted" doc:"whether the operator trusts the host, so that an add does not check the file"`
	InPlace     bool        `json:"in_place" doc:"whether the file was fetched and is correct"`
	Steps       []FileStep  `json:"steps" doc:"steps of the check; empty if the file was not fetched"`
}

// Create adds an unpublished rule for an account, with the same checks as Wire.CreateRule, but without a token of the account. If
// the rule is invalid, the result is a *Problem with status 422 that describes the error.
func (c RulesService) Create(ctx context.Context, appid string, r OwnRule) (StoredRule, error) {
	return post[StoredRule](ctx, c.patient(), accountPath(appid, "rules"), r)
}

// Update changes a rule of an account; see Wire.UpdateRule.
func (c RulesService) Update(ctx context.Context, appid string, r OwnRule) (StoredRule, error) {
	return put[StoredRule](ctx, c.transport, accountPath(appid, "rules"), r)
}

// Publish publishes a rule of an account and uses up one of the account's publishes of this month; see Wire.PublishRule.
func (c RulesService) Publish(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return post[StoredRule](ctx, c.transport, accountPath(appid, "rules", "publish"), map[string]string{"prefix": prefix})
}

// Delete deletes a rule of an account and returns the deleted rule.
func (c RulesService) Delete(ctx context.Context, appid, prefix string) (StoredRule, error) {
	return remove[StoredRule](ctx, c.transport, withQuery(accountPath(appid, "rules"), params{"prefix": prefix}))
}

// Check returns the expected result of Create and the required address of the verification file; if fetch is true, the server also
// fetches the file. It changes nothing.
func (c RulesService) Check(ctx context.Context, appid string, r OwnRule, fetch bool) (RuleCheck, error) {
	return post[RuleCheck](ctx, c.patient(), accountPath(appid, "rules", "check"), struct {
		OwnRule
		Fetch bool `json:"fetch,omitempty"`
	}{r, fetch})
}
