// Package node_test tests qrjump with the npm package node-easywechat: tokens, the five endpoints for both kinds of rule, the
// six for product codes. driver.js makes the calls; this package chooses them and checks the results.
package node_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

type driver struct{ *harness.Driver }

type request struct {
	Account string          `json:"account"`
	Call    string          `json:"call"`
	Body    json.RawMessage `json:"body,omitempty"`
}

type result struct {
	Token  string          `json:"token"`
	Answer json.RawMessage `json:"answer"`
	Error  string          `json:"error"` // the exception of the library
}

// startDriver starts driver.js with s as the library's base URL.
func startDriver(t *testing.T, s *harness.Server) *driver {
	t.Helper()
	type account struct {
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
	}
	return &driver{s.StartDriver(t, map[string]any{
		"url":             s.URL,
		"cache":           t.TempDir(),
		"mini_program":    account{harness.MiniProgram, harness.MiniProgramSecret},
		"service_account": account{harness.ServiceAcct, harness.ServiceAcctSecret},
		"platform": map[string]string{"appid": harness.Platform, "secret": harness.PlatformSecret, "token": harness.PlatformToken,
			"aes_key": harness.PlatformAESKey},
	})}
}

func (d *driver) do(t testing.TB, req request) result {
	t.Helper()
	var res result
	if err := d.Do(req, &res); err != nil {
		t.Fatal(err)
	}
	return res
}

func (d *driver) caller(account string) harness.Caller {
	return func(t testing.TB, call string, body []byte) []byte {
		t.Helper()
		res := d.do(t, request{account, call, body})
		if res.Error != "" {
			t.Fatalf("%s %s: %s", call, body, res.Error)
		}
		return res.Answer
	}
}

func start(t *testing.T) (*harness.Server, *driver) {
	t.Helper()
	if _, err := os.Stat("node_modules/node-easywechat"); err != nil {
		t.Skip("not run: node-easywechat: not installed here, see compat/run.sh")
	}
	s := harness.Start(t)
	return s, startDriver(t, s)
}

func TestJumpRules_MiniProgram(t *testing.T) {
	s, d := start(t)
	harness.OrdinaryRules(t, s, d.caller("mini_program"))
}

func TestJumpRules_ServiceAccount(t *testing.T) {
	s, d := start(t)
	harness.ServiceRules(t, s, d.caller("service_account"))
}

func TestProductCodes_ApplyToTicket(t *testing.T) {
	s, d := start(t)
	harness.ProductCodes(t, s, d.caller("service_account"))
}

func TestNodeToken_PlainAndStable(t *testing.T) {
	_, d := start(t)
	for _, account := range []string{"mini_program", "service_account"} {
		for _, call := range []string{"token", "stable_token"} {
			if res := d.do(t, request{Account: account, Call: call}); res.Error != "" || res.Token == "" {
				t.Errorf("%s of %s: got %+v, want a token", call, account, res)
			}
		}
		var list struct {
			ErrCode *int `json:"errcode"`
		}
		res := d.do(t, request{Account: account, Call: "qrcodejumpget", Body: json.RawMessage(`{}`)})
		if err := json.Unmarshal(res.Answer, &list); err != nil || list.ErrCode == nil || *list.ErrCode != 0 {
			t.Errorf("qrcodejumpget with the token of %s: got %+v", account, res)
		}
	}
}

func TestToken_WrongSecret(t *testing.T) {
	s, d := start(t)
	for _, call := range []string{"token", "stable_token", "qrcodejumpget"} {
		harness.WrongSecret(t, s, func() string {
			return d.do(t, request{Account: "wrong_secret", Call: call}).Error
		})
	}
}
