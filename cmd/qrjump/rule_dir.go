package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
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

// ruleCaller changes the rules of one account: a client.WireService or operatorRules.
type ruleCaller interface {
	CreateRule(ctx context.Context, d client.RuleDraft) error
	UpdateRule(ctx context.Context, d client.RuleDraft) error
	PublishRule(ctx context.Context, prefix string) error
	DeleteRule(ctx context.Context, prefix, target string) error
}

// operatorRules implements ruleCaller with the operator's token.
type operatorRules struct {
	client.RulesService
	appid  string
	stored []ruleplan.Stored // all rules of the account
	left   int               // publishes left this month
}

// readRules reads the rules of an account with the operator's token.
func readRules(ctx context.Context, qrjump *client.Client, appid string) (*operatorRules, error) {
	quota, err := qrjump.Accounts.GetQuota(ctx, appid)
	if err != nil {
		return nil, err
	}
	all, err := storedRules(ctx, qrjump, appid)
	o := &operatorRules{RulesService: qrjump.Rules, appid: appid, left: quota.PublishesLeft, stored: make([]ruleplan.Stored, len(all))}
	for i, r := range all {
		if err == nil {
			o.stored[i], err = ruleplan.FromAPI(r)
		}
	}
	return o, err
}

// storedRules lists the rules of an account, or of all accounts if owner is "".
func storedRules(ctx context.Context, qrjump *client.Client, owner string) ([]client.StoredRule, error) {
	const page = 1000
	return everyPage(page, func(last client.StoredRule) ([]client.StoredRule, error) {
		return qrjump.Rules.List(ctx, client.StoredRuleQuery{Owner: owner, After: last.ID, Limit: page})
	})
}

func (o *operatorRules) CreateRule(ctx context.Context, d client.RuleDraft) error {
	return errorOf(o.Create(ctx, o.appid, ruleplan.RuleInput(d)))
}

func (o *operatorRules) UpdateRule(ctx context.Context, d client.RuleDraft) error {
	return errorOf(o.Update(ctx, o.appid, ruleplan.RuleInput(d)))
}

func (o *operatorRules) PublishRule(ctx context.Context, prefix string) error {
	return errorOf(o.Publish(ctx, o.appid, prefix))
}

func (o *operatorRules) DeleteRule(ctx context.Context, prefix, _ string) error {
	return errorOf(o.Delete(ctx, o.appid, prefix))
}

func errorOf(_ client.StoredRule, err error) error { return err }

// ruleAccess makes the callers for the accounts of a folder. The credentials are those of the platform that --component names, else the
// operator's, else those of each account: the account of --appid, and accounts with a context for the same server.
type ruleAccess struct {
	member
	component          string
	platform, operator *client.Client
	accounts           map[string]string // accounts with credentials: for a platform the refresh token, else the source of the secret
}

// openAccess selects the credentials. An access token without --component is the token of the account of --appid.
func openAccess(s *session, m member, a accountsFlags) (*ruleAccess, error) {
	access := &ruleAccess{member: m, component: a.Component, accounts: map[string]string{m.AppID: ""}}
	var err error
	switch {
	case a.Component != "" && m.AccessToken == "":
		return nil, misused("rule_dir.component_token", a.Component)
	case a.Component != "":
		if access.platform, err = m.client(s); err != nil {
			return nil, err
		}
		list, err := access.platform.Wire.ListAuthorizers(s.ctx, a.Component)
		access.accounts = map[string]string{}
		for _, given := range list {
			access.accounts[given.AppID] = given.RefreshToken
		}
		return access, wrapped("rule_dir.accounts_of", a.Component, err)
	case a.AdminToken != "" || m.AppID == "" && m.AccessToken == "":
		access.operator, err = m.asOperator(a.adminFlags)
		return access, err
	case m.AppID == "":
		return nil, misused("connection.missing_credentials")
	}
	file, _, err := readContexts()
	for _, c := range file.Contexts {
		if c.Secret != "" && c.AppID != "" && c.AppID != m.AppID && c.place() == cmp.Or(m.Server, m.Data) {
			access.accounts[c.AppID] = c.Secret
		}
	}
	return access, err
}

// caller returns the caller for an account.
func (r *ruleAccess) caller(s *session, appid string) (ruleCaller, error) {
	var err error
	m := r.member
	credential, ok := r.accounts[appid]
	switch {
	case r.operator != nil:
		return readRules(s.ctx, r.operator, appid)
	case !ok:
		return nil, misused("rule_dir.no_credentials")
	case r.platform != nil:
		m.AccessToken, err = r.platform.Wire.GetAuthorizerToken(s.ctx, r.component, appid, credential)
	case appid != m.AppID:
		m.AppID, m.AccessToken = appid, ""
		m.Secret, err = readSecret(credential, appid)
	}
	if err != nil {
		return nil, err
	}
	wire, err := m.client(s)
	if err != nil {
		return nil, err
	}
	return wire.Wire, nil
}

// appids returns the accounts whose rules can be listed: for an operator, those with rules and those with a file in the folder.
func (r *ruleAccess) appids(s *session, dir string) ([]string, error) {
	if r.operator == nil {
		return slices.Sorted(maps.Keys(r.accounts)), nil
	}
	all, err := storedRules(s.ctx, r.operator, "")
	if err != nil {
		return nil, fault("rule.list_rules", err)
	}
	owners := mapped(all, func(rule client.StoredRule) string { return rule.Owner })
	files, err := os.ReadDir(dir)
	for _, file := range files {
		if appid, ok := strings.CutSuffix(file.Name(), ".yaml"); ok && fileAppID.MatchString(appid) {
			switch _, unknown := r.operator.Accounts.Get(s.ctx, appid); {
			case unknown == nil:
				owners = append(owners, appid)
			case !isNotFound(unknown) && !isProblem(unknown, http.StatusForbidden): // 403: an admin key for other accounts
				return nil, failed("show", appid, unknown)
			}
		}
	}
	slices.Sort(owners)
	return slices.Compact(owners), err
}

// rulesPlan is the plan of one account.
type rulesPlan struct {
	AppID string `json:"appid"`
	plan
	file   string
	wanted []ruleplan.Desired
	caller ruleCaller
	moves  int // The first steps, which delete rules whose prefixes other accounts of the folder add.
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
		file := filepath.Join(p.File, entry.Name())
		switch appid, ok := strings.CutSuffix(entry.Name(), ".yaml"); {
		case !ok || entry.IsDir():
		case !fileAppID.MatchString(appid):
			return nil, misused("rule_dir.name", file)
		default:
			plans = append(plans, &rulesPlan{AppID: appid, file: file})
		}
	}
	if len(plans) == 0 {
		return nil, misused("rule_dir.empty", p.File)
	}
	for _, account := range plans {
		if account.wanted, err = p.forAccount(account).readWanted(); err != nil {
			return nil, err
		}
	}
	access, err := openAccess(s, p.member, a)
	if err != nil {
		return nil, err
	}
	for _, account := range plans {
		if account.caller, err = access.caller(s, account.AppID); err == nil {
			account.plan, err = p.forAccount(account).decide(s, account.caller, account.wanted)
		}
		if err != nil {
			return nil, fault("rule_dir.of", account.file, err)
		}
	}
	added := map[string]bool{}
	for _, account := range plans {
		for _, step := range account.Steps {
			added[step.Key()] = added[step.Key()] || step.Action == "add"
		}
	}
	for _, account := range plans {
		moves := func(step ruleplan.Step) bool { return step.Prunes() && added[step.Key()] }
		rest := slices.DeleteFunc(slices.Clone(account.Steps), moves)
		account.Steps = append(slices.DeleteFunc(account.Steps, func(step ruleplan.Step) bool { return !moves(step) }), rest...)
		account.moves = len(account.Steps) - len(rest)
	}
	return plans, nil
}

// forAccount returns the flags for the file of one account.
func (p planFlags) forAccount(account *rulesPlan) *planFlags {
	p.File, p.AppID = account.file, account.AppID
	return &p
}

// printPlans prints the plans: for a folder, each below the AppID of its account.
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
	return errors.Join(mapped(plans, func(account *rulesPlan) error { return account.checkQuota(account.file) })...)
}

// stopped adds to the error of an account which accounts of a folder were changed and which were not.
func stopped(plans []*rulesPlan, i int, err error) error {
	if len(plans) == 1 || err == nil {
		return err
	}
	next, details := remedy(err)
	if inner, ok := errors.AsType[hintError](err); ok && !plans[i].Steps[0].Done {
		next, details = remedy(inner.error) // without the text that nothing was changed
	}
	names := func(applied bool) string {
		listed := slices.DeleteFunc(slices.Clone(plans), func(a *rulesPlan) bool {
			return a == plans[i] || applied == slices.ContainsFunc(a.Steps, func(step ruleplan.Step) bool { return !step.Done })
		})
		return cmp.Or(strings.Join(mapped(listed, func(a *rulesPlan) string { return a.AppID }), ", "), "-")
	}
	return hintError{error: fault("rule_dir.of", plans[i].file, err), next: next.String(),
		details: append(details, tr("rule_dir.applied", names(true)), tr("rule_dir.not_applied", names(false)))}
}

// pullTo writes one file for each account, APPID.yaml, after the rules of all accounts are read.
func (c *rulePull) pullTo(s *session) error {
	access, err := openAccess(s, c.member, c.accountsFlags)
	if err != nil {
		return err
	}
	appids, err := access.appids(s, c.Dir)
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
	if o, ok := caller.(*operatorRules); ok {
		file.Rules = mapped(o.stored, func(r ruleplan.Stored) ruleplan.Written { return ruleplan.Write(r.Rule, r.Target) })
		return file, nil
	}
	wire := caller.(client.WireService)
	all, err := allRules(s, wire, "")
	if err != nil {
		return file, fault("rule.list_rules", err)
	}
	opens := map[string]string{}
	for _, target := range c.Target {
		if c.Dir != "" && !slices.ContainsFunc(all.Rules, func(r client.Rule) bool { return ruleplan.KindOf(r) == rules.KindService }) {
			break
		}
		list, err := allRules(s, wire, target)
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
