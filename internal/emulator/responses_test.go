package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// TestEmulator_CannedResponses verifies that calls of unsupported endpoints get the configured responses, and that the call record marks
// them.
func TestEmulator_CannedResponses(t *testing.T) {
	t.Parallel()
	s := start(t)
	addFaults(t, s,
		`{"method":"POST","path":"/cgi-bin/menu/create","response":{"body":{"errcode":40033,"errmsg":"invalid charset","b":1,"a":2}},"remaining":1}`,
		`{"path":"/cgi-bin/menu/create","response":{"body":{"errcode":0,"errmsg":"ok"}},"delay":"1ms"}`,
		`{"path":"/wxa/getwxacode","response":{"status":503,"body":"<html>busy</html>"}}`,
		`{"path":"/wxa/text","response":{"body":"{\"errcode\" : 7}"}}`, `{"path":"/wxa/plain","response":{"status":204}}`,
		`{"path":"`+get+`","response":{"body":{"errcode":0,"errmsg":"stubbed"}}}`)
	for i, c := range []struct {
		method, path, send string
		status             int
		kind, body         string
	}{
		{"POST", "/cgi-bin/menu/create?access_token=none", `{"secret":"hush-hush-hush"}`, 200, "application/json; encoding=utf-8",
			`{"errcode":40033,"errmsg":"invalid charset","b":1,"a":2}`},
		{"POST", "/cgi-bin/menu/create", "", 200, "application/json; encoding=utf-8", `{"errcode":0,"errmsg":"ok"}`},
		{"DELETE", "/cgi-bin/menu/create", "", 200, "application/json; encoding=utf-8", `{"errcode":0,"errmsg":"ok"}`},
		{"GET", "/wxa/getwxacode", "", 503, "text/html; charset=utf-8", `<html>busy</html>`},
		{"GET", "/wxa/text", "", 200, "application/json; encoding=utf-8", `{"errcode" : 7}`},
		{"GET", "/wxa/plain", "", 204, "text/plain; charset=utf-8", ""},
		{"POST", get, "", 200, "application/json; encoding=utf-8", `{"errcode":0,"errmsg":"stubbed"}`},
	} {
		a := s.Do(c.method, c.path, c.send)
		assert.True(t, a.Status == c.status && a.Header.Get("Content-Type") == c.kind && a.Body == c.body,
			"%d: %s %s: %d %s %s", i, c.method, c.path, a.Status, a.Header.Get("Content-Type"), a.Body)
		var recorded struct {
			Behaviours []string
			Detail     string
			ErrCode    int
		}
		record := s.Do("GET", a.Header.Get("X-Qrjump-Trace"), "")
		record.JSON(t, &recorded)
		assert.True(t, recorded.Detail == "canned response of a fault" && fmt.Sprint(recorded.Behaviours) == "[wire.canned_response]" &&
			!strings.Contains(record.Body, "hush"), "%d: record = %s, want a canned response without secrets", i, record.Body)
		assert.True(t, i != 0 || recorded.ErrCode == 40033, "recorded errcode = %d, want 40033", recorded.ErrCode)
	}
	s.Do("POST", "/cgi-bin/menu/delete", "{}").WantCode(t, 40066, "a path without a response")
	list := control(s, "GET", "/faults", "").Body
	for _, want := range []string{`{"id":1,"method":"POST","path":"/cgi-bin/menu/create","probability":1,` +
		`"response":{"status":200,"body":{"errcode":40033,"errmsg":"invalid charset","b":1,"a":2}},"trigger_count":1,"remaining":0}`, `"trigger_count":2,"delay":"1ms"}`} {
		assert.Contains(t, list, want, "faults")
	}
	for name, remove := range map[string]func(){
		"deleted": func() { control(s, "DELETE", "/faults", "") },
		"reset":   func() { s.Admin("POST", "/emulator/reset", "") },
	} {
		addFaults(t, s, `{"path":"/wxa/text","response":{"body":"x"}}`)
		remove()
		assert.Equal(t, control(s, "GET", "/faults", "").Body, `{"faults":[]}`+"\n", "active faults, %s", name)
		s.Do("GET", "/wxa/text", "").WantCode(t, 40066, "%s", name)
	}
}

func TestEmulator_RejectsInvalidResponse(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, body := range []string{
		`{"response":{}}`, `{"path":"x","response":{}}`, `{"path":"/x?y=1","response":{}}`, `{"path":"/x","response":[]}`,
		`{"path":"/admin/v1/accounts","response":{}}`, `{"path":"/scan/v1/resolve","response":{}}`, `{"path":"/healthz","response":{}}`,
		`{"path":"/docs/x","response":{}}`, `{"path":"/docs","response":{}}`, `{"path":"/debug/pprof/","response":{}}`,
		`{"path":"/qrjump/ca.pem","response":{}}`, `{"path":"/cgi-bin/componentloginpage","response":{}}`,
		`{"path":"/safe/bindcomponent","response":{}}`,
		`{"path":"/x","method":"get","response":{}}`, `{"path":"` + get + `","method":"GET","errcode":-1}`,
		`{"path":"/x","response":{"status":99}}`, `{"path":"/x","response":{"status":101}}`, `{"path":"/x","response":{"status":600}}`,
		`{"path":"/x","response":{},"delay":"soon"}`, `{"path":"/x","response":{},"delay":"61s"}`,
		`{"path":"/x","response":{},"delay":"-1s"}`,
		`{"path":"/x","response":{},"remaining":0}`, `{"path":"/x","response":{"bodi":1}}`, `{"path":"/x","response":{},"errcode":-1}`,
		`{"path":"/x","response":{},"drop":true}`, `{"path":"/x","response":{},"appid":"shop"}`, `{"path":"/x","response":{},"after":true}`,
	} {
		a := control(s, "POST", "/faults", body)
		assert.True(t, a.Status == 422, "%.80s: %d %s, want 422", body, a.Status, a.Body)
	}
	assert.Equal(t, control(s, "GET", "/faults", "").Body, `{"faults":[]}`+"\n", "active faults")
}
