package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

func stubs(t *testing.T, s *servertest.Server, body string) {
	t.Helper()
	if a := call(s, "PUT", "/stubs", body); a.Status != 200 {
		t.Fatalf("%s: %d %s", body, a.Status, a.Body)
	}
}

// Issue 15: calls of other families get an answer that the test sets, and each is
// marked in the record of calls.
func TestStubs(t *testing.T) {
	t.Parallel()
	s := start(t)
	stubs(t, s, `{"stubs":[
		{"method":"POST","path":"/cgi-bin/menu/create","body":{"errcode":40033,"errmsg":"invalid charset","b":1,"a":2},"times":1},
		{"path":"/cgi-bin/menu/create","body":{"errcode":0,"errmsg":"ok"},"delay":"1ms"},
		{"path":"/wxa/getwxacode","status":503,"body":"<html>busy</html>"},
		{"path":"/wxa/text","body":"{\"errcode\" : 7}"},
		{"path":"/wxa/plain","status":204},
		{"path":"`+get+`","body":{"errcode":0,"errmsg":"stubbed"}}]}`)
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
		if a.Status != c.status || a.Header.Get("Content-Type") != c.kind || a.Body != c.body {
			t.Errorf("%d: %s %s: %d %s %s", i, c.method, c.path, a.Status, a.Header.Get("Content-Type"), a.Body)
		}
		var why struct {
			Behaviours []string
			Detail     string
			ErrCode    int
		}
		record := s.Do("GET", a.Header.Get("X-Qrjump-Why"), "")
		record.JSON(t, &why)
		if why.Detail != "answered by a stub" || fmt.Sprint(why.Behaviours) != "[wire.stub]" || strings.Contains(record.Body, "hush") {
			t.Errorf("%d: on record: %s", i, record.Body)
		}
		if i == 0 && why.ErrCode != 40033 {
			t.Errorf("on record is errcode %d", why.ErrCode)
		}
	}
	if a := s.Do("POST", "/cgi-bin/menu/delete", "{}"); a.Code(t) != 40066 {
		t.Errorf("a path without a stub: %s", a.Body)
	}
	list := call(s, "GET", "/stubs", "").Body
	for _, want := range []string{`{"method":"POST","path":"/cgi-bin/menu/create","status":200,` +
		`"body":{"errcode":40033,"errmsg":"invalid charset","b":1,"a":2},"times":1,"served":1}`, `"delay":"1ms","served":2}`} {
		if !strings.Contains(list, want) {
			t.Errorf("the stubs are %s, want %s among them", list, want)
		}
	}
	for name, end := range map[string]func(){
		"taken back":     func() { call(s, "DELETE", "/stubs", "") },
		"replaced":       func() { stubs(t, s, `{"stubs":[]}`) },
		"after a reset":  func() { s.Admin("POST", "/emulator/reset", "") },
		"what was shown": func() { stubs(t, s, list); call(s, "DELETE", "/stubs", "") },
	} {
		stubs(t, s, `{"stubs":[{"path":"/wxa/text","body":"x"}]}`)
		if end(); call(s, "GET", "/stubs", "").Body != `{"stubs":[]}`+"\n" {
			t.Errorf("%s: %s", name, call(s, "GET", "/stubs", "").Body)
		}
		if a := s.Do("GET", "/wxa/text", ""); a.Code(t) != 40066 {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
}

func TestWhatCannotBeAStub(t *testing.T) {
	t.Parallel()
	s := start(t)
	stubs(t, s, `{"stubs":[{"path":"/kept"}]}`)
	for _, body := range []string{
		`{}`, `[]`, `{"stubs":[{}]}`, `{"stubs":[{"path":"x"}]}`, `{"stubs":[{"path":"/x?y=1"}]}`,
		`{"stubs":[{"path":"/admin/v1/accounts"}]}`,
		`{"stubs":[{"path":"/scan/v1/resolve"}]}`, `{"stubs":[{"path":"/healthz"}]}`, `{"stubs":[{"path":"/x","method":"get"}]}`,
		`{"stubs":[{"path":"/x","status":99}]}`, `{"stubs":[{"path":"/x","status":101}]}`, `{"stubs":[{"path":"/x","status":600}]}`,
		`{"stubs":[{"path":"/x","delay":"soon"}]}`, `{"stubs":[{"path":"/x","delay":"61s"}]}`, `{"stubs":[{"path":"/x","delay":"-1s"}]}`,
		`{"stubs":[{"path":"/x","times":0}]}`, `{"stubs":[{"path":"/x","bodi":1}]}`, `{"stubs":[{"path":"/good"},{"path":"bad"}]}`,
		`{"stubs":[` + strings.Repeat(`{"path":"/x"},`, 1000) + `{"path":"/x"}]}`,
	} {
		if a := call(s, "PUT", "/stubs", body); a.Status != 422 {
			t.Errorf("%.80s: %d %s", body, a.Status, a.Body)
		}
	}
	if a := call(s, "GET", "/stubs", ""); a.Body != `{"stubs":[{"path":"/kept","status":200}]}`+"\n" {
		t.Errorf("the stubs are %s", a.Body)
	}
}

// Without the emulator nobody can set a stub.
func TestStubsAreTheEmulatorsAlone(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true})
	a := s.Do("PUT", "/admin/v1/emulator/stubs", `{"stubs":[{"path":"/x"}]}`, "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/json")
	if a.Status != 404 {
		t.Errorf("got %d %s", a.Status, a.Body)
	}
}
