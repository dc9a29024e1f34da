package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// overridable are the ids that can be overridden.
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

// former are the settings of version 0.1 that each overrode one behaviour: where the setting has the value, the behaviour the decision.
var former = map[string]struct {
	row      behaviour.Row
	value    any
	decision Decision
}{
	"strict_empty_body":         {behaviour.WireBodyNone, true, Reject},
	"rules_by_get":              {behaviour.RulesGetByGET, true, Allow},
	"missing_index_is_zero":     {behaviour.CodesQueryIndexTaken, true, Allow},
	"inactive_code_is_an_error": {behaviour.CodesQueryBare, false, Allow},
	"ticket_without_token":      {behaviour.CodesTicketToken, true, Allow},
	"empty_debug_url_keeps":     {behaviour.RulesEditKeepsEmpty, true, Allow},
	"links_by_own_token":        {behaviour.LinkOwnTaken, true, Allow},
	"refuse_newer_domains":      {behaviour.RulesPrefixNewerTaken, true, Reject},
	"require_link":              {behaviour.CodesActivateUnlinkedTaken, true, Reject},
	"activation_overlap":        {behaviour.CodesActivateOverlapTaken, "replace", Allow},
}

// Upgrade returns stored settings as this version has them: what version 0.1 stored of former settings, and of behaviours as
// true and false, "strict" and "loose" or a list of ID=word, becomes overrides.
func Upgrade(kept map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	overrides, old := Overrides{}, false
	var list []string
	var object map[string]any
	if json.Unmarshal(kept["behaviours"], &list) == nil {
		object = map[string]any{}
		for _, text := range list {
			id, word, _ := strings.Cut(text, "=")
			object[id] = word
		}
		old = len(list) > 0
	} else {
		_ = json.Unmarshal(kept["behaviours"], &object)
	}
	for id, word := range object {
		if !slices.Contains(overridable(), id) {
			old = true // this version has no such behaviour
			continue
		}
		switch word {
		case true, "strict":
			overrides[id], old = Reject, true
		case false, "loose":
			overrides[id], old = Allow, true
		default:
			overrides[id] = Decision(fmt.Sprint(word))
		}
	}
	for name, was := range former {
		raw, chosen := kept[name]
		if !chosen {
			continue
		}
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return nil, fmt.Errorf("settings: %s: %w", name, err)
		}
		if id := was.row.String(); value == was.value && overrides[id] == "" {
			overrides[id] = was.decision
		}
		old = true
		delete(kept, name)
	}
	if !old {
		return kept, nil
	}
	text, err := json.Marshal(overrides)
	kept["behaviours"] = text
	return kept, err
}
