package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/spelling"
)

// Turned says of single behaviours, by their ids, whether what they let pass is refused.
type Turned map[string]bool

// words are what a behaviour is turned to.
var words = map[string]bool{"strict": true, "loose": false}

// UnmarshalJSON reads a new map, of true and false or of words, or a list of ID=word:
// the one before may be in use, and what is no longer named is no longer turned.
func (t *Turned) UnmarshalJSON(b []byte) error {
	if unsaid(b) {
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) == nil {
		fresh := Turned{}
		for _, text := range list {
			id, word, _ := strings.Cut(text, "=")
			refuse, known := words[word]
			if !known {
				return fmt.Errorf("behaviours has %.100q: want ID=strict or ID=loose", text)
			}
			fresh[id] = refuse
		}
		*t = fresh
		return nil
	}
	var object map[string]any
	if json.Unmarshal(b, &object) != nil {
		return errors.New(`behaviours: want an object such as {"wire.body.empty_accepted": "strict"}, or a list of ID=strict`)
	}
	fresh := Turned{}
	for _, id := range slices.Sorted(maps.Keys(object)) {
		refuse, is := object[id].(bool)
		if word, isWord := object[id].(string); isWord {
			refuse, is = words[word]
		}
		if !is {
			return fmt.Errorf("behaviours: %.60s is %.60v: want strict or loose", id, object[id])
		}
		fresh[id] = refuse
	}
	*t = fresh
	return nil
}

// turnable are the ids that can be turned.
func turnable() (ids []string) {
	for _, b := range behaviour.All() {
		if row, _ := behaviour.ByID(b.ID); row.Turns() {
			ids = append(ids, b.ID)
		}
	}
	return ids
}

func (t Turned) validate() error {
	for _, id := range slices.Sorted(maps.Keys(t)) {
		if slices.Contains(turnable(), id) {
			continue
		}
		if _, known := behaviour.ByID(id); known {
			return fmt.Errorf("settings: behaviours: %s lets nothing pass that could be refused%s", id, spelling.DidYouMean(id, turnable()...))
		}
		return fmt.Errorf("settings: behaviours: there is no behaviour %.60q%s", id, spelling.DidYouMean(id, turnable()...))
	}
	return nil
}
