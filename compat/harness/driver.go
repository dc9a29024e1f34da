package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"testing"
)

// Driver is a running driver.js, which makes calls with a library: it reads one request per line, and writes one result per line.
type Driver struct {
	requests *json.Encoder
	results  *bufio.Reader
}

// StartDriver starts driver.js of the current folder, with settings in the variable COMPAT_SETTINGS, and stops it after the test.
func (s *Server) StartDriver(t *testing.T, settings any) *Driver {
	t.Helper()
	server, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.Command("node", "driver.js")
	// The HTTP libraries use the proxy of the environment even for a local address.
	node.Env = append(os.Environ(), "COMPAT_SETTINGS="+string(text), "NO_PROXY="+server.Hostname(), "no_proxy="+server.Hostname())
	node.Stderr = t.Output()
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // the driver exits at the end of its input, unless the library retries without limit
		if t.Failed() {
			node.Process.Kill()
		}
		if err := node.Wait(); err != nil && !t.Failed() {
			t.Errorf("driver.js: %v", err)
		}
	})
	return &Driver{requests: json.NewEncoder(stdin), results: bufio.NewReader(stdout)}
}

// Do sends a request to the driver and decodes its result.
func (d *Driver) Do(request, result any) error {
	if err := d.requests.Encode(request); err != nil {
		return err
	}
	line, err := d.results.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, result); err != nil {
		return fmt.Errorf("%w in %s", err, line)
	}
	return nil
}
