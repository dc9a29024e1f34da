package scanapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// maxExplain is the maximum size in bytes of an explain request, which may contain rules.
const maxExplain = 1 << 20

// explainRequest is a scan, with rules to assume in addition to the stored rules.
type explainRequest struct {
	Request
	AssumePublished bool          `json:"assume_published,omitempty" doc:"if true, resolves as if every rule were published"`
	Assume          []assumedRule `json:"assume,omitempty" doc:"rules that are assumed to exist"`
}

// assumedRule is a rule in the format of a seed file.
type assumedRule struct {
	rules.SeedRule
	Published *bool `json:"published,omitempty" doc:"whether the rule is published; default: true"`

	_ struct{} `additionalProperties:"true"` // unknown fields are ignored
}

type explanation struct {
	Decision
	Steps []client.Step `json:"steps"`
	// CodePrefix is set if the text begins with a prefix of codes, whether or not the text is a valid code.
	CodePrefix string `json:"code_prefix,omitempty" doc:"prefix of codes at the start of the text; omitted if there is none"`
}

// newStep adds the evidence level of its verdict to a step.
func newStep(s scan.Step, now time.Time) client.Step {
	row, _ := behaviour.ByID(s.Behaviour)
	b := row.Get()
	known := b.Known(now)
	return client.Step{Prefix: s.Rule.Prefix.Text, Owner: s.Rule.Owner, Verdict: string(s.Verdict), English: s.Reason.English(),
		Chinese: s.Reason.Chinese(), Behaviour: s.Behaviour, EvidenceLevel: string(b.Evidence), Date: b.Date,
		Known: known.English(), KnownZH: known.Chinese()}
}

func (a *API) explain(w http.ResponseWriter, r *http.Request, namespace string) {
	e, err := a.newExplanation(w, r, namespace)
	if err != nil {
		a.fail(w, err)
		return
	}
	writeJSON(w, e)
}

func (a *API) newExplanation(w http.ResponseWriter, r *http.Request, namespace string) (explanation, error) {
	body, err := a.readBody(w, r, maxExplain)
	if err != nil {
		return explanation{}, err
	}
	var req explainRequest
	if err := unmarshal(body, &req); err != nil {
		return explanation{}, err
	}
	q := parsedRequest{Request: req.Request, userReplaced: userReplaced(body, req.User)}
	if req.Text != nil {
		q.text, q.hasText = *req.Text, true
	}
	in, err := a.newRequest(namespace, q)
	if err != nil {
		return explanation{}, err
	}
	assumption, err := a.assumption(req)
	if err != nil {
		return explanation{}, err
	}
	scope := scopeFromContext(r.Context())
	if len(scope) > 0 {
		if err := scope.restrict(&assumption); err != nil {
			return explanation{}, err
		}
	}
	var nearRules []rules.Rule
	if link, ok := rules.ParseLink(in.Text); ok && rules.PlainText(in.Text) {
		// A client that half-closes the connection after its last request still reads the response, but net/http cancels the
		// context of such a request.
		parent, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), explainTime)
		defer cancel()
		nearRules, err = a.Near(parent, link)
		if errors.Is(err, rules.ErrBusy) {
			return explanation{}, problem{http.StatusServiceUnavailable,
				"too many concurrent requests for explanations: try again in a moment"}
		}
		if _, unavailable := errors.AsType[*errcode.Unavailable](err); err != nil && !unavailable {
			a.Log.Error("rules near a link not readable", "error", err)
			return explanation{}, problem{http.StatusServiceUnavailable, "the rules near this link cannot be read: try again in a moment"}
		}
		if err != nil {
			return explanation{}, err
		}
		nearRules = scope.filter(assumption.NearestRules(link, nearRules))
	}
	resolver := a.Resolver
	resolver.Finder = assumption
	e := resolver.Explain(in, nearRules)
	if in.User != "" && !scope.includesDecision(e.Decision) { // the result must not reveal which users may test links of another account
		in.User = ""
		e = resolver.Explain(in, nearRules)
	}
	if err := e.Decision.Code.Err; err != nil {
		return explanation{}, a.ticketProblem(err)
	}
	if replaced(body, in.Text) {
		// as in a resolve request, a text with invalid Unicode opens nothing
		e = scan.Explanation{Decision: scan.Decision{Action: scan.ShowText, Text: in.Text}}
	}
	result := explanation{Decision: newDecision(e.Decision), Steps: []client.Step{}, CodePrefix: a.Codes.PrefixOf(in.Text)}
	for _, s := range e.Steps {
		if scope.includes(s.Rule.Owner) {
			result.Steps = append(result.Steps, newStep(s, a.Now()))
		}
	}
	return result, nil
}

// explainTime is the maximum time that an explain request waits for the database.
const explainTime = 20 * time.Second

// maxAssumed is the maximum number of rules that an explain request may assume.
const maxAssumed = 1000

func (a *API) assumption(req explainRequest) (scan.Overlay, error) {
	assumption := scan.Overlay{Base: a.Resolver.Finder, Rules: map[string]*rules.Rule{}, AllPublished: req.AssumePublished}
	if len(req.Assume) > maxAssumed {
		return assumption, problem{http.StatusUnprocessableEntity,
			fmt.Sprintf("assume has %d rules: at most %d", len(req.Assume), maxAssumed)}
	}
	for i, item := range req.Assume {
		owner, ok := a.Resolver.Accounts.Account(item.Owner)
		if !ok {
			return assumption, problem{http.StatusUnprocessableEntity, fmt.Sprintf("assume %d: there is no account %.40q", i+1, item.Owner)}
		}
		draft := item.Draft()
		draft.Path = cmp.Or(item.Path, "home") // an assumed rule needs no page
		prefix, err := rules.ValidateSeed(owner, draft)
		if err != nil {
			return assumption, problem{http.StatusUnprocessableEntity, fmt.Sprintf("assume %d: %v", i+1, err)}
		}
		rule := &rules.Rule{Kind: rules.Ordinary, Owner: item.Owner, Target: item.Owner, Prefix: prefix, Path: item.Path,
			Occupy: draft.Occupy, OpenVersion: draft.OpenVersion, TestLinks: draft.TestLinks,
			Published: item.Published == nil || *item.Published}
		if owner.Kind == accounts.ServiceAccount {
			rule.Kind, rule.Target = rules.KindService, draft.AppID
		}
		if _, duplicate := assumption.Rules[rule.Prefix.Key]; !duplicate {
			assumption.Rules[rule.Prefix.Key] = rule
		}
	}
	return assumption, nil
}
