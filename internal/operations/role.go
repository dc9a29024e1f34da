package operations

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Role is what a caller of the admin API may do: viewer < marketer, rules <
// operator < admin.
type Role string

const (
	Viewer   Role = "viewer"   // read
	Marketer Role = "marketer" // and change codes
	Rules    Role = "rules"    // and change rules
	Operator Role = "operator" // and change accounts, domains and who is told what
	Admin    Role = "admin"    // and settings, keys, everything at once
)

var ranks = map[Role]int{Viewer: 1, Marketer: 2, Rules: 2, Operator: 3, Admin: 4}

// Covers reports whether whoever has a role may do what wants at least another:
// of marketer and rules neither covers the other.
func (r Role) Covers(least Role) bool {
	return ranks[r] > 0 && (r == least || ranks[least] > 0 && ranks[r] > ranks[least])
}

type roleKey struct{}

// As says which role the caller of a request has.
func As(ctx context.Context, r Role) context.Context { return context.WithValue(ctx, roleKey{}, r) }

// Authorise returns the problem of a caller whose role does not cover the least
// one that a call wants. A context without a role may do nothing.
func Authorise(ctx context.Context, least Role) huma.StatusError {
	if have, _ := ctx.Value(roleKey{}).(Role); !have.Covers(least) {
		return huma.NewError(http.StatusForbidden, "this call wants the role "+string(least))
	}
	return nil
}

// Only is h for callers whose role covers the least one.
func Only(least Role, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused := Authorise(r.Context(), least); refused != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(refused.GetStatus())
			_ = json.NewEncoder(w).Encode(refused)
			return
		}
		h.ServeHTTP(w, r)
	})
}
