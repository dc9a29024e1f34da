package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/qrjump/qrjump/bench/fill"
	"github.com/qrjump/qrjump/bench/rulegen"
)

const (
	serverCore = 0
	loadCore   = 1
)

// haproxyMap returns the path of the map file of a set and writes the file if an earlier run has not.
func (b *bench) haproxyMap(set *rulegen.Set) (string, error) {
	path := filepath.Join(b.dir, fmt.Sprintf("haproxy-%s-v%d.map", sizeName(set.N), generation))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := set.WriteHAProxy(f); err != nil {
		return "", err
	}
	return path, os.Rename(path+".new", path)
}

// generation is part of the names of kept files; increment it when the generator changes.
const generation = 2

// haproxy starts HAProxy with a map file and waits until it accepts connections.
//
// The request has the percent-encoded link in the parameter u. HAProxy decodes it, appends "?" if it has none, and looks up
// the longest prefix with map_beg.
func (b *bench) haproxy(ctx context.Context, mapFile string) (*process, string, error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	config := filepath.Join(b.work, "haproxy-"+strconv.Itoa(port)+".cfg")
	text := `global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout http-request 60s
    timeout http-keep-alive 60s
frontend scans
    bind ` + address + `
    http-request set-var(txn.link) url_param(u),url_dec
    http-request set-var(txn.link) var(txn.link),concat(?) unless { var(txn.link) -m sub ? }
    http-request set-var(txn.opens) var(txn.link),map_beg(` + mapFile + `)
    http-request return status 200 content-type text/plain string "-" unless { var(txn.opens) -m found }
    http-request return status 200 content-type text/plain string "-" if { var(txn.opens) -m str -- - }
    http-request redirect code 302 location /%[var(txn.opens)]
`
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, "", err
	}
	p, err := start(ctx, config+".log", serverCore, "haproxy", "-db", "-f", config)
	if err != nil {
		return nil, "", err
	}
	if err := p.listening(ctx, address, 5*time.Minute); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, "http://" + address, nil
}

// nginx starts nginx with the exact rules of a set in a map, and a static 302 response.
func (b *bench) nginx(ctx context.Context, set *rulegen.Set) (*process, string, error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	keys := filepath.Join(b.work, "nginx.map")
	f, err := os.Create(keys)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if err := set.WriteNginx(f); err != nil {
		return nil, "", err
	}
	config := filepath.Join(b.work, "nginx.conf")
	size := 1 << 12
	for size < set.N*2 {
		size *= 2
	}
	text := `daemon off;
master_process off;
worker_processes 1;
pid ` + filepath.Join(b.work, "nginx.pid") + `;
error_log ` + filepath.Join(b.work, "nginx.error") + `;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    client_body_temp_path ` + b.work + `;
    proxy_temp_path ` + b.work + `;
    fastcgi_temp_path ` + b.work + `;
    uwsgi_temp_path ` + b.work + `;
    scgi_temp_path ` + b.work + `;
    map_hash_max_size ` + strconv.Itoa(size) + `;
    map_hash_bucket_size 256;
    map $arg_u $opens {
        default "-";
        include ` + keys + `;
    }
    server {
        listen ` + address + `;
        location = /static { return 302 /wx0000000000000000/pages/index/index; }
        location / {
            if ($opens = "-") { return 200 "-"; }
            return 302 /$opens;
        }
    }
}
`
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, "", err
	}
	p, err := start(ctx, config+".log", serverCore, "nginx", "-p", b.work, "-c", config)
	if err != nil {
		return nil, "", err
	}
	if err := p.listening(ctx, address, 5*time.Minute); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, "http://" + address, nil
}

// qrjump is a running qrjump server.
type qrjump struct {
	*process
	data, url, scanURL string
}

const adminToken = "bench-admin-token-0123456789abcdef"

// serve holds the options of a server.
type serve struct {
	data string
	// fast starts a separate listener for the scan API.
	fast bool
	core int // -1 = all
	args []string
	// env is added to the environment.
	env []string
}

// serve starts qrjump and waits until it is ready.
func (b *bench) serve(ctx context.Context, s serve) (*qrjump, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	q := &qrjump{data: s.data, url: "http://" + address(0), scanURL: "http://" + address(0)}
	args := []string{"serve", "--data", s.data, "--listen", address(0), "--admin-token", adminToken, "--shutdown-delay", "0s"}
	if s.fast {
		q.scanURL = "http://" + address(1)
		args = append(args, "--scan-listen", address(1))
	}
	log := filepath.Join(b.work, "qrjump-"+strconv.Itoa(ports[0])+".log")
	name, args := b.server, append(args, s.args...)
	if len(s.env) > 0 {
		name, args = "env", append(append([]string(nil), s.env...), append([]string{b.server}, args...)...)
	}
	if q.process, err = start(ctx, log, s.core, name, args...); err != nil {
		return nil, err
	}
	ready := func() bool {
		text, _ := os.ReadFile(log)
		return bytes.Contains(text, []byte("qrjump ready "))
	}
	if err := q.waitUntil(ctx, "ready", 20*time.Minute, 2*time.Millisecond, ready); err != nil {
		q.stop()
		return nil, err
	}
	return q, nil
}

// client keeps enough idle connections for every measurement.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 1024, MaxConnsPerHost: 0, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       2 * time.Minute,
}

// call sends body as JSON and decodes the JSON response into into. A string body is sent unchanged; token "" sends none.
func call(ctx context.Context, method, address, token string, body, into any) error {
	var reader io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s", method, req.URL.Path, res.Status, text)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s %s: %w: %.300s", method, req.URL.Path, err, text)
	}
	return nil
}

// admin calls the admin API.
func (q *qrjump) admin(ctx context.Context, method, path string, body, into any) error {
	return call(ctx, method, q.url+"/admin/v1"+path, adminToken, body, into)
}

// scanKey creates a scan key.
func (q *qrjump) scanKey(ctx context.Context) (string, error) {
	var created struct{ Key string }
	err := q.admin(ctx, http.MethodPost, "/scan-keys", `{"name":"bench"}`, &created)
	return created.Key, err
}

// dataFolder returns a data folder with the rules of a set and fills it if no earlier run has.
func (b *bench) dataFolder(ctx context.Context, set *rulegen.Set) (string, error) {
	data := filepath.Join(b.dir, fmt.Sprintf("data-%s-v%d", sizeName(set.N), generation))
	if _, err := os.Stat(data); err == nil {
		return data, nil
	}
	fmt.Printf("   filling a database with %s rules\n", sizeName(set.N))
	making := data + ".new"
	if err := os.RemoveAll(making); err != nil {
		return "", err
	}
	seed := filepath.Join(b.work, "template.yaml")
	if err := os.WriteFile(seed, []byte(fill.Template), 0o644); err != nil {
		return "", err
	}
	q, err := b.serve(ctx, serve{data: making, core: -1, args: []string{"--seed", seed}})
	if err != nil {
		return "", err
	}
	q.stop()
	if err := fill.SQLite(making, set); err != nil {
		return "", err
	}
	for _, file := range snapshotFiles(making) { // snapshots without the filled rules
		if err := os.Remove(file); err != nil {
			return "", err
		}
	}
	return data, os.Rename(making, data)
}

// copyData copies a data folder into the temporary folder of this run.
func (b *bench) copyData(data, name string) (string, error) {
	to := filepath.Join(b.work, name)
	text, err := exec.Command("cp", "-r", "--reflink=auto", data, to).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("copying %s: %w: %s", data, err, text)
	}
	return to, nil
}

// wrkResult is the result of one run of wrk.
type wrkResult struct {
	requests, seconds float64
	errors            float64
	p99               float64 // milliseconds
	cpu               time.Duration
}

func (r wrkResult) cpuPerRequest() float64 { return float64(r.cpu.Nanoseconds()) / r.requests }

// load describes the requests of wrk: a line of the file is the path of a GET request or the body of a POST
// request.
type load struct {
	url, file, method, path, token string
	connections                    int
	duration                       time.Duration
	pid                            int      // process whose processor time is measured
	server                         *qrjump  // nil = not a qrjump server
	tokens                         []string // access tokens by account, for send
	prepared                       bool     // the rules to publish exist
}

const wrkScript = `
local requests, index = {}, 0
function init(args)
  local method, path, token = args[2], args[3], args[4]
  for line in io.lines(args[1]) do
    if method == "POST" then
      local headers = {["Content-Type"] = "application/json"}
      if token ~= "" then headers["Authorization"] = "Bearer " .. token end
      requests[#requests + 1] = wrk.format("POST", path, headers, line)
    else
      requests[#requests + 1] = wrk.format("GET", line)
    end
  end
  index = math.random(#requests)
end
function request()
  index = index % #requests + 1
  return requests[index]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(99)))
end
`

// wrk sends load from a core reserved for it and returns the result with the processor time of the
// server.
func (b *bench) wrk(ctx context.Context, l load) (wrkResult, error) {
	return b.runWrk(ctx, l, "taskset", "-c", strconv.Itoa(loadCore), "wrk")
}

// wrkUnpinned is like wrk, but the load generator and the server share all cores.
func (b *bench) wrkUnpinned(ctx context.Context, l load) (wrkResult, error) {
	return b.runWrk(ctx, l, "wrk")
}

func (b *bench) runWrk(ctx context.Context, l load, program ...string) (r wrkResult, err error) {
	script := filepath.Join(b.work, "requests.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o644); err != nil {
		return r, err
	}
	before, err := cpu(l.pid)
	if err != nil {
		return r, err
	}
	args := append(program[1:], "-t1", "-c", strconv.Itoa(l.connections),
		"-d", strconv.FormatFloat(l.duration.Seconds(), 'f', 0, 64)+"s", "--timeout", "20s", "-s", script, l.url, "--", l.file, l.method, l.path, l.token)
	cmd := exec.CommandContext(ctx, program[0], args...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("wrk: %w: %s", err, text)
	}
	after, err := cpu(l.pid)
	if err != nil {
		return r, err
	}
	_, line, ok := strings.Cut(string(text), "RESULT ")
	if !ok {
		return r, fmt.Errorf("unexpected output of wrk: %s", text)
	}
	var micros, p99 float64
	if _, err := fmt.Sscan(line, &r.requests, &micros, &r.errors, &p99); err != nil {
		return r, err
	}
	r.seconds, r.p99, r.cpu = micros/1e6, p99/1000, after-before
	if r.errors > 0 || r.requests == 0 {
		return r, fmt.Errorf("wrk against %s: %.0f of %.0f requests failed", l.url, r.errors, r.requests)
	}
	return r, nil
}

// queryFor returns the path of the GET request for a link to HAProxy or nginx.
func queryFor(link string) string { return "/?u=" + url.QueryEscape(link) }

// linesFile writes the formatted lines to a file for wrk and returns its path.
func (b *bench) linesFile(name string, lines []string, format func(string) string) (string, error) {
	path := filepath.Join(b.work, name)
	var text bytes.Buffer
	for _, line := range lines {
		text.WriteString(format(line))
		text.WriteByte('\n')
	}
	return path, os.WriteFile(path, text.Bytes(), 0o644)
}
