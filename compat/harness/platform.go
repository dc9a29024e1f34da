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

// A third-party platform, which acts for both accounts.
const (
	Platform       = "wxc0ffee0000000003"
	PlatformSecret = "c0ffee00000000000000000000000003"
	PlatformToken  = "c0ffeetoken"
	PlatformAESKey = "c0ffee00000000000000000000000000000000000A3"

	// Back is where the authorisation page sends people.
	Back = "https://isv.example/back?state=7"
)

// Events is how a library's handler tells what it found in an envelope: its kind, and the ticket, code or AppID.
type Events chan Event

// An Event is one push, as the library understood it.
type Event struct{ InfoType, Ticket, AuthorizerAppID, AuthCode string }

// Next waits for an event of a kind.
func (e Events) Next(t testing.TB, infoType string) Event {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case one := <-e:
			if one.InfoType == infoType {
				return one
			}
		case <-deadline:
			t.Fatalf("no push of %s was understood", infoType)
		}
	}
}

// ThirdParty registers the platform with a receiver of its own, to which handler gives what a library answers, and
// asks for the first ticket.
func (s *Server) ThirdParty(t testing.TB, handler http.HandlerFunc) {
	t.Helper()
	receiver := httptest.NewServer(handler)
	t.Cleanup(receiver.Close)
	s.ThirdPartyAt(t, receiver.URL+"/events")
}

// ThirdPartyAt is ThirdParty for a receiver that is another process.
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

// Withdraw takes back what an account granted the platform.
func (s *Server) Withdraw(t testing.TB, appid string) {
	t.Helper()
	s.admin(t, http.MethodDelete, "/accounts/"+appid+"/authorizations/"+Platform, nil)
}

// admin makes a call of the admin API and returns the answer.
func (s *Server) admin(t testing.TB, method, path string, body []byte) []byte {
	t.Helper()
	r, err := http.NewRequest(method, s.own+"/admin/v1"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := s.caller().Do(r)
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

// pages are where the authorisation page is: for a computer and, in two forms, for a phone.
var pages = map[string]bool{
	"mp.weixin.qq.com/cgi-bin/componentloginpage":   true,
	"mp.weixin.qq.com/safe/bindcomponent":           true,
	"open.weixin.qq.com/wxaopen/safe/bindcomponent": true,
}

// Agree is the person in front of the authorisation page at link, an address that a library made: it lets the account
// grant the sets, and returns the authorization_code with which the person comes back.
func (s *Server) Agree(t testing.TB, link, appid string, sets ...int) string {
	t.Helper()
	there, err := url.Parse(link)
	if err != nil || !pages[there.Host+there.Path] {
		t.Fatalf("%q is not the address of the page: %v", link, err)
	}
	// As a browser whose hosts file has the page's name.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	visit := func(method string, form url.Values) *http.Response {
		t.Helper()
		r, err := http.NewRequest(method, s.own+there.Path+"?"+there.RawQuery, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = there.Host
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
	shown := visit(http.MethodGet, nil)
	if shown.StatusCode != http.StatusOK || !strings.HasPrefix(shown.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("the authorisation page answers %s, %s", shown.Status, shown.Header.Get("Content-Type"))
	}
	form := url.Values{"decision": {"approve"}, "appid": {appid}, "move": {"1"}}
	for _, id := range sets {
		form.Add("set", strconv.Itoa(id))
	}
	resp := visit(http.MethodPost, form)
	back, err := resp.Location()
	if err != nil || back.Host != "isv.example" || back.Query().Get("state") != "7" || back.Query().Get("auth_code") == "" {
		t.Fatalf("the page answers %s, Location %v, %v", resp.Status, back, err)
	}
	return back.Query().Get("auth_code")
}

// CallAs makes a Caller that uses an account's token, whoever it was given to.
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

// CallPath is where a call of the stories is.
func CallPath(call string) string {
	if len(call) > 10 && call[:10] == "qrcodejump" {
		return "/cgi-bin/wxopen/" + call
	}
	return "/intp/marketcode/" + call
}

// NotGranted checks that a call is answered with a code for what the account did not grant, or took back.
func NotGranted(t testing.TB, call Caller, name string, want int) {
	t.Helper()
	must(t, call, name, object{}, want)
}

// String is for messages of tests.
func (e Event) String() string { return fmt.Sprintf("%s of %s", e.InfoType, e.AuthorizerAppID) }
