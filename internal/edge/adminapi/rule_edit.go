package adminapi

import (
	"cmp"
	"context"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// The operations in this file edit the rules of an account for an operator. The checks, the quota and the verification file are the same as
// for calls of the wire API.

type RuleInput struct {
	AppIDPath
	Body client.RuleInput
}

// RuleEdit is a RuleInput whose If-Match precondition concerns the rule instead of its account.
type RuleEdit struct{ RuleInput }

// draft converts the request body to a rules.Draft.
func (in *RuleInput) draft() rules.Draft {
	d := rules.Draft{Prefix: in.Body.Prefix, Path: in.Body.Path, AppID: in.Body.AppID, Occupy: in.Body.Occupy,
		OpenVersion: cmp.Or(in.Body.OpenVersion, rules.OpenRelease), KeepLinks: in.Body.TestLinks == nil}
	if in.Body.TestLinks != nil {
		d.TestLinks = *in.Body.TestLinks
	}
	return d
}

// ownRule calls the function do with the account that owns a rule, and then returns the rule.
func (a ruleAPI) ownRule(ctx context.Context, appid, prefix string, do func(accounts.Account) error) (client.StoredRule, error) {
	owner, err := a.Accounts.Get(ctx, appid)
	if err == nil {
		err = do(owner)
	}
	if err != nil {
		return client.StoredRule{}, err
	}
	rule, err := a.Rules.RuleOf(ctx, owner, prefix)
	return showRule(rule), err
}

func (a ruleAPI) addRule(ctx context.Context, in *RuleInput) (client.StoredRule, error) {
	return a.ownRule(ctx, in.AppID, in.Body.Prefix, func(owner accounts.Account) error { return a.Rules.Add(ctx, owner, in.draft()) })
}

func (a ruleAPI) editRule(ctx context.Context, in *RuleEdit) (client.StoredRule, error) {
	return a.ownRule(ctx, in.AppID, in.Body.Prefix, func(owner accounts.Account) error { return a.Rules.Edit(ctx, owner, in.draft()) })
}

type PublishInput struct {
	AppIDPath
	Body client.PublishRuleRequest
}

func (a ruleAPI) publishRule(ctx context.Context, in *PublishInput) (client.StoredRule, error) {
	return a.ownRule(ctx, in.AppID, in.Body.Prefix, func(owner accounts.Account) error {
		if _, err := a.Rules.RuleOf(ctx, owner, in.Body.Prefix); err != nil {
			return err
		}
		return a.Rules.Publish(ctx, owner, in.Body.Prefix)
	})
}

type RulePath struct {
	AppIDPath
	client.PrefixQuery
}

func (a ruleAPI) deleteRule(ctx context.Context, in *RulePath) (client.StoredRule, error) {
	owner, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.StoredRule{}, err
	}
	rule, err := a.Rules.RuleOf(ctx, owner, in.Prefix)
	if err != nil {
		return client.StoredRule{}, err
	}
	return showRule(rule), a.Rules.Delete(ctx, owner, in.Prefix, rule.Target)
}

// checkRule returns the result that adding the rule would have, and the address at which the verification file must be served. If fetch is
// set, checkRule also downloads the verification file.
func (a ruleAPI) checkRule(ctx context.Context, in *struct {
	AppID string `path:"appid" maxLength:"128"` // not an embedded AppIDPath: a check changes nothing, so it has no If-Match
	Body  client.CheckRuleRequest
}) (client.RuleCheck, error) {
	owner, err := a.Accounts.Get(ctx, in.AppID)
	if err != nil {
		return client.RuleCheck{}, err
	}
	draft := (&RuleInput{Body: in.Body.RuleInput}).draft()
	tried, err := a.Rules.DryRun(ctx, owner, draft)
	shown := client.RuleCheck{File: tried.File, Trusted: tried.Vouched, VerificationFile: client.VerificationFile(owner.Confirm),
		Steps: []client.FileStep{}}
	if err != nil {
		code, detail := errcode.FromError(err)
		if code == errcode.SystemError {
			return client.RuleCheck{}, err
		}
		shown.ErrCode, shown.Detail = code.Number, cmp.Or(detail, code.Meaning().String())
	}
	if !in.Body.Fetch || tried.File == "" {
		return shown, nil
	}
	steps, err := a.LookAtFile(ctx, tried.File, owner.Confirm.Content)
	if err != nil {
		return client.RuleCheck{}, err
	}
	for _, s := range steps {
		shown.InPlace = s.OK
		shown.Steps = append(shown.Steps, client.FileStep{Action: s.Action.String(), OK: s.OK, Warning: s.Warning,
			Detail: s.Detail.String(), Hint: s.Hint.String(), Remedy: s.Remedy})
	}
	return shown, nil
}
