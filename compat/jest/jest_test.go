// Package jest_test runs Jest with deploy/ci/jest-setup.js and jest-teardown.js, which users copy.
package jest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

const suite = `const query = "/cgi-bin/token?grant_type=client_credential&appid=wxc0ffee0000000001&secret=c0ffee00000000000000000000000001";

test("the server issues a token", async () => {
  const answer = await fetch(process.env.QRJUMP_SERVER + query);
  expect((await answer.json()).expires_in).toBe(7200);
});
`

func TestJestSetup_StartsServer(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"shop.test.js": suite, "package.json": `{"private":true}`,
		"jest.config.js": `module.exports = { globalSetup: "./jest-setup.js", globalTeardown: "./jest-teardown.js" };`}
	for _, name := range []string{"jest-setup.js", "jest-teardown.js"} {
		text, err := os.ReadFile("../../deploy/ci/" + name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	jest, err := filepath.Abs("node_modules/jest/bin/jest.js")
	if err != nil {
		t.Fatal(err)
	}
	run := func(path string) (string, error) {
		c := exec.Command("node", jest, "--ci", "--watchman=false")
		c.Dir, c.Env = dir, append(os.Environ(), "PATH="+path, "NO_PROXY=127.0.0.1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	harness.RunSuite(t, run, "1 passed", "qrjump did not start")
}
