package api

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// objects are seeds: plain JSON objects, objects that are almost plain, and invalid ones.
var objects = []string{
	`{}`, ` { } `, `{"a":1}`, `{"openid":"o","code_ticket":"secret"}`, "{\"b\" : true ,\n\"a\":null, \"c\":-12}\t", `{"a":1,"a":2}`,
	`{"errcode":0,"errmsg":"ok","code":"x"}`, `{"a":"<&>"}`, `{"a":"\u0041"}`, `{"a":"é"}`, "{\"a\":\"\x7f\"}", `{"a":-0}`, `{"a":01}`,
	`{"a":1.5}`,
	`{"a":123456789012345}`, `{"a":1234567890123456}`, `{"a":{"b":1}}`, `{"a":1}{`, `{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{"a":`,
	`{"a":"b`, `{"a":nul}`, `[1]`,
	`{"a":"拿铁","b":"\u2028"}`, "{\"a\":\"\u2028\",\"b\":\"\xff\"}", `{"":1,"ACCESS_TOKEN":"x","my_token":3}`, `{"a!":1,"a":2}`,
	`{"b":[{"z":1,"a":[]},{"secret":{"a":[1,"x"]},"b":[[],[1,2]]}],"a":{"token":[1],"c":{}}}`, `{"a":[1,]}`, `{"a":[,1]}`,
	`{"a":[1 2]}`,
	`{"a":[1}`, `{"a":[`, `{"a":{"b":1,"b":2}}`, `{"a":[[[[[[1]]]]]]}`, `{"a":["x" , "y" ] , "b" : { "d":1 , "c":2 } }`,
	`{"secret":[1,}`, `{"a":["x","y",]}`, `{"a":[,"x"]}`, `{"a":["x"`, `{"a":["x",`, `{"a":["x"]]}`, `{"a":[ "x" , "é" ] }`,
	`{"a":["x\\n"]}`,
	`{"c":1,"a":1,"b":{"z":1,"y":"拿铁"}}`, `{"a":[],}`,
}

// FuzzMaskPlainIsMaskAny verifies that the fast path of masking, where it applies, returns what the general one does.
func FuzzMaskPlainIsMaskAny(f *testing.F) {
	for _, body := range objects {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		masked, ok := maskPlain(body)
		assert.True(t, !ok || truncate(masked, maxRecorded) == maskAny(body), "maskPlain(%q) = %q, want %q", body, masked, maskAny(body))
	})
}

// FuzzPlainFieldsAreFields verifies that parsePlainFields, where it succeeds, reads what encoding/json reads.
func FuzzPlainFieldsAreFields(f *testing.F) {
	for _, body := range objects {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		plain, ok := parsePlainFields(body)
		if !ok {
			return
		}
		var object map[string]json.RawMessage
		err := json.Unmarshal(body, &object)
		require.True(t, err == nil && len(object) == len(plain.list), "%q: %d fields, want %d, %v", body, len(plain.list), len(object), err)
		for name, raw := range object {
			got := plain.raw(name)
			assert.True(t, string(got) == string(raw), "%q: %q = %q, want %q", body, name, got, raw)
			text, ok := stringValue(raw)
			var want string
			if raw[0] == '[' {
				var list []string
				if got, _ := plain.texts(name); json.Unmarshal(raw, &list) != nil || !slices.Equal(got, list) {
					t.Errorf("%q: list %q = %q, want %q", body, name, got, list)
				}
			}
			wantOK := raw[0] == '"' && json.Unmarshal(raw, &want) == nil
			assert.True(t, ok == wantOK && text == want, "%q: text %q = %q, %v, want %q, %v", body, name, text, ok, want, wantOK)
		}
	})
}

func TestMask_FrequentCallsFastPath(t *testing.T) {
	for _, body := range []string{`{"openid":"o","code_ticket":"secret"}`, `{"errcode":0,"errmsg":"ok","code":"x","application_id":12}`,
		`{"errcode":0,"errmsg":"ok","rule_list":[{"prefix":"https://h.example/","path":"p?a&b","state":1,"debug_url":["x"]}],"total_count":1}`} {
		_, ok := maskPlain([]byte(body))
		assert.True(t, ok, "maskPlain(%s) reports false, want the fast path", body)
	}
}

// TestMask_KnownNamesFollowRule verifies that the names listed in isSecretName are classified as the general rule classifies them.
func TestMask_KnownNamesFollowRule(t *testing.T) {
	source := require.Value(os.ReadFile("record.go"))(t)
	_, known, _ := strings.Cut(string(source), "switch name {")
	known, _, _ = strings.Cut(known, "return isHiddenName(name)")
	names := regexp.MustCompile(`"([a-z_]+)"`).FindAllStringSubmatch(known, -1)
	require.True(t, len(names) >= 30, "%d names found in record.go, want at least 30", len(names))
	for _, name := range names {
		assert.True(t, isSecretName(name[1]) == resemblesSecretName(name[1]),
			"isSecretName(%s) = %v, want the general rule", name[1], isSecretName(name[1]))
	}
}
