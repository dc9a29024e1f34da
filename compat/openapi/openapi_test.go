// Package openapi_test checks both OpenAPI documents of the server with the recommended rules of two linters, and calls the server
// with clients that openapi-generator generates: in Go for the platform's API, in Java for both documents.
package openapi_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestOpenAPI_LintAndClientGeneration(t *testing.T) {
	s := harness.Start(t)
	dir := t.TempDir()
	runIn := func(folder, name string, words ...string) {
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
		runIn(".", "node_modules/.bin/spectral", "lint", "-r", ".spectral.yaml", "--fail-severity", "warn", file)
		runIn(".", "node_modules/.bin/redocly", "lint", "--config", "redocly.yaml", "--max-problems", "20", file)
	}
	client := filepath.Join(dir, "go")
	runIn(".", "java", "-jar", "target/generator.jar", "generate", "-g", "go", "-i", filepath.Join(dir, "openapi-wire.json"), "-o", client,
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
	runIn(client, "go", "test", "-count=1", "./...")
}

// schemaMappings maps fields that are a string or a list to Object, because the generator's library native does not support them.
const schemaMappings = "GS1LinkInput_context=Object,GS1LinkInput_hreflang=Object,getSettings_200_response_behaviours=Object," +
	"getSettings_200_response_verification=Object,putSettings_request_behaviours=Object,putSettings_request_verification=Object," +
	"putSettings_200_response_behaviours=Object,putSettings_200_response_verification=Object"

// Java clients of both documents, with the two most common HTTP libraries: each compiles and makes a call.
func TestOpenAPI_JavaClients(t *testing.T) {
	classpath, err := os.ReadFile("target/classpath")
	if err != nil {
		t.Skip("not run: openapi-generator: not installed here, see compat/run.sh")
	}
	if page, err := os.ReadFile("../../docs/en/how/sdk.md"); err != nil || !bytes.Contains(page, []byte(schemaMappings)) {
		t.Errorf("the page does not contain these mappings (%v): %s", err, schemaMappings)
	}
	s := harness.Start(t)
	for _, document := range []string{"openapi", "openapi-wire"} {
		file := filepath.Join(t.TempDir(), document+".json")
		save(t, s.URL+"/"+document+".json", file)
		for library, base := range map[string]string{"okhttp-gson": "setBasePath", "native": "updateBaseUri"} {
			t.Run(document+" "+library, func(t *testing.T) {
				dir := t.TempDir()
				run := func(name string, words ...string) {
					t.Helper()
					c := exec.Command(name, words...)
					c.Dir = dir
					c.Env = append(os.Environ(), "QRJUMP_URL="+s.URL)
					if out, err := c.CombinedOutput(); err != nil {
						t.Fatalf("%s: %v\n%s", name, err, out)
					}
				}
				generator, err := filepath.Abs("target/generator.jar")
				if err != nil {
					t.Fatal(err)
				}
				smoke, err := os.ReadFile(map[string]string{"openapi": "Server.java.txt", "openapi-wire": "Wire.java.txt"}[document])
				if err != nil {
					t.Fatal(err)
				}
				mappings := []string{}
				if library == "native" && document == "openapi" {
					mappings = []string{"--schema-mappings", schemaMappings}
				}
				run("java", append([]string{"-XX:TieredStopAtLevel=1", "-jar", generator, "generate", "-g", "java",
					"--library", library, "-i", file, "-o", "client",
					"--global-property=apiTests=false,modelTests=false,apiDocs=false,modelDocs=false,apis,models,supportingFiles"}, mappings...)...)
				smoke = bytes.ReplaceAll(smoke, []byte("setBase("), []byte(base+"("))
				if err := os.WriteFile(filepath.Join(dir, "Smoke.java"), smoke, 0o644); err != nil {
					t.Fatal(err)
				}
				jars := strings.TrimSpace(string(classpath))
				sources, err := filepath.Glob(filepath.Join(dir, "client/src/main/java/org/openapitools/client/*/*.java"))
				if err != nil || len(sources) < 10 {
					t.Fatal(err, sources)
				}
				run("javac", append([]string{"-J-XX:TieredStopAtLevel=1", "-nowarn", "-proc:none", "-d", "classes", "-cp", jars,
					"-sourcepath", "client/src/main/java", "Smoke.java"}, sources...)...)
				run("java", "-XX:TieredStopAtLevel=1", "-cp", "classes:"+jars, "Smoke")
			})
		}
	}
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

// ogen is the module of a generator, from the Go module proxy.
const ogen = "github.com/ogen-go/ogen"

// TestOpenAPI_OgenClients generates Go code of both documents with ogen, and builds it. It requires the Go module proxy.
func TestOpenAPI_OgenClients(t *testing.T) {
	s := harness.Start(t)
	dir := t.TempDir()
	run := func(words ...string) ([]byte, error) {
		c := exec.Command("go", words...)
		c.Dir, c.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		return c.CombinedOutput()
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module generated\n\ngo 1.26\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run("get", "-tool", ogen+"/cmd/ogen@v1.24.0"); err != nil {
		t.Skipf("not run: ogen cannot be downloaded: %v: %.300s", err, out)
	}
	for pkg, name := range map[string]string{"admin": "openapi.json", "wire": "openapi-wire.json"} {
		file := filepath.Join(dir, name)
		save(t, s.URL+"/"+name, file)
		if out, err := run("tool", "ogen", "--target", pkg, "--package", pkg, "--clean", file); err != nil {
			t.Fatalf("ogen %s: %v\n%s", name, err, out)
		}
	}
	for _, words := range [][]string{{"mod", "tidy"}, {"build", "./admin", "./wire"}} {
		if out, err := run(words...); err != nil {
			t.Errorf("go %q of the code from ogen: %v\n%s", words, err, out)
		}
	}
}
