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

// rawScan returns a scan request in HTTP/1.1 format; key "" = without Authorization.
func rawScan(key string) string {
	if key != "" {
		key = "Authorization: Bearer " + key + "\r\n"
	}
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + key + "Content-Length: 12\r\n\r\n" + `{"text":"x"}`
}

// roundTrip sends a request and returns the status of the response, or 0 if the server closed the connection.
func roundTrip(conn net.Conn, in *bufio.Reader, request string) int {
	io.WriteString(conn, request)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func dialURL(t *testing.T, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := require.Value(net.Dial("tcp", strings.TrimPrefix(url, "http://")))(t)
	t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// limitedOptions configures the server process of TestServer_FileDescriptorLimit.
type limitedOptions struct {
	Data              string
	SeparateListeners bool // separate listeners for the scan API and the admin API
}

func TestMain(m *testing.M) {
	proctest.Roles{"few files": proctest.Role(serveLimited)}.Run()
	os.Exit(dbtest.Run(m))
}

func serveLimited(ctx context.Context, o limitedOptions) error {
	c := server.Default()
	c.Data, c.Listen, c.AdminToken = o.Data, "127.0.0.1:0", servertest.AdminToken
	if o.SeparateListeners {
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

// TestServer_FileDescriptorLimit opens 150 unauthenticated connections to each listener of a process that may open 120 files. The server
// and its database must continue to work, and a connection that authenticated before must stay open.
func TestServer_FileDescriptorLimit(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no limit of files there")
	}
	for name, separate := range map[string]bool{"one listener": false, "three listeners": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := proctest.Start(t, proctest.Command("few files", limitedOptions{t.TempDir(), separate}, "sh", "-c",
				`ulimit -n 120 && exec "$0"`))
			t.Cleanup(func() {
				if _, err := child.Stop(); err != nil || t.Failed() {
					log := child.Log()
					t.Errorf("the server exited with %v; the end of its log: %s", err, log[max(0, len(log)-3000):])
				}
			})
			var urls []string
			require.NoError(t, json.NewDecoder(child.Out).Decode(&urls))
			wire, scans, admin := urls[0], urls[1], urls[2]
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitTimeout}
			call := func(method, url, body string) (int, string) {
				t.Helper()
				r := require.Value(http.NewRequest(method, url, strings.NewReader(body)))(t)
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
			var created struct{ Key string }
			_, answer := call("POST", admin+"/admin/v1/scan-keys", `{"name":"app"}`)
			err := json.Unmarshal([]byte(answer), &created)
			require.True(t, err == nil && created.Key != "", "%v %v", answer, err)
			authenticated, authenticatedReader := dialURL(t, scans)
			require.Equal(t, roundTrip(authenticated, authenticatedReader, rawScan(created.Key)), 200, "a scan with its key")
			for _, url := range []string{scans, wire} {
				for range 150 {
					conn, in := dialURL(t, url)
					request := rawScan("")
					if url == wire {
						request = "GET /cgi-bin/token HTTP/1.1\r\nHost: localhost\r\n\r\n"
					}
					// The server may evict the connection before it responds.
					conn.SetReadDeadline(time.Now().Add(waitTimeout))
					io.WriteString(conn, request)
					resp, err := http.ReadResponse(in, nil)
					require.True(t, !errors.Is(err, os.ErrDeadlineExceeded) && (err != nil || resp.StatusCode == 401 ||
						resp.StatusCode == 200), "an unauthenticated connection: %v %v, want 401, 200 or its end", resp, err)
				}
			}
			for _, url := range []string{wire, scans, admin} {
				status, answer := call("GET", url+"/readyz", "")
				assert.True(t, status == 200, "%s/readyz: %d %s, want 200", url, status, answer)
			}
			for n := range 5 {
				status, answer := call("PUT", fmt.Sprintf("%s/admin/v1/accounts/a%d", admin, n), `{"kind":"mini_program"}`)
				assert.True(t, status == 200, "PUT of an account: %d %s, want 200", status, answer)
			}
			assert.Equal(t, roundTrip(authenticated, authenticatedReader, rawScan(created.Key)), 200, "the authenticated connection")
			newConn, newReader := dialURL(t, scans)
			assert.Equal(t, roundTrip(newConn, newReader, rawScan(created.Key)), 200, "a new connection")
		})
	}
}

// TestConnectionLimit_FullKeepsServed verifies that a full server does not evict a connection with a running request, and that a new
// connection waits until one is idle.
func TestConnectionLimit_FullKeepsServed(t *testing.T) {
	t.Parallel()
	for name, separate := range map[string]bool{"shared": false, "own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Seed: shop, ScanListener: separate, Connections: 2})
			const line = "b\r\n{\"text\":\"x\"\r\n2\r\n}\n\r\n"
			type stream struct {
				net.Conn
				answers *bufio.Reader
			}
			sendLine := func(st stream) {
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
			third, thirdReader := dialURL(t, s.ScanURL)
			io.WriteString(third, rawScan(""))
			for _, st := range streams {
				sendLine(st)
			}
			io.WriteString(streams[0], "0\r\n\r\n") // ends the request, so that the connection is idle
			resp, err := http.ReadResponse(thirdReader, nil)
			require.True(t, err == nil && resp.StatusCode == 200, "the waiting connection: %v %v, want 200", resp, err)
			sendLine(streams[1])
			rest, err := streams[0].answers.ReadString('\n')
			assert.True(t, err == io.EOF, "the first stream: %q %v, want EOF", rest, err)
		})
	}
}

// TestConnectionLimit_IdleTimeoutAfterRejectedKey verifies that the server closes an idle connection early after a rejected key, and keeps
// it for the normal time after a valid key.
func TestConnectionLimit_IdleTimeoutAfterRejectedKey(t *testing.T) {
	t.Parallel()
	for name, separate := range map[string]bool{"shared": false, "own": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, ScanListener: separate,
				RejectedKeyIdleTime: 20 * time.Millisecond})
			key := s.NewKey("/scan-keys", `{"name":"app"}`)
			for name, c := range map[string]struct {
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
				assert.Equal(t, roundTrip(conn, in, c.raw), c.want, "%s", name)
				if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil { // until the server ends it
					t.Errorf("%s: %q %v", name, rest, err)
				}
			}
			// Both in one write, so that the valid key arrives before the short timeout.
			conn, in := dialURL(t, s.ScanURL)
			io.WriteString(conn, rawScan("")+rawScan(key))
			first, second := roundTrip(conn, in, ""), roundTrip(conn, in, "")
			require.True(t, first == 401 && second == 200, "got status %v and %v, want 401 and 200", first, second)
			// Wait until the short timeout closes another connection.
			other, otherReader := dialURL(t, s.ScanURL)
			roundTrip(other, otherReader, rawScan(""))
			io.ReadAll(otherReader)
			assert.Equal(t, roundTrip(conn, in, rawScan(key)), 200, "after the valid key")
		})
	}
}
