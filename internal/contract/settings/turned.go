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

// Overrides maps the ID of a behaviour to the operator's decision to allow or reject it, which takes precedence over strict mode.
type Overrides map[string]Decision

// Decision is the value of an override: allow or reject.
type Decision string

// The decisions.
const (
	Allow  Decision = "allow"
	Reject Decision = "reject"
)

// UnmarshalJSON replaces the map with a newly allocated map, because the old map may be in use; behaviours absent from the JSON
// have no override.
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

// overridable returns the IDs of the behaviours that an override can change.
func overridable() (ids []string) {
	for _, b := range behaviour.All() {
		if row, _ := behaviour.ByID(b.ID); row.Changeable() {
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
		return fmt.Errorf("settings: behaviours: unknown behaviour %.60q%s", id, suggest.DidYouMean(id, overridable()...))
	}
	return nil
}
