package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// seenAsCookie is the name of the cookie with the role and the accounts with which an admin views the console. A forged cookie can only
// reduce the permissions.
const seenAsCookie = "qrjump_seen_as"

// seenAs restricts an admin to the role and the accounts in the cookie, and reports whether the cookie applies.
func seenAs(r *http.Request, caller iam.Caller) (iam.Caller, bool) {
	cookie, err := r.Cookie(seenAsCookie)
	if err != nil || !admin(caller) {
		return caller, false
	}
	role, appids, _ := strings.Cut(cookie.Value, "/")
	if !adminroute.Role(role).Known() || adminroute.Role(role) == adminroute.Admin {
		return caller, false
	}
	caller.Role = role
	if appids != "" {
		caller.Accounts = strings.Split(appids, "/")
	}
	return caller, true
}

// admin reports whether a caller is an admin for all accounts.
func admin(caller iam.Caller) bool {
	return adminroute.Role(caller.Role) == adminroute.Admin && len(caller.Accounts) == 0
}

// maxImpersonated is the maximum number of accounts in the cookie.
const maxImpersonated = 50

// seeAs starts or ends the view of the console as another role.
func (c *Console) seeAs(v *request) error {
	if v.r.FormValue("did") == "end" {
		c.setCookie(v.w, v.r, seenAsCookie, "", Root, -1)
		return v.redirect(Root + "/people")
	}
	role, appids := adminroute.Role(v.r.FormValue("role")), listed(v.r.FormValue("accounts"))
	switch {
	case !admin(v.caller):
		return v.fail(http.StatusForbidden, v.say("agree.role", v.say("role.admin")))
	case !role.Known() || role == adminroute.Admin:
		return v.reject("fault.form")
	}
	fault := ""
	for i, appid := range appids {
		if i == maxImpersonated {
			fault = v.say("seen_as.many", maxImpersonated)
		} else if _, err := v.api.Accounts.Get(v.ctx(), appid); err != nil {
			fault = v.say("seen_as.unknown", appid)
		}
		if fault != "" {
			return peoplePages{}.showPeople(v, peopleView{SeenAs: string(role), SeenFor: v.r.FormValue("accounts"), SeenFault: fault})
		}
	}
	slices.Sort(appids)
	c.setCookie(v.w, v.r, seenAsCookie, strings.Join(append([]string{string(role)}, slices.Compact(appids)...), "/"), Root, 8*3600)
	return v.redirect(Root + "/")
}

// stays lists the forms that also work while an admin views the console as another role, because they change no server data.
var stays = []string{Root + "/see-as", Root + "/preferences/theme", Root + "/scan"}

// rejectImpersonated reports whether a form comes from an admin with the view of another role; if so, it rejects the form.
func (v *request) rejectImpersonated() bool {
	if !v.impersonating || v.r.Method == http.MethodGet || v.r.Method == http.MethodHead || slices.Contains(stays, v.r.URL.Path) {
		return false
	}
	v.fail(http.StatusForbidden, v.say("seen_as.reading"))
	return true
}

// SeenAs describes the role that an admin uses to view the console, and its accounts; "" = the admin's own role.
func (v view) SeenAs() string {
	switch {
	case !v.impersonating:
		return ""
	case len(v.caller.Accounts) == 0:
		return v.say("seen_as.all", v.say("role."+v.caller.Role))
	}
	return v.say("seen_as.for", v.say("role."+v.caller.Role), strings.Join(v.caller.Accounts, ", "))
}
