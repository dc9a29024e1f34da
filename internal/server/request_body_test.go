package server_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// rejectedRequest is a request that the server rejects before it reads the body.
type rejectedRequest struct {
	name, method, path string
	headers            []string
	status             int
	length             int // of the body
}

// TestHTTP2_EarlyResponseReachesCurl verifies that curl receives the response of each rejected request over HTTP/2. libcurl 7.88 (Debian
// 12) loses the response if the stream is reset while it is sending the body; without draining, this happened in 10 to 45 of 100 calls.
func TestHTTP2_EarlyResponseReachesCurl(t *testing.T) {
	times := testscope.Select(40, 4)
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "curl", "--version").Output(); err != nil || !bytes.Contains(out, []byte("HTTP2")) {
		t.Skipf("it needs a curl that speaks HTTP/2: %v", err)
	}
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Config: func(c *server.Config) {
		c.TLSDev, c.ScanListen, c.AdminListen = true, "127.0.0.1:0", "127.0.0.1:0"
	}})
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer h.CloseIdleConnections()
	send := func(r *http.Request) servertest.Answer {
		t.Helper()
		a := require.Value(h.Do(r))(t)
		defer a.Body.Close()
		body := require.Value(io.ReadAll(a.Body))(t)
		return servertest.Answer{Status: a.StatusCode, Body: string(body)}
	}
	var key struct{ Key string }
	create := s.Request("POST", "/admin/v1/scan-keys", `{"name":"app"}`, "Content-Type: application/json",
		"Authorization: Bearer "+servertest.AdminToken)
	create.URL.Host = strings.TrimPrefix(s.AdminURL, "https://")
	send(create).JSON(t, &key)
	s.RegisterSecret(key.Key)
	folder := t.TempDir()
	var requests []rejectedRequest // requests to each listener's parts
	for _, row := range testtable.Rows(t, "testdata/refusals.txt", 6) {
		status := require.Value(strconv.Atoi(row[4]))(t)
		length := require.Value(strconv.Atoi(row[5]))(t)
		requests = append(requests, rejectedRequest{row[0], row[1], row[2], testtable.List(row[3]), status, length})
	}
	fill := strings.NewReplacer("KEY", key.Key, "TOKEN", servertest.AdminToken)
	var plan strings.Builder
	for i, r := range requests {
		file := filepath.Join(folder, fmt.Sprint(i))
		// Neither JSON nor a form, so that an operation that reads the body rejects it as well.
		require.NoError(t, os.WriteFile(file, bytes.Repeat([]byte("x"), r.length), 0o600))
		listener := s.URL
		switch {
		case strings.HasPrefix(r.path, "/scan/"):
			listener = s.ScanURL
		case strings.HasPrefix(r.path, "/admin/"), strings.HasPrefix(r.path, "/console/"):
			listener = s.AdminURL
		}
		fmt.Fprintf(&plan, "next\nurl = \"%s%s#[1-%d]\"\nrequest = %s\ndata-binary = \"@%s\"\n"+
			"output = /dev/null\ninsecure\nsilent\nhttp2\n"+
			"max-time = 30\nnoproxy = \"*\"\nwrite-out = \"%d %%{http_code} %%{http_version} %%{exitcode} %%{errormsg}\\n\"\n",
			listener, r.path, times, r.method, file, i)
		for _, h := range r.headers {
			fmt.Fprintf(&plan, "header = %q\n", fill.Replace(h))
		}
	}
	curl := exec.CommandContext(t.Context(), "curl", "-q", "-K", "-")
	curl.Stdin = strings.NewReader(plan.String())
	out, err := curl.Output()
	if err != nil {
		t.Logf("curl: %v", err)
	}
	arrived, other := make([]int, len(requests)), make([]string, len(requests))
	for line := range strings.Lines(string(out)) {
		var i, status, code int
		var version string
		require.NoErrorf(t, assert.ErrorOf(fmt.Sscan(line, &i, &status, &version, &code)), "%q", line)
		// After twenty wrong keys from an address within a minute, the status is 429.
		if (status == requests[i].status || status == 429 && requests[i].status == 401) && version == "2" && code == 0 {
			arrived[i]++
		} else {
			other[i] = strings.TrimSpace(line)
		}
	}
	for i, r := range requests {
		assert.True(t, arrived[i] == times, "%s: %d of %d responses arrived; another was %q", r.name, arrived[i], times, other[i])
	}

	// The server drains a limited part of the body only.
	r := require.Value(http.NewRequestWithContext(t.Context(), "POST", s.AdminURL+"/admin/v1/accounts", endlessReader{}))(t)
	assert.Equal(t, send(r).Status, http.StatusUnauthorized, "a body without an end")
}

// TestRequestBody_UnreadBodyTimeout verifies that the server ends requests with an incomplete body after BodyTimeout.
func TestRequestBody_UnreadBodyTimeout(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, BodyTimeout: 50 * time.Millisecond,
		Config: func(c *server.Config) { c.TLSDev = true }})
	const authorised = "Authorization: Bearer " + servertest.AdminToken + "\r\n"
	for name, c := range map[string]struct{ head, status string }{
		"a refused call":                      {"POST /cgi-bin/wxopen/qrcodejumpget HTTP/1.1\r\nContent-Length: 10\r\n", "200"},
		"an export":                           {"GET /admin/v1/export/rules HTTP/1.1\r\nContent-Length: 10\r\n" + authorised, "200"},
		"an export in pieces":                 {"GET /admin/v1/export/accounts HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + authorised, "200"},
		"an export of scans":                  {"GET /admin/v1/scans/export HTTP/1.1\r\nContent-Length: 10\r\n" + authorised, "200"},
		"a wrong token":                       {"POST /admin/v1/accounts HTTP/1.1\r\nContent-Length: 1000000\r\n", "401"},
		"a wrong token and far too much":      {"POST /admin/v1/accounts HTTP/1.1\r\nContent-Length: 1000000000\r\n", "401"},
		"a page":                              {"GET /console/login HTTP/1.1\r\nContent-Length: 10\r\n", "200"},
		"a client that waits to be asked":     {"POST /admin/v1/accounts HTTP/1.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n", "401"},
		"one that goes away after its answer": {"POST /scan/v1/resolve HTTP/1.1\r\nContent-Length: 1000\r\nConnection: close\r\n", "401"},
	} {
		conn := require.Value(tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"),
			&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}))(t)
		require.NoError(t, assert.ErrorOf(io.WriteString(conn, c.head+"Host: 127.0.0.1\r\n\r\n")))
		answer, err := io.ReadAll(conn) // until the server closes
		conn.Close()
		_, reset := err.(*net.OpError)
		assert.True(t, (err == nil || reset) && strings.HasPrefix(string(answer), "HTTP/1.1 "+c.status),
			"%s: %.200s, %v, want status %s", name, answer, err, c.status)
	}
}

// endlessReader is a body without an end.
type endlessReader struct{}

func (endlessReader) Read(b []byte) (int, error) { return len(b), nil }
