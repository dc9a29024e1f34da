package client

import (
	"context"
	"time"
)

// Deviation is something that a caller did, that the server accepted, and that the platform may
// refuse.
type Deviation struct {
	Behaviour     string    `json:"behaviour"`      // the id of a row of the table of behaviours
	EvidenceLevel string    `json:"evidence_level"` // how sure it is that the platform minds: observed, documented, inferred or assumed
	Account       string    `json:"account"`        // "" where the caller showed no token and no secret
	Endpoint      string    `json:"endpoint"`       // where
	Count         int64     `json:"count"`          // in how many calls
	FirstRID      string    `json:"first_rid"`      // the request id of the first of them
	FirstAt       time.Time `json:"first_at"`       // its time
	LastRID       string    `json:"last_rid"`       // the request id of the last
	LastAt        time.Time `json:"last_at"`        // its time
	Advice        string    `json:"advice"`         // what to change in the caller
	Chinese       string    `json:"advice_zh"`      // the same
}

// DeviationList are the deviations of callers.
type DeviationList struct {
	Deviations []Deviation `json:"deviations"`
}

// List lists the deviations of an account, "" = of all accounts, by account, endpoint and
// behaviour; at most 10,000.
func (c DeviationsService) List(ctx context.Context, account string) ([]Deviation, error) {
	reply, err := get[DeviationList](ctx, c.transport, withQuery("deviations", params{"account": account}))
	return reply.Deviations, err
}

// Reset empties that list for an account, "" = for all accounts, and returns what is
// left.
func (c DeviationsService) Reset(ctx context.Context, account string) ([]Deviation, error) {
	reply, err := remove[DeviationList](ctx, c.transport, withQuery("deviations", params{"account": account}))
	return reply.Deviations, err
}

// Trial is something that the platform does to every program sooner or later.
type Trial struct {
	Behaviour string `json:"behaviour,omitempty"` // the id of a row of the table of behaviours; "" where there is only a number
	ErrCode   int    `json:"errcode"`             // what is answered then
	English   string `json:"en"`                  // what happens
	Chinese   string `json:"zh"`                  // the same
	Occurred  bool   `json:"occurred"`            // whether it happened
	Calls     int    `json:"calls"`               // how many calls were made that it can happen to
	Count     int    `json:"count"`               // to how many it happened
	LastRID   string `json:"last_rid,omitempty"`  // the request id of the newest of these
	Command   string `json:"command"`             // what makes it happen
}

// Coverage says which trials a program met.
type Coverage struct {
	Covered int     `json:"covered"` // how many it met
	Total   int     `json:"total"`   // of how many
	Trials  []Trial `json:"trials"`
	Searched
}

// GetCoverage says what of all that the platform does to programs happened to the calls of an account, "" = of all accounts.
func (c DeviationsService) GetCoverage(ctx context.Context, account string) (Coverage, error) {
	return get[Coverage](ctx, c.transport, withQuery("deviations/coverage", params{"account": account}))
}
