package scanapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/domain/scan"
)

// accountScope holds the AppIDs to which the caller is limited; empty = all accounts.
type accountScope []string

type whoseKey struct{}

// WithAccounts limits a caller to accounts; an empty list allows all accounts.
func WithAccounts(ctx context.Context, appids []string) context.Context {
	return context.WithValue(ctx, whoseKey{}, accountScope(appids))
}

func whoseOf(ctx context.Context) accountScope {
	w, _ := ctx.Value(whoseKey{}).(accountScope)
	return w
}

func (w accountScope) sees(appid string) bool { return len(w) == 0 || slices.Contains(w, appid) }

// see reports whether a decision concerns a rule, a code or an app of the caller's accounts.
func (w accountScope) see(d scan.Decision) bool {
	return w.sees(d.AppID) || w.sees(d.Matched.Owner) || w.sees(d.Code.Batch.Account)
}

// filter returns the rules of the caller's accounts.
func (w accountScope) filter(list []rules.Rule) []rules.Rule {
	return slices.DeleteFunc(list, func(r rules.Rule) bool { return !w.sees(r.Owner) })
}

// restrict limits an explain request to all rules of the caller's accounts, and to those rules of other accounts that any scan can
// match. A caller can assume rules only for its own accounts.
func (w accountScope) restrict(o *scan.Overlay) error {
	for _, r := range o.Rules {
		if r != nil && !w.sees(r.Owner) {
			return problem{http.StatusForbidden, "assume: you may see " + strings.Join(w, ", ") + " only"}
		}
	}
	o.Under = met{o.Under, w}
	return nil
}

// met is a Finder that returns all rules of the caller's accounts, and of other accounts only rules that a scan reveals. The type
// omits Governing, because scan.Overlay decides with Matching.
type met struct {
	scan.Finder
	whose accountScope
}

// Matching omits unpublished rules of other owners and the rules that they hide: for each owner only the longest prefix counts.
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

// Testing omits test links of other owners.
func (m met) Testing(text string) []rules.Rule { return m.whose.filter(m.Finder.Testing(text)) }
