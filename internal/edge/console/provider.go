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

// offered returns the host of the identity provider for the sign-in page; "" = none.
func (c *Console) offered() string {
	if c.Provider == nil {
		return ""
	}
	return c.Provider.Host()
}

// maxFlow is the maximum size of the sign-in cookie; browsers limit a cookie with name and attributes to 4,096 bytes.
const maxFlow = 3500

// atProvider returns a handler that calls the function serve if people can sign in at an identity provider.
func (c *Console) atProvider(serve handler) handler {
	return func(v *request) error {
		if c.Provider == nil {
			return v.nowhere()
		}
		return serve(v)
	}
}

// toProvider redirects to the identity provider. The sign-in page uses a link, because the Content-Security-Policy forbids forms
// that lead to another origin. Requests from pages of another origin are redirected to the sign-in page instead.
func (c *Console) toProvider(v *request) error {
	r, next := v.r, localPath(v.r.URL.Query().Get("next"))
	if !v.fromHere() {
		return v.redirect(Root + "/login?next=" + url.QueryEscape(next))
	}
	scheme := "http://"
	if c.Secure(r) {
		scheme = "https://"
	}
	var to, kept string
	var err error
	page, _, _ := strings.Cut(next, "?")
	for _, shorter := range []string{next, page, Root + "/"} { // browsers drop a cookie that is too long
		if to, kept, err = c.Provider.Begin(r.Context(), scheme+r.Host+Root+"/login/callback", shorter); err != nil {
			return c.unreached(v, next, err)
		}
		if len(kept) <= maxFlow {
			break
		}
	}
	c.setCookie(v.w, r, c.cookieName(r, flowCookie), kept, "/", int(oidc.FlowTime.Seconds()))
	return v.redirect(to)
}

// unreached shows that the identity provider is unreachable, and offers the other ways to sign in.
func (c *Console) unreached(v *request, next string, err error) error {
	c.Log.WarnContext(v.r.Context(), "sign-in at the identity provider failed", "provider", c.Provider.Issuer, "error", err)
	return v.show(http.StatusServiceUnavailable, "login", signingIn{Next: next, Provider: c.offered(),
		Error: v.say("provider.down", c.Provider.Host())})
}

// cameBack lists the parameters of a provider's redirect.
var cameBack = []string{"state", "code", "iss", "error"}

// callbackPage copies the provider's redirect parameters into a form of this origin. The GET request, which comes from the provider's site,
// changes nothing; the browser sends the SameSite=Strict session cookie only with the form.
func (c *Console) callbackPage(v *request) error {
	fields := map[string]string{}
	for _, name := range cameBack {
		if text := v.r.URL.Query().Get(name); text != "" && len(text) <= 4096 {
			fields[name] = text
		}
	}
	return v.show(http.StatusOK, "callback", map[string]any{"Provider": c.Provider.Host(), "Fields": fields})
}

// callback starts a session for the person that the provider authenticated.
func (c *Console) callback(v *request) error {
	r, browser, came := v.r, v.browser(), url.Values{}
	r.Body = http.MaxBytesReader(v.w, r.Body, 32<<10)
	for _, name := range cameBack {
		came.Set(name, r.PostFormValue(name))
	}
	user, next, err := c.Provider.Finish(r.Context(), cookieOf(r, c.cookieName(r, flowCookie)), came)
	if errors.Is(err, oidc.ErrNotBegun) {
		// Any site can contain a link to the address of the provider's redirect; such a link must not abort a sign-in that the person has
		// started.
		return c.turnAway(v, c.People.RecordOIDCFailure(browser), http.StatusForbidden,
			signingIn{Next: localPath(next), Provider: c.offered(), Error: v.say("provider.begun")})
	}
	c.setCookie(v.w, r, c.cookieName(r, flowCookie), "", "/", -1) // once
	ctx := accounts.WithActor(r.Context(), accounts.Actor{ActorID: "provider"})
	if err == nil {
		var text string
		if text, err = c.People.SignInFederated(ctx, user, browser, cookieOf(r, c.cookieName(r, sessionCookie))); err == nil {
			c.setSession(v, text, iam.OutsideTime)
			return v.redirect(localPath(next))
		}
	}
	return c.refused(ctx, v, user, localPath(next), browser, err)
}

// refused shows why the provider's response was rejected. A person who no longer has a role is signed out of all sessions.
func (c *Console) refused(ctx context.Context, v *request, user iam.FederatedUser, next string, from iam.Browser, err error) error {
	if errors.Is(err, oidc.ErrDown) {
		return c.unreached(v, next, err)
	}
	page := signingIn{Next: next, Provider: c.offered()}
	status, tooMany := http.StatusForbidden, c.People.RecordOIDCFailure(from)
	refusal, isRefusal := errors.AsType[*oidc.Denial](err)
	switch {
	case isRefusal:
		if !tooMany {
			c.Log.WarnContext(ctx, "rejected sign-in of the identity provider", "provider", c.Provider.Issuer,
				"reason", string(refusal.Reason), "detail", refusal.Detail)
		}
		page.Error = v.say("provider."+string(refusal.Reason), c.Provider.Host(), c.Provider.RolesClaim, refusal.Detail)
		if user.Subject != "" {
			if err := c.People.Deprovision(ctx, user.Issuer, user.Subject); err != nil {
				c.Log.ErrorContext(ctx, "sessions of a person without a role not ended", "error", err)
				page.Error, status = v.say("fault.store"), http.StatusServiceUnavailable
			}
		}
	default:
		c.Log.ErrorContext(ctx, "sign-in failed", "error", err)
		page.Error, status = v.say("fault.store"), http.StatusServiceUnavailable
	}
	return c.turnAway(v, tooMany, status, page)
}

// turnAway shows why a sign-in was rejected. After too many failures from one address, the page says only that there were too many
// failures.
func (c *Console) turnAway(v *request, tooMany bool, status int, page signingIn) error {
	if tooMany {
		v.w.Header().Set("Retry-After", "60")
		status, page.Error = http.StatusTooManyRequests, v.say("login.many")
	}
	return v.show(status, "login", page)
}
