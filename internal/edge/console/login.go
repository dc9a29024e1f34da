package console

import (
	"cmp"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/domain/iam"
)

const (
	sessionCookie = "qrjump_session"
	// flowCookie binds a sign-in at the identity provider to the browser that started the sign-in.
	flowCookie = "qrjump_flow"
	year       = 365 * 24 * 3600 // in seconds
)

// cookieName returns the name of sessionCookie or flowCookie. Under TLS the name has the prefix __Host-, so that neither other hosts nor
// plain HTTP connections can set the cookie.
func (c *Console) cookieName(r *http.Request, name string) string {
	if c.Secure(r) {
		return "__Host-" + name
	}
	return name
}

// setCookie stores a cookie for age seconds. Browsers send it only with requests from pages of this site, and flowCookie also when the
// identity provider redirects the browser back.
func (c *Console) setCookie(w http.ResponseWriter, r *http.Request, name, value, path string, age int) {
	site := http.SameSiteStrictMode
	if strings.HasSuffix(name, flowCookie) {
		site = http.SameSiteLaxMode
	}
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: path, MaxAge: age, Secure: c.Secure(r), HttpOnly: true, SameSite: site})
}

// setSession stores the session of the visitor, or deletes it if text is "".
func (c *Console) setSession(v *request, text string, age time.Duration) {
	c.setCookie(v.w, v.r, c.cookieName(v.r, sessionCookie), text, "/", cmp.Or(int(age.Seconds()), -1))
}

// signingIn contains the data of the sign-in page.
type signingIn struct {
	Next, Once, Name string
	Provider         string // the host of the identity provider on offer
	Out              string // the address for signing out at the identity provider too, after signing out of the console
	Kept             string // a form that was kept until the sign-in
	WantsCode        bool
	Error            string
}

func (c *Console) loginPage(v *request) error {
	q := v.r.URL.Query()
	// The sign-in link needs a click on a button, because programs that follow links in messages would otherwise use up the one-time link.
	form := signingIn{Next: localPath(q.Get("next")), Once: q.Get("once"), Provider: c.offered()}
	if c.Provider != nil && q.Get("out") == "provider" {
		form.Out = c.Provider.EndSession()
	}
	return v.show(http.StatusOK, "login", form)
}

// login starts a session with a one-time link, the admin token, or name and password.
func (c *Console) login(v *request) error {
	r := v.r
	r.Body = http.MaxBytesReader(v.w, r.Body, 4*maxKeptSize) // the request may carry a form that was submitted without a session (keptForm)
	form := signingIn{Next: localPath(r.FormValue("next")), Name: r.FormValue("name"), Kept: r.FormValue("kept"), Provider: c.offered()}
	if form.Kept != "" && r.FormValue("did") == "on" { // the visitor says that another tab was used to sign in
		if _, err := c.callerOf(r, c.People.BySession); err == nil {
			return c.goOn(v, form)
		}
		form.Error = v.say("kept.not.yet")
		return v.show(http.StatusUnauthorized, "login", form)
	}
	browser, previous := v.browser(), cookieOf(r, c.cookieName(r, sessionCookie))
	var text string
	var err error
	switch single := r.FormValue("once"); {
	case single != "":
		text, err = c.People.RedeemLoginLink(r.Context(), single, browser, previous)
	case form.Name == "":
		var right bool
		if right, err = c.AdminToken(r, r.FormValue("password")); err == nil && !right {
			err = iam.ErrRefused
		}
		if err == nil {
			text, err = c.People.Begin(r.Context(), browser, previous)
		}
	default:
		text, err = c.People.SignIn(r.Context(), iam.Credentials{Name: form.Name, Password: r.FormValue("password"),
			Code: r.FormValue("code")}, browser, previous)
	}
	if err == nil {
		c.setSession(v, text, iam.Longest)
		return c.goOn(v, form)
	}
	var status int
	status, form.Error = v.signInFault(err, "login.")
	form.WantsCode = errors.Is(err, iam.ErrRefused) && r.FormValue("code") != ""
	if errors.Is(err, iam.ErrSecondFactor) {
		form.WantsCode, status = true, http.StatusUnauthorized
	}
	return v.show(status, "login", form)
}

// signInFaults maps errors of a sign-in to the status and the end of the text key of the response, and to the seconds until a retry.
var signInFaults = []struct {
	err    error
	status int
	key    string
	wait   string
}{{iam.ErrRefused, http.StatusForbidden, "wrong", ""}, {iam.ErrSecondFactor, http.StatusForbidden, "code.wanted", ""},
	{iam.ErrNoLink, http.StatusForbidden, "link.gone", ""}, {iam.ErrNoPerson, http.StatusForbidden, "nobody", ""},
	{iam.ErrPending, http.StatusForbidden, "pending", ""}, {iam.ErrTooMany, http.StatusTooManyRequests, "many", "60"},
	{iam.ErrBusy, http.StatusServiceUnavailable, "busy", "5"}}

// signInFault returns the status and the text of an error of a sign-in; prefix is the prefix of the text keys of the page.
func (v *request) signInFault(err error, prefix string) (status int, text string) {
	for _, f := range signInFaults {
		if !errors.Is(err, f.err) {
			continue
		}
		if f.wait != "" {
			v.w.Header().Set("Retry-After", f.wait)
			prefix = "login."
		}
		if !v.Has(prefix + f.key) { // the sign-in page does not say whether a person exists
			f.key = "wrong"
		}
		return f.status, v.say(prefix + f.key)
	}
	v.c.Log.ErrorContext(v.r.Context(), "sign-in failed", "path", v.r.URL.Path, "error", err)
	return http.StatusServiceUnavailable, v.say("fault.store")
}

// browser describes the browser of the visitor for the list of sessions.
func (v *request) browser() iam.Browser {
	return iam.Browser{IP: v.c.ClientIP(v.r), Agent: v.r.UserAgent()}
}

// cookieOf returns the value of a cookie, "" without the cookie.
func cookieOf(r *http.Request, name string) string {
	cookie, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

func (c *Console) logout(v *request) error {
	to, ctx := Root+"/login", v.r.Context()
	if caller, err := c.callerOf(v.r, c.People.BySession); err == nil && caller.Session != "" {
		if caller.Issuer != "" {
			to += "?out=provider"
		}
		if err := c.People.End(ctx, caller.Name, caller.Session); err != nil && !errors.Is(err, iam.ErrNoSession) {
			c.Log.ErrorContext(ctx, "session not ended", "error", err)
			return v.fail(http.StatusServiceUnavailable, v.say("fault.store"))
		}
	}
	c.setSession(v, "", 0)
	return v.redirect(to)
}

func (c *Console) sessions(v *request) error {
	list, err := c.People.Sessions(v.r.Context(), v.caller.Name)
	return v.page("sessions", map[string]any{"Sessions": list, "Mine": v.caller.Session}, err)
}

func (c *Console) endSession(v *request) error {
	var err error
	if id := v.r.FormValue("id"); id == "others" {
		err = c.People.EndOthers(v.r.Context(), v.caller.Name, v.caller.Session)
	} else if err = c.People.End(v.r.Context(), v.caller.Name, id); errors.Is(err, iam.ErrNoSession) {
		err = nil // the session that the visitor wants to end has already ended
	}
	return v.done(Root+"/sessions?done=ended", err)
}
