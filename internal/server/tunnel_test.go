package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 32, 1: with --dev the server is the proxy of clients with a fixed address, and behind it the platform itself,
// for the platform's names and no others.
func TestDevServer_ProxyTunnel(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.Dev = true }})
	_, err := os.Stat(certificates.AuthorityFile(data))
	assert.True(t, os.IsNotExist(err), "a certificate authority was created without a request: %v", err)
	resp, err := http.Get(s.URL + "/qrjump/ca.pem")
	require.NoError(t, err)
	shown, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	kept, _ := os.ReadFile(certificates.AuthorityFile(data))
	assert.True(t, err == nil && resp.StatusCode == 200 && bytes.Equal(shown, kept) && !bytes.Contains(shown, []byte("PRIVATE")),
		"ca.pem: %s, %v, %d bytes where the file has %d", resp.Status, err, len(shown), len(kept))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(shown)
	proxy, err := url.Parse(s.URL)
	require.NoError(t, err)
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Time: s.Clock.Now}}}
	defer c.CloseIdleConnections()
	for _, name := range []string{"api", "api2", "sh.api", "sz.api", "hk.api", "mp", "open"} {
		assert.Equal(t, exchange(t, c, "https://"+name+".weixin.qq.com/healthz", "", nil), "HTTP/2.0", "%s", name)
		exchange(t, c, "http://"+name+".weixin.qq.com/healthz", "", nil)
	}
	var issued struct {
		Token string `json:"access_token"`
	}
	exchange(t, c, "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "", &issued)
	s.Hide(issued.Token)
	assert.True(t, issued.Token != "", "no token came through")

	for _, line := range []string{"CONNECT bank.example:443", "CONNECT evilapi.weixin.qq.com:443", "CONNECT 127.0.0.1:22",
		"CONNECT weixin.qq.com:443", "GET http://bank.example/", "GET http://127.0.0.1:1/"} {
		got := raw(t, s.URL, line)
		assert.True(t, strings.HasPrefix(got, "HTTP/1.1 403 "), "%s is answered by %s", line, got)
	}
	// A request in absolute form to the server itself is no proxying.
	got := raw(t, s.URL, "GET "+s.URL+"/healthz")
	assert.True(t, strings.HasPrefix(got, "HTTP/1.1 200 "), "its own address is answered by %s", got)
	// A tunnel to port 80 carries plain HTTP, and what the client sent at once is not lost.
	through := raw(t, s.URL, "CONNECT API.weixin.qq.com:80",
		"GET /healthz HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\r\n")
	assert.True(t, strings.Count(through, "HTTP/1.1 200 ") == 2, "the tunnel to port 80 answers %s", through)
}

// Without --dev nobody gets a tunnel or an authority.
func TestServer_ConnectRefusedWithoutDev(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Emulator: true})
	assert.Contains(t, raw(t, s.URL, "CONNECT api.weixin.qq.com:443"), " 40", "a tunnel is answered by")
	assert.Contains(t, s.Do("GET", "/qrjump/ca.pem", "").Body, "errcode", "an authority is answered by")
}

// raw sends the head of a request, and what is to follow at once, and returns what comes until the connection ends or,
// where it stays open, the first line.
func raw(t *testing.T, at, line string, then ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(at, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, host, _ := strings.Cut(line, " ")
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	if strings.HasPrefix(host, "/") {
		host = "127.0.0.1"
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n\r\n%s", line, host, strings.Join(then, ""))
	if len(then) == 0 {
		first, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		return first
	}
	all, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(all)
}
