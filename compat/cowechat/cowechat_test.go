// Package cowechat_test tests qrjump with the npm package co-wechat-api: its token, and its behaviour after a rejected
// token. driver.js makes the calls; this package chooses them and checks the results.
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
	Error  string          `json:"error"` // the exception of the library
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
		stdin.Close() // the driver exits at the end of its input, unless the library retries without limit
		if t.Failed() {
			node.Process.Kill()
		}
		if err := node.Wait(); err != nil && !t.Failed() {
			t.Errorf("driver.js: %v", err)
		}
	})
	return s, &driver{requests: json.NewEncoder(stdin), results: bufio.NewReader(stdout)}
}

// do makes one call. The error of the result is that of the library or of the communication with driver.js.
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
