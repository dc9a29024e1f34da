package oidc

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// claims contains the identity provider's claims about a person.
type claims struct {
	subject string
	all     map[string]any
}

// names returns the possible display names of a person, the best first.
func (c claims) names() (list []string) {
	for _, claim := range []string{"preferred_username", "email", "name"} {
		if text, _ := c.all[claim].(string); text != "" {
			list = append(list, text)
		}
	}
	return list
}

// claim finds the claim with the roles: RolesClaim is first used as a name, which may contain dots, then as a path into nested objects.
func (p *Provider) claim(all map[string]any) (any, bool) {
	if value, ok := all[p.RolesClaim]; ok {
		return value, true
	}
	var v any = all
	for name := range strings.SplitSeq(p.RolesClaim, ".") {
		object, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = object[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// valuesOf returns the strings of a claim: a list, one string separated by spaces or commas, or, for an object, its keys except those with
// the value false or null.
func valuesOf(claim any) (list []string) {
	switch claim := claim.(type) {
	case string:
		list = strings.FieldsFunc(claim, func(r rune) bool { return r == ' ' || r == ',' })
	case []any:
		for _, v := range claim {
			if text, ok := v.(string); ok {
				list = append(list, text)
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(claim)) {
			if value := claim[name]; value != nil && value != false {
				list = append(list, name)
			}
		}
	}
	return list
}

// rolePrefix marks a value for this server in a claim that other applications read too.
const rolePrefix = "qrjump:"

// role returns the role and accounts from a claim with values ROLE or ROLE:APPID, optionally prefixed with "qrjump:"; if any value has this
// prefix, only prefixed values count. Of several roles, the role that includes all others counts. The role applies to the AppIDs that are
// named with it, or to all accounts if a value names the role without an AppID.
func (p *Provider) role(all map[string]any) (adminroute.Role, []string, error) {
	claim, exists := p.claim(all)
	if !exists {
		return "", nil, &Denial{Absent, p.RolesClaim}
	}
	values := valuesOf(claim)
	if slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(v, rolePrefix) }) {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !strings.HasPrefix(v, rolePrefix) })
	}
	appids, fullSet := map[adminroute.Role][]string{}, map[adminroute.Role]bool{}
	for _, value := range values {
		name, appid, limited := strings.Cut(strings.TrimPrefix(value, rolePrefix), ":")
		role := adminroute.Role(name)
		switch {
		case !role.Known() || limited && (appid == "" || len(appid) > 64):
		case limited:
			appids[role] = append(appids[role], appid)
		default:
			appids[role], fullSet[role] = nil, true
		}
	}
	var best adminroute.Role
	for role := range appids {
		if best == "" || role.AtLeast(best) {
			best = role
		}
	}
	for role := range appids {
		if !best.AtLeast(role) {
			return "", nil, &Denial{Two, string(min(best, role)) + ", " + string(max(best, role))}
		}
	}
	switch {
	case best == "":
		return "", nil, &Denial{NoRole, plain(strings.Join(valuesOf(claim), ", "))}
	case fullSet[best]:
		return best, nil, nil
	case best == adminroute.Admin || len(appids[best]) > 1000:
		return "", nil, &Denial{Limited, string(best)}
	}
	slices.Sort(appids[best])
	return best, slices.Compact(appids[best]), nil
}

// plain returns an external text in a form safe to show: truncated, with printable characters only.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
	if r := []rune(text); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return text
}
