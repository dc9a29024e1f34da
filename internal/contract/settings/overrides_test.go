package settings

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		`{}`:               `{}`,
		`{"rate_limit":7}`: `{"rate_limit":7}`,
		`{"behaviours":{"wire.list.text":"allow"}}`:                  `{"behaviours":{"wire.list.text":"allow"}}`,
		`{"behaviours":{"wire.list.text":true}}`:                     `{"behaviours":{"wire.list.text":"reject"}}`,
		`{"behaviours":["wire.list.text=loose"]}`:                    `{"behaviours":{"wire.list.text":"allow"}}`,
		`{"behaviours":{"qrcode.account":false}}`:                    `{"behaviours":{}}`,
		`{"rules_by_get":true,"strict_empty_body":false}`:            `{"behaviours":{"rules.get.by_get":"allow"}}`,
		`{"activation_overlap":"reject"}`:                            `{"behaviours":{}}`,
		`{"activation_overlap":"replace","rate_limit":1}`:            `{"behaviours":{"codes.activate.overlap_taken":"allow"},"rate_limit":1}`,
		`{"inactive_code_is_an_error":false}`:                        `{"behaviours":{"codes.query.bare":"allow"}}`,
		`{"require_link":true,"behaviours":["link.at_once=strict"]}`: `{"behaviours":{"codes.activate.unlinked_taken":"reject","link.at_once":"reject"}}`,
	} {
		var kept map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(stored), &kept))
		upgraded, err := Upgrade(kept)
		got, _ := json.Marshal(upgraded)
		if err != nil || string(got) != want {
			t.Errorf("Upgrade(%s) = %s, %v, want %s", stored, got, err, want)
		}
		if s, err := Merge(Defaults(), got); err != nil || reflect.DeepEqual(s, Settings{}) {
			t.Errorf("Merge(%s) = %v", got, err)
		}
	}
}

func TestFormer_EachOverridesABehaviour(t *testing.T) {
	t.Parallel()
	for name, was := range former {
		s := Defaults()
		before := s.Refuses(was.row)
		s.Behaviours = Overrides{was.row.String(): was.decision}
		if !was.row.Turns() || s.Refuses(was.row) == before || was.row == behaviour.None {
			t.Errorf("%s: override %s of %s changes nothing", name, was.decision, was.row)
		}
	}
}
