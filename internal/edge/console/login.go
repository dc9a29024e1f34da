package console

import (
	"errors"
	"net/http"

	"github.com/qrjump/qrjump/internal/domain/iam"
)

// cookie returns the name of the session cookie. Under TLS the name has the prefix __Host-, so that neither other hosts nor plain
// HTTP connections can set the cookie.
func (c *Console) cookie(r *http.Request) string {
	if c.Secure(r) {
		return "__Host-qrjump_session"
	}
	return "qrjump_session"
}

func (c *Console) setCookie(v *request, text string, age int) {
	http.SetCookie(v.w, &http.Cookie{Name: c.cookie(v.r), Value: text, Path: "/", MaxAge: age, Secure: c.Secure(v.r), HttpOnly: true,
		SameSite: http.SameSiteStrictMode})
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

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	q := r.URL.Query()
	// The sign-in link needs a click on a button, because programs that follow links in messages would otherwise use up the one-time link.
	form := signingIn{Next: localPath(q.Get("next")), Once: q.Get("once"), Provider: c.offered()}
	if c.Provider != nil && q.Get("out") == "provider" {
		form.Out = c.Provider.EndSession()
	}
	v.show(http.StatusOK, "login", form)
}

// login starts a session with a one-time link, the admin token, or name and password.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4*maxKeptSize) // the request may carry a form that was submitted without a session (keptForm)
	v := c.visit(w, r, iam.Caller{})
	form := signingIn{Next: localPath(r.FormValue("next")), Name: r.FormValue("name"), Kept: r.FormValue("kept"), Provider: c.offered()}
	if form.Kept != "" && r.FormValue("did") == "on" { // the visitor says that another tab was used to sign in
		if _, err := c.callerOf(r); err == nil {
			c.goOn(v, form)
			return
		}
		form.Error = v.say("kept.not.yet")
		v.show(http.StatusUnauthorized, "login", form)
		return
	}
	browser := iam.Browser{IP: c.ClientIP(r), Agent: r.UserAgent()}
	previous := ""
	if old, err := r.Cookie(c.cookie(r)); err == nil {
		previous = old.Value
	}
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
	status := http.StatusForbidden
	switch {
	case err == nil:
		c.setCookie(v, text, int(iam.Longest.Seconds()))
		c.goOn(v, form)
		return
	case errors.Is(err, iam.ErrSecondFactor):
		form.WantsCode, form.Error, status = true, v.say("login.code.wanted"), http.StatusUnauthorized
	case errors.Is(err, iam.ErrRefused):
		form.WantsCode, form.Error = r.FormValue("code") != "", v.say("login.wrong")
	case errors.Is(err, iam.ErrNoLink):
		form.Error = v.say("login.link.gone")
	case errors.Is(err, iam.ErrNoPerson):
		form.Error = v.say("login.wrong")
	case errors.Is(err, iam.ErrTooMany):
		form.Error, status = v.say("login.many"), http.StatusTooManyRequests
		w.Header().Set("Retry-After", "60")
	case errors.Is(err, iam.ErrBusy):
		form.Error, status = v.say("login.busy"), http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	default:
		c.Log.ErrorContext(r.Context(), "a sign-in failed", "error", err)
		form.Error, status = v.say("fault.store"), http.StatusServiceUnavailable
	}
	v.show(status, "login", form)
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	to := Root + "/login"
	if caller, err := c.callerOf(r); err == nil && caller.Session != "" {
		if caller.Issuer != "" {
			to += "?out=provider"
		}
		if err := c.People.End(r.Context(), caller.Name, caller.Session); err != nil && !errors.Is(err, iam.ErrNoSession) {
			c.Log.ErrorContext(r.Context(), "a session could not be ended", "error", err)
			v.fail(http.StatusServiceUnavailable, v.say("fault.store"))
			return
		}
	}
	c.setCookie(v, "", -1)
	v.redirect(to)
}

func (c *Console) sessions(v *request) {
	list, err := c.People.Sessions(v.r.Context(), v.caller.Name)
	if v.failed(err) {
		return
	}
	v.show(http.StatusOK, "sessions", map[string]any{"Sessions": list, "Mine": v.caller.Session})
}

func (c *Console) endSession(v *request) {
	var err error
	if id := v.r.FormValue("id"); id == "others" {
		err = c.People.EndOthers(v.r.Context(), v.caller.Name, v.caller.Session)
	} else if err = c.People.End(v.r.Context(), v.caller.Name, id); errors.Is(err, iam.ErrNoSession) {
		err = nil // the session that the visitor wants to end has already ended
	}
	if !v.failed(err) {
		v.redirect(Root + "/sessions?done=ended")
	}
}
