package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The calls of deployed clients. Contract: marketcode 9.
func TestCodeCalls_DeployedClients(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "order", 100_000)
	text, code := printed(t, s, id, 7)

	t.Run("K7: numbers as strings, both ids, every segment again at each edit", func(t *testing.T) {
		if got := works(t, s, "brand", "applycodequery",
			fmt.Sprintf(`{"application_id":"%d","isv_application_id":"order"}`, id)); got.Status != "FINISH" || got.ApplicationID != id ||
			got.ApplicationID >= 1<<31 {
			t.Errorf("%+v", got)
		}
		for edit := range 3 {
			for _, r := range []segment{{0, 49_999}, {50_000, 99_999}} {
				works(t, s, "brand", "codeactive",
					fmt.Sprintf(
						`{"application_id":"%d","activity_name":"edit %d","product_brand":"b","product_title":"t","product_code":"1","wxa_appid":"shop","wxa_path":"pages/index","wxa_type":0,"code_start":"%d","code_end":"%d"}`,
						id, edit, r.CodeStart, r.CodeEnd))
			}
		}
		if got := works(t, s, "brand", "codeactivequery",
			fmt.Sprintf(`{"application_id":"%d","code":%q}`, id, code)); got.ActivityName != "edit 2" || got.CodeEnd != 49_999 {
			t.Errorf("%+v", got)
		}
		if got := works(t, s, "brand", "applycodedownload",
			fmt.Sprintf(`{"application_id":"%d","code_start":"0","code_end":"1"}`, id)); got.Buffer == "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("K13: null for what is not used", func(t *testing.T) {
		works(t, s, "brand", "applycodequery", `{"application_id":null,"isv_application_id":"order"}`)
		works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":7,"code_url":null,"code":null}`, id))
		works(t, s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":null,"code_index":null,"code_url":%q,"code":null}`, text))
		works(t, s, "brand", "codeactive", binding(id, 0, 49_999, `"wxa_type":null`))
	})
	t.Run("K14: tickettocode to the path of codeactivequery", func(t *testing.T) {
		refused(t, "openid and ticket", codeCall(s, "brand", "codeactivequery",
			trade(openid(t, s, "u", "brand"), "6cb4bc95e1f1abc97034cbe8fd484989")), 40097, "one of them must be given")
	})
	t.Run("K15: a count instead of an id", func(t *testing.T) {
		if got := works(t, s, "brand", "applycodequery", `{"code_count":100000,"isv_application_id":"order"}`); got.ApplicationID != id {
			t.Errorf("%+v", got)
		}
		refused(t, "the count alone", codeCall(s, "brand", "applycodequery", `{"code_count":100000}`), 40097,
			"application_id and isv_application_id are both missing")
	})
	t.Run("K1: index, a query by codeactive, a download without an id", func(t *testing.T) {
		refused(t, "index", codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d,"index":7}`, id)), 40097,
			"code_index is missing")
		refused(t, "posted to codeactive", codeCall(s, "brand", "codeactive", fmt.Sprintf(`{"application_id":%d,"index":7}`, id)), 40097,
			"code_start and code_end must both be given")
		refused(t, "no application_id", codeCall(s, "brand", "applycodedownload", `{"code_start":0,"code_end":49999}`), 40097,
			"application_id is missing")
	})
	t.Run("K12: GET and no token", func(t *testing.T) {
		refused(t, "GET", s.Do("GET", applyPath+"?code_count=10000&isv_application_id=x", ""), 43002, "")
		refused(t, "POST", s.Do("POST", applyPath, `{"code_count":10000,"isv_application_id":"x"}`), 41001, "")
	})
	t.Run("K11: an index of 0 that its encoder drops", func(t *testing.T) {
		refused(t, "application_id alone", codeCall(s, "brand", "codeactivequery", fmt.Sprintf(`{"application_id":%d}`, id)), 40097,
			"code_index is missing")
	})
	t.Run("K9: invented fields do not matter", func(t *testing.T) {
		works(t, s, "brand", "applycode",
			`{"code_count":10000,"isv_application_id":"rust","apply_count":5,"codeType":"QR","active_status":[]}`)
		refused(t, "and are no substitute", codeCall(s, "brand", "applycode", `{"apply_count":10000,"isvApplicationId":"rust"}`), 40097,
			"code_count is missing")
	})
	t.Run("other spellings of the request", func(t *testing.T) {
		body := fmt.Sprintf(`{"application_id":%d}`, id)
		for _, kind := range []string{"application/json", "application/json; charset=utf-8", "text/plain",
			"application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
			s.Do("POST", codeFamily+"applycodequery?access_token="+s.Token("brand"), "\n"+body+"\r\n", "Content-Type: "+
				kind).WantCode(t, 0, "%q", kind)
		}
	})
	t.Run("K4: tickettocode without a token", func(t *testing.T) {
		mine := trade(openid(t, s, "alice", "brand"), ticketOf(t, s, "alice", text))
		refused(t, "by default", s.Do("POST", tradePath, mine), 41001, "")
		s.Admin("PUT", "/settings", `{"behaviours":{"codes.ticket.token":"allow"}}`)
		a := s.Do("POST", tradePath, mine)
		if got := tellOf(t, a); got.Code != code || len(got.Fields) != 14 {
			t.Errorf("%s", a.Body)
		}
		works(t, s, "brand", "tickettocode", mine)
		refused(t, "a token that is wrong is not the same as none", s.Do("POST", tradePath+"?access_token=T", mine), 40001, "")
		refused(t, "another user", s.Do("POST", tradePath, trade(openid(t, s, "bob", "brand"), ticketOf(t, s, "alice", text))), 40097,
			"无效的code_ticket或与openid不对应")
		refused(t, "a made-up ticket", s.Do("POST", tradePath, trade(openid(t, s, "alice", "brand"), "6cb4bc95e1f1abc97034cbe8fd484989")),
			40097, "无效的code_ticket或与openid不对应")
		refused(t, "nothing", s.Do("POST", tradePath, "{}"), 40097, "openid invalid")
		refused(t, "the other calls want one all the same", s.Do("POST", codeFamily+"codeactivequery", fmt.Sprintf(`{"code":%q}`, code)),
			41001, "")
		s.Admin("PUT", "/settings", `{"behaviours":{}}`)
		refused(t, "switched off again", s.Do("POST", tradePath, mine), 41001, "")
	})
}

func login(t testing.TB, s *servertest.Server, user, appid string) string {
	t.Helper()
	a := s.Do("POST", "/scan/v1/login", fmt.Sprintf(`{"user":%q,"appid":%q}`, user, appid))
	var made struct {
		JSCode string `json:"js_code"`
	}
	if a.JSON(t, &made); a.Status != http.StatusOK || len(made.JSCode) != 32 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	s.Hide(made.JSCode)
	return made.JSCode
}

func session(s *servertest.Server, appid, secret, code string) servertest.Answer {
	return s.Do("GET", sessionPath+"?grant_type=authorization_code&appid="+appid+"&secret="+secret+"&js_code="+code, "")
}

// Design 4: a js_code is traded once, within five minutes, by its own account.
func TestJSCodeToSession_SingleUseAndExpiry(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	s.Admin("PUT", "/emulator/clock", `{"freeze":true}`)
	code := login(t, s, "alice", "shop")
	for _, c := range []struct {
		name, query string
		number      int
	}{
		{"no grant_type", "appid=shop&secret=secret-shop&js_code=" + code, 40002},
		{"another grant_type", "grant_type=client_credential&appid=shop&secret=secret-shop&js_code=" + code, 40002},
		{"no appid", "grant_type=authorization_code&secret=secret-shop&js_code=" + code, 41002},
		{"no secret", "grant_type=authorization_code&appid=shop&js_code=" + code, 41004},
		{"an unknown appid", "grant_type=authorization_code&appid=nobody&secret=secret-shop&js_code=" + code, 40013},
		{"another secret", "grant_type=authorization_code&appid=shop&secret=secret-far&js_code=" + code, 40125},
		{"a secret of 257 bytes", "grant_type=authorization_code&appid=shop&secret=" + strings.Repeat("s", 257) + "&js_code=" + code,
			40125},
		{"no js_code", "grant_type=authorization_code&appid=shop&secret=secret-shop", 41008},
		{"an empty js_code", "grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=", 41008},
		{"a made-up js_code", "grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=" + strings.Repeat("x", 32), 40029},
		{"a long js_code", "grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=" + strings.Repeat("x", 10_000), 40029},
		{"another account", "grant_type=authorization_code&appid=far&secret=secret-far&js_code=" + code, 40029},
	} {
		s.Do("GET", sessionPath+"?"+c.query, "").WantCode(t, c.number, "%s", c.name)
	}
	// Nothing of that used it up.
	got := tellOf(t, session(s, "shop", "secret-shop", code))
	assert.True(t, got.OpenID == openid(t, s, "alice", "shop") && len(got.SessionKey) == 24 && !got.Fields["errcode"], "%+v", got)
	refused(t, "a second time", session(s, "shop", "secret-shop", code), 40163, "")
	second := login(t, s, "alice", "shop")
	if other := tellOf(t, session(s, "shop", "secret-shop", second)); other.OpenID != got.OpenID || other.SessionKey == got.SessionKey {
		t.Errorf("%+v after %+v", other, got)
	}
	if other := tellOf(t, session(s, "far", "secret-far", login(t, s, "alice", "far"))); other.OpenID == got.OpenID {
		t.Error("two Mini Programs know one openid")
	}
	if other := tellOf(t, session(s, "shop", "secret-shop", login(t, s, "bob", "shop"))); other.OpenID == got.OpenID {
		t.Error("two users have one openid")
	}
	early, late := login(t, s, "alice", "shop"), login(t, s, "alice", "shop")
	s.Advance(5*time.Minute - time.Second)
	if a := session(s, "shop", "secret-shop", early); tellOf(t, a).OpenID == "" {
		t.Errorf("a second before the end: %s", a.Body)
	}
	s.Advance(time.Second)
	refused(t, "after five minutes", session(s, "shop", "secret-shop", late), 40029, "")
	refused(t, "used and over", session(s, "shop", "secret-shop", early), 40029, "")

	// Of 32 at once one wins.
	once := login(t, s, "alice", "shop")
	answers := make([]servertest.Answer, 32)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = session(s, "shop", "secret-shop", once) })
	}
	wg.Wait()
	won := 0
	for _, a := range answers {
		if tellOf(t, a).OpenID != "" {
			won++
		} else {
			refused(t, "a later one", a, 40163, "")
		}
	}
	assert.Equal(t, won, 1, "trades won")
	for body, status := range map[string]int{
		`{"user":"","appid":"shop"}`: 422, `{"appid":"shop"}`: 422, `{"user":"` + strings.Repeat("u", 513) + `","appid":"shop"}`: 422,
		`{"user":"u"}`:                 422,
		`{"user":"u","appid":"brand"}`: 422, `{"user":"u","appid":"nobody"}`: 422, `[]`: 400, `{}{}`: 400, `x`: 400, ``: 400,
		`{"user":7,"appid":"shop"}`: 400,
	} {
		if a := s.Do("POST", "/scan/v1/login", body); a.Status != status || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60s: %d %s, want %d", body, a.Status, a.Body, status)
		}
	}
}

// The whole loop of section 6.1: an app scans for its user, the Mini Program
// logs in, the brand's server trades the ticket with the openid that it got.
func TestCodeLoop_ScanToBrandServer(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	id := applied(t, s, "brand", "x", 10_000)
	works(t, s, "brand", "codeactive", binding(id, 0, 9_999, `"wxa_path":"/pages/index?from=code"`))
	text, code := printed(t, s, id, 4_711)
	got := scanned(t, s, "alice", "http://"+text)
	page, ticket, _ := strings.Cut(got.Path, "&code_ticket=")
	require.True(t, got.AppID == "shop" && got.Version == "release" && page == "pages/index?from=code" && got.Scene == 1124 &&
		got.Matched.Kind == "code" && got.Matched.ApplicationID == id && got.Matched.CodeIndex == 4_711, "%+v", got)
	s.Hide(ticket)
	openid := tellOf(t, session(s, "shop", "secret-shop", login(t, s, "alice", "shop"))).OpenID
	if got := works(t, s, "brand", "tickettocode", trade(openid, ticket)); got.Code != code || got.WxaPath != "/pages/index?from=code" {
		t.Errorf("%+v", got)
	}
	// Calls as the emulator shows them tell neither ticket nor code.
	for _, shown := range []string{s.Admin("GET", "/emulator/calls?limit=1000", "").Body, s.Log()} {
		for _, hidden := range []string{ticket, code, text[10:]} {
			assert.True(t, !strings.Contains(shown, hidden), "%s is shown", hidden)
		}
	}
}
