package server_test

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

//go:embed testdata/seeds/shop.yaml
var shop string

// TestServer_UnauthenticatedAccess verifies the status of each endpoint without valid credentials, with and without --dev.
func TestServer_UnauthenticatedAccess(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Emulator: true})
	for _, c := range testtable.Rows(t, "testdata/without_credentials.txt", 3) {
		for _, header := range []string{"", "Authorization: Bearer ", "Authorization: Bearer wrong", "Authorization: Basic " +
			servertest.AdminToken, "Authorization: " + servertest.AdminToken} {
			var send []string
			if header != "" {
				send = []string{header}
			}
			a := s.Do(c[0], c[1], "", send...)
			assert.True(t, fmt.Sprint(a.Status) == c[2], "%s with %q: %d %s", c, header, a.Status, a.Body)
			assert.True(t, a.Status != 401 || a.Header.Get("WWW-Authenticate") == "Bearer" &&
				a.Header.Get("Content-Type") == "application/problem+json", "%s: %v", c[1], a.Header)
		}
	}
	token := "Authorization: Bearer " + servertest.AdminToken
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/goroutine", "/debug/slow-statements",
		"/admin/v1/accounts", "/admin/v1/emulator/clock"} {
		s.Do("GET", path, "", token).WantStatus(t, 200, "%s with the token", path)
	}
	operator := s.NewKey("/admin-keys", `{"name":"o","role":"operator"}`)
	s.Do("GET", "/debug/pprof/cmdline", "", token).WantStatus(t, 404, "the command line, which may have secrets")
	s.Do("GET", "/debug/pprof/goroutine", "", "Authorization: Bearer "+operator).WantStatus(t, 403, "profiles for an operator")
	// Any Host is accepted without --dev, because each call needs a credential.
	s.Do("GET", "/admin/v1/accounts", "", token, "Host: qrjump.example").WantStatus(t, 200, "another host name")
	// With --dev, a wrong token is rejected as well.
	dev := servertest.Start(t, servertest.Options{Seed: shop})
	for header, want := range map[string]int{"": 200, "Authorization: Bearer wrong": 401, token: 200} {
		var send []string
		if header != "" {
			send = []string{header}
		}
		for _, path := range []string{"/metrics", "/admin/v1/accounts"} {
			assert.Equal(t, dev.Do("GET", path, "", send...).Status, want, "--dev, %s with %q", path, header)
		}
	}
}

// TestTraceParent_Logged verifies that the log line of a call contains the trace id of a sampled Traceparent.
func TestTraceParent_Logged(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget", "{}", "Traceparent: 00-"+id+"-00f067aa0ba902b7-01")
	eventually(t, "the log line of the call", func() bool { return strings.Contains(s.Log(), " trace_id="+id+"\n") })
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget", "{}", "Traceparent: 00-"+id+"-0000000000000000-01")
	s.Stop()
	assert.Equal(t, strings.Count(s.Log(), id), 1, "log lines with the trace id")
}

// TestServer_DevHostCheck verifies that a --dev server that other machines reach checks the Host on each listener.
func TestServer_DevHostCheck(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, ScanListener: true, Config: func(c *server.Config) {
		c.DevPublic, c.DevHost = true, []string{"qrjump.test", "Other"}
	}})
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8080": 421, "qrjump.test.evil.example": 421, "x.qrjump.test": 421, "192.0.2.1.evil.example": 421,
		"qrjump.test": 200, "QRJUMP.test:99": 200, "other": 200, "host.docker.internal": 200, "localhost:1": 200, "api.weixin.qq.com": 200,
		"192.0.2.1": 200, "192.0.2.1:8080": 200, "[2001:db8::1]:8080": 200, // no page can point an address elsewhere
	} {
		for _, a := range []servertest.Answer{
			s.Do("POST", "/scan/v1/resolve", `{"text":"x"}`, "Host: "+host),
			s.Do("GET", "/admin/v1/accounts", "", "Host: "+host),
		} {
			assert.True(t, a.Status == want && (want != 421 || strings.Contains(a.Body, "--dev-host NAME")),
				"%s: %d %s, want %d", host, a.Status, a.Body, want)
		}
	}
}

func TestConfig_RejectsInvalid(t *testing.T) {
	t.Parallel()
	busy := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer busy.Close()
	inUse := filepath.Join(t.TempDir(), "data")
	servertest.Start(t, servertest.Options{Data: inUse})
	empty := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(empty, "admin-token"), []byte("\n"), 0o600))
	for _, c := range []struct {
		name, want string
		config     func(*server.Config)
	}{
		{"--dev for everybody", "--dev-public", func(c *server.Config) { c.Listen = "0.0.0.0:0" }},
		{"--dev on every address", "--dev-public", func(c *server.Config) { c.Listen = ":0" }},
		{"--dev under a name", "--dev-public", func(c *server.Config) { c.Listen = "example.com:0" }},
		{"--emulator for everybody", "--dev-public", func(c *server.Config) { c.Dev, c.Emulator, c.Listen = false, true, "[::]:0" }},
		{"--dev, its scan API for everybody", "--scan-listen", func(c *server.Config) { c.ScanListen = "0.0.0.0:0" }},
		{"--dev, its admin API for everybody", "--admin-listen", func(c *server.Config) { c.AdminListen = "0.0.0.0:0" }},
		{"no port", "--listen", func(c *server.Config) { c.Listen = "127.0.0.1" }},
		{"no address", "--listen", func(c *server.Config) { c.Listen = "" }},
		{"no folder", "--data", func(c *server.Config) { c.Data = "" }},
		{"a folder that cannot be", "data directory", func(c *server.Config) { c.Data = "/dev/null/x" }},
		{"a folder in use", "in use", func(c *server.Config) { c.Data = inUse }},
		{"a proxy that is no range", "--trusted-proxy", func(c *server.Config) { c.TrustedProxy = []string{"10.0.0.1"} }},
		{"a counter above 36^9", "--min-code-counter", func(c *server.Config) { c.MinCodeCounter = codes.Space }},
		{"a host with a port", "--dev-host", func(c *server.Config) { c.DevHost = []string{"qrjump.test:80"} }},
		{"a log of another form", "--log-format", func(c *server.Config) { c.LogFormat = "xml" }},
		{"a database of another kind", "postgres://", func(c *server.Config) { c.Database = "mysql://x" }},
		{"a busy port", "choose another port", func(c *server.Config) { c.Listen = busy.Addr().String() }},
		{"a seed that is not there", "nowhere.yaml", func(c *server.Config) { c.Seed = "/nowhere.yaml" }},
		{"a seed that is a folder", "seed", func(c *server.Config) { c.Seed = "/" }},
		{"a master key that is none", "64 hexadecimal digits", func(c *server.Config) { c.MasterKey = "x" }},
		{"an empty admin token", "is empty", func(c *server.Config) { c.Data, c.AdminToken = empty, "" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := servertest.TryStart(t, servertest.Options{Config: c.config})
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "\n"),
				"got %v, want one line with %q", err, c.want)
		})
	}
	servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.Listen, c.DevPublic = "0.0.0.0:0", true }})
}

// TestStart_WarnsOnPlainHTTPAdminAPI verifies that a start warns if other machines reach the admin API on a plain HTTP wire listener.
func TestStart_WarnsOnPlainHTTPAdminAPI(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config func(*server.Config)
		warns  bool
	}{
		"everywhere, all on one":       {func(c *server.Config) { c.Listen = "0.0.0.0:0" }, true},
		"everywhere, by IPv6":          {func(c *server.Config) { c.Listen = "[::]:0" }, true},
		"on this machine":              {func(c *server.Config) { c.Listen = "127.0.0.1:0" }, false},
		"the admin API on its own":     {func(c *server.Config) { c.Listen, c.AdminListen = "0.0.0.0:0", "127.0.0.1:0" }, false},
		"on its own, on a network too": {func(c *server.Config) { c.Listen, c.AdminListen = "0.0.0.0:0", "0.0.0.0:0" }, false},
		"with TLS": {func(c *server.Config) {
			c.Listen = "0.0.0.0:0"
			dir := t.TempDir()
			c.TLSCert, c.TLSKey = filepath.Join(dir, "a.pem"), filepath.Join(dir, "a.key")
			writeSelfSigned(t, c.TLSCert, c.TLSKey, "localhost")
		}, false},
	} {
		s := servertest.Start(t, servertest.Options{Guarded: true, Config: c.config})
		warned := strings.Contains(s.Log(), "admin API is reachable without TLS from other machines")
		assert.True(t, warned == c.warns, "%s: warned %v, want %v:\n%s", name, warned, c.warns, s.Log())
	}
}

func TestServer_Listeners(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) {
		c.ScanListen, c.AdminListen = "localhost:0", "127.0.0.2:0"
	}})
	address := map[string]string{}
	for _, m := range regexp.MustCompile(`msg=listening address=(\S+) wire=(\S+) scan=(\S+) admin=(\S+)`).FindAllStringSubmatch(s.Log(),
		-1) {
		for i, api := range []string{"wire", "scan", "admin"} {
			if m[i+2] == "true" {
				address[api] = "http://" + m[1]
			}
		}
	}
	require.True(t, len(address) == 3 && address["wire"] == s.URL, "listening at %v", address)
	for path, listener := range map[string]string{"POST /scan/v1/resolve": "scan", "GET /admin/v1/settings": "admin",
		"GET /metrics": "admin", "GET /cgi-bin/token": "wire"} {
		method, path, _ := strings.Cut(path, " ")
		for api, url := range address {
			r, err := http.NewRequest(method, url+path, strings.NewReader(`{"text":"x"}`))
			require.NoError(t, err)
			a := s.Send(r)
			// The wire listener responds to every path; other listeners return 421.
			served := a.Status == 200 && !strings.Contains(a.Body, `"errcode":40066`)
			assert.True(t, served == (api == listener), "%s at the %s listener: %d %.100s", path, api, a.Status, a.Body)
			for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
				if r, err = http.NewRequest("GET", url+path, nil); err != nil {
					t.Fatal(err)
				} else if a := s.Send(r); a.Status != 200 {
					t.Errorf("%s at the %s listener: %d", path, api, a.Status)
				}
			}
		}
	}
}

func TestServer_Metrics(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.OK("shop", "get", "{}")
	s.Do("POST", "/cgi-bin/any/path/of/a/stranger", "")
	s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/t/7"}`)
	s.Do("POST", "/scan/v1/explain", `{"text":"https://shop.example/t/7"}`) // does not count as a scan
	text := s.Do("GET", "/metrics", "").Body
	for _, line := range []string{
		`qrjump_api_requests_total{endpoint="/cgi-bin/wxopen/qrcodejumpget",errcode="0"} 1`,
		`qrjump_api_requests_total{endpoint="/cgi-bin/token",errcode="0"} 1`,
		`qrjump_api_requests_total{endpoint="unknown",errcode="40066"} 1`,
		`qrjump_scans_total{action="open_mini_program"} 1`,
		`qrjump_rules 1`, `qrjump_replica_stale 0`, `qrjump_api_request_duration_seconds_count{endpoint="unknown"} 1`,
	} {
		assert.Contains(t, text, line+"\n", "GET /metrics")
	}
	for _, absent := range []string{"shop.example", "stranger", `"shop"`} {
		assert.True(t, !strings.Contains(text, absent), "GET /metrics contains %s", absent)
	}
}

// TestServer_ForwardedFor verifies that the caller's address is the peer of the connection, or the address that a trusted proxy reports.
func TestServer_ForwardedFor(t *testing.T) {
	t.Parallel()
	fenced := strings.Replace(shop, "versions:", "ip_allowlist: [203.0.113.0/24, '2001:db8::/32'], versions:", 1)
	for _, c := range testtable.Rows(t, "testdata/forwarded.txt", 4) {
		t.Run(c[0], func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Seed: fenced,
				Config: func(config *server.Config) { config.TrustedProxy = testtable.List(c[1]) }})
			r := s.Request("GET", "/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "")
			if c[2] != "" {
				r.Header.Set("X-Forwarded-For", c[2])
			}
			a := s.Send(r)
			if c[3] == "" {
				var issued struct {
					Token string `json:"access_token"`
				}
				if a.JSON(t, &issued); issued.Token == "" {
					t.Fatal(a.Body)
				}
				s.RegisterSecret(issued.Token)
			} else if !strings.Contains(a.Body, "invalid ip "+c[3]+" ipv6 ") {
				t.Errorf("got %s, want %s", a.Body, c[3])
			}
		})
	}
}

// TestServer_DrainOnSIGTERM verifies that a stop completes running calls and accepts no new connections.
func TestServer_DrainOnSIGTERM(t *testing.T) {
	t.Parallel()
	requested, answer := make(chan bool, 1), make(chan bool)
	release := sync.OnceFunc(func() { close(answer) })
	var file string
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requested <- true
		<-answer
		io.WriteString(w, file)
	}))
	t.Cleanup(host.Close)
	t.Cleanup(release) // runs before host.Close, which waits for the handler
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: strings.Replace(shop, "trust", "fetch", 1)})
	confirm := s.OK("shop", "download", "{}").Text(t, "file_content")
	file = confirm

	added := make(chan servertest.Answer, 1)
	go func() {
		added <- s.Rule("shop", "add", `{"prefix":"`+host.URL+`/x","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
	}()
	<-requested
	stopped := make(chan bool)
	go func() { s.Stop(); close(stopped) }()
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			break // the listener is closed
		}
		conn.Close()
	}
	select {
	case <-stopped:
		t.Error("the server did not wait for the running call")
	default:
	}
	release()
	a := <-added
	assert.True(t, a.Code(t) == 0, "the running call: %s, want errcode 0", a.Body)
	<-stopped
	restarted := servertest.Start(t, servertest.Options{Data: data, Config: func(c *server.Config) { c.Dev, c.Emulator = false, true }})
	assert.Contains(t, restarted.Admin("GET", "/rules?owner=shop", "").Body, host.URL, "what was acknowledged is gone")
}

func TestServer_RunUntilCanceled(t *testing.T) {
	t.Parallel()
	c := server.Default()
	c.Data, c.Listen, c.LogFormat = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "json"
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan error)
	go func() { ended <- server.Run(ctx, c, server.TestHooks{}, w, &stderr); w.Close() }()
	out := bufio.NewReader(r)
	line, err := out.ReadString('\n')
	require.True(t, err == nil && regexp.MustCompile(`^qrjump ready http://127\.0\.0\.1:[0-9]+\n$`).MatchString(line), "%q %v", line, err)
	resp := require.Value(http.Get(strings.TrimSpace(strings.TrimPrefix(line, "qrjump ready ")) + "/cgi-bin/token"))(t)
	resp.Body.Close()
	cancel()
	assert.NoErrorf(t, (<-ended), "Run")
	rest, err := io.ReadAll(out)
	assert.True(t, len(rest) == 0 && err == nil, "rest of standard output: %q, %v, want none", rest, err)
	token, err := os.ReadFile(filepath.Join(c.Data, "admin-token"))
	assert.True(t, err == nil && !strings.Contains(stderr.String(), strings.TrimSpace(string(token))),
		"the admin token is in the log, or not in its file: %v", err)
	for _, name := range []string{"admin-token", "master.key"} {
		info, err := os.Stat(filepath.Join(c.Data, name))
		assert.True(t, err == nil && info.Mode().Perm() == 0o600, "%s: %v %v", name, info.Mode(), err)
	}
	assert.True(t, regexp.MustCompile(`(?m)^\{.*"msg":"call".*"took":[0-9]{0,2}(\.[0-9]+)?(e-[0-9]+)?[,}]`).MatchString(stderr.String()),
		"the log is not JSON with a call and its duration in seconds: %s", stderr.String())
}

// TestDevServer_DeviationSummaryOnExit verifies that a --dev server that accepted a call that the platform would reject logs the command
// that lists deviations at its end.
func TestDevServer_DeviationSummaryOnExit(t *testing.T) {
	t.Parallel()
	request := `{"grant_type":"client_credential","appid":"wxc0ffee0000000001","secret":"c0ffee00000000000000000000000001"`
	for body, localized := range map[string]bool{request + `}`: false, request + `,"force_refresh":"false"}`: true} {
		c := server.Default()
		c.Data, c.Listen, c.Dev = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", true
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		var stderr bytes.Buffer
		ended := make(chan error)
		go func() { ended <- server.Run(ctx, c, server.TestHooks{}, w, &stderr); w.Close() }()
		line := require.Value(bufio.NewReader(r).ReadString('\n'))(t)
		address := strings.TrimSpace(strings.TrimPrefix(line, "qrjump ready "))
		resp, err := http.Post(address+"/cgi-bin/stable_token", "application/json", strings.NewReader(body))
		require.True(t, err == nil && resp.Body.Close() == nil, "%v", err)
		cancel()
		assert.NoError(t, (<-ended))
		end := "qrjump deviations --server " + address + "\"\n"
		if strings.HasSuffix(stderr.String(), end) != localized {
			t.Errorf("after %s the log ends with\n%s", body, stderr.String()[max(0, stderr.Len()-400):])
		}
	}
}

func TestMasterKey_MissingOrInvalid(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(data, "master.key")
	o := servertest.Options{Data: data, Seed: shop}
	s := servertest.Start(t, o)
	token := s.Token("shop")
	s.Stop()
	key := require.Value(os.ReadFile(path))(t)
	for name, c := range map[string]struct {
		file string // "" = none
		env  string
		want string // "" = it starts
	}{
		"missing":                            {"", "", "missing"},
		"another":                            {strings.Repeat("0", 64), "", "are not encrypted with this master key"},
		"not a key":                          {"hello", "", "64 hexadecimal digits"},
		"too short":                          {strings.Repeat("0", 62), "", "64 hexadecimal digits"},
		"another in the environment":         {string(key), strings.Repeat("0", 64), "QRJUMP_MASTER_KEY"},
		"in the environment, without a file": {"", strings.TrimSpace(string(key)), ""},
		"in the file":                        {string(key), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			os.Remove(path)
			if c.file != "" {
				require.NoError(t, os.WriteFile(path, []byte(c.file), 0o600))
			}
			restart := o
			restart.Config = func(config *server.Config) { config.MasterKey = c.env }
			s, err := servertest.TryStart(t, restart)
			if c.want != "" {
				assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), c.want) &&
					!strings.Contains(err.Error(), "\n"), "got %v, want %q", err, c.want)
				return
			}
			require.NoError(t, err)
			s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").WantCode(t, 0, "a token from before the restart")
			s.RegisterSecret(token)
			s.Stop()
		})
	}
}
