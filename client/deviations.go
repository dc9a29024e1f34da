package client

import (
	"context"
	"time"
)

// Deviation is a caller's action that the server accepted but the platform may reject.
type Deviation struct {
	Behaviour string `json:"behaviour"` // ID of the behaviour.
	// The certainty that the platform rejects the action: observed, documented, inferred or assumed.
	EvidenceLevel string    `json:"evidence_level"`
	Account       string    `json:"account"`   // Account is "" if the caller sent neither a token nor a secret.
	Endpoint      string    `json:"endpoint"`  // path of the calls
	Count         int64     `json:"count"`     // Number of calls with the deviation.
	FirstRID      string    `json:"first_rid"` // Request ID of the first call with the deviation.
	FirstAt       time.Time `json:"first_at"`  // time of the first call with the deviation
	LastRID       string    `json:"last_rid"`  // Request ID of the last call with the deviation.
	LastAt        time.Time `json:"last_at"`   // time of the last call with the deviation
	Advice        string    `json:"advice"`    // The necessary change in the caller.
	Chinese       string    `json:"advice_zh"` // Advice in Chinese
}

// DeviationList is a list of callers' deviations.
type DeviationList struct {
	Deviations []Deviation `json:"deviations"`
}

// DeviationQuery selects the deviations of an account.
type DeviationQuery struct {
	Account string `query:"account" maxLength:"64" doc:"AppID; default: all accounts"`
}

// List lists the deviations of an account, or of all accounts if account is "", sorted by account, endpoint and behaviour; at most 10,000.
func (c DeviationsService) List(ctx context.Context, account string) ([]Deviation, error) {
	reply, err := OpListDeviations.call(ctx, c.transport, DeviationQuery{account})
	return reply.Deviations, err
}

// Reset clears the deviations of an account, or of all accounts if account is "", and returns the remaining deviations.
func (c DeviationsService) Reset(ctx context.Context, account string) ([]Deviation, error) {
	reply, err := OpResetDeviations.call(ctx, c.transport, DeviationQuery{account})
	return reply.Deviations, err
}

// CoverageItem is a platform behaviour that every program encounters sooner or later.
type CoverageItem struct {
	Behaviour string `json:"behaviour,omitempty"` // ID of the platform behaviour; "" if only an errcode identifies the behaviour.
	ErrCode   int    `json:"errcode"`             // The errcode of the response in which the platform behaviour occurs.
	English   string `json:"en"`                  // description of the platform behaviour
	Chinese   string `json:"zh"`                  // description in Chinese
	Occurred  bool   `json:"occurred"`            // whether the behaviour occurred
	Calls     int    `json:"calls"`               // Number of calls in which the behaviour could have occurred.
	Count     int    `json:"count"`               // Number of calls in which the behaviour occurred.
	LastRID   string `json:"last_rid,omitempty"`  // Request ID of the newest call in which the behaviour occurred.
	Command   string `json:"command"`             // The command that makes the behaviour occur.
}

// Coverage reports which of the listed platform behaviours the calls of a program have triggered.
type Coverage struct {
	Covered int            `json:"covered"` // Number of platform behaviours in the list that have occurred for the program.
	Total   int            `json:"total"`   // number of platform behaviours in the list
	Trials  []CoverageItem `json:"trials"`
	SearchRange
}

// GetCoverage reports, for each platform behaviour that every program encounters sooner or later, whether it occurred in the calls
// of an account, or of all accounts if account is "".
func (c DeviationsService) GetCoverage(ctx context.Context, account string) (Coverage, error) {
	return OpGetDeviationCoverage.call(ctx, c.transport, DeviationQuery{account})
}

// Behaviour is a documented behaviour of the server in a case where the platform might differ.
type Behaviour struct {
	ID            string `json:"id"`               // never changes
	EvidenceLevel string `json:"evidence_level"`   // EvidenceLevel is observed, documented, inferred or assumed.
	Section       string `json:"section"`          // of the contract
	English       string `json:"en"`               // Description of the server's behaviour in English.
	Chinese       string `json:"zh"`               // the same
	Source        string `json:"source,omitempty"` // the evidence
	Date          string `json:"date,omitempty"`   // Date of the newest evidence: a day, a month or a year.
	// First day with evidence of a different behaviour; with --as-of set to an earlier day, the server still shows this behaviour.
	Until string `json:"until,omitempty"`
	Old   bool   `json:"old,omitempty"` // The evidence is older than three years.
}

// BehaviourList is the table of behaviours.
type BehaviourList struct {
	Behaviours []Behaviour `json:"behaviours"`
}

// List lists the server's behaviours in cases where the platform might differ, with the evidence level of each.
func (c BehavioursService) List(ctx context.Context) ([]Behaviour, error) {
	reply, err := OpListBehaviours.call(ctx, c.transport, Empty{})
	return reply.Behaviours, err
}
