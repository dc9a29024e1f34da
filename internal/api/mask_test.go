package api

import "testing"

func FuzzMaskPlainIsMaskAny(f *testing.F) {
	for _, body := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"openid":"o","code_ticket":"secret"}`, "{\"b\" : true ,\n\"a\":null, \"c\":-12}\t", `{"a":1,"a":2}`,
		`{"errcode":0,"errmsg":"ok","code":"x"}`, `{"a":"<&>"}`, `{"a":"\u0041"}`, `{"a":"é"}`, "{\"a\":\"\x7f\"}", `{"a":-0}`, `{"a":01}`,
		`{"a":1.5}`,
		`{"a":123456789012345}`, `{"a":1234567890123456}`, `{"a":{"b":1}}`, `{"a":1}{`, `{"a":1,}`, `{,"a":1}`, `{"a" 1}`, `{"a":`,
		`{"a":"b`, `{"a":nul}`, `[1]`,
		`{"a":"拿铁","b":"\u2028"}`, "{\"a\":\"\u2028\",\"b\":\"\xff\"}", `{"":1,"ACCESS_TOKEN":"x","my_token":3}`, `{"a!":1,"a":2}`,
		`{"b":[{"z":1,"a":[]},{"secret":{"a":[1,"x"]},"b":[[],[1,2]]}],"a":{"token":[1],"c":{}}}`, `{"a":[1,]}`, `{"a":[,1]}`,
		`{"a":[1 2]}`,
		`{"a":[1}`, `{"a":[`, `{"a":{"b":1,"b":2}}`, `{"a":[[[[[[1]]]]]]}`, `{"a":["x" , "y" ] , "b" : { "d":1 , "c":2 } }`,
		`{"secret":[1,}`,
		`{"c":1,"a":1,"b":{"z":1,"y":"拿铁"}}`, `{"a":[],}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		shown, ok := maskPlain(body)
		if ok && cut(string(shown), maxRecorded) != maskAny(body) {
			t.Errorf("%q is shown as %q, not as %q", body, shown, maskAny(body))
		}
	})
}

func TestTheCallsThatComeMostAreMaskedPlainly(t *testing.T) {
	for _, body := range []string{`{"openid":"o","code_ticket":"secret"}`, `{"errcode":0,"errmsg":"ok","code":"x","application_id":12}`,
		`{"errcode":0,"errmsg":"ok","rule_list":[{"prefix":"https://h.example/","path":"p?a&b","state":1,"debug_url":["x"]}],"total_count":1}`} {
		if _, ok := maskPlain([]byte(body)); !ok {
			t.Errorf("%s is not", body)
		}
	}
}
