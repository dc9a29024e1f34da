package adminroute

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// Role is the permission level of a caller of the admin API: viewer < marketer, rules-editor < operator < admin.
type Role string

const (
	Viewer      Role = "viewer"       // read
	Marketer    Role = "marketer"     // and change codes
	RulesEditor Role = "rules-editor" // and change rules
	Operator    Role = "operator"     // an operator may also change accounts, domains and notifications
	Admin       Role = "admin"        // an admin may also manage settings, keys and people, and export or reset all data
)

var ranks = map[Role]int{Viewer: 1, Marketer: 2, RulesEditor: 2, Operator: 3, Admin: 4}

// AtLeast reports whether the role r includes the permissions of role; marketer and rules-editor do not include each other.
func (r Role) AtLeast(role Role) bool {
	return ranks[r] > 0 && (r == role || ranks[role] > 0 && ranks[r] > ranks[role])
}

// Known reports whether the role is a defined role.
func (r Role) Known() bool { return ranks[r] > 0 }

// Roles lists all roles, the least privileged first.
var Roles = []Role{Viewer, Marketer, RulesEditor, Operator, Admin}

// Caller is the role and the accounts of a request's author.
type Caller struct {
	Role     Role
	Accounts []string // AppIDs to which the role is restricted; empty = all accounts
}

// Scoped reports whether a caller is restricted to some accounts.
func (c Caller) Scoped() bool { return len(c.Accounts) > 0 }

// CanAccess reports whether a caller may access an account.
func (c Caller) CanAccess(appid string) bool {
	return !c.Scoped() || slices.Contains(c.Accounts, appid)
}

type callerKey struct{}

// WithCaller returns a context that contains the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFromContext returns the caller that WithCaller stored in ctx; if there is none, the zero Caller has no permissions.
func CallerFromContext(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// Authorise returns an error if the caller's role does not include the required role. A request whose context contains no caller is
// always rejected.
func Authorise(ctx context.Context, role Role) huma.StatusError {
	if !CallerFromContext(ctx).Role.AtLeast(role) {
		return huma.NewError(http.StatusForbidden, "this operation needs the role "+string(role))
	}
	return nil
}

// unlimited returns an error if the caller is restricted to some accounts.
func unlimited(ctx context.Context) huma.StatusError {
	if CallerFromContext(ctx).Scoped() {
		return huma.NewError(http.StatusForbidden, "this operation concerns all accounts, and you have access to some accounts only")
	}
	return nil
}

// RequireRole wraps h so that it serves only callers with at least the given role and access to all accounts.
func RequireRole(role Role, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused := cmp.Or(Authorise(r.Context(), role), unlimited(r.Context())); refused != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(refused.GetStatus())
			_ = json.NewEncoder(w).Encode(refused)
			return
		}
		h.ServeHTTP(w, r)
	})
}
