// Package cowechat_test drives qrjump with the npm package co-wechat-api: its token, and what it does when one is
// refused. driver.js makes the calls, the questions and the judgement are here.
package cowechat_test

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

type driver struct {
	requests *json.Encoder
	results  *bufio.Reader
}

type request struct {
	Secret string `json:"secret"`
	Call   string `json:"call"`
}

type result struct {
	Answer json.RawMessage `json:"answer"`
	Error  string          `json:"error"` // what the library threw
}

func start(t *testing.T) (*harness.Server, *driver) {
	t.Helper()
	if _, err := os.Stat("node_modules/co-wechat-api"); err != nil {
		t.Skip("not run: co-wechat-api: not installed here, see compat/run.sh")
	}
	s := harness.Start(t)
	server, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(map[string]string{"url": s.URL, "appid": harness.ServiceAcct})
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command("node", "driver.js")
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
		stdin.Close() // the end of its input ends the driver, unless the library asks for ever
		if t.Failed() {
			node.Process.Kill()
		}
		if err := node.Wait(); err != nil && !t.Failed() {
			t.Errorf("driver.js: %v", err)
		}
	})
	return s, &driver{requests: json.NewEncoder(stdin), results: bufio.NewReader(stdout)}
}

// do makes one call; what went wrong on the way to the library stands in the error too.
func (d *driver) do(secret, call string) (res result) {
	err := d.requests.Encode(request{secret, call})
	var line []byte
	if err == nil {
		line, err = d.results.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &res)
	}
	if err != nil {
		res.Error = "driver.js: " + err.Error()
	}
	return res
}

// A wrong secret that is answered 40001 makes this library ask for a token for ever.
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
			t.Errorf("after one %d: got %s, %s, want a code", errcode, res.Answer, res.Error)
		}
	}
}
