package apiusage

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newCall returns a call with all fields set. Its texts contain text, which JSON may have to escape.
func newCall(text string) Call {
	return Call{RID: "6920a1b2-00000001-00000002", Account: text + "a", OccurredAt: time.Date(2026, 11, 22, 1, 2, 3, 45e6, time.UTC),
		Duration: 7 * time.Millisecond, Path: text + "p", Query: text, Request: text, Response: text, ClientIP: text, ErrCode: -1,
		Detail: text, Behaviours: []string{text, "b"}}
}

func TestCallBlock_EqualsEncodingJSON(t *testing.T) {
	full := reflect.ValueOf(newCall("x"))
	for i := range full.NumField() {
		assert.True(t, !full.Field(i).IsZero(), "field %s is not set, want appendJSON to write it too", full.Type().Field(i).Name)
	}
	for _, c := range []Call{{}, newCall("x"), newCall(`{"a":"<b>&\"c\"\\"}`), newCall("\n\t\r\x00\x1f\x7f字\U0001f600"),
		{Behaviours: []string{"one"}}} {
		var want bytes.Buffer
		out := json.NewEncoder(&want)
		out.SetEscapeHTML(false)
		require.NoError(t, out.Encode(c))
		got := string(c.appendJSON(nil)) + "\n"
		// Some control characters may be written as \u escapes.
		same := strings.NewReplacer(`\t`, `\u0009`, `\r`, `\u000d`, `\b`, `\u0008`, `\f`, `\u000c`)
		assert.True(t, got == same.Replace(want.String()), "appendJSON() =\n%s, want as encoding/json\n%s", got, want.String())
	}
}

func FuzzACallIsReadAsItWasWritten(f *testing.F) {
	f.Add(`{"errcode":0}`)
	f.Add("\u2028<\xff\"\\")
	f.Fuzz(func(t *testing.T, text string) {
		want := newCall(storable(text))
		var got Call
		err := json.Unmarshal(want.appendJSON(nil), &got)
		assert.True(t, err == nil && reflect.DeepEqual(got, want), "decoded call = %+v, %v, want %+v", got, err, want)
	})
}
