package gs1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/compat/harness"
)

// check is a result of the official suite.
type check struct{ ID, Status, Test, Msg string }

// differs has the checks of the official suite that qrjump does not pass, with the reasons.
var differs = map[string]string{
	// The check removes the fragment of the target together with the appended query.
	"loForhttps//types.example/own": "fail",
}

// TestGS1Resolver_ConformanceSuite runs gs1/GS1DL-resolver-testsuite in a browser against a TLS server; see README.md for GS1_SUITE.
// All checks must pass, except those in differs.
func TestGS1Resolver_ConformanceSuite(t *testing.T) {
	folder := os.Getenv("GS1_SUITE")
	if folder == "" {
		t.Skip("GS1_SUITE is not set; see README.md")
	}
	certificate, key := certificateFor(t, "127.0.0.1")
	address := freeAddress(t)
	seed, err := os.ReadFile("seed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	seedFile := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(seedFile, bytes.Replace(seed, []byte("id.example"), []byte(`"`+address+`"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Serve(t, "--listen", address, "--seed", seedFile, "--tls-cert", certificate, "--tls-key", key)
	for _, path := range []string{
		"/01/09506000134352", "/01/09506000134352/10/ABC", "/01/09506000134352/10/ABC/21/5", "/01/09506000134352/21/9",
		"/414/9506000134352", "/414/9506000134352/254/A1", "/00/095060001343521236",
	} {
		t.Run(path[1:], func(t *testing.T) {
			count := map[string]int{}
			for _, c := range runSuite(t, folder, certificate, "https://"+address+path) {
				count[c.Status]++
				t.Logf("%-4s %-24s %s", c.Status, c.ID, c.Msg)
				want := "pass"
				if status, ok := differs[c.ID]; ok {
					want = status
				}
				if c.Status != want {
					t.Errorf("%s is %s, want %s: %s\n%s", c.ID, c.Status, want, c.Test, c.Msg)
				}
			}
			t.Log(count)
			if count["pass"] < 15 {
				t.Error("the suite did not finish")
			}
		})
	}
}

// runSuite runs the suite on a Digital Link in a browser, with its helper script and with local copies of GS1's files.
func runSuite(t *testing.T, folder, trusted, link string) []check {
	t.Helper()
	script, err := os.ReadFile(filepath.Join(folder, "GS1DL-resolver-testsuite", "GS1DigitalLinkResolverTestSuite.js"))
	if err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer("https://philarcher.org/gs1/tester.php", "/tester.php",
		"https://ref.gs1.org/standards/resolver/description-file-schema", "/description-file-schema.json",
		"https://gs1.github.io/linkset/gs1-linkset-schema.json", "/linkset/gs1-linkset-schema.json",
		"https://ref.gs1.org/voc/data/linktypes", "/linktypes")
	results := make(chan []check, 1)
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(folder)))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, page, link) })
	mux.HandleFunc("GET /suite.js", func(w http.ResponseWriter, _ *http.Request) { local.WriteString(w, string(script)) })
	mux.HandleFunc("GET /ajv7.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "node_modules/ajv-dist/dist/ajv7.bundle.js")
	})
	types := linkTypes(t, filepath.Join(folder, "WebVoc"))
	mux.HandleFunc("GET /linktypes", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(types) })
	mux.HandleFunc("GET /tester.php", func(w http.ResponseWriter, r *http.Request) {
		// The helper script reads the request from its environment, so that it needs no PHP server.
		cmd := command(t, "php", "-d", "curl.cainfo="+trusted, "-d", "openssl.cafile="+trusted, "-d", "display_errors=0",
			filepath.Join(folder, "GS1DL-resolver-testsuite", "tester.php"))
		cmd.Env = append(os.Environ(), "REQUEST_METHOD=GET", "REQUEST_URI="+r.URL.RequestURI(), "QUERY_STRING="+r.URL.RawQuery)
		cmd.Stdout, cmd.Stderr = nil, nil
		answer, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", r.URL, err)
		}
		w.Write(answer)
	})
	mux.HandleFunc("POST /results", func(w http.ResponseWriter, r *http.Request) {
		var list []check
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		results <- list
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	profile, err := os.MkdirTemp("", "qrjump-chromium-") // helper processes of the browser may write there after its exit
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	browser := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-proxy-server",
		"--ignore-certificate-errors", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
		"--user-data-dir="+profile, "--remote-debugging-port=0", server.URL+"/")
	var log bytes.Buffer
	browser.Stderr = &log
	browser.WaitDelay = time.Second
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { browser.Process.Kill(); browser.Wait() }()
	select {
	case list := <-results:
		return list
	case <-time.After(5 * time.Minute):
		t.Fatalf("the suite has no result:\n%s", log.String())
		return nil
	}
}

// page runs the suite on a Digital Link and posts the results.
const page = `<!doctype html><meta charset=utf-8><body><div id=gs1ResolverTests></div><i id=rotatingcircle></i>
<script src=/ajv7.js></script><script src=/GS1DL-resolver-testsuite/GS1DigitalLinkToolkit.js></script><script src=/suite.js></script>
<script>testDL(%q).then(() => fetch("/results", {method: "POST", body: JSON.stringify(resultsArray.map(
	r => ({ID: r.id, Status: r.status, Test: r.test, Msg: r.msg})))}))</script>`

// linkTypes returns the names of the link types in the newest version of GS1's vocabulary.
func linkTypes(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "gs1Voc.jsonld"))
	if err != nil || len(files) == 0 {
		t.Fatal("no vocabulary in", folder, err)
	}
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	var vocabulary struct {
		Graph []struct {
			ID     string          `json:"@id"`
			Parent json.RawMessage `json:"rdfs:subPropertyOf"`
		} `json:"@graph"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &vocabulary); err != nil {
		t.Fatal(err)
	}
	types := map[string]bool{}
	for _, term := range vocabulary.Graph {
		if name, ok := strings.CutPrefix(term.ID, "gs1:"); ok && bytes.Contains(term.Parent, []byte(`"gs1:linkType"`)) {
			types[name] = true
		}
	}
	if !types["pip"] {
		t.Fatal("no link types in the vocabulary:", slices.Collect(maps.Keys(types)))
	}
	return types
}

// freeAddress returns an unused local address, because the settings must contain the port before the server starts.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificateFor creates a self-signed certificate for an address, and returns the files of the certificate and its key.
func certificateFor(t *testing.T, address string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: address}, IPAddresses: []net.IP{net.ParseIP(address)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, der []byte) string {
		file = filepath.Join(t.TempDir(), file)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", encoded)
}
