package server_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const platformKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE"

// event is a decrypted event that the server pushed to a platform.
type event struct {
	AppId, InfoType, ComponentVerifyTicket, AuthorizerAppid, AuthorizationCode, PreAuthCode string
	CreateTime                                                                              int64
}

// platform is the event receiver of a third-party platform.
type platform struct {
	t      *testing.T
	URL    string
	events chan event
	answer func() (int, string)
}

func startPlatform(t *testing.T) *platform {
	p := &platform{t: t, events: make(chan event, 100), answer: func() (int, string) { return 200, "success\n" }}
	h := httptest.NewServer(p)
	t.Cleanup(h.Close)
	p.URL = h.URL
	return p
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.True(p.t, err == nil && r.Method == http.MethodPost && r.Header.Get("Content-Type") == "text/xml",
		"%s %v %v", r.Method, r.Header, err)
	var outer struct{ Encrypt string }
	err = xml.Unmarshal(body, &outer)
	assert.True(p.t, err == nil, "%v: %s", err, body)
	key, _ := base64.StdEncoding.DecodeString(platformKey + "=")
	text, _ := base64.StdEncoding.DecodeString(outer.Encrypt)
	block, err := aes.NewCipher(key)
	if err != nil {
		p.t.Error(err)
		return
	}
	cipher.NewCBCDecrypter(block, key[:16]).CryptBlocks(text, text)
	var e event
	err = xml.Unmarshal(text[20:20+binary.BigEndian.Uint32(text[16:])], &e)
	assert.NoErrorf(p.t, err, "%v: %s", err, text)
	status, answer := p.answer()
	p.events <- e
	w.WriteHeader(status)
	io.WriteString(w, answer)
}

// next returns the next event of a type and discards those before it.
func (p *platform) next(infoType string) event {
	p.t.Helper()
	for {
		select {
		case e := <-p.events:
			if e.InfoType == infoType {
				return e
			}
		case <-time.After(waitTimeout):
			p.t.Fatalf("no event %s within %v", infoType, waitTimeout)
		}
	}
}

func platformSeed(eventURL string) string {
	return `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, name: Shop, certified: true, versions: [release]}
  - {appid: svc, kind: service_account, secret: the-secret-of-svc, name: Service, certified: true, linked: [shop]}
components:
  - appid: isv
    secret: the-secret-of-isv
    message_token: tok
    encoding_aes_key: ` + platformKey + `
    event_url: ` + eventURL + `
    redirect_hosts: [isv.example]
    authorizations:
      - {appid: svc, permission_sets: [3, 33, 46]}
settings: {verification: trust, rule_rate_limit: null}
`
}

// TestPlatform_FullAuthorizationFlow runs the authorization of a platform from the first ticket to the revocation, with its events.
func TestPlatform_FullAuthorizationFlow(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	s := servertest.Start(t, servertest.Options{Seed: platformSeed(p.URL + "/events?of=isv")})
	secret := func(text string) string {
		require.True(t, text != "", "an empty secret")
		s.RegisterSecret(text)
		return text
	}

	// The first ticket is pushed without a call, another one on request.
	e := p.next("component_verify_ticket")
	secret(e.ComponentVerifyTicket)
	assert.True(t, e.AppId == "isv" && e.CreateTime == servertest.Began.Unix() && strings.HasPrefix(e.ComponentVerifyTicket, "ticket@@@"),
		"got %+v", e)
	assert.Equal(t, s.Do("POST", "/cgi-bin/component/api_start_push_ticket",
		`{"component_appid":"isv","component_secret":"the-secret-of-isv"}`).Body, `{"errcode":0,"errmsg":"ok"}`, "got")
	ticket := secret(p.next("component_verify_ticket").ComponentVerifyTicket)
	// The next ticket is pushed after ten minutes of the emulator's clock.
	s.Advance(10 * time.Minute)
	secret(p.next("component_verify_ticket").ComponentVerifyTicket)
	s.Advance(100 * 24 * time.Hour)
	last := secret(p.next("component_verify_ticket").ComponentVerifyTicket)
	body := func(ticket string) string {
		return fmt.Sprintf(
			`{"component_appid":"isv","component_appsecret":"the-secret-of-isv","component_verify_ticket":%q,"appid":"isv","neededText":""}`, ticket)
	}
	a := s.Do("POST", "/cgi-bin/component/api_component_token", body(ticket))
	assert.True(t, a.Code(t) == 61006 || a.Code(t) == 61005, "an expired ticket: %s, want errcode 61006 or 61005", a.Body)
	a = s.Do("POST", "/cgi-bin/component/api_component_token", body(last))
	issued := servertest.Decode[map[string]any](t, a)
	token, _ := issued["component_access_token"].(string)
	secret(token)
	assert.True(t, len(issued) == 2 && issued["expires_in"] == 7200.0, "got %s", a.Body)

	// A user approves on the consent page.
	var pre struct {
		Code    string `json:"pre_auth_code"`
		Expires int    `json:"expires_in"`
	}
	s.Do("POST", "/cgi-bin/component/api_create_preauthcode?access_token="+token, `{"component_appid":"isv"}`).JSON(t, &pre)
	secret(pre.Code)
	page := "/cgi-bin/componentloginpage?" + url.Values{"component_appid": {"isv"}, "pre_auth_code": {pre.Code}, "auth_type": {"3"},
		"redirect_uri": {"https://isv.example/back"}}.Encode()
	if a := s.Do("GET", page, "", "Host: mp.weixin.qq.com"); a.Status != 200 || !strings.Contains(a.Body, `value="shop"`) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	a = s.Do("POST", page, "decision=approve&appid=shop&set=18&set=33", "Content-Type: application/x-www-form-urlencoded",
		"Sec-Fetch-Site: same-origin")
	location, err := url.Parse(a.Header.Get("Location"))
	require.True(t, a.Status == 303 && err == nil && location.Host == "isv.example" && location.Query().Get("expires_in") == "600",
		"%d %q", a.Status, a.Header.Get("Location"))
	code := secret(location.Query().Get("auth_code"))
	e = p.next("authorized")
	assert.True(t, e.AuthorizerAppid == "shop" && e.AuthorizationCode == code && e.PreAuthCode == pre.Code, "got %+v", e)

	// The authorization code is exchanged for tokens.
	var got struct {
		Info struct {
			AppID   string `json:"authorizer_appid"`
			Token   string `json:"authorizer_access_token"`
			Expires int    `json:"expires_in"`
			Refresh string `json:"authorizer_refresh_token"`
			Sets    []any  `json:"func_info"`
		} `json:"authorization_info"`
	}
	a = s.Component(token, "api_query_auth", fmt.Sprintf(`{"component_appid":"isv","authorization_code":%q}`, code))
	a.JSON(t, &got)
	secret(got.Info.Token)
	secret(got.Info.Refresh)
	assert.True(t, !strings.Contains(a.Body, "err") && got.Info.AppID == "shop" && got.Info.Expires == 7200 && len(got.Info.Sets) == 2,
		"got %s", a.Body)
	call := func(token, name, body string) servertest.Answer {
		return s.Do("POST", "/cgi-bin/wxopen/"+name+"?access_token="+token, body)
	}
	if a := call(got.Info.Token, "qrcodejumpadd",
		`{"prefix":"https://shop.example/t/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`); a.Code(t) != 0 {
		t.Error(a.Body)
	}
	if a := call(got.Info.Token, "qrcodejumppublish", `{"prefix":"https://shop.example/t/"}`); a.Code(t) != 0 {
		t.Error(a.Body)
	}

	// Account information for the platform.
	a = s.Component(token, "api_get_authorizer_info", `{"component_appid":"isv","authorizer_appid":"shop"}`)
	want := `{"authorizer_info":{"nick_name":"Shop","head_img":"","service_type_info":{"id":0},"verify_type_info":{"id":0},"user_name":"`
	assert.True(t, strings.HasPrefix(a.Body, want) && strings.Contains(a.Body, `"MiniProgramInfo":{"network":{"RequestDomain":[]`) &&
		!strings.Contains(a.Body, "basic_config") && !strings.Contains(a.Body, "access_token") &&
		strings.Contains(a.Body, got.Info.Refresh), "got %s", a.Body)
	a = s.Component(token, "api_get_authorizer_info", `{"component_appid":"isv","authorizer_appid":"svc"}`)
	assert.True(t, !strings.Contains(a.Body, "MiniProgramInfo") && strings.Contains(a.Body, `"service_type_info":{"id":2}`),
		"got %s", a.Body)
	// The refresh token of a seeded authorization is valid.
	svcToken, _ := s.AuthorizerToken(token, "isv", "svc")
	if a := call(svcToken, "qrcodejumpget", `{}`); a.Code(t) != 0 {
		t.Error(a.Body)
	}
	var list struct {
		Total int `json:"total_count"`
		List  []struct {
			AppID   string `json:"authorizer_appid"`
			Refresh string `json:"refresh_token"`
			Time    int64  `json:"auth_time"`
		}
	}
	s.Component(token, "api_get_authorizer_list", `{"component_appid":"isv","offset":"0","count":"100"}`).JSON(t, &list)
	assert.True(t, list.Total == 2 && len(list.List) == 2 && list.List[1].AppID == "shop" && list.List[1].Refresh == got.Info.Refresh &&
		list.List[1].Time >= servertest.Began.Unix(), "got %+v", list)

	// An update and the revocation of the authorization.
	s.Authorize(token, "isv", "shop", "[33]")
	secret(p.next("updateauthorized").AuthorizationCode)
	// The update revokes the old token; the new one lacks the permission set.
	if a := call(got.Info.Token, "qrcodejumpget", `{}`); a.Code(t) != 40001 {
		t.Error(a.Body)
	}
	fewer, _ := s.AuthorizerToken(token, "isv", "shop")
	if a := call(fewer, "qrcodejumpget", `{}`); a.Code(t) != 61007 {
		t.Error(a.Body)
	}
	s.Admin("DELETE", "/accounts/shop/authorizations/isv", "")
	e = p.next("unauthorized")
	assert.True(t, e.AuthorizerAppid == "shop" && e.AuthorizationCode == "", "got %+v", e)
	for _, token := range []string{got.Info.Token, fewer} {
		call(token, "qrcodejumpget", `{}`).WantCode(t, 61003, "a call after the revocation")
	}

	// The lists of pushes and calls contain no credentials.
	a = s.Admin("GET", "/components/isv/pushes?limit=1000", "")
	for _, want := range []string{`"info_type":"unauthorized"`, `"info_type":"component_verify_ticket"`, `"delivered":true`, `[masked]`,
		`"status":200`, `success\n`} {
		assert.True(t, strings.Contains(a.Body, want), "no %s in %s", want, a.Body)
	}
	calls := s.Admin("GET", "/emulator/calls?limit=1000", "").Body
	for _, mark := range []string{"ticket@@@", "preauthcode@@@", "queryauthcode@@@", "refreshtoken@@@", got.Info.Token, token,
		"the-secret-of-isv"} {
		assert.True(t, !strings.Contains(a.Body, mark) && !strings.Contains(calls, mark) && !strings.Contains(s.Log(), mark),
			"a list or the log contains %s", mark)
	}
}

func TestPlatform_FailedPushListed(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	status := make(chan int, 10)
	status <- 500
	p.answer = func() (int, string) {
		select {
		case n := <-status:
			return n, "try later"
		default:
			return 200, "success"
		}
	}
	s := servertest.Start(t, servertest.Options{Seed: platformSeed(p.URL)})
	first := p.next("component_verify_ticket")
	s.Advance(5 * time.Second)
	retry := p.next("component_verify_ticket")
	assert.Equal(t, first, retry, "the retried event")
	s.RegisterSecret(first.ComponentVerifyTicket)
	assert.Contains(t, s.Log(), "delivery failed", "the log")
}

// Contract: design 8: private addresses only by the setting.
func TestPlatform_PrivateEventURL(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	s := servertest.Start(t, servertest.Options{Guarded: true, Emulator: true, Seed: platformSeed(p.URL)})
	var list struct {
		Pushes []struct {
			Error     string
			Attempts  int
			Delivered bool
		}
	}
	// Pushes are sent once a second; the list shows failed attempts.
	eventually(t, "a failed push", func() bool {
		s.Admin("GET", "/components/isv/pushes", "").JSON(t, &list)
		return len(list.Pushes) > 0 && strings.Contains(list.Pushes[0].Error, "port_refused")
	})
	assert.True(t, !list.Pushes[0].Delivered && len(p.events) == 0, "pushes = %+v, %d events, want none delivered", list, len(p.events))
	s.Admin("PUT", "/settings", `{"allow_private_hosts":true}`)
	s.Advance(time.Minute)
	s.RegisterSecret(p.next("component_verify_ticket").ComponentVerifyTicket)
}

func TestSeed_ExclusiveGrantSetOnce(t *testing.T) {
	t.Parallel()
	seed := `
accounts:
  - {appid: shop, kind: mini_program}
components:
  - {appid: isv, secret: a, message_token: tok, encoding_aes_key: ` + platformKey + `, authorizations: [{appid: shop, permission_sets: [18]}]}
  - {appid: isv2, secret: b, message_token: tok, encoding_aes_key: ` + platformKey + `, authorizations: [{appid: shop, permission_sets: [18]}]}
`
	_, err := servertest.TryStart(t, servertest.Options{Seed: seed})
	assert.True(t, err != nil && strings.Contains(err.Error(), "line 6") && strings.Contains(err.Error(), "exclusive"), "got %v", err)
}
