package client

import (
	"context"
)

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
	reply, err := get[BehaviourList](ctx, c.transport, "behaviours")
	return reply.Behaviours, err
}
