// Package typescript_test generates TypeScript types from both OpenAPI documents of the server, compiles a program with them
// and runs it against the server.
package typescript_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestGeneratedClient_CallsServer(t *testing.T) {
	s := harness.Start(t)
	bin := filepath.Join("node_modules", ".bin")
	for _, command := range [][]string{
		{filepath.Join(bin, "openapi-typescript"), s.URL + "/openapi.json", "-o", "schema.d.ts"},
		{filepath.Join(bin, "openapi-typescript"), s.URL + "/openapi-wire.json", "-o", "wire.d.ts"},
		{filepath.Join(bin, "tsc"), "--strict", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext", "--moduleResolution",
			"nodenext", "--skipLibCheck", "smoke.ts"},
		{"node", "smoke.js"},
	} {
		c := exec.Command(command[0], command[1:]...)
		c.Env = append(os.Environ(), "QRJUMP_URL="+s.URL, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command[0], err, out)
		}
		if command[0] == "node" && strings.TrimSpace(string(out)) != "ok" {
			t.Errorf("%s", out)
		}
	}
}
