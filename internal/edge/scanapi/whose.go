package scanapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// accountScope holds the AppIDs to which the caller is limited; none = all.
type accountScope []string

type whoseKey struct{}

// WithAccounts limits a caller to accounts; none = all.
func WithAccounts(ctx context.Context, appids []string) context.Context {
	return context.WithValue(ctx, whoseKey{}, accountScope(appids))
}

func whoseOf(ctx context.Context) accountScope {
	w, _ := ctx.Value(whoseKey{}).(accountScope)
	return w
}

func (w accountScope) sees(appid string) bool { return len(w) == 0 || slices.Contains(w, appid) }

// see reports whether a decision is about a rule, a code or an app of theirs.
func (w accountScope) see(d scan.Decision) bool {
	return w.sees(d.AppID) || w.sees(d.Matched.Owner) || w.sees(d.Code.Batch.Account)
}

// filter returns the rules that are theirs.
func (w accountScope) filter(list []rules.Rule) []rules.Rule {
	return slices.DeleteFunc(list, func(r rules.Rule) bool { return !w.sees(r.Owner) })
}

// restrict makes an explanation look at the rules of theirs, and of others at those that anybody meets who scans. Rules can be assumed for
// their own accounts.
func (w accountScope) restrict(o *scan.Overlay) error {
	for _, r := range o.Rules {
		if r != nil && !w.sees(r.Owner) {
			return problem{http.StatusForbidden, "assume: you may see " + strings.Join(w, ", ") + " only"}
		}
	}
	o.Under = met{o.Under, w}
	return nil
}

// met is a Finder that shows a caller all of its own accounts, and of others only what a scan reveals. It has no Governing of its
// own: scan.Overlay decides by Matching.
type met struct {
	scan.Finder
	whose accountScope
}

// Matching leaves out what another owner did not publish, and what that hides: of an owner only the longest prefix counts.
func (m met) Matching(link rules.Link) (list []rules.Rule) {
	seen := map[string]bool{}
	for _, r := range m.Finder.Matching(link) {
		if m.whose.sees(r.Owner) || r.Published && !seen[r.Owner] {
			list = append(list, r)
		}
		seen[r.Owner] = true
	}
	return list
}

// Testing leaves out test links of others.
func (m met) Testing(text string) []rules.Rule { return m.whose.filter(m.Finder.Testing(text)) }
