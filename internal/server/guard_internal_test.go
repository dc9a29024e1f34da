package server

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestServer_PanicLogged verifies that a panic of a handler is logged and aborts the connection; http.ErrAbortHandler is not logged.
func TestServer_PanicLogged(t *testing.T) {
	var logged bytes.Buffer
	s := &Server{deps: deps{log: slog.New(slog.NewTextHandler(&logged, nil))}}
	for fault, want := range map[any]string{"a bug": "a bug", http.ErrAbortHandler: ""} {
		logged.Reset()
		func() {
			defer func() {
				got := recover()
				assert.True(t, got == http.ErrAbortHandler, "recover() = %v, want http.ErrAbortHandler", got)
			}()
			s.access().logPanics(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(fault) })).
				ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/somewhere", nil))
		}()
		assert.True(t, (want != "" || logged.Len() <= 0) && strings.Contains(logged.String(), want), "logged %q, want %q", &logged, want)
	}
}

// startEmpty starts a server without accounts.
func startEmpty(t *testing.T) *Server {
	t.Helper()
	c := Default()
	c.Data, c.Listen = t.TempDir(), "127.0.0.1:0"
	s := require.Value(Start(t.Context(), c, io.Discard, TestHooks{}))(t)
	t.Cleanup(func() { s.Close() })
	return s
}

// TestServer_EarlyRejectionWithConnectionClose verifies that a client with Connection: close receives the response of a call that the
// server rejects before it has read the body.
func TestServer_EarlyRejectionWithConnectionClose(t *testing.T) {
	t.Parallel()
	s := startEmpty(t)
	body := make([]byte, 200_000)
	for n := range 50 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		require.NoError(t, err)
		_,
			err = fmt.Fprintf(conn,
			"POST /cgi-bin/wxopen/qrcodejumpadd?access_token=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", len(body))
		for sent := 0; err == nil && sent < len(body); sent += 1000 {
			runtime.Gosched()
			_, err = conn.Write(body[sent : sent+1000])
		}
		require.NoErrorf(t, err, "call %d: sending the body", n)
		answer, err := io.ReadAll(conn)
		require.True(t, err == nil && bytes.Contains(answer, []byte(`"errcode":40001`)), "call %d: %v: %q", n, err, answer)
		conn.Close()
	}
}

// TestReady_DuringShutdown verifies that /readyz returns 503 to a request that arrives while the server drains.
func TestReady_DuringShutdown(t *testing.T) {
	s := startEmpty(t)
	for draining, want := range map[bool]string{false: "200 ready\n", true: "503 stopping\n"} {
		s.serving.draining.Store(draining)
		resp := require.Value(http.Get(s.URL + "/readyz"))(t)
		body, err := io.ReadAll(resp.Body)
		got := resp.Status[:4] + string(body)
		assert.True(t, err == nil && got == want, "draining %v: %q %v, want %q", draining, got, err, want)
		resp.Body.Close()
	}
}

// TestServer_PathCleaningKeepsEscapes verifies that cleanPath removes duplicate slashes without a redirect, but keeps escaped ones.
func TestServer_PathCleaningKeepsEscapes(t *testing.T) {
	for sent, want := range map[string]string{
		"/a/b":               "/a/b",
		"//a///b//":          "/a/b/",
		"/a/x%2F/b":          "/a/x%2F/b",
		"//a/x%2F%2fy/b":     "/a/x%2F%2fy/b",
		"/a/%2E%2E/b":        "/a/%2E%2E/b",
		"/a//%E4%BA%BA%20/b": "/a/%E4%BA%BA%20/b",
		"/a/../b":            "/a/-",
		"/a/.":               "/a/-",
		"/./a":               "/-/-",
		"/../a":              "/-/-",
	} {
		r := httptest.NewRequest("GET", sent, nil)
		cleanPath(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			assert.Equal(t, r.URL.EscapedPath(), want, "%s", sent)
		})).ServeHTTP(httptest.NewRecorder(), r)
	}
}
