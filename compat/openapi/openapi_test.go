// Package openapi_test holds both documents that the server serves to the recommended rules of two linters, makes a client of the
// wire's with openapi-generator, and drives the server with it.
package openapi_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestTheDocumentsAreCleanAndMakeClients(t *testing.T) {
	s := harness.Start(t)
	dir := t.TempDir()
	in := func(folder, name string, words ...string) {
		t.Helper()
		c := exec.Command(name, words...)
		c.Dir = folder
		c.Env = append(os.Environ(), "QRJUMP_URL="+s.URL, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, words, err, out)
		}
	}
	for _, name := range []string{"openapi.json", "openapi-wire.json"} {
		file := filepath.Join(dir, name)
		save(t, s.URL+"/"+name, file)
		in(".", "node_modules/.bin/spectral", "lint", "-r", ".spectral.yaml", "--fail-severity", "warn", file)
		in(".", "node_modules/.bin/redocly", "lint", "--config", "redocly.yaml", "--max-problems", "20", file)
	}
	client := filepath.Join(dir, "go")
	in(".", "java", "-jar", "target/generator.jar", "generate", "-g", "go", "-i", filepath.Join(dir, "openapi-wire.json"), "-o", client,
		"--additional-properties=packageName=wire,isGoSubmodule=false,withGoMod=false")
	smoke, err := os.ReadFile("smoke.go.txt")
	if err == nil {
		err = os.RemoveAll(filepath.Join(client, "test"))
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(client, "smoke_test.go"), smoke, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(client, "go.mod"), []byte("module wire\n\ngo 1.26\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	in(client, "go", "test", "-count=1", "./...")
}

func save(t *testing.T, url, file string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	document, err := io.ReadAll(resp.Body)
	if err == nil {
		err = os.WriteFile(file, document, 0o644)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
}
