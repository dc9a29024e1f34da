package api

import (
	"context"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// check returns nil to let a call pass, or the error that rejects the call.
type check func(a *API, ctx context.Context, r *http.Request, e endpoint, c *call, s settings.Settings) error

// checks run before every endpoint in the order of the contract; the first check that fails decides the error. The body of a call is
// read after all checks have passed.
var checks = []check{
	(*API).checkPathForm,
	(*API).allowGET,
	(*API).checkMethod,
	(*API).checkToken,
	(*API).checkRates,
	(*API).checkPlatformToken,
	(*API).spendDailyQuota,
}

// storeTimeout is the maximum time that a call waits for the database. If storeTimeout expires before a change is committed, the response
// has error code -1 and nothing is changed.
const storeTimeout = 20 * time.Second

// run performs the steps of every call: it runs the checks, reads the body, injects a fault if any, and calls the endpoint function.
func (a *API) run(w http.ResponseWriter, r *http.Request, e endpoint, c *call) (any, Fault, error) {
	// The database may hang, so every call has a timeout. The delay of an injected fault does not count toward the timeout.
	notesCtx := behaviour.Noting(r.Context(), &c.notes)
	ctx, cancel := context.WithTimeout(notesCtx, storeTimeout)
	defer cancel()
	s := a.Settings.Get()
	c.needs = e.needs
	for _, check := range checks {
		if err := check(a, ctx, r, e, c, s); err != nil {
			return nil, Fault{}, err
		}
	}
	e.needs = c.needs
	f, err := a.readFields(w, r, e, c)
	if err != nil {
		return nil, Fault{}, err
	}
	f.notes, f.settings = &c.notes, a.Settings
	if err := a.checkFields(r, e, c, f); err != nil {
		return nil, Fault{}, err
	}
	if err := a.checkAccessAfterBody(e, c); err != nil {
		return nil, Fault{}, err
	}
	fault := a.injected(e, c, f)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
			return nil, Fault{Drop: true}, r.Context().Err()
		}
		ctx, cancel = context.WithTimeout(notesCtx, storeTimeout)
		defer cancel()
	}
	if err := fault.replacementError(); err != nil {
		return nil, fault, err
	}
	reply, err := a.do(ctx, e, c, f)
	if fault.Code == nil {
		return reply, fault, err
	}
	return nil, fault, fault.finalError(err)
}

// checkPathForm accepts and records, or rejects, a path with non-canonical escaping. net/url stores such a path in RawPath.
func (a *API) checkPathForm(_ context.Context, r *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if r.URL.RawPath == "" {
		return nil
	}
	return a.noteOrRefuse(c, behaviour.WirePathForm, "the path stands for %s", e.path)
}

// allowGET accepts GET for a list endpoint if the operator allows GET.
func (a *API) allowGET(_ context.Context, r *http.Request, e endpoint, c *call, s settings.Settings) error {
	if e.needs&getAllowed == 0 || s.Refuses(behaviour.RulesGetByGET) || r.Method != http.MethodGet {
		return nil
	}
	c.needs |= anyMethod
	c.notes.Add(behaviour.RulesGetByGET)
	return nil
}

// checkMethod returns error 43002 for a method that the endpoint does not accept.
func (a *API) checkMethod(_ context.Context, r *http.Request, _ endpoint, c *call, _ settings.Settings) error {
	if r.Method != http.MethodPost && (c.needs&anyMethod == 0 || r.Method != http.MethodGet && c.needs&mutates != 0) {
		row := behaviour.WireMethodProbe
		if r.Method == http.MethodGet {
			row = behaviour.WireMethodPost
		}
		return errcode.RequirePost.WithDetail(row, "got %.16s", r.Method)
	}
	if c.needs&anyMethod != 0 && r.Method == http.MethodPost {
		c.notes.Add(behaviour.WireMethodTaken)
	}
	return nil
}

// checkToken identifies the caller from the token. Calls of ticketOnly endpoints pass without a token, unless the operator disabled this
// leniency; a call without a token has no rate limit.
func (a *API) checkToken(ctx context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	switch {
	case e.needs&ticketOnly != 0 && c.query.Get("access_token") == "" && !s.Refuses(behaviour.CodesTicketToken):
		c.needs &^= token
		c.notes.Add(behaviour.CodesTicketToken)
	case e.needs&token != 0:
		return a.authenticate(ctx, e, c, s)
	}
	return nil
}

// checkRates rejects a call with a token that exceeds a limit per second or per minute.
func (a *API) checkRates(ctx context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	if c.needs&token == 0 {
		return nil
	}
	if err := a.limit(ctx, c, e, s); err != nil {
		return err
	}
	if err := a.limitPlatformRate(c, e, s); err != nil {
		return err
	}
	return a.limitMinute(ctx, c.caller, e.path, s)
}

func (a *API) checkPlatformToken(ctx context.Context, _ *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if e.needs&platform == 0 {
		return nil
	}
	return a.authenticatePlatform(ctx, c)
}

func (a *API) spendDailyQuota(ctx context.Context, _ *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if c.account() == "" {
		return nil
	}
	return a.Calls.Spend(ctx, c.account(), e.path)
}

// injectedDetail is the prefix of the detail of an error that comes from an injected fault.
const injectedDetail = "injected by a fault"

// injected returns the fault to inject into a call.
func (a *API) injected(e endpoint, c *call, f *fields) Fault {
	if a.Faults == nil {
		return Fault{}
	}
	appid := c.account()
	if appid == "" {
		appid, _ = f.peek("appid")
	}
	if appid == "" {
		appid, _ = f.peek("component_appid")
	}
	fault := a.Faults(e.path, appid)
	if fault.Code != nil {
		fault.Code = fault.Code.Addressed(c.ip)
	}
	return fault
}

// replacementError returns the error that replaces the execution of a call; nil = the call is executed.
func (f *Fault) replacementError() error {
	switch {
	case f.Code != nil && !f.After:
		return f.Code.WithDetail(behaviour.WireFault, injectedDetail)
	case f.Drop:
		return errcode.SystemError.WithDetail(behaviour.WireFault, "dropped by a fault")
	}
	return nil
}

// finalError returns the final error of a call that finished with err, after the fault is applied.
func (f *Fault) finalError(err error) error {
	code, detail := errcode.FromError(err)
	switch {
	case err == nil:
		return f.Code.WithDetail(behaviour.WireFault, injectedDetail+" after the call was done")
	case code == errcode.SystemError && detail == "":
		return err // a server fault, which the method log writes to the server's log
	}
	return f.Code.WithDetail(behaviour.WireFault, injectedDetail+"; without the fault the call was rejected: %d %s, %s",
		code.Number, code.Text, detail)
}
