package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// rawScan is a scan as it goes over a connection.
func rawScan(key string) string {
	if key != "" {
		key = "Authorization: Bearer " + key + "\r\n"
	}
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + key + "Content-Length: 12\r\n\r\n" + `{"text":"x"}`
}

// asked sends a request and returns the status of its answer; 0 where the connection ended.
func asked(conn net.Conn, in *bufio.Reader, raw string) int {
	io.WriteString(conn, raw)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func dialURL(t *testing.T, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// fewFiles is what the process of TestServer_FileDescriptorLimit does.
type fewFiles struct {
	Data  string
	Apart bool // a listener for scans and one for operators
}

func TestMain(m *testing.M) {
	proctest.Roles{"few files": proctest.Role(serveOfFewFiles)}.Play()
	os.Exit(dbtest.Run(m))
}

func serveOfFewFiles(ctx context.Context, o fewFiles) error {
	c := server.Default()
	c.Data, c.Listen, c.AdminToken = o.Data, "127.0.0.1:0", servertest.AdminToken
	if o.Apart {
		c.ScanListen, c.AdminListen = "localhost:0", "127.0.0.2:0"
	}
	s, err := server.Start(ctx, c, os.Stderr, server.TestHooks{})
	if err != nil {
		return err
	}
	json.NewEncoder(os.Stdout).Encode([]string{s.URL, s.ScanURL, s.AdminURL})
	<-ctx.Done()
	return s.Close()
}

// A process that may open 120 files goes on, its database too, while strangers
// hold 150 connections to each listener; who showed a key before stays. Issue 12, 9.
func TestServer_FileDescriptorLimit(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no limit of files there")
	}
	for name, apart := range map[string]bool{"one listener": false, "three listeners": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := proctest.Start(t, proctest.Command("few files", fewFiles{t.TempDir(), apart}, "sh", "-c",
				`ulimit -n 120 && exec "$0"`))
			t.Cleanup(func() {
				if _, err := child.Stop(); err != nil || t.Failed() {
					log := child.Log()
					t.Errorf("it ended with %v; the end of its log: %s", err, log[max(0, len(log)-3000):])
				}
			})
			var urls []string
			require.NoError(t, json.NewDecoder(child.Out).Decode(&urls))
			wire, scans, admin := urls[0], urls[1], urls[2]
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			call := func(method, url, body string) (int, string) {
				t.Helper()
				r, err := http.NewRequest(method, url, strings.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
				r.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(r)
				if err != nil {
					return 0, err.Error()
				}
				defer resp.Body.Close()
				answer, _ := io.ReadAll(resp.Body)
				return resp.StatusCode, string(answer)
			}
			var made struct{ Key string }
			_, answer := call("POST", admin+"/admin/v1/scan-keys", `{"name":"app"}`)
			err := json.Unmarshal([]byte(answer), &made)
			require.True(t, err == nil && made.Key != "", "%v %v", answer, err)
			known, knownIn := dialURL(t, scans)
			require.Equal(t, asked(known, knownIn, rawScan(made.Key)), 200, "a scan with its key")
			for _, url := range []string{scans, wire} {
				for range 150 {
					conn, in := dialURL(t, url)
					raw := rawScan("")
					if url == wire {
						raw = "GET /cgi-bin/token HTTP/1.1\r\nHost: localhost\r\n\r\n"
					}
					// One whose place another takes at once reads no answer, but an end.
					conn.SetReadDeadline(time.Now().Add(patience))
					io.WriteString(conn, raw)
					resp, err := http.ReadResponse(in, nil)
					require.True(t, !errors.Is(err, os.ErrDeadlineExceeded) && (err != nil || resp.StatusCode == 401 ||
						resp.StatusCode == 200), "a stranger: %v %v", resp, err)
				}
			}
			for _, url := range []string{wire, scans, admin} {
				status, answer := call("GET", url+"/readyz", "")
				assert.True(t, status == 200, "%s/readyz: %d %s", url, status, answer)
			}
			for n := range 5 {
				status, answer := call("PUT", fmt.Sprintf("%s/admin/v1/accounts/a%d", admin, n), `{"kind":"mini_program"}`)
				assert.True(t, status == 200, "an account: %d %s", status, answer)
			}
			assert.Equal(t, asked(known, knownIn, rawScan(made.Key)), 200, "who showed a key before")
			fresh, freshIn := dialURL(t, scans)
			assert.Equal(t, asked(fresh, freshIn, rawScan(made.Key)), 200, "a new connection")
		})
	}
}

// Nobody who is being served loses the place, and who finds no room waits.
func TestConnectionLimit_FullKeepsServed(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"shared": false, "own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Seed: shop, ScanListener: own, Connections: 2})
			const line = "b\r\n{\"text\":\"x\"\r\n2\r\n}\n\r\n"
			type stream struct {
				net.Conn
				answers *bufio.Reader
			}
			next := func(st stream) {
				t.Helper()
				io.WriteString(st, line)
				text, err := st.answers.ReadString('\n')
				require.True(t, err == nil && strings.Contains(text, "show_text"), "%q %v", text, err)
			}
			var streams []stream
			for range 2 {
				conn, in := dialURL(t, s.ScanURL)
				io.WriteString(conn,
					"POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"+line)
				resp, err := http.ReadResponse(in, nil)
				require.True(t, err == nil && resp.StatusCode == 200, "%v %v", resp, err)
				st := stream{conn, bufio.NewReader(resp.Body)}
				require.NoError(t, assert.ErrorOf(st.answers.ReadString('\n')))
				streams = append(streams, st)
			}
			third, thirdIn := dialURL(t, s.ScanURL)
			io.WriteString(third, rawScan(""))
			for _, st := range streams {
				next(st)
			}
			io.WriteString(streams[0], "0\r\n\r\n") // its connection is idle from now on
			resp, err := http.ReadResponse(thirdIn, nil)
			require.True(t, err == nil && resp.StatusCode == 200, "who waited for room: %v %v", resp, err)
			next(streams[1])
			more, err := streams[0].answers.ReadString('\n')
			assert.True(t, err == io.EOF, "the first stream: %q %v", more, err)
		})
	}
}

// After a refused key a connection is not kept idle for long; after one that is right it is again. Issue 12, 9.
func TestConnectionLimit_IdleTimeoutAfterRejectedKey(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"shared": false, "own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, ScanListener: own, RefusedTime: 20 * time.Millisecond})
			made := s.NewKey("/scan-keys", `{"name":"app"}`)
			for what, c := range map[string]struct {
				url, raw string
				want     int
			}{
				"no scan key":    {s.ScanURL, rawScan(""), 401},
				"a wrong one":    {s.ScanURL, rawScan("qrs_wrong"), 401},
				"no admin token": {s.URL, "GET /admin/v1/settings HTTP/1.1\r\nHost: localhost\r\n\r\n", 401},
				"no access token": {s.URL, "POST /cgi-bin/wxopen/qrcodejumpget HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
					200},
			} {
				conn, in := dialURL(t, c.url)
				assert.Equal(t, asked(conn, in, c.raw), c.want, "%s", what)
				if more, err := io.ReadAll(in); len(more) > 0 || err != nil { // until the server ends it
					t.Errorf("%s: %q %v", what, more, err)
				}
			}
			// Both at once: the right key comes before the time is over.
			conn, in := dialURL(t, s.ScanURL)
			io.WriteString(conn, rawScan("")+rawScan(made))
			first, second := asked(conn, in, ""), asked(conn, in, "")
			require.True(t, first == 401 && second == 200, "%v %v", first, second)
			// Longer than the short wait, by another connection's.
			other, otherIn := dialURL(t, s.ScanURL)
			asked(other, otherIn, rawScan(""))
			io.ReadAll(otherIn)
			assert.Equal(t, asked(conn, in, rawScan(made)), 200, "after the right key")
		})
	}
}
