package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// accountsFlags holds the credentials that a command uses for the accounts of a folder, in addition to those of one account.
type accountsFlags struct {
	adminFlags
	Component string `placeholder:"APPID"`
}

// ruleCaller lists and changes the rules of one account.
type ruleCaller interface {
	ListAllRules(ctx context.Context, target string) (client.RuleList, error)
	CreateRule(ctx context.Context, d client.RuleDraft) error
	UpdateRule(ctx context.Context, d client.RuleDraft) error
	PublishRule(ctx context.Context, prefix string) error
	DeleteRule(ctx context.Context, prefix, target string) error
}

// operatorRules implements ruleCaller with the operator's token.
type operatorRules struct {
	*client.Client
	appid  string
	stored []ruleplan.Stored // all rules of the account; nil until they are read
	left   int               // publishes left this month
}

// operatorPage is the number of rules that an operator's command requests at once.
const operatorPage = 1000

// storedRules lists the rules of an account, or of all accounts if owner is "".
func storedRules(ctx context.Context, qrjump *client.Client, owner string) ([]client.StoredRule, error) {
	return everyPage(operatorPage, func(last client.StoredRule) ([]client.StoredRule, error) {
		return qrjump.Rules.List(ctx, client.StoredRuleQuery{Owner: owner, After: last.ID, Limit: operatorPage})
	})
}

// ListAllRules lists the rules of the account; if target is not "", only those that open this Mini Program.
func (o *operatorRules) ListAllRules(ctx context.Context, target string) (list client.RuleList, err error) {
	if o.stored == nil {
		quota, err := o.Accounts.GetQuota(ctx, o.appid)
		if err != nil {
			return list, err
		}
		all, err := storedRules(ctx, o.Client, o.appid)
		if err != nil {
			return list, err
		}
		o.left, o.stored = quota.PublishesLeft, make([]ruleplan.Stored, len(all))
		for i, r := range all {
			if o.stored[i], err = ruleplan.FromAPI(r); err != nil {
				return list, err
			}
		}
	}
	list.PublishesLeft = o.left
	for _, r := range o.stored {
		if target == "" || r.Target == target {
			list.Rules = append(list.Rules, r.Rule)
		}
	}
	return list, nil
}

// targets returns the Mini Programs that the account's rules open; it is called after ListAllRules.
func (o *operatorRules) targets() []string {
	opened := map[string]bool{}
	for _, r := range o.stored {
		if r.Target != "" {
			opened[r.Target] = true
		}
	}
	return slices.Sorted(maps.Keys(opened))
}

func ownRule(d client.RuleDraft) client.OwnRule {
	r := client.OwnRule{Prefix: d.Prefix, Path: d.Path, AppID: d.AppID, Occupy: d.Occupy}
	if d.AppID == "" {
		r.OpenVersion = int(d.OpenVersion)
		if d.TestLinks != nil {
			r.TestLinks = &d.TestLinks
		}
	}
	return r
}

func (o *operatorRules) CreateRule(ctx context.Context, d client.RuleDraft) error {
	_, err := o.Rules.Create(ctx, o.appid, ownRule(d))
	return err
}

func (o *operatorRules) UpdateRule(ctx context.Context, d client.RuleDraft) error {
	_, err := o.Rules.Update(ctx, o.appid, ownRule(d))
	return err
}

func (o *operatorRules) PublishRule(ctx context.Context, prefix string) error {
	_, err := o.Rules.Publish(ctx, o.appid, prefix)
	return err
}

func (o *operatorRules) DeleteRule(ctx context.Context, prefix, _ string) error {
	_, err := o.Rules.Delete(ctx, o.appid, prefix)
	return err
}

// ruleAccess makes the callers for the accounts of a folder. The credentials are those of the platform that --component names, else the
// operator's, else those of each account: the account of --appid, and accounts with a context for the same server.
type ruleAccess struct {
	member
	component string
	platform  *client.Client
	refresh   map[string]string // refresh token of each account that authorised the platform
	operator  *client.Client
	secrets   map[string]string // source of each account's secret, from the contexts
}

// openAccess selects the credentials. An access token without --component is the token of the account of --appid.
func openAccess(s *session, m member, a accountsFlags) (*ruleAccess, error) {
	access := &ruleAccess{member: m, component: a.Component, refresh: map[string]string{}, secrets: map[string]string{}}
	var err error
	switch {
	case a.Component != "" && m.AccessToken == "":
		return nil, misused("rule_dir.component_token", a.Component)
	case a.Component != "":
		if access.platform, err = m.client(s); err != nil {
			return nil, err
		}
		list, err := access.platform.Wire.ListAuthorizers(s.ctx, a.Component)
		for _, given := range list {
			access.refresh[given.AppID] = given.RefreshToken
		}
		return access, wrapped("rule_dir.accounts_of", a.Component, err)
	case a.AdminToken != "" || m.AppID == "" && m.AccessToken == "":
		access.operator, err = m.asOperator(a.adminFlags)
		return access, err
	case m.AppID == "":
		return nil, misused("rule_dir.whose_token")
	}
	file, _, err := readContexts()
	for _, c := range file.Contexts {
		if c.Secret != "" && c.place() == cmp.Or(m.Server, m.Data) {
			access.secrets[c.AppID] = c.Secret
		}
	}
	access.secrets[m.AppID] = ""
	return access, err
}

// caller returns the caller for an account.
func (r *ruleAccess) caller(s *session, appid string) (ruleCaller, error) {
	if r.operator != nil {
		return &operatorRules{Client: r.operator, appid: appid}, nil
	}
	m := r.member
	if r.platform != nil {
		refresh, ok := r.refresh[appid]
		if !ok {
			return nil, absent(fault("rule_dir.not_authorised", r.component))
		}
		token, err := r.platform.Wire.GetAuthorizerToken(s.ctx, r.component, appid, refresh)
		if err != nil {
			return nil, err
		}
		m.AccessToken = token
	}
	if source, ok := r.secrets[appid]; r.platform == nil && !ok {
		return nil, misused("rule_dir.no_credentials")
	} else if appid != m.AppID && r.platform == nil {
		var err error
		if m.Secret, err = readSecret(source, appid); err != nil {
			return nil, err
		}
		m.AppID, m.AccessToken = appid, ""
	}
	wire, err := m.client(s)
	if err != nil {
		return nil, err
	}
	return wire.Wire, nil
}

// accounts returns the accounts whose rules can be listed: for an operator, the accounts with rules.
func (r *ruleAccess) accounts(s *session) ([]string, error) {
	found := map[string]string{}
	maps.Copy(found, r.secrets)
	maps.Copy(found, r.refresh)
	if r.operator != nil {
		all, err := storedRules(s.ctx, r.operator, "")
		if err != nil {
			return nil, fault("rule.list_rules", err)
		}
		for _, rule := range all {
			found[rule.Owner] = ""
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// rulesPlan is the plan of one account.
type rulesPlan struct {
	AppID string `json:"appid"`
	plan
	file   string
	wanted []ruleplan.Desired
	caller ruleCaller
}

// fileAppID matches the names that an account's file in a folder can have, without the extension.
var fileAppID = regexp.MustCompile(`^[\w-]{1,32}$`)

// planned returns the plan of a file, or of each file of a folder, APPID.yaml. All files are read before the first call.
func (p *planFlags) planned(s *session, a accountsFlags) (plans []*rulesPlan, err error) {
	if !isFolder(p.File) {
		if a.Component != "" {
			return nil, misused("rule_dir.component_folder")
		}
		wire, err := p.client(s)
		if err != nil {
			return nil, err
		}
		made, err := p.make(s, wire.Wire)
		return []*rulesPlan{{AppID: p.AppID, plan: made, file: p.File, caller: wire.Wire}}, err
	}
	if p.Target != "" {
		return nil, misused("rule_dir.target")
	}
	entries, err := os.ReadDir(p.File)
	if err != nil {
		return nil, usageError(inReader(err).Error())
	}
	for _, entry := range entries {
		extension := filepath.Ext(entry.Name())
		if entry.IsDir() || extension != ".yaml" && extension != ".yml" {
			continue
		}
		appid := strings.TrimSuffix(entry.Name(), ".yaml")
		if !fileAppID.MatchString(appid) {
			return nil, misused("rule_dir.name", filepath.Join(p.File, entry.Name()))
		}
		plans = append(plans, &rulesPlan{AppID: appid, file: filepath.Join(p.File, entry.Name())})
	}
	if len(plans) == 0 {
		return nil, misused("rule_dir.empty", p.File)
	}
	for _, account := range plans {
		if account.wanted, err = p.of(account).readWanted(); err != nil {
			return nil, err
		}
	}
	access, err := openAccess(s, p.member, a)
	if err != nil {
		return nil, err
	}
	for _, account := range plans {
		if account.caller, err = access.caller(s, account.AppID); err == nil {
			account.plan, err = p.of(account).decide(s, account.caller, account.wanted)
		}
		if err != nil {
			return nil, fault("rule_dir.of", account.file, err)
		}
	}
	return plans, nil
}

// of returns the flags for the file of one account.
func (p planFlags) of(account *rulesPlan) *planFlags {
	p.File, p.AppID = account.file, account.AppID
	return &p
}

// print prints the plans: for a folder, each below the AppID of its account.
func (p *planFlags) printPlans(s *session, plans []*rulesPlan) error {
	if !isFolder(p.File) {
		return p.print(s, plans[0].plan, nil, func(w io.Writer) { plans[0].show(w, p.All) })
	}
	return p.print(s, map[string]any{"accounts": plans}, nil, func(w io.Writer) {
		for i, account := range plans {
			fmt.Fprintln(w, textIf(i > 0, "\n")+plain(account.AppID))
			account.show(w, p.All)
		}
	})
}

// checkQuotas returns the errors of checkQuota for all accounts.
func checkQuotas(plans []*rulesPlan) error {
	var faults []error
	for _, account := range plans {
		if err := account.checkQuota(account.file); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// stopped adds to the error of an account which accounts of a folder were changed and which were not.
func stopped(plans []*rulesPlan, i int, err error) error {
	if len(plans) == 1 {
		return err
	}
	next, details := remedy(err)
	if inner, ok := errors.AsType[hintError](err); ok && !plans[i].Steps[0].Done {
		next, details = remedy(inner.error) // without the text that nothing was changed
	}
	names := func(part []*rulesPlan) string {
		return cmp.Or(strings.Join(mapped(part, func(a *rulesPlan) string { return a.AppID }), ", "), "-")
	}
	return hintError{error: fault("rule_dir.of", plans[i].file, err), next: next.String(),
		details: append(details, tr("rule_dir.applied", names(plans[:i])), tr("rule_dir.not_applied", names(plans[i+1:])))}
}

// pullTo writes one file for each account, APPID.yaml, after the rules of all accounts are read.
func (c *rulePull) pullTo(s *session) error {
	access, err := openAccess(s, c.member, c.accountsFlags)
	if err != nil {
		return err
	}
	appids, err := access.accounts(s)
	if err != nil {
		return err
	}
	texts := map[string]string{}
	for _, appid := range appids {
		if !fileAppID.MatchString(appid) {
			return fault("rule_dir.name", appid)
		}
		caller, err := access.caller(s, appid)
		var file ruleplan.File
		if err == nil {
			file, err = c.read(s, caller)
		}
		if err == nil {
			texts[appid], err = pulled(file, appid)
		}
		if err != nil {
			return fault("rule_dir.of", appid, err)
		}
	}
	files := []string{}
	for _, appid := range appids {
		path := filepath.Join(c.Dir, appid+".yaml")
		if err := atomicfile.Replace(path, []byte(texts[appid]), 0o644); err != nil {
			return err
		}
		files = append(files, path)
		printMsg(s.err, "rule_dir.written", plain(path))
	}
	return c.print(s, map[string]any{"files": files}, nil, func(io.Writer) {})
}

// read reads the rules of an account; the wire API lists which Mini Program a service account's rule opens only for a given Mini Program.
func (c *rulePull) read(s *session, caller ruleCaller) (ruleplan.File, error) {
	file := ruleplan.File{Rules: []ruleplan.Written{}}
	all, err := allRules(s, caller, "")
	if err != nil {
		return file, fault("rule.list_rules", err)
	}
	targets := c.Target
	if o, ok := caller.(*operatorRules); ok {
		targets = o.targets()
	} else if c.Dir != "" && !slices.ContainsFunc(all.Rules, func(r client.Rule) bool { return ruleplan.KindOf(r) == rules.KindService }) {
		targets = nil
	}
	opens := map[string]string{}
	for _, target := range targets {
		list, err := allRules(s, caller, target)
		if err != nil {
			return file, failed(tr("rule_plan.rules_that_open"), target, err)
		}
		for _, r := range list.Rules {
			opens[r.Prefix] = target
		}
	}
	for _, r := range all.Rules {
		target := opens[r.Prefix]
		if ruleplan.KindOf(r) == rules.KindService && target == "" {
			return file, hintError{error: fault("rule_pull.the_wire_does_not_say", r.Prefix), next: tr("rule_pull.name_the_account_s_mini")}
		}
		file.Rules = append(file.Rules, ruleplan.Write(r, target))
	}
	return file, nil
}

// pulled returns the text of a rules file of an account.
func pulled(file ruleplan.File, appid string) (string, error) {
	text, err := file.Text()
	return tr("rule_pull.rules_what_a_server_has", ofAccount(appid), text), err
}
