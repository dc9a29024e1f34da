package node_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// modules returns the folder of the library.
func modules(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("node_modules/node-easywechat"); err != nil {
		t.Skip("not run: node-easywechat: not installed here, see compat/run.sh")
	}
	folder, err := filepath.Abs("node_modules")
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

// Every call with the code for this library on the call's page.
func TestSnippets_EveryCallPage(t *testing.T) {
	modules := modules(t)
	imports, list := harness.Snippets(t, "Node.js: node-easywechat")
	program := imports
	for name, variable := range harness.Variables {
		program += "const " + name + " = process.env." + variable + ";\n"
	}
	program += "const calls = {\n"
	for _, s := range list {
		program += "async " + s.Name() + "() {\n" + s.Setup + s.Code + "},\n"
	}
	program += "};\ncalls[process.argv[2]]().catch((error) => {\n  console.error(error);\n  process.exit(1);\n});\n"
	file := filepath.Join(t.TempDir(), "calls.js")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.PlaySnippets(t, "", "node "+file, list, "NODE_PATH="+modules)
	harness.Lines(t, t.TempDir(), harness.Client{Language: "Node.js", Name: "node-easywechat", Version: "3.6.2", SDK: true,
		Command: []string{"env", "NODE_PATH=" + modules, "node", file, "call_token"}})
}
