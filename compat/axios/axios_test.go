// Package axios_test runs HTTP clients and SDKs for Node.js with `qrjump run`.
package axios_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestHTTPClients_RedirectLine(t *testing.T) {
	if _, err := os.Stat("node_modules/nest-wechat"); err != nil {
		t.Skip("not run: nest-wechat: not installed here, see compat/run.sh")
	}
	text, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Dependencies, OptionalDependencies map[string]string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	versions := manifest.Dependencies
	versions["tnwx"] = versions["@tnwx/accesstoken"]
	node, err := exec.Command("node", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, builtin := range []string{"fetch", "https", "http2"} {
		versions[builtin] = strings.TrimPrefix(strings.TrimSpace(string(node)), "v")
	}
	var clients []harness.Client
	for _, name := range []string{"fetch", "https", "http2", "undici", "axios", "got", "node-fetch", "superagent", "needle", "urllib"} {
		clients = append(clients, harness.Client{Language: "Node.js", Name: name, Version: versions[name],
			Command: []string{"node", "led.js", name}})
	}
	for _, name := range []string{"nest-wechat", "tnwx", "co-wechat-api", "wechat-api"} {
		clients = append(clients, harness.Client{Language: "Node.js", Name: name, Version: versions[name], SDK: true,
			Command: []string{"node", "led.js", name}})
	}
	deno := []string{"node_modules/@deno/linux-x64-glibc/deno", "run", "--allow-all", "--quiet", "led.js", "fetch"}
	if _, err := os.Stat(deno[0]); err == nil {
		clients = append(clients, harness.Client{Language: "Deno", Name: "fetch",
			Version: manifest.OptionalDependencies["@deno/linux-x64-glibc"], Command: deno})
	}
	harness.Lines(t, ".", clients...)
}
