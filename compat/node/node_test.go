// Package node_test tests qrjump with the npm package node-easywechat: tokens, the five endpoints for both kinds of rule, the
// six for product codes. driver.js makes the calls; this package chooses them and checks the results.
package node_test

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

type driver struct {
	requests *json.Encoder
	results  *bufio.Reader
}

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
	server, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	type account struct {
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
	}
	settings, err := json.Marshal(map[string]any{
		"url":             s.URL,
		"cache":           t.TempDir(),
		"mini_program":    account{harness.MiniProgram, harness.MiniProgramSecret},
		"service_account": account{harness.ServiceAcct, harness.ServiceAcctSecret},
		"platform": map[string]string{"appid": harness.Platform, "secret": harness.PlatformSecret, "token": harness.PlatformToken,
			"aes_key": harness.PlatformAESKey},
	})
	if err != nil {
		t.Fatal(err)
	}

	node := exec.Command("node", "driver.js")
	// The HTTP library uses the proxy of the environment even for a local address.
	node.Env = append(os.Environ(), "COMPAT_SETTINGS="+string(settings), "NO_PROXY="+server.Hostname(), "no_proxy="+server.Hostname())
	node.Stderr = t.Output()
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // the driver exits at the end of its input, unless the library retries without limit
		if t.Failed() {
			node.Process.Kill()
		}
		if err := node.Wait(); err != nil && !t.Failed() {
			t.Errorf("driver.js: %v", err)
		}
	})
	return &driver{requests: json.NewEncoder(stdin), results: bufio.NewReader(stdout)}
}

func (d *driver) do(t testing.TB, req request) result {
	t.Helper()
	if err := d.requests.Encode(req); err != nil {
		t.Fatal(err)
	}
	line, err := d.results.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var res result
	if err := json.Unmarshal(line, &res); err != nil {
		t.Fatalf("%v in %s", err, line)
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
