// Package pytest_test runs pytest with the fixture deploy/ci/conftest.py, which users copy.
package pytest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// suite has two tests that share the server; a reset before the second removes the rule of the first.
const suite = `import json, os, urllib.request

def token(server):
    query = "/cgi-bin/token?grant_type=client_credential&appid=wxc0ffee0000000001&secret=c0ffee00000000000000000000000001"
    return json.load(urllib.request.urlopen(server + query))["access_token"]

def ask(server, call, body):
    url = server + "/cgi-bin/wxopen/qrcodejump" + call + "?access_token=" + token(server)
    return json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())))

RULE = {"prefix": "https://tea.example/t/", "path": "pages/table/table", "is_edit": 0, "permit_sub_rule": 1, "open_version": 3}

def test_first(qrjump):
    assert ask(qrjump, "add", RULE)["errcode"] == 0

def test_second(qrjump):
    assert os.environ["QRJUMP_SERVER"] == qrjump
    assert ask(qrjump, "add", RULE)["errcode"] == 0
`

func TestPytestFixture_StartsServer(t *testing.T) {
	dir := t.TempDir()
	fixture, err := os.ReadFile("../../deploy/ci/conftest.py")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"conftest.py": string(fixture), "test_shop.py": suite} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	python, err := filepath.Abs(".venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	run := func(path string) (string, error) {
		c := exec.Command(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", dir)
		c.Dir, c.Env = dir, append(os.Environ(), "PATH="+path, "NO_PROXY=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	harness.RunSuite(t, run, "2 passed", "health")
}
