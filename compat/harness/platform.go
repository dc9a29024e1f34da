package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The third-party platform that acts on behalf of both accounts.
const (
	Platform       = "wxc0ffee0000000003"
	PlatformSecret = "c0ffee00000000000000000000000003"
	PlatformToken  = "c0ffeetoken"
	PlatformAESKey = "c0ffee00000000000000000000000000000000000A3"

	// Back is the redirect URL of the authorisation page.
	Back = "https://isv.example/back?state=7"
)

// Events receives the pushes that the library's handler has decrypted.
type Events chan Event

// An Event is one push, as decoded by the library.
type Event struct{ InfoType, Ticket, AuthorizerAppID, AuthCode string }

// Next waits for an event with the infoType and returns it. Other events are discarded.
func (e Events) Next(t testing.TB, infoType string) Event {
	t.Helper()
	deadline := time.After(serverTimeout)
	for {
		select {
		case event := <-e:
			if event.InfoType == infoType {
				return event
			}
		case <-deadline:
			t.Fatalf("no push of %s was decoded", infoType)
		}
	}
}

// ThirdParty registers the platform with a new HTTP server, whose handler passes the pushes to a library, and requests the
// first ticket.
func (s *Server) ThirdParty(t testing.TB, handler http.HandlerFunc) {
	t.Helper()
	receiver := httptest.NewServer(handler)
	t.Cleanup(receiver.Close)
	s.ThirdPartyAt(t, receiver.URL+"/events")
}

// ThirdPartyAt registers the platform with a receiver in another process, and requests the first ticket.
func (s *Server) ThirdPartyAt(t testing.TB, eventURL string) {
	t.Helper()
	body, err := json.Marshal(object{"secret": PlatformSecret, "message_token": PlatformToken, "encoding_aes_key": PlatformAESKey,
		"event_url": eventURL, "redirect_hosts": []string{"isv.example"}})
	if err != nil {
		t.Fatal(err)
	}
	s.admin(t, http.MethodPut, "/components/"+Platform, body)
	raw, err := json.Marshal(object{"component_appid": Platform, "component_secret": PlatformSecret})
	if err != nil {
		t.Fatal(err)
	}
	var started answer
	if err := s.post("/cgi-bin/component/api_start_push_ticket", raw, &started); err != nil || started.ErrCode == nil || *started.ErrCode != OK {
		t.Fatalf("api_start_push_ticket: %+v, %v", started, err)
	}
}

// Withdraw revokes the authorisation of the platform by an account.
func (s *Server) Withdraw(t testing.TB, appid string) {
	t.Helper()
	s.admin(t, http.MethodDelete, "/accounts/"+appid+"/authorizations/"+Platform, nil)
}

// admin calls the admin API and returns the response.
func (s *Server) admin(t testing.TB, method, path string, body []byte) []byte {
	t.Helper()
	r, err := http.NewRequest(method, s.directURL+"/admin/v1"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.httpClient().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, raw, err)
	}
	return raw
}

// authorizationPages has the host and path of the authorisation page: for a computer and, in two forms, for a phone.
var authorizationPages = map[string]bool{
	"mp.weixin.qq.com/cgi-bin/componentloginpage":   true,
	"mp.weixin.qq.com/safe/bindcomponent":           true,
	"open.weixin.qq.com/wxaopen/safe/bindcomponent": true,
}

// Agree submits the authorisation page at link, a URL from a library, so that the account grants the permission sets. It
// returns the authorization_code from the redirect.
func (s *Server) Agree(t testing.TB, link, appid string, sets ...int) string {
	t.Helper()
	page, err := url.Parse(link)
	if err != nil || !authorizationPages[page.Host+page.Path] {
		t.Fatalf("%q is not the URL of an authorisation page: %v", link, err)
	}
	// Like a browser with a hosts entry for the page's host.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	visit := func(method string, form url.Values) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, s.directURL+page.Path+"?"+page.RawQuery, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = page.Host
		if form != nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	pageResp := visit(http.MethodGet, nil)
	if pageResp.StatusCode != http.StatusOK || !strings.HasPrefix(pageResp.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("GET of the authorisation page: %s, %s", pageResp.Status, pageResp.Header.Get("Content-Type"))
	}
	form := url.Values{"decision": {"approve"}, "appid": {appid}, "move": {"1"}}
	for _, id := range sets {
		form.Add("set", strconv.Itoa(id))
	}
	resp := visit(http.MethodPost, form)
	back, err := resp.Location()
	if err != nil || back.Host != "isv.example" || back.Query().Get("state") != "7" || back.Query().Get("auth_code") == "" {
		t.Fatalf("POST of the authorisation page: %s, Location %v, %v", resp.Status, back, err)
	}
	return back.Query().Get("auth_code")
}

// CallAs returns a Caller that uses an access token.
func (s *Server) CallAs(token string) Caller {
	return func(t testing.TB, call string, body []byte) []byte {
		t.Helper()
		resp, err := http.Post(s.URL+CallPath(call)+"?access_token="+url.QueryEscape(token), "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

// CallPath returns the URL path of a call of the scenarios.
func CallPath(call string) string {
	if len(call) > 10 && call[:10] == "qrcodejump" {
		return "/cgi-bin/wxopen/" + call
	}
	return "/intp/marketcode/" + call
}

// NotGranted checks the errcode of a call, for example for a permission that the account did not grant or has revoked.
func NotGranted(t testing.TB, call Caller, name string, want int) {
	t.Helper()
	must(t, call, name, object{}, want)
}

// String returns the event as a text for test messages.
func (e Event) String() string { return fmt.Sprintf("%s of %s", e.InfoType, e.AuthorizerAppID) }
