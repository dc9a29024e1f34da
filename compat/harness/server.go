// Package harness starts a qrjump server for the tests of third-party client libraries, and contains the scenarios that
// all libraries share: jump rules and product codes.
//
// The server is always another process: the package uses its HTTP APIs and imports none of its code.
package harness

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The accounts of seed.yaml.
const (
	MiniProgram       = "wxc0ffee0000000001"
	MiniProgramSecret = "c0ffee00000000000000000000000001"
	ServiceAcct       = "wxc0ffee0000000002"
	ServiceAcctSecret = "c0ffee00000000000000000000000002"
	MarketcodeKey     = "c0ffee0000000002" // of the service account's packages

	// TrialUser is the Mini Program's trial user.
	TrialUser = "bob"
)

//go:embed seed.yaml
var seed []byte

// serverTimeout is the maximum time for an operation of the server, such as its start or shutdown.
const serverTimeout = 10 * time.Minute

// A Server is a running qrjump server with the accounts of seed.yaml.
type Server struct {
	URL    string // the base URL for libraries, without a slash at the end
	Shared bool   // the server was started before the test and has data of other runs

	clockOffset    time.Duration // server's clock minus the clock of this machine
	faultsInjected bool          // a fresh server does not have these faults

	directURL string // the base URL for the tests' own calls, which bypass the recorder

	client *http.Client // nil means http.DefaultClient
}

// Start returns the server of QRJUMP_URL if it is set. Otherwise it builds and starts a server, which stops when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	if address := os.Getenv("QRJUMP_URL"); address != "" {
		address = strings.TrimRight(address, "/")
		s := &Server{URL: address, directURL: address, Shared: true}
		t.Cleanup(func() { s.report(t) })
		return s
	}
	s := start(t, t.TempDir())
	s.setClockMidMonth(t)
	s.record(t)
	return s
}

// setClockMidMonth sets the server's clock to the middle of the next month, so that no day or month ends during a test.
func (s *Server) setClockMidMonth(t testing.TB) {
	t.Helper()
	now := time.Now().UTC()
	middle := time.Date(now.Year(), now.Month()+1, 15, 4, 0, 0, 0, time.UTC)
	s.clockOffset = middle.Sub(now)
	body, err := json.Marshal(map[string]any{"now": middle})
	if err != nil {
		t.Fatal(err)
	}
	s.admin(t, http.MethodPut, "/emulator/clock", body)
}

// StartTLS always starts a new server, which serves TLS as api.weixin.qq.com. The transport has the effect of a hosts entry
// and a trusted ca.pem, for libraries with a fixed base URL.
func StartTLS(t testing.TB) (*Server, *http.Transport) {
	t.Helper()
	dir := t.TempDir()
	s := start(t, dir, "--tls-dev")
	ca, err := os.ReadFile(filepath.Join(dir, "data", "tls", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("ca.pem has no certificate")
	}
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "api.weixin.qq.com:443" {
				address = strings.TrimPrefix(s.URL, "https://")
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
	s.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	s.setClockMidMonth(t)
	tlsDir := filepath.Join(dir, "data", "tls")
	if s.record(t, "SSL_CERT_FILE="+filepath.Join(tlsDir, "ca.pem")) {
		s.URL = startTLSProxy(t, s.URL, filepath.Join(tlsDir, "server.pem"))
	}
	return s, transport
}

// startTLSProxy starts a TLS reverse proxy for a recorder, which serves plain HTTP, and returns the proxy's URL.
func startTLSProxy(t testing.TB, recorder, pem string) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(recorder)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// start starts a server in dir, which stops when the test ends.
func start(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	seedFile := filepath.Join(dir, "seed.yaml")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	address := run(t, binary(t, dir), dir, nil,
		append([]string{"serve", "--dev", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--seed", seedFile}, flags...)...)
	s := &Server{URL: address, directURL: address}
	t.Cleanup(func() { s.report(t) })
	return s
}

// Serve starts a server with the flags and a new data folder, and returns its URL. The server stops when the test ends.
func Serve(t testing.TB, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	return run(t, binary(t, dir), dir, nil, append([]string{"serve", "--data", filepath.Join(dir, "data")}, flags...)...)
}

// run starts a program in dir, waits for its ready line and returns its URL. The program stops when the test ends.
func run(t testing.TB, program, dir string, variables []string, args ...string) string {
	t.Helper()
	var logs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(environ(), variables...)
	cmd.Stderr = &logs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	// A program that hangs is killed, which ends the read below.
	killTimer := time.AfterFunc(serverTimeout, func() { cmd.Process.Kill() })
	lines := bufio.NewReader(stdout)
	line, readErr := lines.ReadString('\n')
	killTimer.Stop()

	t.Cleanup(func() {
		killTimer := time.AfterFunc(serverTimeout, func() { cmd.Process.Kill() })
		defer killTimer.Stop()
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(lines) // the pipe must be empty before Wait closes it
		if err := cmd.Wait(); err != nil && readErr == nil {
			t.Errorf("qrjump %s after SIGTERM: %v", args[0], err)
		}
		if len(rest) > 0 {
			t.Errorf("standard output after the ready line = %q, want none", rest)
		}
		if t.Failed() {
			t.Logf("log of qrjump %s:\n%s", args[0], logs.String())
		}
	})

	ready := regexp.MustCompile(`^qrjump ready (https?://\S+)\n$`).FindStringSubmatch(line)
	if ready == nil {
		t.Fatalf("first line of qrjump %s = %q (%v), want the ready line", args[0], line, readErr)
	}
	return strings.TrimRight(ready[1], "/")
}

// record starts a recording proxy between the libraries and the server if QRJUMP_CASSETTES is the path of a file. At the end
// of the test the recorded calls are replayed against a fresh server, whose responses must be equal; the number of calls is
// appended to the file. It reports whether calls are recorded.
func (s *Server) record(t testing.TB, variables ...string) bool {
	t.Helper()
	name := os.Getenv("QRJUMP_CASSETTES")
	if name == "" {
		return false
	}
	dir := t.TempDir()
	program, file := binary(t, dir), filepath.Join(dir, "calls.ndjson")
	t.Cleanup(func() { // runs after the cleanup of run below, which stops the recorder
		if s.faultsInjected {
			return
		}
		s.shiftCassetteTimes(t, file)
		compare := exec.Command(program, "cassette", "compare", file)
		compare.Env = environ()
		out, err := compare.CombinedOutput()
		if err != nil {
			t.Errorf("cassette compare against a fresh server: %v\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		appendLine(t, name, lines[len(lines)-1])
	})
	s.URL = run(t, program, dir, variables, "cassette", "record", "--upstream", s.directURL, "--listen", "127.0.0.1:0", "--out", file)
	return true
}

// shiftCassetteTimes converts the times of a cassette from the clock of this machine, which the recorder uses, to the server's.
func (s *Server) shiftCassetteTimes(t testing.TB, file string) {
	t.Helper()
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines = regexp.MustCompile(`(?m)^\{"occurred_at":"[^"]*"`).ReplaceAllFunc(lines, func(field []byte) []byte {
		occurredAt, err := time.Parse(time.RFC3339, string(field[len(`{"occurred_at":"`):len(field)-1]))
		if err != nil {
			t.Fatal(err)
		}
		return occurredAt.Add(s.clockOffset).AppendFormat([]byte(`{"occurred_at":"`), time.RFC3339Nano+`"`)
	})
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		t.Fatal(err)
	}
}

// report appends the deviations of the library's calls to the file in QRJUMP_DEVIATIONS, one line each: evidence level,
// behaviour, count, endpoint, advice.
func (s *Server) report(t testing.TB) {
	t.Helper()
	name := os.Getenv("QRJUMP_DEVIATIONS")
	if name == "" {
		return
	}
	var list struct {
		Deviations []struct {
			EvidenceLevel               string `json:"evidence_level"`
			Behaviour, Endpoint, Advice string
			Count                       int
		}
	}
	if err := json.Unmarshal(s.admin(t, http.MethodGet, "/deviations", nil), &list); err != nil {
		t.Fatal(err)
	}
	for _, d := range list.Deviations {
		appendLine(t, name, fmt.Sprintf("%s\t%s\t%d\t%s\t%s", d.EvidenceLevel, d.Behaviour, d.Count, d.Endpoint, d.Advice))
	}
}

// appendLine appends a line to a file to which other tests append concurrently.
func appendLine(t testing.TB, name, line string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = f.WriteString(line + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Error(err)
	}
}

// Binary returns the path of a built server, for tests that start it themselves.
func Binary(t testing.TB) string { return binary(t, t.TempDir()) }

// ProgramInPath returns a folder for PATH that contains the built server as the program qrjump.
func ProgramInPath(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	file, err := filepath.Abs(Binary(t))
	if err == nil {
		err = os.Symlink(file, filepath.Join(dir, "qrjump"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// binary returns QRJUMP_BINARY, or builds the server of the surrounding repository into dir.
func binary(t testing.TB, dir string) string {
	t.Helper()
	if file := os.Getenv("QRJUMP_BINARY"); file != "" {
		return file
	}
	file := filepath.Join(dir, "qrjump")
	build := exec.Command("go", "build", "-o", file, "./cmd/qrjump")
	build.Dir = repository(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the server does not build: %v\n%s", err, out)
	}
	return file
}

// repository returns the folder of the root module, a parent of the working directory (in a test, the folder of its package).
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/qrjump/qrjump\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no parent of this folder has the module github.com/qrjump/qrjump")
		}
		dir = parent
	}
}

// environ returns the environment without the variables that the server reads as flags: the tests must not use a database
// in QRJUMP_DATABASE.
func environ() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "QRJUMP_") {
			env = append(env, entry)
		}
	}
	return env
}

// A Scan is the response of the resolver to a scan.
type Scan struct {
	Action  string `json:"action"`
	AppID   string `json:"appid"`
	Version string `json:"version"`
	Path    string `json:"path"`
	Scene   int    `json:"scene"`
	URL     string `json:"url"`
	Reason  string `json:"reason"`
	Matched struct {
		Kind        string `json:"kind"`
		Prefix      string `json:"prefix"`
		Application int64  `json:"application_id"`
		Index       int    `json:"code_index"`
	} `json:"matched"`
}

// Scan resolves text as a scan by user.
func (s *Server) Scan(t testing.TB, user, text string) Scan {
	t.Helper()
	body, err := json.Marshal(map[string]string{"text": text, "user": user})
	if err != nil {
		t.Fatal(err)
	}
	var scan Scan
	if err := s.post("/scan/v1/resolve", body, &scan); err != nil {
		t.Fatal(err)
	}
	return scan
}

// FailOnce makes the next call of path return errcode: a fault of the emulator, which --dev enables.
func (s *Server) FailOnce(t testing.TB, path string, errcode int) {
	t.Helper()
	s.faultsInjected = true
	body, err := json.Marshal(map[string]any{"path": path, "errcode": errcode, "remaining": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.post("/admin/v1/emulator/faults", body, nil); err != nil {
		t.Fatal(err)
	}
}

// httpClient returns the client for the tests' own calls.
func (s *Server) httpClient() *http.Client {
	if s.client == nil {
		return http.DefaultClient
	}
	return s.client
}

// post sends a POST request and decodes the response into answer, unless answer is nil.
func (s *Server) post(path string, body []byte, answer any) error {
	resp, err := s.httpClient().Post(s.directURL+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s: %s", path, resp.Status, raw)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}
