package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/oidc"
)

// flowCookie returns the name of the cookie that binds a sign-in at the provider to the browser that
// began it. It must arrive when the provider sends the browser back, so it is not SameSite=Strict.
func (c *Console) flowCookie(r *http.Request) string {
	if c.Secure(r) {
		return "__Host-qrjump_flow"
	}
	return "qrjump_flow"
}

func (c *Console) setFlow(v *request, kept string, age int) {
	http.SetCookie(v.w, &http.Cookie{Name: c.flowCookie(v.r), Value: kept, Path: "/", MaxAge: age, Secure: c.Secure(v.r), HttpOnly: true,
		SameSite: http.SameSiteLaxMode})
}

// offered returns the provider that the page of signing in offers; "" = there is none.
func (c *Console) offered() string {
	if c.Provider == nil {
		return ""
	}
	return c.Provider.Host()
}

// mostFlow is the maximum size of a sign-in's cookie: browsers keep 4,096 bytes with its name and attributes.
const mostFlow = 3500

// toProvider redirects to the provider. It is a link, since a form may not lead to another origin. A page of another origin cannot
// follow the link in a visitor's name.
func (c *Console) toProvider(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	next := localPath(r.URL.Query().Get("next"))
	if c.Provider == nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		v.redirect(Root + "/login?next=" + url.QueryEscape(next))
		return
	}
	scheme := "http://"
	if c.Secure(r) {
		scheme = "https://"
	}
	var to, kept string
	var err error
	page, _, _ := strings.Cut(next, "?")
	for _, shorter := range []string{next, page, Root + "/"} { // a browser drops a cookie that is too long
		if to, kept, err = c.Provider.Begin(r.Context(), scheme+r.Host+Root+"/login/callback", shorter); err != nil {
			c.unreached(v, next, err)
			return
		}
		if len(kept) <= mostFlow {
			break
		}
	}
	c.setFlow(v, kept, int(oidc.FlowTime.Seconds()))
	v.redirect(to)
}

// unreached says that the provider cannot be asked, and offers the other ways in.
func (c *Console) unreached(v *request, next string, err error) {
	c.Log.WarnContext(v.r.Context(), "a sign-in at the provider failed", "provider", c.Provider.Issuer, "error", err)
	v.show(http.StatusServiceUnavailable, "login", signingIn{Next: next, Provider: c.offered(),
		Fault: v.say("provider.down", c.Provider.Host())})
}

// cameBack are the fields of a provider's answer.
var cameBack = []string{"state", "code", "iss", "error"}

// callbackPage hands the provider's answer to a form of this origin. So the GET to which another
// site leads changes nothing, and the session's strict cookie is sent with the form.
func (c *Console) callbackPage(w http.ResponseWriter, r *http.Request) {
	v := c.visit(w, r, iam.Caller{})
	if c.Provider == nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	fields := map[string]string{}
	for _, name := range cameBack {
		if text := r.URL.Query().Get(name); text != "" && len(text) <= 4096 {
			fields[name] = text
		}
	}
	v.show(http.StatusOK, "callback", map[string]any{"Provider": c.Provider.Host(), "Fields": fields})
}

// callback begins a session for the person that the provider's answer names.
func (c *Console) callback(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 32<<10)
	v := c.visit(w, r, iam.Caller{})
	if c.Provider == nil {
		v.fault(http.StatusNotFound, v.say("fault.nowhere"))
		return
	}
	browser := iam.Browser{IP: c.ClientIP(r), Agent: r.UserAgent()}
	kept, came, previous := "", url.Values{}, ""
	if cookie, err := r.Cookie(c.flowCookie(r)); err == nil {
		kept = cookie.Value
	}
	for _, name := range cameBack {
		came.Set(name, r.PostFormValue(name))
	}
	if old, err := r.Cookie(c.cookie(r)); err == nil {
		previous = old.Value
	}
	user, next, err := c.Provider.Finish(r.Context(), kept, came)
	if errors.Is(err, oidc.ErrNotBegun) {
		// A stranger can bring people here by a link. That must not end a sign-in that they began.
		c.turnAway(v, c.People.RecordOIDCFailure(browser), http.StatusForbidden,
			signingIn{Next: localPath(next), Provider: c.offered(), Fault: v.say("provider.begun")})
		return
	}
	c.setFlow(v, "", -1) // once
	ctx := accounts.WithActor(r.Context(), accounts.Actor{ActorID: "provider"})
	if err == nil {
		var text string
		if text, err = c.People.SignInFederated(ctx, user, browser, previous); err == nil {
			c.setCookie(v, text, int(iam.OutsideTime.Seconds()))
			v.redirect(localPath(next))
			return
		}
	}
	c.refused(ctx, v, user, localPath(next), browser, err)
}

// refused shows the reason for which the provider's answer was rejected. A person who has no role any more is signed out
// everywhere.
func (c *Console) refused(ctx context.Context, v *request, user iam.FederatedUser, next string, from iam.Browser, err error) {
	if errors.Is(err, oidc.ErrDown) {
		c.unreached(v, next, err)
		return
	}
	page := signingIn{Next: next, Provider: c.offered()}
	status, tooMany := http.StatusForbidden, c.People.RecordOIDCFailure(from)
	refusal, isRefusal := errors.AsType[*oidc.Denial](err)
	switch {
	case isRefusal:
		if !tooMany {
			c.Log.WarnContext(ctx, "the provider's answer lets nobody in", "provider", c.Provider.Issuer, "why", string(refusal.Why),
				"detail", refusal.Detail)
		}
		page.Fault = v.say("provider."+string(refusal.Why), c.Provider.Host(), c.Provider.RolesClaim, refusal.Detail)
		if user.Subject != "" {
			if err := c.People.Deprovision(ctx, user.Issuer, user.Subject); err != nil {
				c.Log.ErrorContext(ctx, "sessions of somebody without a role could not be ended", "error", err)
				page.Fault, status = v.say("fault.store"), http.StatusServiceUnavailable
			}
		}
	default:
		c.Log.ErrorContext(ctx, "a sign-in failed", "error", err)
		page.Fault, status = v.say("fault.store"), http.StatusServiceUnavailable
	}
	c.turnAway(v, tooMany, status, page)
}

// turnAway shows the reason for which an answer was rejected. After too many from one address it says only that there were too
// many.
func (c *Console) turnAway(v *request, tooMany bool, status int, page signingIn) {
	if tooMany {
		v.w.Header().Set("Retry-After", "60")
		status, page.Fault = http.StatusTooManyRequests, v.say("login.many")
	}
	v.show(status, "login", page)
}
