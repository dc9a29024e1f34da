package adminroute

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// Role is the permission level of a caller of the admin API: viewer < marketer, rules < operator < admin.
type Role string

const (
	Viewer   Role = "viewer"   // read
	Marketer Role = "marketer" // and change codes
	Rules    Role = "rules"    // and change rules
	Operator Role = "operator" // and change accounts, domains and who is told what
	Admin    Role = "admin"    // and settings, keys, everything at once
)

var ranks = map[Role]int{Viewer: 1, Marketer: 2, Rules: 2, Operator: 3, Admin: 4}

// AtLeast reports whether a role covers another: of marketer and rules neither covers the other.
func (r Role) AtLeast(role Role) bool {
	return ranks[r] > 0 && (r == role || ranks[role] > 0 && ranks[r] > ranks[role])
}

// Known reports whether a role is one of these.
func (r Role) Known() bool { return ranks[r] > 0 }

// Roles are all roles, the least first.
var Roles = []Role{Viewer, Marketer, Rules, Operator, Admin}

// Caller is the author of a request with its role and accounts.
type Caller struct {
	Role     Role
	Accounts []string // AppIDs that the role is limited to; none = all
}

// Scoped reports whether a caller may do something for some accounts only.
func (c Caller) Scoped() bool { return len(c.Accounts) > 0 }

// CanAccess reports whether a caller may do something for an account.
func (c Caller) CanAccess(appid string) bool {
	return !c.Scoped() || slices.Contains(c.Accounts, appid)
}

type callerKey struct{}

// WithCaller says who calls.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFromContext returns the caller that As set last; without one it has no permissions.
func CallerFromContext(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Authorise returns the problem of a caller whose role does not cover the least
// one that a call wants. A context without a caller may do nothing.
func Authorise(ctx context.Context, role Role) huma.StatusError {
	if !CallerFromContext(ctx).Role.AtLeast(role) {
		return huma.NewError(http.StatusForbidden, "this call wants the role "+string(role))
	}
	return nil
}

// unlimited returns the problem of a caller that is limited to accounts.
func unlimited(ctx context.Context) huma.StatusError {
	if CallerFromContext(ctx).Scoped() {
		return huma.NewError(http.StatusForbidden, "this call concerns all accounts, and you may see some of them only")
	}
	return nil
}

// RequireRole is h for callers whose role covers the least one.
func RequireRole(role Role, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused := Authorise(r.Context(), role)
		if refused == nil {
			refused = unlimited(r.Context())
		}
		if refused != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(refused.GetStatus())
			_ = json.NewEncoder(w).Encode(refused)
			return
		}
		h.ServeHTTP(w, r)
	})
}
