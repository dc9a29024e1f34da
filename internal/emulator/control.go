package emulator

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/client"
	o "github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Control implements the emulator operations of the admin API.
type Control[Call any] struct {
	Clock *Clock
	Plan  *Plan
	Calls *Calls[Call]
	// About returns the properties by which calls can be filtered.
	About func(Call) Properties
	// Paths lists the endpoints for which a fault can be set; Has reports whether there is an account or a platform with an AppID.
	Paths []string
	Has   func(ctx context.Context, appid string) bool
	// Reset returns the whole server to its seed and to real time.
	Reset func(context.Context) error
	// ResetAccounts returns the given accounts to the seed; the error is Unknown for an account that neither the seed nor the
	// server contains.
	ResetAccounts func(ctx context.Context, appids []string) error
	// AddSeed applies a seed to the current state; Wrong reports whether an error was caused by the content of the seed.
	AddSeed   func(ctx context.Context, text string) (client.SeedResult, error)
	Wrong     func(error) bool
	Platforms Platforms
	Snapshots Snapshots
}

// Properties holds the properties by which a call can be filtered.
type Properties struct {
	RID, Account, Path string
	ErrCode            int
}

// faultInput is the request body that adds a fault.
type faultInput struct {
	Method      string         `json:"method,omitempty" doc:"only calls with this HTTP method; requires response"`
	Path        string         `json:"path" doc:"path of an endpoint: its calls fail after their checks; with response, any path"`
	AppID       string         `json:"appid,omitempty" doc:"AppID of the calling account or platform; default: any"`
	ErrCode     *int           `json:"errcode,omitempty" doc:"errcode to return instead of processing the call"`
	ErrMsg      string         `json:"errmsg,omitempty" maxLength:"200" doc:"errmsg to return; default: the platform's text"`
	After       bool           `json:"after,omitempty" doc:"with errcode: if true, processes the call and then returns errcode"`
	Remaining   int            `json:"remaining,omitempty" minimum:"1" doc:"number of calls affected; default: unlimited"`
	Probability *float64       `json:"probability,omitempty" minimum:"0" maximum:"1" doc:"probability of the fault, above 0; default: 1"`
	Delay       string         `json:"delay,omitempty" doc:"delay before the call, for example 3s"`
	Drop        bool           `json:"drop,omitempty" doc:"if true, closes the connection instead of processing the call"`
	DropAfter   bool           `json:"drop_after,omitempty" doc:"if true, processes the call and then closes the connection without a response"`
	Response    *FaultResponse `json:"response,omitempty" doc:"response to return instead of processing the call"`
}

type faultView struct {
	Fault
	Remaining *int   `json:"remaining,omitempty" doc:"number of further calls affected; absent: unlimited"`
	Delay     string `json:"delay,omitempty"`
}

func viewFault(f Fault) faultView {
	v := faultView{Fault: f}
	if f.Count > 0 {
		v.Remaining = new(f.Count - f.TriggerCount)
	}
	if f.Delay > 0 {
		v.Delay = f.Delay.String()
	}
	return v
}

// Operations returns the emulator's operations of the admin API.
func (c *Control[Call]) Operations() []o.Route {
	return append([]o.Route{
		o.Serve(client.OpGetClock, o.Viewer, c.getClock, "Get the clock of the server"),
		o.Serve(client.OpSetClock, o.Operator, c.setClock, "Set, advance, freeze or resume the clock, never backwards"),
		o.ServeAs(client.OpListFaults, o.Viewer, c.listFaults, "List the active faults, oldest first"),
		o.ServeAs(client.OpAddFault, o.Operator, c.addFault, "Make calls of an endpoint fail, or respond to calls of any path").
			Description("With `response`, the server sends this response before all other processing, whether or not it has the path; " +
				"the call log records the behaviour `wire.canned_response`. Several nodes do not share faults."),
		o.ServeAs(client.OpClearFaults, o.Operator, c.clearFaults, "Delete all faults, or one; returns the remaining faults"),
		o.Serve(client.OpResetEmulator, o.Admin, c.resetEmulator, "Restore the seed and real time; keys are kept").
			Description("With `accounts`, only these accounts are reset: their rules, codes, tokens, quotas, links, faults and calls are " +
				"deleted, then the seed is applied to them. An account that is not in the seed is kept without its data. Other accounts, " +
				"the clock, settings and statistics do not change."),
		o.Serve(client.OpApplySeed, o.Admin, c.applySeed,
			"Apply a seed to the current state; if a line is invalid, nothing is applied and the response names it").
			Description("The same text is applied once; `applied` is false if it was applied before. A reset restores the seed of " +
				"`--seed`; afterwards, this text can be applied again."),
		o.ServeAs(client.OpListRecentCalls, o.Viewer, c.listRecentCalls,
			"List the latest calls with request and response, newest first; secrets are masked").
			Description("With `after`, the `next` of a previous response, the list contains the calls since then, oldest first. A " +
				"node keeps the last 1,000 calls that it received; `missed` is the number of calls since `after` that are no longer kept."),
	}, append(c.Snapshots.operations(), c.Platforms.operations()...)...)
}

// Unknown is the error for an AppID that does not exist.
type Unknown string

func (u Unknown) Error() string { return "there is no account " + string(u) }

func (c *Control[Call]) resetEmulator(ctx context.Context, in *struct{ Body *client.ResetEmulatorRequest }) (client.ResetDone, error) {
	if in.Body != nil && in.Body.Accounts != nil {
		appids := *in.Body.Accounts
		if len(appids) == 0 {
			return client.ResetDone{}, huma.Error422UnprocessableEntity("accounts: name one, or leave it out to reset everything")
		}
		err := c.ResetAccounts(context.WithoutCancel(ctx), appids)
		if unknown, is := errors.AsType[Unknown](err); is {
			return client.ResetDone{}, huma.Error422UnprocessableEntity("accounts: " + unknown.Error() + "; nothing was reset")
		}
		if err != nil {
			return client.ResetDone{}, huma.Error500InternalServerError("the reset failed: " + err.Error())
		}
		c.Calls.Forget(func(item Call) bool { return slices.Contains(appids, c.About(item).Account) })
		return client.ResetDone{Reset: true}, nil
	}
	// The reset completes even if the client disconnects, because a partial reset leaves an inconsistent state.
	if err := c.Reset(context.WithoutCancel(ctx)); err != nil {
		return client.ResetDone{}, huma.Error500InternalServerError("the reset failed: " + err.Error())
	}
	return client.ResetDone{Reset: true}, nil
}

func (c *Control[Call]) applySeed(ctx context.Context, in *struct{ Body client.SeedRequest }) (client.SeedResult, error) {
	// The server stores and loads the seed even if the client disconnects meanwhile.
	done, err := c.AddSeed(context.WithoutCancel(ctx), in.Body.Seed)
	if err != nil && c.Wrong(err) {
		return client.SeedResult{}, huma.Error422UnprocessableEntity("nothing was applied: " + err.Error())
	}
	return done, err
}

type callList[Call any] struct {
	Calls  []Call `json:"calls"`
	Next   string `json:"next" doc:"position after these calls, for after"`
	Missed int64  `json:"missed" doc:"number of calls after the requested position that were discarded"`
}

func (c *Control[Call]) listRecentCalls(_ context.Context, in *client.CallQuery) (list callList[Call], err error) {
	keep := func(item Call) bool {
		properties := c.About(item)
		return properties.RID != "" && (in.RID == "" || properties.RID == in.RID) && (in.Account == "" ||
			properties.Account == in.Account) &&
			(in.Path == "" || properties.Path == in.Path) &&
			(in.ErrCode == 0 || properties.ErrCode == in.ErrCode) && (!in.Failed || properties.ErrCode != 0)
	}
	if in.After == "" {
		list.Calls, list.Next = c.Calls.Last(in.Limit, keep)
	} else {
		list.Calls, list.Next, list.Missed = c.Calls.ListAfter(in.After, in.Limit, keep)
	}
	return list, nil
}

func (c *Control[Call]) getClock(context.Context, *client.Empty) (client.Clock, error) {
	return client.Clock{Now: c.Clock.Now(), Frozen: c.Clock.Frozen(), RealTime: c.Clock.Real()}, nil
}

func (c *Control[Call]) setClock(ctx context.Context, in *struct{ Body client.ClockInput }) (client.Clock, error) {
	m := Move{Now: in.Body.Now, Freeze: in.Body.Freeze, Real: in.Body.FollowRealTime}
	if in.Body.Advance != "" {
		var err error
		if m.Advance, err = time.ParseDuration(in.Body.Advance); err != nil {
			return client.Clock{}, huma.Error422UnprocessableEntity("advance: want a duration of at most 2562047h, such as 36h or 90s")
		}
	}
	switch moves := m.Now != nil || in.Body.Advance != "" || m.Freeze != nil; {
	case moves && m.Real:
		return client.Clock{}, huma.Error422UnprocessableEntity("follow_real_time cannot be combined with now, advance or freeze")
	case !moves && !m.Real:
		return client.Clock{}, huma.Error422UnprocessableEntity("want now, advance, freeze or follow_real_time")
	}
	if err := c.Clock.Apply(m); err != nil {
		return client.Clock{}, huma.Error409Conflict(err.Error())
	}
	return c.getClock(ctx, nil)
}

type faultList struct {
	Faults []faultView `json:"faults"`
}

func (c *Control[Call]) listFaults(context.Context, *client.Empty) (faultList, error) {
	shown := faultList{[]faultView{}}
	for _, f := range c.Plan.List() {
		shown.Faults = append(shown.Faults, viewFault(f))
	}
	return shown, nil
}

func (c *Control[Call]) addFault(ctx context.Context, in *struct{ Body faultInput }) (faultView, error) {
	b := in.Body
	if b.Response == nil && !slices.Contains(c.Paths, b.Path) {
		return faultView{}, huma.Error422UnprocessableEntity("path: there is no endpoint at " + b.Path +
			suggest.DidYouMean(b.Path, c.Paths...))
	}
	if b.AppID != "" && !c.Has(ctx, b.AppID) {
		return faultView{}, huma.Error422UnprocessableEntity("appid: there is no account " + b.AppID)
	}
	f := Fault{Method: b.Method, Path: b.Path, AppID: b.AppID, ErrCode: b.ErrCode, ErrMsg: b.ErrMsg, After: b.After, Probability: 1,
		Drop: b.Drop, DropAfter: b.DropAfter, Count: b.Remaining}
	if b.Response != nil {
		f.Response = &FaultResponse{cmp.Or(b.Response.Status, 200), b.Response.Body}
	}
	if b.Probability != nil {
		f.Probability = *b.Probability
	}
	if b.Delay != "" {
		var err error
		if f.Delay, err = time.ParseDuration(b.Delay); err != nil {
			return faultView{}, huma.Error422UnprocessableEntity("delay: want a duration such as 3s")
		}
	}
	added, err := c.Plan.Add(f)
	if err != nil {
		return faultView{}, huma.Error422UnprocessableEntity(err.Error())
	}
	return viewFault(added), nil
}

func (c *Control[Call]) clearFaults(ctx context.Context, in *client.FaultDeletion) (faultList, error) {
	if in.Seed != 0 {
		c.Plan.Reseed(in.Seed)
	} else if in.ID == 0 {
		c.Plan.Clear()
	} else if !c.Plan.Remove(in.ID) {
		return faultList{}, huma.Error404NotFound("there is no fault with this id")
	}
	return c.listFaults(ctx, nil)
}

// Platforms implements the emulator operations for third-party platforms.
type Platforms struct {
	// Authorize records the consent and returns the authorization_code.
	Authorize func(context.Context, client.Consent) (string, error)
	// Ticket creates a verify ticket, pushes the ticket to the platform and returns it.
	Ticket func(ctx context.Context, component string) (string, error)
}

func (p Platforms) operations() []o.Route {
	return []o.Route{
		o.Serve(client.OpAuthorize, o.Operator, p.authorize, "Grant an authorisation request of a third-party platform, as its user would"),
		o.Serve(client.OpCreateTicket, o.Operator, p.createTicket,
			"Create a verify ticket for a third-party platform, for tests without an event URL"),
	}
}

func (p Platforms) authorize(ctx context.Context, in *struct{ Body client.Consent }) (client.AuthCode, error) {
	code, err := p.Authorize(ctx, in.Body)
	return client.AuthCode{AuthCode: code}, err
}

func (p Platforms) createTicket(ctx context.Context, in *struct{ Body client.TicketRequest }) (client.VerifyTicket, error) {
	text, err := p.Ticket(ctx, in.Body.Component)
	return client.VerifyTicket{Ticket: text}, err
}
