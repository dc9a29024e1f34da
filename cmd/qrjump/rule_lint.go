package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/ruleplan"
	"github.com/qrjump/qrjump/internal/rules"
)

type ruleLint struct {
	member
	adminFlags
	languageFlags
	File        string   `arg:"" optional:"" help:"A file of rules, as rule plan reads it; a rule that does not say whether it is published is taken as published. Without it the rules of the account on the server." file:"in"`
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
				f.Says = f.At + c.in(": ", "：") + f.Says
			}
			fmt.Fprintf(w, "%s\n    %s\n", plain(f.Says), plain(f.Next))
		}
		if len(found) == 0 {
			fmt.Fprintln(w, c.in("nothing to mend in "+counted(len(set), "rule"), fmt.Sprintf("%d 条规则没有需要修改之处", len(set))))
		}
	})
	if err == nil && len(found) > 0 {
		err = different("%s", c.in(counted(len(found), "finding")+" in "+counted(len(set), "rule"),
			fmt.Sprintf("%d 条规则中有 %d 处发现", len(set), len(found))))
	}
	return err
}

// set are the rules to look at, with their places in the file.
func (c *ruleLint) set(s *session) (set []rules.Rule, places []string, err error) {
	switch {
	case c.File != "":
		text, err := os.ReadFile(c.File)
		if err != nil {
			return nil, nil, misused("%v", err)
		}
		wanted, wrong, err := ruleplan.Read(c.File, text, c.AppID, "")
		if err != nil {
			return nil, nil, misuse(err.Error())
		}
		for _, w := range wanted {
			places = append(places, w.At)
			set = append(set, judged(w, c.AppID))
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
	list, err := wire.AllRules(s.ctx, "")
	if err != nil {
		return nil, nil, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range list.Rules {
		parsed, ok := rules.StoredPrefix(r.Prefix)
		if !ok {
			return nil, nil, fmt.Errorf("the server lists a rule that is none: %q", r.Prefix)
		}
		set = append(set, rules.Rule{Kind: ruleplan.KindOf(r), Owner: c.AppID, Target: c.AppID, Prefix: parsed, Path: r.Path,
			Occupy: r.Occupy, TestLinks: r.TestLinks, Published: r.Published})
	}
	return set, nil, nil
}

// judged is the rule of a file as it is judged.
func judged(w ruleplan.Wanted, caller string) rules.Rule {
	r := rules.Rule{Kind: rules.Ordinary, Owner: cmp.Or(w.Owner, caller), Prefix: w.Parsed, Path: w.Path, Occupy: w.Occupy,
		Published: w.Published == nil || *w.Published}
	if r.Target = r.Owner; w.IsService() {
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
			other += c.in(" of ", "（属于 ") + t.OtherOwner + c.in("", "）")
		}
	}
	say := func(english, chinese string) string {
		return strings.NewReplacer("{rule}", t.Prefix, "{other}", other, "{link}", f.Link, "{prefixes}", strings.Join(f.Prefixes, " ")).
			Replace(c.in(english, chinese))
	}
	text := lintTexts[f.Kind]
	t.Says, t.Next = say(text[0], text[1]), say(text[2], text[3])
	return t
}

// lintTexts are what a finding says and what to do, each in English and in Chinese.
var lintTexts = map[rules.FindingKind][4]string{
	rules.AlsoCatches: {"{rule} also catches {link}: parameters are compared by their beginnings",
		"{rule} 也会匹配 {link}：参数按开头比较",
		"where another parameter always follows, write {rule}&; else add these, and leave them unpublished: {prefixes}",
		"其后总有其他参数时写 {rule}&；否则添加以下规则但不要发布：{prefixes}"},
	rules.HidesPublished: {"{rule} is not published, and hides {other}: its links open nothing of this account",
		"{rule} 未发布，却遮住了 {other}：它的链接打不开本账号的任何页面",
		"publish it, or delete it; scan {link} to see", "请发布或删除它；扫 {link} 可见效果"},
	rules.OthersOpen: {"{rule} is not published: its links open {other}", "{rule} 未发布：它的链接打开 {other}",
		"publish it, or talk to the owner of the other", "请发布它，或与对方账号商量"},
	rules.OthersTake: {"{rule} loses the links of {other}, which is longer", "{other} 更长，{rule} 因此得不到它的链接",
		"occupy your rule so that nobody adds below it (--occupy), and talk to the owner of the other",
		"请占用您的规则，使他人不能在其下添加（--occupy），并与对方账号商量"},
	rules.Shadowed: {"{rule} never opens anything: {other} is longer and matches all that it matches",
		"{rule} 永远不会打开任何页面：{other} 更长，且匹配它能匹配的一切", "delete one of the two", "请删除两者之一"},
	rules.Redundant: {"{rule} changes nothing: without it {other} opens the same page", "{rule} 没有作用：没有它，{other} 也打开同一页面",
		"delete it, or let it open another page", "请删除它，或让它打开另一页面"},
	rules.NoFinalSlash: {"{rule} has no final slash: {link} does not open", "{rule} 末尾没有斜杠：{link} 打不开",
		"for links below it write {prefixes}; where the one page is meant: --ignore no_final_slash",
		"要包括其下的链接请写 {prefixes}；只指这一页时：--ignore no_final_slash"},
	rules.LostTestLink: {"test link {link} does not match {rule}", "测试链接 {link} 与 {rule} 不匹配",
		"mend the test link or the prefix: the server refuses it with 85068", "请修改测试链接或前缀：服务器会以 85068 拒绝"},
	rules.Duplicate: {"{rule} is the same rule as {other}", "{rule} 与 {other} 是同一条规则",
		"keep one: the server refuses the second with 85071 or 85072", "请保留一条：第二条会被服务器以 85071 或 85072 拒绝"},
}
