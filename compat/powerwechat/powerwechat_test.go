// Package powerwechat_test tests qrjump with github.com/ArtisanCloud/PowerWeChat/v3. The token URL is a literal in the
// library's source, so that it requires a hosts entry and a trusted certificate for api.weixin.qq.com.
// The library has no wrappers for jump rules; the tests use its generic HttpPostJson, as its users do.
package powerwechat_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/ArtisanCloud/PowerLibs/v3/logger/drivers"
	"github.com/ArtisanCloud/PowerWeChat/v3/src/kernel"
	"github.com/ArtisanCloud/PowerWeChat/v3/src/miniProgram"
	"github.com/ArtisanCloud/PowerWeChat/v3/src/officialAccount"

	"github.com/qrjump/qrjump/compat/harness"
)

// redirect starts a server and redirects api.weixin.qq.com to it in this process, like a hosts entry and a trusted ca.pem on
// a machine. It sets no base URL in the library.
func redirect(t *testing.T) *harness.Server {
	s, transport := harness.StartTLS(t)
	before := http.DefaultTransport
	http.DefaultTransport = transport
	t.Cleanup(func() { http.DefaultTransport = before })
	return s
}

// fetch fetches a new token of the account, because the library caches tokens of earlier servers for the process.
func fetch(t *testing.T, token *kernel.AccessToken) {
	t.Helper()
	if got, err := token.GetToken(t.Context(), true); err != nil || got.AccessToken == "" || got.ExpiresIn <= 1500 {
		t.Fatalf("token = %+v, %v", got, err)
	}
}

// caller returns a Caller that uses the library's client.
func caller(client *kernel.BaseClient) harness.Caller {
	return func(t testing.TB, call string, body []byte) []byte {
		t.Helper()
		var send any
		if body != nil {
			send = string(body)
		}
		var answer json.RawMessage
		if _, err := client.HttpPostJson(t.Context(), "cgi-bin/wxopen/"+call, send, nil, nil, &answer); err != nil {
			t.Fatalf("%s: %v", call, err)
		}
		return answer
	}
}

func program(t *testing.T, secret string) *miniProgram.MiniProgram {
	t.Helper()
	app, err := miniProgram.NewMiniProgram(&miniProgram.UserConfig{
		AppID: harness.MiniProgram, Secret: secret, Log: miniProgram.Log{Driver: &drivers.DummyLogger{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func TestPowerWeChat_MiniProgramRedirected(t *testing.T) {
	s := redirect(t)
	app := program(t, harness.MiniProgramSecret)
	fetch(t, app.GetAccessToken())
	harness.OrdinaryRules(t, s, caller(app.Base.BaseClient))
}

func TestPowerWeChat_ServiceAccountRedirected(t *testing.T) {
	s := redirect(t)
	app, err := officialAccount.NewOfficialAccount(&officialAccount.UserConfig{
		AppID: harness.ServiceAcct, Secret: harness.ServiceAcctSecret, Log: officialAccount.Log{Driver: &drivers.DummyLogger{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	fetch(t, app.GetAccessToken())
	harness.ServiceRules(t, s, caller(app.Base.BaseClient))
}

// Contract: clients, the table of retries. On these errors the library fetches a new token and retries once, without the body
// of the first request: qrcodejumpget requires none.
func TestPowerWeChat_RenewsDeadToken(t *testing.T) {
	s := redirect(t)
	app := program(t, harness.MiniProgramSecret)
	fetch(t, app.GetAccessToken())
	call := caller(app.Base.BaseClient)
	for _, errcode := range []int{40001, 40014, 42001} {
		s.FailOnce(t, "/cgi-bin/wxopen/qrcodejumpget", errcode)
		var answer struct{ ErrCode int }
		if err := json.Unmarshal(call(t, "qrcodejumpget", nil), &answer); err != nil || answer.ErrCode != 0 {
			t.Errorf("after errcode %d: %+v, %v", errcode, answer, err)
		}
	}
}

func TestToken_WrongSecret(t *testing.T) {
	s := redirect(t)
	app := program(t, "wrong")
	harness.WrongSecret(t, s, func() string {
		token, err := app.AccessToken.GetToken(t.Context(), true)
		return fmt.Sprint(token, err)
	})
	harness.WrongSecret(t, s, func() string {
		var answer json.RawMessage
		_, err := app.Base.BaseClient.HttpPostJson(t.Context(), "cgi-bin/wxopen/qrcodejumpget", "{}", nil, nil, &answer)
		return fmt.Sprint(string(answer), err)
	})
}
