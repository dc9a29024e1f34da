package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/certificates"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// newPlatformClient returns a client that connects to s whatever host it requests, as with an entry in the hosts file, and that trusts
// roots.
func newPlatformClient(s *servertest.Server, roots *x509.CertPool, now func() time.Time) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Time: now},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(s.URL, "https://"))
		},
	}}
}

func loadPool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text := require.Value(os.ReadFile(file))(t)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text), "%s holds no certificate", file)
	return pool
}

// callTLS makes a call, a POST if body is not "", decodes the response into into, which may be nil, and returns the HTTP version.
func callTLS(t *testing.T, c *http.Client, url, body string, into any) (proto string) {
	t.Helper()
	var send io.Reader
	method := "GET"
	if body != "" {
		method, send = "POST", strings.NewReader(body)
	}
	r := require.Value(http.NewRequestWithContext(t.Context(), method, url, send))(t)
	resp := require.Value(c.Do(r))(t)
	defer resp.Body.Close()
	raw := require.Value(io.ReadAll(resp.Body))(t)
	assert.Equal(t, resp.Header.Get("Strict-Transport-Security"), "", "Strict-Transport-Security, which would outlive this server")
	if into != nil {
		err := json.Unmarshal(raw, into)
		require.NoErrorf(t, err, "%s: %v: %s", url, err, raw)
	}
	return resp.Proto
}

// TestServerTLS_WeixinHostname verifies that a client with the hard-coded address https://api.weixin.qq.com, which verifies the
// certificate, works with the local CA, and that other names are rejected.
func TestServerTLS_WeixinHostname(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }})
	require.True(t, strings.HasPrefix(s.URL, "https://127.0.0.1:"), "URL = %s, want https://127.0.0.1", s.URL)
	// Certificates are valid by the server's real time, not by the emulator's.
	c := newPlatformClient(s, loadPool(t, certificates.AuthorityFile(data)), s.Clock.Now)
	// Client libraries use all of these names of the platform.
	for _, name := range []string{"api", "api2", "sh.api", "sz.api", "hk.api", "mp", "open"} {
		assert.Equal(t, callTLS(t, c, "https://"+name+".weixin.qq.com/healthz", "", nil), "HTTP/2.0", "%s", name)
	}
	callTLS(t, c, "https://localhost/healthz", "", nil)
	callTLS(t, c, "https://127.0.0.1/healthz", "", nil)
	callTLS(t, c, "https://[::1]/healthz", "", nil)

	var issued struct {
		Token string `json:"access_token"`
	}
	const platform = "https://api.weixin.qq.com"
	callTLS(t, c, platform+"/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "", &issued)
	s.RegisterSecret(issued.Token)
	for _, call := range []struct{ name, body string }{
		{"add", `{"prefix":"https://tls.example/t/","path":"pages/tls","permit_sub_rule":1,"open_version":3,"is_edit":0}`},
		{"publish", `{"prefix":"https://tls.example/t/"}`},
	} {
		var answer struct{ ErrCode int }
		callTLS(t, c, platform+"/cgi-bin/wxopen/qrcodejump"+call.name+"?access_token="+url.QueryEscape(issued.Token), call.body, &answer)
		require.True(t, answer.ErrCode == 0, "%s: %+v", call.name, answer)
	}
	var scan struct{ Action, Path string }
	callTLS(t, c, platform+"/scan/v1/resolve", `{"text":"https://tls.example/t/7"}`, &scan)
	assert.True(t, scan.Action == "open_mini_program" && strings.HasPrefix(scan.Path, "pages/tls?"), "the scan opens %+v", scan)

	for name, refused := range map[string]struct {
		roots *x509.CertPool
		url   string
	}{
		"a name that it does not speak for": {loadPool(t, certificates.AuthorityFile(data)), "https://pay.weixin.qq.com/"},
		"a client that trusts nobody":       {x509.NewCertPool(), platform},
	} {
		if resp, err := newPlatformClient(s, refused.roots, s.Clock.Now).Get(refused.url); err == nil {
			resp.Body.Close()
			t.Errorf("%s: the call succeeded, want a certificate error", name)
		}
	}
	_, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	assert.True(t, err != nil, "a handshake with TLS 1.1 succeeded, want an error")
}

// TestLocalCA_NameConstraints verifies that name constraints limit the local CA, and so a stolen CA key, to its host names.
func TestLocalCA_NameConstraints(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }})
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600, "server.pem": 0o600} {
		info, err := os.Stat(filepath.Join(data, "tls", name))
		assert.True(t, err == nil && info.Mode().Perm() == mode, "%s: %v %v", name, info, err)
	}
	ca := require.Value(tls.LoadX509KeyPair(certificates.AuthorityFile(data), filepath.Join(data, "tls", "ca.key")))(t)
	for _, c := range []struct {
		name  string
		leaf  x509.Certificate
		valid bool
	}{
		{"api.weixin.qq.com", x509.Certificate{DNSNames: []string{"api.weixin.qq.com"}}, true},
		{"localhost", x509.Certificate{DNSNames: []string{"localhost"}}, true},
		{"127.0.0.9", x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 9).To4()}}, true},
		{"bank.example", x509.Certificate{DNSNames: []string{"bank.example"}}, false},
		{"qq.com", x509.Certificate{DNSNames: []string{"qq.com"}}, false},
		{"evilweixin.qq.com", x509.Certificate{DNSNames: []string{"evilweixin.qq.com"}}, false},
		{"192.0.2.1", x509.Certificate{IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1).To4()}}, false},
	} {
		c.leaf.SerialNumber, c.leaf.NotBefore, c.leaf.NotAfter = big.NewInt(2), s.Clock.Now().Add(-time.Hour), s.Clock.Now().Add(time.Hour)
		key := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
		der := require.Value(x509.CreateCertificate(rand.Reader, &c.leaf, ca.Leaf, key.Public(), ca.PrivateKey))(t)
		leaf := require.Value(x509.ParseCertificate(der))(t)
		roots := loadPool(t, certificates.AuthorityFile(data))
		_, err := leaf.Verify(x509.VerifyOptions{DNSName: c.name, Roots: roots, CurrentTime: s.Clock.Now()})
		assert.True(t, (err == nil) == c.valid, "%s: %v", c.name, err)
	}
}

// peerCertificate returns the server's certificate in a handshake.
func peerCertificate(t *testing.T, s *servertest.Server) *x509.Certificate {
	t.Helper()
	conn := require.Value(tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{InsecureSkipVerify: true}))(t)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestLocalCA_LeafRenewal(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	o := servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }}
	s := servertest.Start(t, o)
	first := peerCertificate(t, s)
	ca := require.Value(os.ReadFile(certificates.AuthorityFile(data)))(t)
	s.Stop()

	s = servertest.Start(t, o)
	assert.True(t, peerCertificate(t, s).Equal(first), "the certificate changed by a restart")
	s.Clock.Step(366 * 24 * time.Hour)
	assert.True(t, peerCertificate(t, s).Equal(first), "the certificate was renewed long before it expires")
	s.Clock.Step(2 * 24 * time.Hour)
	renewed := peerCertificate(t, s)
	assert.True(t, !renewed.Equal(first) && renewed.NotAfter.After(first.NotAfter.Add(300*24*time.Hour)),
		"shortly before it expires, the certificate is valid until %v, want a renewed one", renewed.NotAfter)
	s.Stop()

	// A start with an expired certificate.
	later := o
	later.Began = servertest.Began.Add(5 * 366 * 24 * time.Hour)
	s = servertest.Start(t, later)
	replaced := peerCertificate(t, s)
	assert.True(t, !replaced.Equal(renewed) && !replaced.Equal(first), "a start kept an expired certificate")
	c := newPlatformClient(s, loadPool(t, certificates.AuthorityFile(data)), s.Clock.Now)
	callTLS(t, c, "https://api.weixin.qq.com/healthz", "", nil)
	now, err := os.ReadFile(certificates.AuthorityFile(data))
	assert.True(t, err == nil && bytes.Equal(now, ca), "the CA certificate, which clients trust, changed: %v", err)
	s.Stop()

	// A start with a certificate that is not valid yet, because the clock was wrong, and with unreadable ones.
	s = servertest.Start(t, o)
	c = newPlatformClient(s, loadPool(t, certificates.AuthorityFile(data)), s.Clock.Now)
	callTLS(t, c, "https://api.weixin.qq.com/healthz", "", nil)
	s.Stop()
	for _, text := range []string{"rubbish", ""} {
		require.NoError(t, os.WriteFile(filepath.Join(data, "tls", "server.pem"), []byte(text), 0o600))
		s = servertest.Start(t, o)
		trusting := newPlatformClient(s, loadPool(t, certificates.AuthorityFile(data)), s.Clock.Now)
		callTLS(t, trusting, "https://api.weixin.qq.com/healthz", "", nil)
		s.Stop()
	}
	for _, name := range []string{"ca.pem", "ca.key"} {
		path := filepath.Join(data, "tls", name)
		body := require.Value(os.ReadFile(path))(t)
		require.NoError(t, os.WriteFile(path, []byte("rubbish"), 0o600))
		if _, err := servertest.TryStart(t, o); !errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), "delete the folder") {
			t.Errorf("start with an invalid %s = %v, want ErrUsage with \"delete the folder\"", name, err)
		}
		require.NoError(t, os.WriteFile(path, body, 0o600))
	}
	ended := o
	ended.Began = servertest.Began.Add(11 * 366 * 24 * time.Hour)
	_, err = servertest.TryStart(t, ended)
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "it expired on"), "with an expired CA: %v", err)
	require.NoError(t, os.Remove(filepath.Join(data, "tls", "ca.key")))
	_, err = servertest.TryStart(t, o)
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "is missing"), "without ca.key: %v", err)
}

// writeSelfSigned writes a self-signed certificate for a host name, and its key unless key is "".
func writeSelfSigned(t *testing.T, cert, key, name string) {
	t.Helper()
	secret := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: servertest.Began.Add(-time.Hour), NotAfter: servertest.Began.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	certificate := require.Value(x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret))(t)
	der := require.Value(x509.MarshalPKCS8PrivateKey(secret))(t)
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: certificate}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if path == "" {
			continue
		}
		// Replaces the file atomically, as tools that renew certificates do.
		require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(b), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
}

func TestServerTLS_OperatorCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeSelfSigned(t, cert, key, "one.example")
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Config: func(c *server.Config) {
		c.TLSCert, c.TLSKey = cert, key
		c.ScanListen, c.AdminListen = "localhost:0", "127.0.0.2:0"
	}})
	callTLS(t, newPlatformClient(s, loadPool(t, cert), s.Clock.Now), "https://one.example/healthz", "", nil)
	for line := range strings.Lines(s.Log()) {
		_, address, ok := strings.Cut(line, "msg=listening address=")
		if !ok {
			continue
		}
		address, _, _ = strings.Cut(address, " ")
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("%s does not speak TLS: %v", address, err)
			continue
		}
		conn.Close()
	}

	// The home page of the console warns that the certificate expires within the hour.
	jar := require.Value(cookiejar.New(nil))(t)
	browser := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true}}
	home, err := browser.PostForm(s.AdminURL+"/console/login", url.Values{"password": {servertest.AdminToken}, "next": {"/console/home"}})
	require.NoError(t, err)
	page, err := io.ReadAll(home.Body)
	home.Body.Close()
	if ends := servertest.Began.Add(time.Hour).UTC().Format("2006-01-02 15:04 UTC"); err != nil || !strings.Contains(string(page), ends) {
		t.Errorf("the home page lacks the expiry of the certificate, %s: %d %v", ends, home.StatusCode, err)
	}

	// The next handshake uses a new pair.
	writeSelfSigned(t, cert, key, "two.example")
	callTLS(t, newPlatformClient(s, loadPool(t, cert), s.Clock.Now), "https://two.example/healthz", "", nil)

	// A new certificate without its key is ignored: the old pair stays in use.
	writeSelfSigned(t, cert, "", "three.example")
	for range 2 {
		got := peerCertificate(t, s).DNSNames[0]
		assert.Equal(t, got, "two.example", "host name of the certificate with a new certificate without its key")
	}
	assert.Equal(t, strings.Count(s.Log(), "new certificate not usable"), 1, "warnings about the certificate")
	require.NoError(t, os.Remove(cert))
	assert.Equal(t, peerCertificate(t, s).DNSNames[0], "two.example", "host name of the certificate without its file")
	writeSelfSigned(t, cert, key, "four.example")
	assert.Equal(t, peerCertificate(t, s).DNSNames[0], "four.example", "host name of the next pair's certificate")
}

func TestServerTLS_RejectsInvalidCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	writeSelfSigned(t, file("a.pem"), file("a.key"), "a.example")
	writeSelfSigned(t, file("b.pem"), file("b.key"), "b.example")
	for _, c := range []struct {
		name, want string
		config     func(*server.Config)
	}{
		{"a key without its certificate", "both or neither", func(c *server.Config) { c.TLSKey = file("a.key") }},
		{"both kinds", "not both", func(c *server.Config) { c.TLSCert, c.TLSKey, c.TLSDev = file("a.pem"), file("a.key"), true }},
		{"no such key", "--tls-key", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), file("none") }},
		{"a folder", "--tls-key", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), dir }},
		{"another's key", "does not match", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), file("b.key") }},
		{"the local authority for strangers", "--tls-dev is for development",
			func(c *server.Config) { c.Dev, c.TLSDev, c.Listen = false, true, "0.0.0.0:0" }},
		{"its scan API for strangers", "--scan-listen", func(c *server.Config) { c.Dev, c.TLSDev, c.ScanListen = false, true, ":0" }},
		{"a folder that cannot be", "--tls-dev", func(c *server.Config) {
			c.TLSDev, c.Data = true, filepath.Join(dir, "data")
			if err := os.MkdirAll(c.Data, 0o700); err != nil {
				panic(err)
			}
			if err := os.WriteFile(filepath.Join(c.Data, "tls"), nil, 0o600); err != nil {
				panic(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := servertest.TryStart(t, servertest.Options{Config: c.config})
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "\n"),
				"got %v, want one line with %q", err, c.want)
		})
	}
	servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.TLSDev, c.Listen, c.DevPublic = true, "0.0.0.0:0", true }})
}

// TestServerTLS_ExpiredCertificate verifies that a server starts with and reloads expired certificates, and logs a warning for each.
func TestServerTLS_ExpiredCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeSelfSigned(t, cert, key, "old.example")
	s := require.Value(servertest.TryStart(t, servertest.Options{Seed: shop, Began: servertest.Began.Add(2 * time.Hour),
		Config: func(c *server.Config) { c.TLSCert, c.TLSKey = cert, key }}))(t)
	assert.Contains(t, s.Log(), "clients will reject it", "the log")
	if resp, err := newPlatformClient(s, loadPool(t, cert), s.Clock.Now).Get("https://old.example/healthz"); err == nil {
		resp.Body.Close()
		t.Error("a client accepted the expired certificate, want an error")
	} else if text := fmt.Sprint(err); !strings.Contains(text, "expired") {
		t.Error(err)
	}
	writeSelfSigned(t, cert, key, "renewed.example")
	assert.Equal(t, peerCertificate(t, s).DNSNames[0], "renewed.example", "host name of the reloaded certificate")
	assert.Equal(t, strings.Count(s.Log(), "clients will reject it"), 2, "warnings about the two expired certificates")
}
