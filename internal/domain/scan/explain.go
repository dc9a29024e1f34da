package scan

import (
	"cmp"
	"embed"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

//go:embed locale
var locale embed.FS

var catalog = i18n.Open(locale)

// Verdict is the result of comparing a link with a nearby rule.
type Verdict string

// The verdicts. Scheme, host, path and parameters are compared in this order. The state of a rule is judged only if the rule matches.
const (
	Opens             Verdict = "opens"
	MatchesButShorter Verdict = "matches_but_shorter"
	UnpublishedHides  Verdict = "unpublished_hides"
	Unpublished       Verdict = "unpublished"
	SchemeDiffers     Verdict = "scheme_differs"
	HostDiffers       Verdict = "host_differs"
	NotSubPath        Verdict = "not_sub_path"
	PathDiffers       Verdict = "path_differs"
	ParametersDiffer  Verdict = "parameters_differ"
	NoRelease         Verdict = "no_release"
	OwnerSwitchedOff  Verdict = "owner_switched_off"
)

// MaxSteps is the maximum number of rules that an explanation shows.
const MaxSteps = 50

// Step is a rule whose host or path resembles that of a link, and the reason why the link opens the rule or does not.
type Step struct {
	Rule    rules.Rule
	Verdict Verdict
	Reason  i18n.Message
	// Behaviour is the ID of the row in the table of behaviours that explains the verdict.
	Behaviour string
}

// restsOn returns the ID of the behaviour that explains a verdict on a rule.
func restsOn(v Verdict, rule rules.Rule) string {
	switch v {
	case MatchesButShorter, UnpublishedHides:
		return "scan.order"
	case Unpublished:
		return "scan.order.others"
	case NoRelease, OwnerSwitchedOff:
		return "scan.blocked"
	}
	switch { // the rule matches, or the verdict names the part of the link that differs
	case rule.Kind == rules.KindService:
		return "scan.match.service"
	case v == SchemeDiffers || v == HostDiffers:
		return "scan.match.origin"
	case rule.Prefix.HasQuery():
		return "scan.match.query"
	case rule.Prefix.Sub:
		return "scan.match.below"
	}
	return "scan.match.path"
}

// Explanation is a decision together with the nearby rules, nearest first.
type Explanation struct {
	Decision
	Steps []Step
}

// Explain resolves a scan and explains the decision. nearRules are stored rules with the same host and first path segment, or with
// the same path on another host; matching rules may be missing from nearRules. Explain has no side effects.
func (r Resolver) Explain(req Request, nearRules []rules.Rule) Explanation {
	link, ok := rules.ParseLink(req.Text)
	if !ok || !rules.PlainText(req.Text) {
		return Explanation{Decision: r.Resolve(req)}
	}
	// The rules are read once, so that the decision and its explanation are based on the same rules.
	matching := r.Finder.Matching(link)
	r.Finder = singleRead{Finder: r.Finder, matching: matching}
	d := r.Resolve(req)
	e := Explanation{Decision: d}
	shown := map[string]bool{}
	for i, rule := range matching {
		shown[rule.Prefix.Key] = true
		e.Steps = append(e.Steps, r.judgeMatch(d, matching, i))
	}
	var otherSteps []Step
	for _, rule := range nearRules {
		if !shown[rule.Prefix.Key] {
			shown[rule.Prefix.Key] = true
			otherSteps = append(otherSteps, judgeMiss(rule, link))
		}
	}
	slices.SortStableFunc(otherSteps, func(a, b Step) int {
		return cmp.Or(
			cmp.Compare(distance(a.Verdict), distance(b.Verdict)),
			cmp.Compare(common(b.Rule, link), common(a.Rule, link)),
			cmp.Compare(a.Rule.ID, b.Rule.ID),
		)
	})
	e.Steps = append(e.Steps, otherSteps...)
	e.Steps = e.Steps[:min(len(e.Steps), MaxSteps)]
	return e
}

// singleRead is a Finder that returns the rules of a single earlier read.
type singleRead struct {
	Finder
	matching []rules.Rule
}

func (s singleRead) Governing(string) (rules.Match, bool) {
	rule, ok := governing(s.matching)
	return rule.Hit(), ok
}

// distance orders rules that do not match: the later a rule's text differs from the link, the smaller the distance.
func distance(v Verdict) int {
	return slices.Index([]Verdict{ParametersDiffer, NotSubPath, PathDiffers, SchemeDiffers, HostDiffers}, v)
}

// common returns the length of the common prefix of a rule and a link, counted from the path on.
func common(rule rules.Rule, link rules.Link) int {
	a, b := rule.Prefix.Key[len(rule.Prefix.Origin()):], link.Key[len(link.Origin()):]
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func newStep(rule rules.Rule, v Verdict, key string, values ...any) Step {
	return Step{Rule: rule, Verdict: v, Reason: catalog.Text(key, values...), Behaviour: restsOn(v, rule)}
}

// judgeMatch returns the step for the i-th matching rule.
func (r Resolver) judgeMatch(d Decision, matching []rules.Rule, i int) Step {
	rule := matching[i]
	say := func(v Verdict, key string, values ...any) Step { return newStep(rule, v, key, values...) }
	governs, governed := governing(matching)
	switch {
	case d.Kind == ByCode || d.Action == ShowMessage:
		return Step{Rule: rule, Verdict: MatchesButShorter, Reason: catalog.Text("code"), Behaviour: "scan.code.first"}
	case d.Kind == ByGS1: // no Behaviour, because the platform has no GS1 links
		return Step{Rule: rule, Verdict: MatchesButShorter, Reason: catalog.Text("gs1")}
	case d.Kind == ByTestLink && d.Matched.Prefix == rule.Prefix.Text:
		opens := say(Opens, "test_link", d.Version)
		opens.Behaviour = "scan.test.role"
		return opens
	case d.Action == OpenMiniProgram && d.Kind != ByTestLink && d.Matched.Prefix == rule.Prefix.Text:
		return say(Opens, "opens", rule.Target)
	case governed && governs.Prefix.Key == rule.Prefix.Key && d.Kind != ByTestLink:
		switch {
		case r.blocked(rule.Hit().RuleInfo) == NoRelease:
			return say(NoRelease, "no_release", rule.Target)
		case rule.Target == "":
			return say(OwnerSwitchedOff, "no_target")
		case rule.Kind == rules.KindService && !r.Accounts.Linked(rule.Owner, rule.Target):
			return say(OwnerSwitchedOff, "not_linked", rule.Owner, rule.Target)
		}
		if target, ok := r.Accounts.Account(rule.Target); !ok || !target.JumpOpen {
			return say(OwnerSwitchedOff, "disabled", rule.Target)
		}
		return say(OwnerSwitchedOff, "disabled", rule.Owner)
	case !rule.Published:
		for j, otherRule := range matching {
			if j > i && otherRule.Owner == rule.Owner && otherRule.Published {
				return say(UnpublishedHides, "hides", otherRule.Prefix.Text)
			}
		}
		return say(Unpublished, "unpublished")
	}
	for _, longer := range matching[:i] {
		if longer.Owner == rule.Owner && !longer.Published {
			return say(MatchesButShorter, "hidden", longer.Prefix.Text)
		}
	}
	if d.Kind == ByTestLink {
		return say(MatchesButShorter, "test_link.other")
	}
	return say(MatchesButShorter, "shorter")
}

// judgeMiss returns the step for a rule that does not match, naming the part that differs.
func judgeMiss(rule rules.Rule, link rules.Link) Step {
	say := func(v Verdict, key string, values ...any) Step { return newStep(rule, v, key, values...) }
	p := rule.Prefix
	switch {
	case p.Scheme != link.Scheme:
		return say(SchemeDiffers, "scheme", p.Scheme, link.Scheme)
	case p.Host != link.Host:
		return say(HostDiffers, "host", p.Host, link.Host)
	case p.Path() != link.Path():
		switch {
		case p.HasQuery():
			return say(PathDiffers, "path.exactly", p.Path(), link.Path())
		case p.Sub && link.Path() == strings.TrimSuffix(p.Path(), "/"):
			return say(NotSubPath, "path.slash", p.Path(), link.Path())
		case !p.Sub && strings.HasPrefix(link.Path(), p.Path()):
			return say(NotSubPath, "path.itself", p.Path(), link.Path())
		}
		return say(PathDiffers, "path", p.Path(), link.Path())
	case p.HasQuery() && !strings.HasPrefix(link.Query(), p.Query()):
		return say(ParametersDiffer, "parameters", p.Query())
	}
	// The rule matches in the store but not in memory, or the other way round, because it changed between the two reads.
	return say(PathDiffers, "changing")
}
