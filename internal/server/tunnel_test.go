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

// TestDevServer_ProxyTunnel verifies that a --dev server is an HTTP proxy for clients with a hard-coded platform address, and serves the
// platform's host names, but no others, through it.
func TestDevServer_ProxyTunnel(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.Dev = true }})
	_, err := os.Stat(certificates.AuthorityFile(data))
	assert.True(t, os.IsNotExist(err), "a certificate authority was created without a request: %v", err)
	resp := require.Value(http.Get(s.URL + "/qrjump/ca.pem"))(t)
	served, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	stored, _ := os.ReadFile(certificates.AuthorityFile(data))
	assert.True(t, err == nil && resp.StatusCode == 200 && bytes.Equal(served, stored) && !bytes.Contains(served, []byte("PRIVATE")),
		"GET ca.pem = %s, %v, %d bytes, want the %d bytes of the file", resp.Status, err, len(served), len(stored))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(served)
	proxy := require.Value(url.Parse(s.URL))(t)
	c := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Time: s.Clock.Now}}}
	defer c.CloseIdleConnections()
	for _, name := range []string{"api", "api2", "sh.api", "sz.api", "hk.api", "mp", "open"} {
		assert.Equal(t, callTLS(t, c, "https://"+name+".weixin.qq.com/healthz", "", nil), "HTTP/2.0", "%s", name)
		callTLS(t, c, "http://"+name+".weixin.qq.com/healthz", "", nil)
	}
	var issued struct {
		Token string `json:"access_token"`
	}
	callTLS(t, c, "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "", &issued)
	s.RegisterSecret(issued.Token)
	assert.True(t, issued.Token != "", "token through the proxy is empty")

	for _, line := range []string{"CONNECT bank.example:443", "CONNECT evilapi.weixin.qq.com:443", "CONNECT 127.0.0.1:22",
		"CONNECT weixin.qq.com:443", "GET http://bank.example/", "GET http://127.0.0.1:1/"} {
		got := rawCall(t, s.URL, line)
		assert.True(t, strings.HasPrefix(got, "HTTP/1.1 403 "), "%s = %s, want 403", line, got)
	}
	// A request in absolute form to the server itself is not a proxy request.
	got := rawCall(t, s.URL, "GET "+s.URL+"/healthz")
	assert.True(t, strings.HasPrefix(got, "HTTP/1.1 200 "), "GET of the server's own URL = %s, want 200", got)
	// A tunnel to port 80 carries plain HTTP, including bytes that the client sends with its CONNECT.
	proxied := rawCall(t, s.URL, "CONNECT API.weixin.qq.com:80",
		"GET /healthz HTTP/1.1\r\nHost: api.weixin.qq.com\r\nConnection: close\r\n\r\n")
	assert.True(t, strings.Count(proxied, "HTTP/1.1 200 ") == 2, "the tunnel to port 80 = %s, want two responses with 200", proxied)
}

// TestServer_ConnectRefusedWithoutDev verifies that a server without --dev offers neither the tunnel nor the CA certificate.
func TestServer_ConnectRefusedWithoutDev(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Emulator: true})
	assert.Contains(t, rawCall(t, s.URL, "CONNECT api.weixin.qq.com:443"), " 40", "CONNECT")
	assert.Contains(t, s.Do("GET", "/qrjump/ca.pem", "").Body, "errcode", "GET ca.pem")
}

// rawCall sends the header of a request and rest in one write. It returns all bytes until the server closes the connection, or without rest
// the first line of the response.
func rawCall(t *testing.T, address, line string, rest ...string) string {
	t.Helper()
	conn := require.Value(net.Dial("tcp", strings.TrimPrefix(address, "http://")))(t)
	defer conn.Close()
	_, host, _ := strings.Cut(line, " ")
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	if strings.HasPrefix(host, "/") {
		host = "127.0.0.1"
	}
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n\r\n%s", line, host, strings.Join(rest, ""))
	if len(rest) == 0 {
		return require.Value(bufio.NewReader(conn).ReadString('\n'))(t)
	}
	answer := require.Value(io.ReadAll(conn))(t)
	return string(answer)
}
