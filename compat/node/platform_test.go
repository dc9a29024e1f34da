package node_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// ask makes a call of platform.js.
func (d *driver) ask(t testing.TB, call string, body map[string]any, answer any) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	res := d.do(t, request{Account: "platform", Call: "platform." + call, Body: raw})
	if res.Error != "" {
		t.Fatalf("%s: %s", call, res.Error)
	}
	if err := json.Unmarshal(res.Answer, answer); err != nil {
		t.Fatalf("%s: %v in %s", call, err, res.Answer)
	}
}

type push struct{ Type, AppID, Code, Error string }

func (d *driver) next(t testing.TB, kind string) push {
	t.Helper()
	var p push
	if d.ask(t, "next", map[string]any{"type": kind}, &p); p.Error != "" {
		t.Fatalf("the library rejects a push: %s", p.Error)
	}
	return p
}

// The complete authorisation: ticket, page, authorization code, rules and codes on behalf of the account, revocation.
func TestAuthorization_TicketToRevocation(t *testing.T) {
	s, d := start(t)
	var listening struct{ Port int }
	d.ask(t, "listen", nil, &listening)
	s.ThirdPartyAt(t, fmt.Sprintf("http://127.0.0.1:%d/events", listening.Port))
	d.next(t, "component_verify_ticket")

	authorize := func(appid, authType string, sets ...int) (refresh string) {
		t.Helper()
		var created struct{ Link string }
		d.ask(t, "link", map[string]any{"back": harness.Back, "type": authType, "appid": appid}, &created)
		code := s.Agree(t, created.Link, appid, sets...)
		var got struct {
			Info struct {
				AppID   string `json:"authorizer_appid"`
				Refresh string `json:"authorizer_refresh_token"`
				Sets    []any  `json:"func_info"`
			} `json:"authorization_info"`
		}
		d.ask(t, "authorization", map[string]any{"code": code}, &got)
		if got.Info.AppID != appid || got.Info.Refresh == "" || len(got.Info.Sets) != len(sets) {
			t.Errorf("got %+v", got)
		}
		return got.Info.Refresh
	}
	caller := func(kind, appid, refresh string) harness.Caller {
		return func(t testing.TB, call string, body []byte) []byte {
			t.Helper()
			request := map[string]any{"kind": kind, "appid": appid, "refresh": refresh, "path": harness.CallPath(call)}
			if body != nil {
				request["body"] = json.RawMessage(body)
			}
			var raw json.RawMessage
			d.ask(t, "call", request, &raw)
			return raw
		}
	}
	mini := caller("mini_program", harness.MiniProgram, authorize(harness.MiniProgram, "2", 18, 33))
	service := caller("service_account", harness.ServiceAcct, authorize(harness.ServiceAcct, "1", 3, 33, 46))
	if !s.Shared {
		if e := d.next(t, "authorized"); e.AppID != harness.MiniProgram || e.Code == "" {
			t.Errorf("got %+v", e)
		}
	}
	harness.OrdinaryRules(t, s, mini)
	harness.ServiceRules(t, s, service)
	harness.ProductCodes(t, s, service)

	authorize(harness.ServiceAcct, "1", 3)
	if e := d.next(t, "updateauthorized"); e.AppID != harness.ServiceAcct || e.Code == "" {
		t.Errorf("got %+v", e)
	}
	// A new authorisation revokes the account's token at once; this library does not refresh its cached token.
	harness.NotGranted(t, service, "applycodequery", 40001)
	s.Withdraw(t, harness.MiniProgram)
	if e := d.next(t, "unauthorized"); e.AppID != harness.MiniProgram {
		t.Errorf("got %+v", e)
	}
	harness.NotGranted(t, mini, "qrcodejumpget", 61003)
}
