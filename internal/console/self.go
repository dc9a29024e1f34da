package console

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"strings"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/people"
	"github.com/qrjump/qrjump/internal/symbol"
)

// selfView is what people see of themselves.
type selfView struct {
	Person  people.Person
	Named   bool // false: the admin token, which belongs to no person
	Factor  people.Factor
	Picture template.URL // the new factor, for an app's camera
	Waits   string       // the new factor until it is confirmed
	Fault   string
}

// everyRoute are the pages and forms for people who are signed in, with the page about themselves.
func (c *Console) everyRoute() map[string]func(*visit) {
	all := c.routes()
	all["GET /console/self"], all["POST /console/self"] = c.self, c.changeSelf
	return all
}

func (c *Console) self(v *visit) { c.showSelf(v, http.StatusOK, selfView{}) }

func (c *Console) showSelf(v *visit, status int, data selfView) {
	p, err := c.People.Own(v.r.Context(), v.caller)
	if err != nil && !errors.Is(err, people.ErrNoPerson) {
		v.failed(err)
		return
	}
	data.Person, data.Named = p, err == nil
	v.show(status, "self", data)
}

// changeSelf changes how somebody signs in. They prove who they are once more, and all their other
// sessions end.
func (c *Console) changeSelf(v *visit) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, 32<<10)
	ctx := accounts.By(v.r.Context(), accounts.Author{Actor: v.caller.Actor})
	browser := people.Browser{IP: c.ClientIP(v.r), Agent: v.r.UserAgent()}
	proof := people.Attempt{Password: v.r.PostFormValue("password"), Code: v.r.PostFormValue("code")}
	var text string
	var err error
	var data selfView
	switch v.r.PostFormValue("did") {
	case "password":
		text, err = c.People.ChangeOwn(ctx, v.caller, proof, people.Change{Password: new(v.r.PostFormValue("new-password"))}, browser)
	case "no-factor":
		text, err = c.People.ChangeOwn(ctx, v.caller, proof, people.Change{SecondFactor: new("off")}, browser)
	case "factor":
		if data.Factor, data.Waits, err = c.People.DrawFactor(ctx, v.caller, proof, browser); err == nil {
			var picture string
			picture, err = symbol.ForScreen(data.Factor.URI)
			data.Picture = template.URL(picture)
		}
	case "confirm":
		text, err = c.People.ConfirmFactor(ctx, v.caller, v.r.PostFormValue("waits"), v.r.PostFormValue("code"), browser)
	default:
		v.fault(http.StatusUnprocessableEntity, v.say("fault.form"))
		return
	}
	switch {
	case err != nil:
		c.selfRefused(ctx, v, err)
	case text != "":
		c.setCookie(v, text, int(people.Longest.Seconds()))
		v.redirect(Root + "/self?done=self")
	default:
		c.showSelf(v, http.StatusOK, data)
	}
}

func (c *Console) selfRefused(ctx context.Context, v *visit, err error) {
	status, fault := http.StatusForbidden, ""
	invalid, isInvalid := errors.AsType[accounts.Invalid](err)
	switch {
	case isInvalid:
		status, fault = http.StatusUnprocessableEntity, string(invalid)
	case errors.Is(err, people.ErrNoPerson):
		fault = v.say("self.nobody")
	case errors.Is(err, people.ErrRefused):
		fault = v.say("self.wrong")
	case errors.Is(err, people.ErrSecondFactor):
		fault = v.say("self.code.wanted")
	case errors.Is(err, people.ErrPending):
		fault = v.say("self.pending")
	case errors.Is(err, people.ErrTooMany):
		status, fault = http.StatusTooManyRequests, v.say("login.many")
		v.w.Header().Set("Retry-After", "60")
	case errors.Is(err, people.ErrBusy):
		status, fault = http.StatusServiceUnavailable, v.say("login.busy")
		v.w.Header().Set("Retry-After", "5")
	default:
		c.Log.ErrorContext(ctx, "a change of one's own sign-in failed", "error", err)
		status, fault = http.StatusServiceUnavailable, v.say("fault.store")
	}
	c.showSelf(v, status, selfView{Fault: fault})
}

// lacksFactor reports whether somebody must set up a second factor before they may do anything
// else. For people whom a provider signs in that is the provider's matter; the admin token belongs
// to no person.
func (c *Console) lacksFactor(v *visit) bool {
	who := v.caller
	if c.Demanded == nil || who.Session == "" || who.Name == "" || who.Issuer != "" || who.Factor || !c.Demanded(who.Role) {
		return false
	}
	path := v.r.URL.Path
	return path != Root+"/self" && !strings.HasPrefix(path, Root+"/preferences/")
}

// setUp leads to the page on which a second factor is set up.
func (c *Console) setUp(v *visit, stream bool) {
	switch {
	case stream:
		http.Error(v.w, "set up a second factor first", http.StatusForbidden)
	case v.r.Method == http.MethodGet || v.r.Method == http.MethodHead:
		v.redirect(Root + "/self?done=factor")
	default:
		v.fault(http.StatusForbidden, v.say("self.factor.first"))
	}
}
