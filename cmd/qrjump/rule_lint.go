package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/rules"
)

type ruleLint struct {
	member
	adminFlags
	File        string   `arg:"" optional:"" help:"A file of rules, as rule plan reads it; a rule that does not say whether it is published is taken as published. Without it the rules of the account on the server."`
	AllAccounts bool     `help:"The rules of all accounts on the server, by the operator's token: also where one owner's rules meet another's."`
	Ignore      []string `placeholder:"KIND" help:"Do not look for this kind: also_catches, hides_published, others_open, others_take, shadowed, redundant, no_final_slash, test_link or duplicate; repeat it, or put commas between."`
}

// lintFinding is a finding for programs.
type lintFinding struct {
	Kind       rules.FindingKind `json:"kind"`
	At         string            `json:"at"` // in the file
	Owner      string            `json:"owner"`
	Prefix     string            `json:"prefix"`
	Other      string            `json:"other"`       // the prefix that it meets
	OtherOwner string            `json:"other_owner"` //
	Link       string            `json:"link"`        // on which it shows
	Prefixes   []string          `json:"prefixes"`    // that would say what was meant
	Says       string            `json:"says"`
	Next       string            `json:"next"`
}

// Run looks for what the rules do and their author hardly meant.
func (c *ruleLint) Run(s *session) error {
	for _, kind := range c.Ignore {
		if !slices.Contains(rules.FindingKinds, rules.FindingKind(kind)) {
			return misused("--ignore %s: there is no such kind; see: qrjump help rule lint", kind)
		}
	}
	if c.File != "" && c.AllAccounts {
		return misused("%s and --all-accounts: choose one", c.File)
	}
	set, places, err := c.set(s)
	if err != nil {
		return err
	}
	found := []lintFinding{}
	for _, f := range rules.Lint(set) {
		if !slices.Contains(c.Ignore, string(f.Kind)) {
			found = append(found, c.tell(f, set, places))
		}
	}
	err = c.print(s, map[string]any{"findings": found, "rules": len(set)}, func(w io.Writer) {
		for _, f := range found {
			if f.At != "" {
				f.Says = f.At + ": " + f.Says
			}
			fmt.Fprintf(w, "%s\n    %s\n", plain(f.Says), plain(f.Next))
		}
		if len(found) == 0 {
			fmt.Fprintf(w, "nothing to mend in %s\n", counted(len(set), "rule"))
		}
	})
	if err == nil && len(found) > 0 {
		err = different("%s in %s", counted(len(found), "finding"), counted(len(set), "rule"))
	}
	return err
}

// set are the rules to look at, with their places in the file.
func (c *ruleLint) set(s *session) (set []rules.Rule, places []string, err error) {
	switch {
	case c.File != "":
		wanted, wrong, err := readRules(c.File, c.AppID, "", func(*wantedRule, *faults) bool { return true })
		if err == nil {
			err = wrong.err(c.File)
		}
		for _, w := range wanted {
			places = append(places, w.at)
			set = append(set, w.rule(c.AppID))
		}
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
	list, err := wire.AllRules(s.ctx, "")
	if err != nil {
		return nil, nil, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range list.Rules {
		parsed, ok := rules.StoredPrefix(r.Prefix)
		if !ok {
			return nil, nil, fmt.Errorf("the server lists a rule that is none: %q", r.Prefix)
		}
		set = append(set, rules.Rule{Kind: kindOf(r), Owner: c.AppID, Target: c.AppID, Prefix: parsed, Path: r.Path, Occupy: r.Occupy,
			TestLinks: r.TestLinks, Published: r.Published})
	}
	return set, nil, nil
}

// rule is the rule of a file as it is judged.
func (w *wantedRule) rule(caller string) rules.Rule {
	r := rules.Rule{Kind: rules.Ordinary, Owner: cmp.Or(w.Owner, caller), Prefix: w.parsed, Path: w.Path, Occupy: w.Occupy,
		Published: w.Published == nil || *w.Published}
	if r.Target = r.Owner; w.isService() {
		r.Kind, r.Target = rules.Service, w.AppID
	}
	if w.TestLinks != nil {
		r.TestLinks = *w.TestLinks
	}
	return r
}

// everyStoredRule lists the rules of all accounts.
func everyStoredRule(s *session, operator *client.Client) (set []rules.Rule, err error) {
	for after := int64(0); ; {
		page, err := operator.StoredRules(s.ctx, client.StoredRuleQuery{After: after})
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		if len(page) == 0 {
			return set, nil
		}
		for _, r := range page {
			after = r.ID
			parsed, ok := rules.StoredPrefix(r.Prefix)
			if !ok {
				return nil, fmt.Errorf("the server lists a rule that is none: %q", r.Prefix)
			}
			set = append(set, rules.Rule{ID: r.ID, Kind: rules.Kind(r.Kind), Owner: r.Owner, Target: r.Target, Prefix: parsed, Path: r.Path,
				Occupy: r.Occupy, TestLinks: r.TestLinks, Published: r.Published})
		}
	}
}

// tell says a finding in words, and what to do.
func (c *ruleLint) tell(f rules.Finding, set []rules.Rule, places []string) lintFinding {
	r := set[f.Rule]
	t := lintFinding{Kind: f.Kind, Owner: r.Owner, Prefix: r.Prefix.Text, Link: f.Link, Prefixes: append([]string{}, f.Prefixes...)}
	if places != nil {
		t.At = places[f.Rule]
	}
	other := ""
	if f.Other >= 0 {
		t.Other, t.OtherOwner = set[f.Other].Prefix.Text, set[f.Other].Owner
		if other = t.Other; t.OtherOwner != t.Owner {
			other += " of " + t.OtherOwner
		}
	}
	switch f.Kind {
	case rules.AlsoCatches:
		t.Says = fmt.Sprintf("%s also catches %s: parameters are compared by their beginnings", t.Prefix, f.Link)
		t.Next = fmt.Sprintf("where another parameter always follows, write %s&; else add these, and leave them unpublished: %s",
			t.Prefix, strings.Join(f.Prefixes, " "))
	case rules.HidesPublished:
		t.Says = fmt.Sprintf("%s is not published, and hides %s: its links open nothing of this account", t.Prefix, other)
		t.Next = fmt.Sprintf("publish it, or delete it; scan %s to see", f.Link)
	case rules.OthersOpen:
		t.Says = fmt.Sprintf("%s is not published: its links open %s", t.Prefix, other)
		t.Next = "publish it, or talk to the owner of the other"
	case rules.OthersTake:
		t.Says = fmt.Sprintf("%s loses the links of %s, which is longer", t.Prefix, other)
		t.Next = "occupy your rule so that nobody adds below it (--occupy), and talk to the owner of the other"
	case rules.Shadowed:
		t.Says = fmt.Sprintf("%s never opens anything: %s is longer and matches all that it matches", t.Prefix, other)
		t.Next = "delete one of the two"
	case rules.Redundant:
		t.Says = fmt.Sprintf("%s changes nothing: without it %s opens the same page", t.Prefix, other)
		t.Next = "delete it, or let it open another page"
	case rules.NoFinalSlash:
		t.Says = fmt.Sprintf("%s has no final slash: %s does not open", t.Prefix, f.Link)
		t.Next = fmt.Sprintf("for links below it write %s; where the one page is meant: --ignore no_final_slash", f.Prefixes[0])
	case rules.LostTestLink:
		t.Says = fmt.Sprintf("test link %s does not match %s", f.Link, t.Prefix)
		t.Next = "mend the test link or the prefix: the server refuses it with 85068"
	case rules.Duplicate:
		t.Says = fmt.Sprintf("%s is the same rule as %s", t.Prefix, other)
		t.Next = "keep one: the server refuses the second with 85071 or 85072"
	}
	return t
}
