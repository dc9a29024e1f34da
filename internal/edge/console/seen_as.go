package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
)

// seenAsCookie says as which role, with which limit, an admin sees the console. A forged cookie shows less, never more.
const seenAsCookie = "qrjump_seen_as"

// seenAs returns an admin's caller as the cookie has it, and whether there is one.
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

// admin reports whether a caller is one for everything.
func admin(caller iam.Caller) bool {
	return adminroute.Role(caller.Role) == adminroute.Admin && len(caller.Accounts) == 0
}

// mostSeenAs is the number of accounts that the cookie has room for.
const mostSeenAs = 50

// seeAs begins to show an admin the console as another role sees it, or ends that.
func (c *Console) seeAs(v *request) {
	cookie := &http.Cookie{Name: seenAsCookie, Path: Root, MaxAge: -1, SameSite: http.SameSiteStrictMode, HttpOnly: true,
		Secure: c.Secure(v.r)}
	if v.r.FormValue("did") == "end" {
		http.SetCookie(v.w, cookie)
		v.redirect(Root + "/people")
		return
	}
	role, appids := adminroute.Role(v.r.FormValue("role")), listed(v.r.FormValue("accounts"))
	switch {
	case !admin(v.caller):
		v.fault(http.StatusForbidden, v.say("agree.role", v.say("role.admin")))
		return
	case !role.Known() || role == adminroute.Admin:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	case len(appids) > mostSeenAs:
		peoplePages{}.showPeople(v,
			peopleView{SeenAs: string(role), SeenFor: v.r.FormValue("accounts"), SeenFault: v.say("seen_as.many", mostSeenAs)})
		return
	}
	for _, appid := range appids {
		if _, err := v.api.Accounts.Get(v.ctx(), appid); err != nil {
			peoplePages{}.showPeople(v,
				peopleView{SeenAs: string(role), SeenFor: v.r.FormValue("accounts"), SeenFault: v.say("seen_as.unknown", appid)})
			return
		}
	}
	slices.Sort(appids)
	cookie.Value, cookie.MaxAge = strings.Join(append([]string{string(role)}, slices.Compact(appids)...), "/"), 8*3600
	http.SetCookie(v.w, cookie)
	v.redirect(Root + "/")
}

// stays are the forms that work also while an admin sees the console as another role: they change
// nothing of the server.
var stays = []string{Root + "/see-as", Root + "/preferences/theme", Root + "/scan"}

// looks reports whether a form comes from an admin who sees the console as another role; if so, it
// refuses the form.
func (v *request) looks() bool {
	if !v.seenAs || v.r.Method == http.MethodGet || v.r.Method == http.MethodHead || slices.Contains(stays, v.r.URL.Path) {
		return false
	}
	v.fault(http.StatusForbidden, v.say("seen_as.reading"))
	return true
}

// SeenAs says on every page as which role an admin sees it; "" = as admin.
func (v view) SeenAs() string {
	switch {
	case !v.seenAs:
		return ""
	case len(v.caller.Accounts) == 0:
		return v.say("seen_as.all", v.say("role."+v.caller.Role))
	}
	return v.say("seen_as.for", v.say("role."+v.caller.Role), strings.Join(v.caller.Accounts, ", "))
}
