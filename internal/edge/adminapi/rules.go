package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

func showRule(r rules.Rule) client.StoredRule {
	shown := client.StoredRule{ID: r.ID, Kind: string(r.Kind), Owner: r.Owner, Target: r.Target, Prefix: r.Prefix.Text, Path: r.Path,
		Occupy: r.Occupy, OpenVersion: r.OpenVersion, TestLinks: words[string](r.TestLinks), Published: r.Published,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, PublishedAt: optional(r.PublishedAt)}
	shown.HasRevision = revisionOf(shown)
	return shown
}

func showRuleChange(c rules.Change) client.RuleChange {
	return client.RuleChange{Seq: c.Seq, OccurredAt: c.At, Actor: c.ActorID, RID: c.RID, Action: c.Action, Rule: showRule(c.Rule),
		Reason: c.Reason}
}

func (a ruleAPI) listRules(ctx context.Context, in *client.StoredRuleQuery) (shown client.StoredRuleList, err error) {
	accountIDs, err := accountsOf(ctx, in.Owner)
	if err != nil {
		return shown, err
	}
	var list []rules.Rule
	if in.Target != "" || in.Prefix != "" {
		list, err = a.exactRules(ctx, rules.Query{Owner: in.Owner, Target: in.Target, AfterID: in.After, Limit: in.Limit}, in.Prefix)
		list = slices.DeleteFunc(list, func(r rules.Rule) bool { return len(accountIDs) > 0 && !slices.Contains(accountIDs, r.Owner) })
	} else {
		s := rules.Search{Owners: accountIDs, Substring: in.Text, Newest: in.Newest || in.Before > 0, From: cmp.Or(in.Before, in.After),
			Limit: in.Limit}
		if in.State != "" {
			s.Published = new(in.State == "published")
		}
		if list, shown.Next, err = a.Rules.Walk(ctx, s); err == nil && !s.Filters() {
			total := a.RuleCount()
			if len(accountIDs) > 0 {
				total, err = a.Rules.Total(ctx, accountIDs)
			}
			shown.Total = &total
		}
	}
	shown.Rules = mapped(list, showRule)
	if err == nil && in.Scans {
		err = a.withScansOfRules(ctx, shown.Rules)
	}
	return shown, err
}

func (a ruleAPI) completeRules(ctx context.Context, in *client.RuleNamesQuery) (shown client.RuleNames, err error) {
	caller := adminroute.CallerFromContext(ctx)
	list, err := a.Rules.Named(ctx, in.IDs)
	shown.Rules = []client.RuleName{}
	for _, named := range list {
		if caller.CanAccess(named.Owner) {
			shown.Rules = append(shown.Rules, client.RuleName(named))
		}
	}
	return shown, err
}

// exactRules returns the rules that match a query; with a prefix, only the rule with exactly this prefix.
func (a ruleAPI) exactRules(ctx context.Context, q rules.Query, prefix string) ([]rules.Rule, error) {
	if prefix != "" {
		link, ok := rules.ParseLink(prefix)
		if !ok {
			return nil, fmt.Errorf("prefix %.120q: %w", prefix, rules.ErrNotLink)
		}
		q.Keys = []string{link.Key}
	}
	return a.Rules.Find(ctx, q)
}

func (a ruleAPI) withScansOfRules(ctx context.Context, list []client.StoredRule) error {
	recents, err := a.Scans.RecentOfRules(ctx, mapped(list, func(rule client.StoredRule) int64 { return rule.ID }))
	for i := range list {
		list[i].Scans = showRecent(recents[list[i].ID])
	}
	return err
}

func (a ruleAPI) getRuleHistory(ctx context.Context, in *struct {
	client.PrefixQuery
	Page
}) (client.RuleChanges, error) {
	list, err := a.Rules.History(ctx, in.Prefix, in.Limit)
	caller := adminroute.CallerFromContext(ctx)
	list = slices.DeleteFunc(list, func(c rules.Change) bool { return !caller.CanAccess(c.Rule.Owner) })
	return client.RuleChanges{Changes: mapped(list, showRuleChange)}, err
}

func (a ruleAPI) listRuleConflicts(ctx context.Context, in *client.PrefixQuery) (client.StoredRuleList, error) {
	list, err := a.Rules.Occupiers(ctx, in.Prefix)
	caller := adminroute.CallerFromContext(ctx)
	list = slices.DeleteFunc(list, func(r rules.Rule) bool { return !caller.CanAccess(r.Owner) })
	return client.StoredRuleList{Rules: mapped(list, showRule)}, err
}

func (a ruleAPI) forceDeleteRules(ctx context.Context, in *struct{ Body client.ForceDeleteRequest }) (client.ForceDeleteResult, error) {
	list, hasMore, err := a.Rules.Release(ctx, rules.ReleaseRequest(in.Body))
	return client.ForceDeleteResult{Deleted: mapped(list, showRule), More: hasMore}, err
}

func (a ruleAPI) listVerifications(ctx context.Context, in *client.VerificationQuery) (client.DomainVerificationList, error) {
	list, err := a.Rules.Confirmations(ctx, rules.VerificationQuery{RID: in.RID, Owner: in.Owner, Prefix: in.Prefix,
		Failed: in.OK == "false", Found: in.OK == "true", Limit: in.Limit})
	return client.DomainVerificationList{Verifications: mapped(list, func(c rules.Confirmation) client.DomainVerification {
		return client.DomainVerification{RID: c.RID, OccurredAt: c.At, Owner: c.Owner, Prefix: c.Prefix, URL: c.URL, OK: c.OK,
			Reason: c.Reason,
			Steps:  mapped(c.Steps, func(s rules.FetchStep) client.VerificationStep { return client.VerificationStep(s) })}
	})}, err
}

func (a ruleAPI) listReverifications(ctx context.Context, in *client.ReverificationQuery) (client.ReverificationList, error) {
	list, err := a.Rechecks.Store.List(ctx, rules.ReverificationQuery{Owner: in.Owner, Failing: in.Failing, AfterOwner: in.AfterOwner,
		AfterDirectory: in.AfterDirectory, Limit: in.Limit})
	return client.ReverificationList{Reverifications: mapped(list, func(r rules.Reverification) client.Reverification {
		return client.Reverification{Owner: r.Owner, Directory: r.Directory, Prefix: r.Prefix, CheckedAt: r.CheckedAt, OK: r.OK,
			Reason: r.Reason, Since: optional(r.FailingSince), NextAt: r.NextAt}
	})}, err
}

func (a ruleAPI) reverifyNow(ctx context.Context, _ *client.Empty) (done client.ReverificationRun, err error) {
	if done.Files, err = a.Rechecks.RunAll(ctx, 50); err == nil {
		done.Failing, err = a.Rechecks.Store.CountFailing(ctx)
	}
	return done, err
}

func (a ruleAPI) listDomains(ctx context.Context, in *client.DomainQuery) (client.DomainList, error) {
	list, err := a.Rules.Domains(ctx, in.After, in.Limit)
	return client.DomainList{Domains: mapped(list, func(d rules.Domain) client.Domain {
		return client.Domain{Host: d.Host, Status: string(d.Status), UpdatedAt: d.At}
	})}, err
}

// setDomain sets the status that the operator gives a host ("" = no status) and returns the list of hosts.
func (a ruleAPI) setDomain(ctx context.Context, host string, status rules.DomainStatus) (client.DomainList, error) {
	return readAfter(ctx, a.Rules.SetDomain(ctx, host, status), a.listDomains, &client.DomainQuery{})
}

type HostPath struct {
	Host string `path:"host" maxLength:"300"`
}

func (a ruleAPI) putDomain(ctx context.Context, in *struct {
	HostPath
	Body client.DomainPut
}) (client.DomainList, error) {
	return a.setDomain(ctx, in.Host, rules.DomainStatus(in.Body.Status))
}

func (a ruleAPI) deleteDomain(ctx context.Context, in *HostPath) (client.DomainList, error) {
	return a.setDomain(ctx, in.Host, "")
}
