package api

import (
	"context"
	"net/http"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
)

// middleware lets a call pass, or returns why it is refused.
type middleware func(a *API, ctx context.Context, r *http.Request, e endpoint, c *call, s settings.Settings) error

// gates stand before every endpoint, in the contract's order: a call that several would refuse is refused by the first.
// Behind them the body is read.
var gates = []middleware{
	(*API).spelled,
	(*API).readByGET,
	(*API).asked,
	(*API).tokenShown,
	(*API).withinSecond,
	(*API).withinPace,
	(*API).withinMinute,
	(*API).platformShown,
	(*API).withinDay,
}

// storeTime is the time that a call waits for the store. If that ends before the commit of its change, the answer is -1 and nothing
// was changed.
const storeTime = 20 * time.Second

// run does what all endpoints share: gates, body, injected fault, the endpoint itself.
func (a *API) run(w http.ResponseWriter, r *http.Request, e endpoint, c *call) (any, Fault, error) {
	// The store may hang: no call waits for it for ever. The delay of an injected
	// fault is not counted.
	noting := behaviour.Noting(r.Context(), &c.notes)
	ctx := newPatience(noting, storeTime)
	defer ctx.close()
	s := a.Settings.Get()
	c.needs = e.needs
	for _, pass := range gates {
		if err := pass(a, ctx, r, e, c, s); err != nil {
			return nil, Fault{}, err
		}
	}
	e.needs = c.needs
	f, err := a.readFields(w, r, e, c)
	if err != nil {
		return nil, Fault{}, err
	}
	f.notes, f.settings = &c.notes, a.Settings
	if err := a.passFields(r, e, c, f); err != nil {
		return nil, Fault{}, err
	}
	if err := a.lateGate(e, c); err != nil {
		return nil, Fault{}, err
	}
	fault := a.fault(e, c, f)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
			return nil, Fault{Drop: true}, r.Context().Err()
		}
		ctx = newPatience(noting, storeTime)
		defer ctx.close()
	}
	if err := fault.replacement(); err != nil {
		return nil, fault, err
	}
	reply, err := a.do(ctx, e, c, f)
	if fault.Code == nil {
		return reply, fault, err
	}
	return nil, fault, fault.afterwards(err)
}

// spelled notes, or refuses, a path in another spelling, which left its text in RawPath.
func (a *API) spelled(_ context.Context, r *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if r.URL.RawPath == "" {
		return nil
	}
	return a.noteOrRefuse(c, behaviour.WirePathForm, "the path stands for %s", e.path)
}

// readByGET lets a listing be asked for by GET where the operator allows that.
func (a *API) readByGET(_ context.Context, r *http.Request, e endpoint, c *call, s settings.Settings) error {
	if e.needs&listing == 0 || s.Refuses(behaviour.RulesGetByGET) || r.Method != http.MethodGet {
		return nil
	}
	c.needs |= anyMethod
	c.notes.Add(behaviour.RulesGetByGET)
	return nil
}

// asked returns 43002 for a method that the endpoint does not take.
func (a *API) asked(_ context.Context, r *http.Request, _ endpoint, c *call, _ settings.Settings) error {
	if r.Method != http.MethodPost && (c.needs&anyMethod == 0 || r.Method != http.MethodGet && c.needs&makes != 0) {
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

// tokenShown finds out who calls. An override lets some calls pass without a token, and then no limit of an account is theirs.
func (a *API) tokenShown(ctx context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	switch {
	case e.needs&ticketOnly != 0 && c.query.Get("access_token") == "" && !s.Refuses(behaviour.CodesTicketToken):
		c.needs &^= token
		c.notes.Add(behaviour.CodesTicketToken)
	case e.needs&token != 0:
		return a.authenticate(ctx, e, c)
	}
	return nil
}

func (a *API) withinSecond(ctx context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	if c.needs&token == 0 {
		return nil
	}
	return a.limit(ctx, c.account(), e, s)
}

func (a *API) withinPace(_ context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	if c.needs&token == 0 {
		return nil
	}
	return a.keepPace(c, e, s)
}

func (a *API) withinMinute(ctx context.Context, _ *http.Request, e endpoint, c *call, s settings.Settings) error {
	if c.needs&token == 0 {
		return nil
	}
	return a.limitMinute(ctx, c.caller, e.path, s)
}

func (a *API) platformShown(ctx context.Context, _ *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if e.needs&platform == 0 {
		return nil
	}
	return a.authenticatePlatform(ctx, c)
}

func (a *API) withinDay(ctx context.Context, _ *http.Request, e endpoint, c *call, _ settings.Settings) error {
	if c.account() == "" {
		return nil
	}
	return a.Calls.Spend(ctx, c.account(), e.path)
}

// injected begins the detail of an error that a fault makes.
const injected = "injected by a fault"

// fault returns the injected fault of a call.
func (a *API) fault(e endpoint, c *call, f *fields) Fault {
	if a.Faults == nil {
		return Fault{}
	}
	appid := c.caller.AppID
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

// replacement returns the answer to a call that the fault keeps from its endpoint; nil = it is done.
func (f *Fault) replacement() error {
	switch {
	case f.Code != nil && !f.After:
		return f.Code.WithDetail(behaviour.WireFault, injected)
	case f.Drop:
		return errcode.SystemError.WithDetail(behaviour.WireFault, "dropped by a fault")
	}
	return nil
}

// afterwards returns the answer to a call that was done, or refused with err.
func (f *Fault) afterwards(err error) error {
	refused, detail := errcode.FromError(err)
	switch {
	case err == nil:
		return f.Code.WithDetail(behaviour.WireFault, injected+" after the call was done")
	case refused == errcode.SystemError && detail == "":
		return err // a fault of the server: log writes it down
	}
	return f.Code.WithDetail(behaviour.WireFault, injected+"; without it the call was refused: %d %s, %s", refused.Number, refused.Text, detail)
}
