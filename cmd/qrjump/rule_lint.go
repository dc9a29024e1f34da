package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/ruleplan"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

type ruleLint struct {
	member
	adminFlags
	File        string `arg:"" optional:"" file:"in"`
	AllAccounts bool
	Ignore      []string `placeholder:"KIND"`
}

// lintFinding is the JSON form of a finding.
type lintFinding struct {
	Kind        rules.FindingKind `json:"kind"`
	Position    string            `json:"position"` // in the file
	Owner       string            `json:"owner"`
	Prefix      string            `json:"prefix"`
	OtherPrefix string            `json:"other_prefix"` // The prefix of the other rule, if the finding is about two rules.
	OtherOwner  string            `json:"other_owner"`  //
	Link        string            `json:"link"`         // An example link that shows the problem.
	Prefixes    []string          `json:"prefixes"`     // The prefixes that the author probably wants instead.
	Message     i18n.Message      `json:"message"`
	Next        i18n.Message      `json:"hint"`
}

// Run looks for effects of the rules that their author probably did not intend.
func (c *ruleLint) Run(s *session) error {
	for _, kind := range c.Ignore {
		if !slices.Contains(rules.FindingKinds, rules.FindingKind(kind)) {
			return misused("rule_lint.ignore_there_is_no_such", kind)
		}
	}
	if c.File != "" && c.AllAccounts {
		return misused("rule_lint.and_all_accounts_choose_one", c.File)
	}
	set, places, err := c.set(s)
	if err != nil {
		return err
	}
	found := []lintFinding{}
	for _, f := range rules.Lint(set) {
		if !slices.Contains(c.Ignore, string(f.Kind)) {
			found = append(found, findingOf(f, set, places))
		}
	}
	err = c.print(s, map[string]any{"findings": found, "rules": len(set)}, nil, func(w io.Writer) {
		for _, f := range found {
			if f.Position != "" {
				f.Message = msg("lint.at", f.Position, f.Message)
			}
			fmt.Fprintf(w, "%s\n    %s\n", plain(s.msg(f.Message)), plain(s.msg(f.Next)))
		}
		if len(found) == 0 {
			fmt.Fprintln(w, s.msg(msg("lint.nothing", msg("count.rule", len(set)))))
		}
	})
	if err == nil && len(found) > 0 {
		err = different("lint.found", msg("count.finding", len(found)), msg("count.rule", len(set)))
	}
	return err
}

// set returns the rules to check, with their positions in the file.
func (c *ruleLint) set(s *session) (set []rules.Rule, places []string, err error) {
	switch {
	case c.File != "":
		text, err := os.ReadFile(c.File)
		if err != nil {
			return nil, nil, usageError(inReader(err).Error())
		}
		wanted, wrong, err := ruleplan.Read(c.File, text, c.AppID, "")
		if err != nil {
			return nil, nil, usageError(err.Error())
		}
		for _, w := range wanted {
			places = append(places, w.Location)
			set = append(set, ruleOfFile(w, c.AppID))
		}
		err = faultsOf(c.File, wrong)
		return set, places, err
	case c.AllAccounts:
		operator, err := c.asOperator(c.adminFlags)
		if err != nil {
			return nil, nil, err
		}
		set, err := everyStoredRule(s, operator)
		return set, nil, err
	}
	wire, err := c.client(s)
	if err != nil {
		return nil, nil, err
	}
	list, err := allRules(s, wire.Wire, "")
	if err != nil {
		return nil, nil, fault("rule.list_rules", err)
	}
	for _, r := range list.Rules {
		parsed, ok := rules.StoredPrefix(r.Prefix)
		if !ok {
			return nil, nil, fault("rule_lint.the_server_lists_a_rule", r.Prefix)
		}
		set = append(set, rules.Rule{Kind: ruleplan.KindOf(r), Owner: c.AppID, Target: c.AppID, Prefix: parsed, Path: r.Path,
			Occupy: r.Occupy, TestLinks: r.TestLinks, Published: r.Published})
	}
	return set, nil, nil
}

// ruleOfFile converts a rule in a file to the form that the check uses.
func ruleOfFile(w ruleplan.Desired, caller string) rules.Rule {
	r := rules.Rule{Kind: rules.Ordinary, Owner: cmp.Or(w.Owner, caller), Prefix: w.Parsed, Path: w.Path, Occupy: w.Occupy,
		Published: w.Published == nil || *w.Published}
	r.Target = r.Owner
	if w.IsService() {
		r.Kind, r.Target = rules.KindService, w.AppID
	}
	if w.TestLinks != nil {
		r.TestLinks = *w.TestLinks
	}
	return r
}

// everyStoredRule lists the rules of all accounts.
func everyStoredRule(s *session, operator *client.Client) (set []rules.Rule, err error) {
	list, err := storedRules(s.ctx, operator, "")
	for _, r := range list {
		parsed, ok := rules.StoredPrefix(r.Prefix)
		if !ok {
			return nil, fault("rule_lint.the_server_lists_a_rule", r.Prefix)
		}
		set = append(set, rules.Rule{ID: r.ID, Kind: rules.Kind(r.Kind), Owner: r.Owner, Target: r.Target, Prefix: parsed, Path: r.Path,
			Occupy: r.Occupy, TestLinks: r.TestLinks, Published: r.Published})
	}
	return set, wrapped("rule.list_rules", err)
}

// findingOf describes a finding and its remedy in words.
func findingOf(f rules.Finding, set []rules.Rule, places []string) lintFinding {
	rule := set[f.Rule]
	t := lintFinding{Kind: f.Kind, Owner: rule.Owner, Prefix: rule.Prefix.Text, Link: f.Link, Prefixes: append([]string{}, f.Prefixes...)}
	if places != nil {
		t.Position = places[f.Rule]
	}
	message := i18n.Literal(f.Link)
	if f.OtherIndex >= 0 {
		t.OtherPrefix, t.OtherOwner = set[f.OtherIndex].Prefix.Text, set[f.OtherIndex].Owner
		message = i18n.Literal(t.OtherPrefix)
		if t.OtherOwner != t.Owner {
			message = msg("lint.of", t.OtherPrefix, t.OtherOwner)
		}
	}
	var next []any
	switch f.Kind {
	case rules.AlsoCatches:
		next = []any{t.Prefix, strings.Join(f.Prefixes, " ")}
	case rules.HidesPublished:
		next = []any{f.Link}
	case rules.NoFinalSlash:
		next = []any{strings.Join(f.Prefixes, " ")}
	}
	key := "lint." + string(f.Kind)
	t.Message, t.Next = msg(key, t.Prefix, message), msg(key+".next", next...)
	return t
}
