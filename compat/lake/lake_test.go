// Package lake_test counts the scans in a server's data lake with DuckDB and Spark.
package lake_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// TestLakeEngines_CountsMatchLedger fills a folder and a bucket while the server is killed repeatedly, and deletes each once. DuckDB
// counts the scans of both; Spark counts those of the folder if Java is installed.
func TestLakeEngines_CountsMatchLedger(t *testing.T) {
	python := ".venv/bin/python"
	if _, err := os.Stat(python); err != nil {
		t.Skip("not run: DuckDB: not installed here, see compat/run.sh")
	}
	binary := harness.Binary(t)
	for _, kind := range []string{"folder", "bucket"} {
		t.Run(kind, func(t *testing.T) {
			args := []string{"engines.py", binary, kind}
			if _, err := exec.LookPath("java"); err == nil && kind == "folder" {
				args = append(args, "spark")
			}
			cmd := exec.Command(python, args...)
			cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "\nok") {
				t.Error(err)
			}
		})
	}
}
