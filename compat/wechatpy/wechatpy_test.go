// Package wechatpy_test drives qrjump with the Python library wechatpy.
package wechatpy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// python is the interpreter that has the library.
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

// Every call as its page shows it for this library.
func TestTheSnippetsOfThePages(t *testing.T) {
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
	harness.Line(t, t.TempDir(), python, file, "call_token")
}

// The clients of the page "Test my SDK" that this library does not use.
func TestOtherClientsAreLed(t *testing.T) {
	harness.Line(t, ".", python(t), "led.py")
}
