package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/suggest"
)

// Overrides say of single behaviours, by id, whether what they let pass is allowed or rejected, whatever strict says.
type Overrides map[string]Decision

// Decision is the word of an override.
type Decision string

// The decisions.
const (
	Allow  Decision = "allow"
	Reject Decision = "reject"
)

// UnmarshalJSON reads a new map: the one before may be in use, and what it no longer names is no longer overridden.
func (o *Overrides) UnmarshalJSON(b []byte) error {
	if unsaid(b) {
		return nil
	}
	var object map[string]any
	if json.Unmarshal(b, &object) != nil {
		return errors.New(`behaviours: want an object such as {"rules.get.by_get": "allow"}`)
	}
	fresh := Overrides{}
	for _, id := range slices.Sorted(maps.Keys(object)) {
		word, _ := object[id].(string)
		if fresh[id] = Decision(word); fresh[id] != Allow && fresh[id] != Reject {
			return fmt.Errorf("behaviours: %.60s is %.60v: want allow or reject", id, object[id])
		}
	}
	*o = fresh
	return nil
}

// overridable returns the ids that can be overridden.
func overridable() (ids []string) {
	for _, b := range behaviour.All() {
		if row, _ := behaviour.ByID(b.ID); row.Turns() {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

func (o Overrides) validate() error {
	for _, id := range slices.Sorted(maps.Keys(o)) {
		if slices.Contains(overridable(), id) {
			continue
		}
		if _, known := behaviour.ByID(id); known {
			return fmt.Errorf("settings: behaviours: %s lets nothing pass that could be rejected%s", id, suggest.DidYouMean(id, overridable()...))
		}
		return fmt.Errorf("settings: behaviours: there is no behaviour %.60q%s", id, suggest.DidYouMean(id, overridable()...))
	}
	return nil
}
