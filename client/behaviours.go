package client

import (
	"context"
)

// Behaviour is something that the server does where the platform might differ.
type Behaviour struct {
	ID            string `json:"id"`               // never changes
	EvidenceLevel string `json:"evidence_level"`   // observed, documented, inferred or assumed
	Section       string `json:"section"`          // of the contract
	English       string `json:"en"`               // what the server does
	Chinese       string `json:"zh"`               // the same
	Source        string `json:"source,omitempty"` // the evidence
	Date          string `json:"date,omitempty"`   // of the newest evidence: a day, a month or a year
	Until         string `json:"until,omitempty"`  // first day of evidence of something else: done so with --as-of of a day before
	Old           bool   `json:"old,omitempty"`    // it is older than three years
}

// BehaviourList is the table of behaviours.
type BehaviourList struct {
	Behaviours []Behaviour `json:"behaviours"`
}

// List lists what the server does where the platform might differ, and how
// sure each line is.
func (c BehavioursService) List(ctx context.Context) ([]Behaviour, error) {
	reply, err := get[BehaviourList](ctx, c.transport, "behaviours")
	return reply.Behaviours, err
}
