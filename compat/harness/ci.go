package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// RunSuite runs a suite of tests whose setup starts qrjump from the folders in path: its output must contain passed, and, with a server
// that exits at once, failed.
func RunSuite(t *testing.T, run func(path string) (output string, err error), passed, failed string) {
	t.Helper()
	program, rest := ProgramInPath(t), string(os.PathListSeparator)+os.Getenv("PATH")
	if out, err := run(program + rest); err != nil || !strings.Contains(out, passed) {
		t.Errorf("%v\n%s", err, out)
	}
	// If the server exits at once, the setup fails without waiting.
	broken := t.TempDir()
	script := "#!/bin/sh\n[ \"$1\" = serve ] && exit 2\nexec " + filepath.Join(program, "qrjump") + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(broken, "qrjump"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := run(broken + rest); err == nil || !strings.Contains(out, failed) {
		t.Errorf("with a server that exits: %v, want an error\n%s", err, out)
	}
}
