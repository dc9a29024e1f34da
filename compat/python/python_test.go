// Package python_test generates a Python client from the server's OpenAPI document, and calls the server with it.
package python_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

// unsupported has the calls that the generator omits, because it does not support NDJSON and archives.
var unsupported = []string{"POST /admin/v1/export", "GET /admin/v1/export/accounts", "GET /admin/v1/export/gs1",
	"GET /admin/v1/export/rules", "GET /admin/v1/export/scans", "POST /admin/v1/import/gs1",
	"POST /admin/v1/import/accounts", "POST /admin/v1/import/rules", "POST /admin/v1/packages/{package}/file",
	"PUT /admin/v1/batches/{application_id}/imported-codes"}

func TestGeneratedClient_CallsServer(t *testing.T) {
	s := harness.Start(t)
	dir := t.TempDir()
	resp, err := http.Get(s.URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	document, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "openapi.json"), document, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(".venv/bin/openapi-python-client", "generate", "--path", filepath.Join(dir, "openapi.json"),
		"--output-path", filepath.Join(dir, "client")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		warning, ok := strings.CutPrefix(strings.TrimSpace(line), "WARNING parsing ")
		if !ok {
			continue
		}
		call, _, _ := strings.Cut(warning, " within")
		if !slices.Contains(unsupported, call) {
			t.Errorf("the generator does not support %s:\n%s", call, out)
		}
	}
	smoke := exec.Command(".venv/bin/python", "smoke.py", s.URL)
	smoke.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(dir, "client"), "NO_PROXY=127.0.0.1", "PYTHONDONTWRITEBYTECODE=1")
	if out, err := smoke.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("%v\n%s", err, out)
	}
}
