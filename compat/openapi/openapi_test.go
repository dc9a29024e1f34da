// Package openapi_test holds both documents that the server serves to the recommended rules of two linters, makes a client of the
// wire's with openapi-generator, and clients of both for Java, and drives the server with them.
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

// mapped are the fields that are a text or a list, which the generator's code for native cannot say: they are objects.
const mapped = "GS1LinkInput_context=Object,GS1LinkInput_hreflang=Object,getSettings_200_response_behaviours=Object," +
	"getSettings_200_response_verification=Object,putSettings_request_behaviours=Object,putSettings_request_verification=Object," +
	"putSettings_200_response_behaviours=Object,putSettings_200_response_verification=Object"

// Clients for Java, of both documents and by both libraries that people choose: each compiles, and makes a call.
func TestOpenAPI_JavaClients(t *testing.T) {
	classpath, err := os.ReadFile("target/classpath")
	if err != nil {
		t.Skip("not run: openapi-generator: not installed here, see compat/run.sh")
	}
	if page, err := os.ReadFile("../../docs/en/how/sdk.md"); err != nil || !bytes.Contains(page, []byte(mapped)) {
		t.Errorf("the page has other mappings than these (%v): %s", err, mapped)
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
					mappings = []string{"--schema-mappings", mapped}
				}
				run("java", append([]string{"-XX:TieredStopAtLevel=1", "-jar", generator, "generate", "-g", "java", "--library", library, "-i", file, "-o", "made",
					"--global-property=apiTests=false,modelTests=false,apiDocs=false,modelDocs=false,apis,models,supportingFiles"}, mappings...)...)
				smoke = bytes.ReplaceAll(smoke, []byte("setBase("), []byte(base+"("))
				if err := os.WriteFile(filepath.Join(dir, "Smoke.java"), smoke, 0o644); err != nil {
					t.Fatal(err)
				}
				jars := strings.TrimSpace(string(classpath))
				sources, err := filepath.Glob(filepath.Join(dir, "made/src/main/java/org/openapitools/client/*/*.java"))
				if err != nil || len(sources) < 10 {
					t.Fatal(err, sources)
				}
				run("javac", append([]string{"-J-XX:TieredStopAtLevel=1", "-nowarn", "-proc:none", "-d", "classes", "-cp", jars,
					"-sourcepath", "made/src/main/java", "Smoke.java"}, sources...)...)
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

// ogen is the generator that the test below runs, from the Go module proxy.
const ogen = "github.com/ogen-go/ogen"

// TestOpenAPI_OgenClients: ogen makes Go of both documents, and it builds. It needs the Go module proxy.
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
		t.Skipf("not run: ogen is not to be had: %v: %.300s", err, out)
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
			t.Errorf("go %q of what ogen made: %v\n%s", words, err, out)
		}
	}
}
