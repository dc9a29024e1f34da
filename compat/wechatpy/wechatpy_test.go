// Package wechatpy_test tests qrjump with the Python library wechatpy.
package wechatpy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// python returns the path of the interpreter with the library.
func python(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs(".venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Skip("not run: wechatpy: not installed here, see compat/run.sh")
	}
	return file
}

// Every call with the code for this library on the call's page.
func TestSnippets_EveryCallPage(t *testing.T) {
	python := python(t)
	imports, list := harness.Snippets(t, "Python: wechatpy")
	program := "import os\nimport sys\n" + imports
	for name, variable := range harness.Variables {
		program += name + " = os.environ['" + variable + "']\n"
	}
	for _, s := range list {
		program += "\ndef " + s.Name() + "():\n"
		for line := range strings.Lines(s.Setup + s.Code) {
			program += "    " + line
		}
	}
	program += "\nglobals()[sys.argv[1]]()\n"
	file := filepath.Join(t.TempDir(), "calls.py")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.PlaySnippets(t, "", python+" "+file, list)
}

func TestHTTPClients_RedirectLine(t *testing.T) {
	python := python(t)
	var clients []harness.Client
	for _, c := range []struct{ name, version, function, line string }{
		{"requests", "2.34.2", "requests", ""},
		{"httpx", "0.28.1", "httpx", ""},
		{"urllib.request", "3.11", "urllib", ""},
		{"http.client", "3.11", "http_client", ""},
		{"urllib3", "2.8.0", "urllib3", `urllib3.ProxyManager(os.environ["HTTPS_PROXY"])`},
		{"aiohttp", "3.14.5", "aiohttp", "aiohttp.ClientSession(trust_env=True)"},
		{"tornado", "6.6.1", "tornado", ""},
		{"httplib2", "0.32.1", "httplib2", ""},
		{"wechatpy", "2.0.0a26", "sdk_wechatpy", ""},
		{"WeRoBot", "1.13.1", "sdk_werobot", ""},
		{"pywe-token", "1.3.1", "sdk_pywe_token", ""},
	} {
		function, sdk := strings.CutPrefix(c.function, "sdk_")
		client := harness.Client{Language: "Python", Name: c.name, Version: c.version, SDK: sdk, Line: c.line,
			Command: []string{python, "led.py", function}}
		if c.line != "" {
			client.ByLine = append(client.Command, "line")
		}
		clients = append(clients, client)
	}
	harness.Lines(t, ".", clients...)
}
