// Package cowechat_test tests qrjump with the npm package co-wechat-api: its token, and its behaviour after a rejected
// token. driver.js makes the calls; this package chooses them and checks the results.
package cowechat_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

type driver struct{ *harness.Driver }

type request struct {
	Secret string `json:"secret"`
	Call   string `json:"call"`
}

type result struct {
	Answer json.RawMessage `json:"answer"`
	Error  string          `json:"error"` // the exception of the library
}

func start(t *testing.T) (*harness.Server, *driver) {
	t.Helper()
	if _, err := os.Stat("node_modules/co-wechat-api"); err != nil {
		t.Skip("not run: co-wechat-api: not installed here, see compat/run.sh")
	}
	s := harness.Start(t)
	return s, &driver{s.StartDriver(t, map[string]string{"url": s.URL, "appid": harness.ServiceAcct})}
}

// do makes one call. The error of the result is that of the library or of the communication with driver.js.
func (d *driver) do(secret, call string) (res result) {
	if err := d.Do(request{secret, call}, &res); err != nil {
		res.Error = "driver.js: " + err.Error()
	}
	return res
}

// The library requests tokens without limit if the response to a wrong secret is 40001.
func TestToken_WrongSecret(t *testing.T) {
	s, d := start(t)
	for _, call := range []string{"token", "create"} {
		harness.WrongSecret(t, s, func() string { return d.do("wrong", call).Error })
	}
}

func TestLibraryRetry_AfterOneError(t *testing.T) {
	s, d := start(t)
	for _, errcode := range []int{0, 40001, 42001} {
		if errcode != 0 {
			s.FailOnce(t, "/cgi-bin/qrcode/create", errcode)
		}
		res := d.do(harness.ServiceAcctSecret, "create")
		if res.Error != "" || !strings.Contains(string(res.Answer), `"url":"http://weixin.qq.com/q/`) {
			t.Errorf("after errcode %d: got %s, %s, want a code", errcode, res.Answer, res.Error)
		}
	}
}
