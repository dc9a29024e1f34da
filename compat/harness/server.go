// Package harness starts a real qrjump server for the tests of other people's client libraries, and tells the stories
// that these libraries have to live through: that of a jump rule, and that of a product code.
//
// It knows the wire and the scan API, nothing of the code behind them: the server is always another process.
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

// patience bounds the start and the end of the server; nothing waits for it when all is well.
const patience = 10 * time.Minute

// A Server is a running qrjump that holds the accounts of seed.yaml.
type Server struct {
	URL    string // where libraries call it; no slash at the end
	Shared bool   // it was there before, and remembers other runs

	ahead  time.Duration // of the server's clock before this machine's
	faulty bool          // faults were injected, which a fresh server would not answer

	own string // where the tests themselves call it: a recorder may stand in front of the libraries

	client *http.Client // nil = the default one
}

// Start returns the server named in QRJUMP_URL or, without it, builds and starts one that lives as long as the test.
func Start(t testing.TB) *Server {
	t.Helper()
	if address := os.Getenv("QRJUMP_URL"); address != "" {
		address = strings.TrimRight(address, "/")
		s := &Server{URL: address, own: address, Shared: true}
		t.Cleanup(func() { s.report(t) })
		return s
	}
	s := start(t, t.TempDir())
	s.midMonth(t)
	s.record(t)
	return s
}

// midMonth moves the server's clock to the middle of the next month: no day and no month ends while a test counts.
func (s *Server) midMonth(t testing.TB) {
	t.Helper()
	now := time.Now().UTC()
	then := time.Date(now.Year(), now.Month()+1, 15, 4, 0, 0, 0, time.UTC)
	s.ahead = then.Sub(now)
	body, err := json.Marshal(map[string]any{"now": then})
	if err != nil {
		t.Fatal(err)
	}
	s.admin(t, http.MethodPut, "/emulator/clock", body)
}

// StartTLS starts a server of its own, always, that speaks TLS as api.weixin.qq.com. The transport is what a client
// on its machine gets from a hosts entry and a trusted ca.pem: for libraries whose address cannot be changed.
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
		t.Fatal("ca.pem holds no certificate")
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
	s.midMonth(t)
	tlsDir := filepath.Join(dir, "data", "tls")
	if s.record(t, "SSL_CERT_FILE="+filepath.Join(tlsDir, "ca.pem")) {
		s.URL = front(t, s.URL, filepath.Join(tlsDir, "server.pem"))
	}
	return s, transport
}

// front speaks TLS before a recorder, which does not.
func front(t testing.TB, recorder, pem string) string {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(pem, pem)
	if err != nil {
		t.Fatal(err)
	}
	behind, err := url.Parse(recorder)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(behind))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// start starts a server in dir that lives as long as the test.
func start(t testing.TB, dir string, flags ...string) *Server {
	t.Helper()
	seedFile := filepath.Join(dir, "seed.yaml")
	if err := os.WriteFile(seedFile, seed, 0o600); err != nil {
		t.Fatal(err)
	}
	address := run(t, binary(t, dir), dir, nil,
		append([]string{"serve", "--dev", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--seed", seedFile}, flags...)...)
	s := &Server{URL: address, own: address}
	t.Cleanup(func() { s.report(t) })
	return s
}

// Serve starts a server with these flags and a folder of its own, which lives as long as the test, and returns its address.
func Serve(t testing.TB, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	return run(t, binary(t, dir), dir, nil, append([]string{"serve", "--data", filepath.Join(dir, "data")}, flags...)...)
}

// run starts a program that says when it is ready, in dir, and returns its address; it ends with the test.
func run(t testing.TB, program, dir string, environ []string, args ...string) string {
	t.Helper()
	var logs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = append(foreignEnviron(), environ...)
	cmd.Stderr = &logs
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	// A server that hangs is killed; the read below then ends by itself.
	hung := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	lines := bufio.NewReader(stdout)
	line, readErr := lines.ReadString('\n')
	hung.Stop()

	t.Cleanup(func() {
		hung := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer hung.Stop()
		cmd.Process.Signal(syscall.SIGTERM)
		rest, _ := io.ReadAll(lines) // the pipe must be empty before Wait closes it
		if err := cmd.Wait(); err != nil && readErr == nil {
			t.Errorf("qrjump %s did not end well after SIGTERM: %v", args[0], err)
		}
		if len(rest) > 0 {
			t.Errorf("standard output carries more than the ready line: %q", rest)
		}
		if t.Failed() {
			t.Logf("log of qrjump %s:\n%s", args[0], logs.String())
		}
	})

	ready := regexp.MustCompile(`^qrjump ready (https?://\S+)\n$`).FindStringSubmatch(line)
	if ready == nil {
		t.Fatalf("got %q (%v) from the starting qrjump %s, want the ready line", line, readErr, args[0])
	}
	return strings.TrimRight(ready[1], "/")
}

// record puts a recorder between the libraries and the server, where QRJUMP_CASSETTES names a file. At the end of the
// test the recorded calls are played against a fresh server, which must answer each of them alike; how many there were
// is added to the file. It returns false where nothing is recorded.
func (s *Server) record(t testing.TB, environ ...string) bool {
	t.Helper()
	name := os.Getenv("QRJUMP_CASSETTES")
	if name == "" {
		return false
	}
	dir := t.TempDir()
	program, file := binary(t, dir), filepath.Join(dir, "calls.ndjson")
	t.Cleanup(func() { // after the recorder's own end, below
		if s.faulty {
			return
		}
		s.onItsClock(t, file)
		compare := exec.Command(program, "cassette", "compare", file)
		compare.Env = foreignEnviron()
		out, err := compare.CombinedOutput()
		if err != nil {
			t.Errorf("a fresh server answers otherwise, or compare fails (%v):\n%s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		appendLine(t, name, lines[len(lines)-1])
	})
	s.URL = run(t, program, dir, environ, "cassette", "record", "--upstream", s.own, "--listen", "127.0.0.1:0", "--out", file)
	return true
}

// onItsClock moves the times of a cassette to the server's clock: the recorder knows this machine's alone.
func (s *Server) onItsClock(t testing.TB, file string) {
	t.Helper()
	lines, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines = regexp.MustCompile(`(?m)^\{"occurred_at":"[^"]*"`).ReplaceAllFunc(lines, func(at []byte) []byte {
		moment, err := time.Parse(time.RFC3339, string(at[len(`{"occurred_at":"`):len(at)-1]))
		if err != nil {
			t.Fatal(err)
		}
		return moment.Add(s.ahead).AppendFormat([]byte(`{"occurred_at":"`), time.RFC3339Nano+`"`)
	})
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		t.Fatal(err)
	}
}

// report adds what the library's calls deviated in to the file that QRJUMP_DEVIATIONS names, a line each: how sure it
// is that the platform minds, the behaviour, how often, the endpoint, what to change.
func (s *Server) report(t testing.TB) {
	t.Helper()
	name := os.Getenv("QRJUMP_DEVIATIONS")
	if name == "" {
		return
	}
	var found struct {
		Deviations []struct {
			EvidenceLevel               string `json:"evidence_level"`
			Behaviour, Endpoint, Advice string
			Count                       int
		}
	}
	if err := json.Unmarshal(s.admin(t, http.MethodGet, "/deviations", nil), &found); err != nil {
		t.Fatal(err)
	}
	for _, d := range found.Deviations {
		appendLine(t, name, fmt.Sprintf("%s\t%s\t%d\t%s\t%s", d.EvidenceLevel, d.Behaviour, d.Count, d.Endpoint, d.Advice))
	}
}

// appendLine adds a line to a file that other tests add to as well.
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

// Binary is a built server, for tests that start it themselves.
func Binary(t testing.TB) string { return binary(t, t.TempDir()) }

// ProgramInPath is a folder in which the built server is the program qrjump.
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

// repository finds the root module above the working directory, which in a test is the folder of its package.
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
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("the module github.com/qrjump/qrjump is not above this folder")
		}
		dir = above
	}
}

// foreignEnviron is the environment without what the server would read as its own flags: somebody's
// QRJUMP_DATABASE must not become the playground of these tests.
func foreignEnviron() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "QRJUMP_") {
			env = append(env, entry)
		}
	}
	return env
}

// A Scan is what the resolver decided.
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

// Scan reads text as the camera of user would.
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

// FailOnce makes the next call of path answer errcode: a fault of the emulator, which --dev switches on.
func (s *Server) FailOnce(t testing.TB, path string, errcode int) {
	t.Helper()
	s.faulty = true
	body, err := json.Marshal(map[string]any{"path": path, "errcode": errcode, "remaining": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.post("/admin/v1/emulator/faults", body, nil); err != nil {
		t.Fatal(err)
	}
}

// caller is what makes the calls of the tests themselves.
func (s *Server) caller() *http.Client {
	if s.client == nil {
		return http.DefaultClient
	}
	return s.client
}

// post sends a call of qrjump's own APIs and reads the answer into answer, if that is not nil.
func (s *Server) post(path string, body []byte, answer any) error {
	resp, err := s.caller().Post(s.own+path, "application/json", bytes.NewReader(body))
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
