// Package wxopen_test tests qrjump with github.com/fastwego/wxopen: the complete authorisation of a third-party platform, with
// pushes to an HTTP server, and the rules and codes of the accounts that authorise it.
package wxopen_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"testing"

	cache "github.com/faabiosr/cachego/sync"
	"github.com/fastwego/miniprogram"
	"github.com/fastwego/offiaccount"
	"github.com/fastwego/wxopen"
	"github.com/fastwego/wxopen/apis/auth"
	"github.com/fastwego/wxopen/type/type_platform"

	"github.com/qrjump/qrjump/compat/harness"
)

type object = map[string]any

// newPlatform returns the library as a third-party platform, with s as the base URL.
func newPlatform(t *testing.T, s *harness.Server) (*wxopen.Platform, harness.Events) {
	t.Helper()
	wxopen.WXServerUrl, offiaccount.WXServerUrl, miniprogram.WXServerUrl = s.URL, s.URL, s.URL
	p := wxopen.NewPlatform(wxopen.PlatformConfig{AppId: harness.Platform, AppSecret: harness.PlatformSecret, Token: harness.PlatformToken, AesKey: harness.PlatformAESKey})
	p.Logger = log.New(io.Discard, "", 0)
	// The default cache writes files in place: a call that reads the ticket during the next push reads an empty file.
	p.Cache = cache.New()
	events := make(harness.Events, 100)
	s.ThirdParty(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		event, err := p.Server.ParseXML(body)
		if err != nil {
			t.Errorf("the library rejects the push: %v", err)
			return
		}
		switch m := event.(type) {
		case type_platform.EventComponentVerifyTicket:
			if err := p.ReceiveComponentVerifyTicketHandler(p, m.ComponentVerifyTicket); err != nil {
				t.Error(err)
			}
			events <- harness.Event{InfoType: m.InfoType, Ticket: m.ComponentVerifyTicket}
		case type_platform.EventAuthorized:
			events <- harness.Event{InfoType: m.InfoType, AuthorizerAppID: m.AuthorizerAppid, AuthCode: m.AuthorizationCode}
		case type_platform.EventUpdateAuthorized:
			events <- harness.Event{InfoType: m.InfoType, AuthorizerAppID: m.AuthorizerAppid, AuthCode: m.AuthorizationCode}
		case type_platform.EventUnauthorized:
			events <- harness.Event{InfoType: m.InfoType, AuthorizerAppID: m.AuthorizerAppid}
		default:
			t.Errorf("unexpected event %T", event)
		}
		if err := p.Server.Response(w, r, nil); err != nil {
			t.Error(err)
		}
	})
	return p, events
}

// request makes a call with a wrapper of the library and decodes the response.
func request(t *testing.T, p *wxopen.Platform, call func(*wxopen.Platform, []byte) ([]byte, error), body object, answer any) {
	t.Helper()
	body["component_appid"] = harness.Platform
	payload, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := call(p, payload)
	if err == nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
}

// authorize authorises the platform, and saves the tokens in the library's cache, as users of the library do.
func authorize(t *testing.T, s *harness.Server, p *wxopen.Platform, appid, authType string, sets ...int) {
	t.Helper()
	var pre struct {
		Code string `json:"pre_auth_code"`
	}
	request(t, p, auth.CreatePreauthCode, object{}, &pre)
	link := auth.GetAuthorizationRedirectUri(url.Values{"component_appid": {harness.Platform}, "pre_auth_code": {pre.Code}, "redirect_uri": {harness.Back},
		"auth_type": {authType}, "biz_appid": {appid}})
	var granted struct {
		Info struct {
			AppID   string `json:"authorizer_appid"`
			Token   string `json:"authorizer_access_token"`
			Refresh string `json:"authorizer_refresh_token"`
			Sets    []any  `json:"func_info"`
		} `json:"authorization_info"`
	}
	request(t, p, auth.ApiQueryAuth, object{"authorization_code": s.Agree(t, link, appid, sets...)}, &granted)
	if granted.Info.AppID != appid || len(granted.Info.Sets) != len(sets) {
		t.Errorf("got %+v", granted)
	}
	for key, text := range map[string]string{"authorizer_access_token:": granted.Info.Token, "authorizer_refresh_token:": granted.Info.Refresh} {
		if err := p.Cache.Save(key+appid, text, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// caller returns a Caller that uses the library's client for an account.
func caller(post func(path string, payload io.Reader, contentType string) ([]byte, error)) harness.Caller {
	return func(t testing.TB, name string, body []byte) []byte {
		t.Helper()
		raw, err := post(harness.CallPath(name), bytes.NewReader(body), "application/json;charset=utf-8")
		if err == nil {
			return raw
		}
		// The error text of an API error is the complete response.
		if !strings.HasPrefix(err.Error(), "{") {
			t.Fatalf("%s: %v", name, err)
		}
		return []byte(err.Error())
	}
}

func TestAuthorization_TicketToRevocation(t *testing.T) {
	s := harness.Start(t)
	p, events := newPlatform(t, s)
	events.Next(t, "component_verify_ticket")
	authorize(t, s, p, harness.MiniProgram, "2", 18, 33)
	authorize(t, s, p, harness.ServiceAcct, "1", 3, 33, 46)

	mini, err := p.NewMiniprogram(harness.MiniProgram)
	if err != nil {
		t.Fatal(err)
	}
	mini.Logger = log.New(io.Discard, "", 0)
	service, err := p.NewOffiAccount(harness.ServiceAcct)
	if err != nil {
		t.Fatal(err)
	}
	service.Logger = log.New(io.Discard, "", 0)
	harness.OrdinaryRules(t, s, caller(mini.Client.HTTPPost))
	harness.ServiceRules(t, s, caller(service.Client.HTTPPost))
	harness.ProductCodes(t, s, caller(service.Client.HTTPPost))

	// The library refreshes an expired token, and the call succeeds.
	s.FailOnce(t, "/cgi-bin/wxopen/qrcodejumpget", 42001)
	harness.NotGranted(t, caller(mini.Client.HTTPPost), "qrcodejumpget", 0)

	var list struct {
		Total int `json:"total_count"`
	}
	request(t, p, auth.ApiGetAuthorizerList, object{"offset": 0, "count": 100}, &list)
	if list.Total != 2 {
		t.Errorf("got %+v", list)
	}
	var account struct {
		Info struct {
			Name string `json:"nick_name"`
		} `json:"authorizer_info"`
	}
	request(t, p, auth.ApiGetAuthorizerInfo, object{"authorizer_appid": harness.ServiceAcct}, &account)
	if account.Info.Name != "Coffee Service" {
		t.Errorf("got %+v", account)
	}

	authorize(t, s, p, harness.ServiceAcct, "1", 3)
	if e := events.Next(t, "updateauthorized"); e.AuthorizerAppID != harness.ServiceAcct || e.AuthCode == "" {
		t.Errorf("got %v", e)
	}
	harness.NotGranted(t, caller(service.Client.HTTPPost), "applycodequery", 61007)
	s.Withdraw(t, harness.ServiceAcct)
	if e := events.Next(t, "unauthorized"); e.AuthorizerAppID != harness.ServiceAcct {
		t.Errorf("got %v", e)
	}
	harness.NotGranted(t, caller(service.Client.HTTPPost), "qrcodejumpget", 61003)
}

func TestToken_WrongSecret(t *testing.T) {
	s := harness.Start(t)
	_, events := newPlatform(t, s)
	ticket := events.Next(t, "component_verify_ticket").Ticket
	t.Setenv("TMPDIR", t.TempDir())
	p := wxopen.NewPlatform(wxopen.PlatformConfig{AppId: harness.Platform, AppSecret: "wrong", Token: harness.PlatformToken, AesKey: harness.PlatformAESKey})
	p.Logger = log.New(io.Discard, "", 0)
	if err := p.ReceiveComponentVerifyTicketHandler(p, ticket); err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(object{"component_appid": harness.Platform})
	if err != nil {
		t.Fatal(err)
	}
	harness.WrongSecret(t, s, func() string {
		raw, err := auth.CreatePreauthCode(p, payload)
		return fmt.Sprint(string(raw), err)
	})
}
