package emulator

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Control is the emulator's part of the admin API.
type Control[Call any] struct {
	Clock *Clock
	Plan  *Plan
	Calls *Calls[Call]
	// RID returns the request id of a call.
	RID func(Call) string
	// Paths are the endpoints that a fault can name.
	Paths []string
	// Reset brings the whole server back to its seed and to real time.
	Reset func(context.Context) error
}

type answer[T any] struct{ Body T }

type clockView struct {
	Now    time.Time `json:"now"`
	Frozen bool      `json:"frozen"`
}

// moveInput is the change of the clock: now or advance, then freeze.
type moveInput struct {
	Now     *time.Time `json:"now,omitempty" doc:"sets the clock (RFC 3339)"`
	Advance string     `json:"advance,omitempty" doc:"moves it on, for example 36h"`
	Freeze  *bool      `json:"freeze,omitempty" doc:"true stops it, false lets it run"`
}

// faultInput is a fault as it is asked for.
type faultInput struct {
	Path        string   `json:"path" doc:"the endpoint"`
	AppID       string   `json:"appid,omitempty" doc:"left out: any account"`
	ErrCode     *int     `json:"errcode,omitempty" doc:"answered instead of the call"`
	ErrMsg      string   `json:"errmsg,omitempty" maxLength:"200" doc:"left out: the platform's text"`
	After       bool     `json:"after,omitempty" doc:"with errcode: do the call, then answer errcode all the same"`
	Times       *int     `json:"times,omitempty" minimum:"1" doc:"how often it happens; left out: without end"`
	Probability *float64 `json:"probability,omitempty" minimum:"0" maximum:"1" doc:"left out: 1"`
	Delay       string   `json:"delay,omitempty" doc:"before the call, for example 3s"`
	Drop        bool     `json:"drop,omitempty" doc:"close the connection instead of the call"`
	DropAfter   bool     `json:"drop_after,omitempty" doc:"do the call, then close the connection instead of an answer"`
}

type faultView struct {
	Fault
	Delay string `json:"delay,omitempty"`
}

func viewFault(f Fault) faultView {
	v := faultView{Fault: f}
	if f.Delay > 0 {
		v.Delay = f.Delay.String()
	}
	return v
}

func operation(method, path, id, summary string) huma.Operation {
	return huma.Operation{Method: method, Path: "/admin/v1/emulator" + path, OperationID: id, Summary: summary, Tags: []string{"emulator"},
		Security: []map[string][]string{{"admin": {}}}, DefaultStatus: http.StatusOK}
}

// Register adds the emulator's operations to the API and its document.
func (c *Control[Call]) Register(api huma.API) {
	c.registerClock(api)
	c.registerFaults(api)

	type resetDone struct {
		Reset bool `json:"reset"`
	}
	huma.Register(api, operation(http.MethodPost, "/reset", "resetEmulator", "Back to the seed and to real time; keys stay"), func(ctx context.Context, _ *struct{}) (*answer[resetDone], error) {
		// Half a reset would be worse than one nobody waits for.
		if err := c.Reset(context.WithoutCancel(ctx)); err != nil {
			return nil, huma.Error500InternalServerError("the reset failed: " + err.Error())
		}
		return &answer[resetDone]{resetDone{true}}, nil
	})

	type callList struct {
		Calls []Call `json:"calls"`
	}
	huma.Register(api, operation(http.MethodGet, "/calls", "listCalls", "The last calls with request and answer, newest first; secrets are masked"), func(_ context.Context, in *struct {
		RID   string `query:"rid" doc:"only the call with this request id"`
		Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[callList], error) {
		return &answer[callList]{callList{c.Calls.Last(in.Limit, func(one Call) bool { return in.RID == "" || c.RID(one) == in.RID })}}, nil
	})
}

func (c *Control[Call]) registerClock(api huma.API) {
	view := func() *answer[clockView] { return &answer[clockView]{clockView{c.Clock.Now(), c.Clock.Frozen()}} }
	huma.Register(api, operation(http.MethodGet, "/clock", "getClock", "The time of the server"), func(context.Context, *struct{}) (*answer[clockView], error) {
		return view(), nil
	})
	huma.Register(api, operation(http.MethodPut, "/clock", "moveClock", "Set, move, stop or start the clock; never back"), func(_ context.Context, in *struct{ Body moveInput }) (*answer[clockView], error) {
		m := Move{Now: in.Body.Now, Freeze: in.Body.Freeze}
		if in.Body.Advance != "" {
			var err error
			if m.Advance, err = time.ParseDuration(in.Body.Advance); err != nil {
				return nil, huma.Error422UnprocessableEntity("advance: want a duration such as 36h or 90s")
			}
		}
		if m.Now == nil && in.Body.Advance == "" && m.Freeze == nil {
			return nil, huma.Error422UnprocessableEntity("say now, advance or freeze")
		}
		if err := c.Clock.Apply(m); err != nil {
			return nil, huma.Error409Conflict(err.Error())
		}
		return view(), nil
	})
}

func (c *Control[Call]) registerFaults(api huma.API) {
	type faultList struct {
		Faults []faultView `json:"faults"`
	}
	view := func() *answer[faultList] {
		shown := faultList{Faults: []faultView{}}
		for _, f := range c.Plan.List() {
			shown.Faults = append(shown.Faults, viewFault(f))
		}
		return &answer[faultList]{shown}
	}
	huma.Register(api, operation(http.MethodGet, "/faults", "listFaults", "The faults in force"), func(context.Context, *struct{}) (*answer[faultList], error) {
		return view(), nil
	})
	huma.Register(api, operation(http.MethodPost, "/faults", "addFault", "Make calls of an endpoint go wrong"), func(_ context.Context, in *struct{ Body faultInput }) (*answer[faultView], error) {
		b := in.Body
		if !slices.Contains(c.Paths, b.Path) {
			return nil, huma.Error422UnprocessableEntity("path: there is no endpoint at " + b.Path)
		}
		f := Fault{Path: b.Path, AppID: b.AppID, ErrCode: b.ErrCode, ErrMsg: b.ErrMsg, After: b.After, Probability: 1, Drop: b.Drop, DropAfter: b.DropAfter}
		if b.Probability != nil {
			f.Probability = *b.Probability
		}
		if b.Times != nil {
			f.Times = *b.Times
		}
		if b.Delay != "" {
			var err error
			if f.Delay, err = time.ParseDuration(b.Delay); err != nil {
				return nil, huma.Error422UnprocessableEntity("delay: want a duration such as 3s")
			}
		}
		added, err := c.Plan.Add(f)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		return &answer[faultView]{viewFault(added)}, nil
	})
	huma.Register(api, operation(http.MethodDelete, "/faults", "clearFaults", "Drop every fault, or the one with an id"), func(_ context.Context, in *struct {
		ID   int    `query:"id" minimum:"0" doc:"left out: all"`
		Seed uint64 `query:"seed" doc:"begins another sequence of chances; left out: the same again"`
	}) (*answer[faultList], error) {
		if in.Seed != 0 {
			c.Plan.Reseed(in.Seed)
		} else if in.ID == 0 {
			c.Plan.Clear()
		} else if !c.Plan.Remove(in.ID) {
			return nil, huma.Error404NotFound("there is no fault with this id")
		}
		return view(), nil
	})
}
