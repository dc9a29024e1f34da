package scanapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// accountScope contains the AppIDs to which the caller is limited; empty = all accounts.
type accountScope []string

type scopeKey struct{}

// WithAccounts limits a caller to accounts; an empty list allows all accounts.
func WithAccounts(ctx context.Context, appids []string) context.Context {
	return context.WithValue(ctx, scopeKey{}, accountScope(appids))
}

func scopeFromContext(ctx context.Context) accountScope {
	w, _ := ctx.Value(scopeKey{}).(accountScope)
	return w
}

func (w accountScope) includes(appid string) bool { return len(w) == 0 || slices.Contains(w, appid) }

// includesDecision reports whether a decision concerns a rule, a code or an app of the caller's accounts.
func (w accountScope) includesDecision(d scan.Decision) bool {
	return w.includes(d.AppID) || w.includes(d.Matched.Owner) || w.includes(d.Code.Batch.Account)
}

// filter returns the rules of the caller's accounts.
func (w accountScope) filter(list []rules.Rule) []rules.Rule {
	return slices.DeleteFunc(list, func(r rules.Rule) bool { return !w.includes(r.Owner) })
}

// restrict limits the rules that an explain request uses. For the caller's accounts these are all rules; for other accounts only the rules
// that any scan can match. A caller can assume rules only for its own accounts.
func (w accountScope) restrict(o *scan.Overlay) error {
	for _, r := range o.Rules {
		if r != nil && !w.includes(r.Owner) {
			return problem{http.StatusForbidden, "assume: you have access to " + strings.Join(w, ", ") + " only"}
		}
	}
	o.Base = scopedFinder{o.Base, w}
	return nil
}

// scopedFinder is a Finder that returns all rules of the caller's accounts; for other accounts, only the rules that a scan reveals. The
// type does not override the method Governing, because scan.Overlay decides with the method Matching.
type scopedFinder struct {
	scan.Finder
	scope accountScope
}

// Matching omits a rule of another owner if it is unpublished, or if that owner also has a matching rule with a longer prefix.
func (m scopedFinder) Matching(link rules.Link) (list []rules.Rule) {
	seen := map[string]bool{}
	for _, r := range m.Finder.Matching(link) {
		if m.scope.includes(r.Owner) || r.Published && !seen[r.Owner] {
			list = append(list, r)
		}
		seen[r.Owner] = true
	}
	return list
}

// Testing omits test links of other owners.
func (m scopedFinder) Testing(text string) []rules.Rule {
	return m.scope.filter(m.Finder.Testing(text))
}
