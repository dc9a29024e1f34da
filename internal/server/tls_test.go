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

// fixedClient is a client whose address cannot be changed, on a machine whose hosts file names the server and whose trust store has roots.
func fixedClient(s *servertest.Server, roots *x509.CertPool, now func() time.Time) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: roots, Time: now},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(s.URL, "https://"))
		},
	}}
}

func authority(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text), "%s holds no certificate", file)
	return pool
}

// exchange is one call; it also says which HTTP it was.
func exchange(t *testing.T, c *http.Client, url, body string, into any) (proto string) {
	t.Helper()
	var send io.Reader
	method := "GET"
	if body != "" {
		method, send = "POST", strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, send)
	require.NoError(t, err)
	resp, err := c.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, resp.Header.Get("Strict-Transport-Security"), "", "the answer binds the name to TLS for longer than this server lives")
	if into != nil {
		err := json.Unmarshal(raw, into)
		require.NoErrorf(t, err, "%s: %v: %s", url, err, raw)
	}
	return resp.Proto
}

// The job of the whole thing: a client that insists on https://api.weixin.qq.com and on a certificate of that name.
func TestServerTLS_WeixinHostname(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }})
	require.True(t, strings.HasPrefix(s.URL, "https://127.0.0.1:"), "it serves at %s", s.URL)
	// The emulator's time says nothing about certificates: this client is where the server's real time is.
	c := fixedClient(s, authority(t, certificates.AuthorityFile(data)), s.Clock.Now)
	// Issue 11, 2: client libraries know the platform by all of these.
	for _, name := range []string{"api", "api2", "sh.api", "sz.api", "hk.api", "mp", "open"} {
		assert.Equal(t, exchange(t, c, "https://"+name+".weixin.qq.com/healthz", "", nil), "HTTP/2.0", "%s", name)
	}
	exchange(t, c, "https://localhost/healthz", "", nil)
	exchange(t, c, "https://127.0.0.1/healthz", "", nil)
	exchange(t, c, "https://[::1]/healthz", "", nil)

	var issued struct {
		Token string `json:"access_token"`
	}
	const platform = "https://api.weixin.qq.com"
	exchange(t, c, platform+"/cgi-bin/token?grant_type=client_credential&appid=shop&secret=the-secret-of-shop", "", &issued)
	s.Hide(issued.Token)
	for _, call := range []struct{ name, body string }{
		{"add", `{"prefix":"https://tls.example/t/","path":"pages/tls","permit_sub_rule":1,"open_version":3,"is_edit":0}`},
		{"publish", `{"prefix":"https://tls.example/t/"}`},
	} {
		var answer struct{ ErrCode int }
		exchange(t, c, platform+"/cgi-bin/wxopen/qrcodejump"+call.name+"?access_token="+url.QueryEscape(issued.Token), call.body, &answer)
		require.True(t, answer.ErrCode == 0, "%s: %+v", call.name, answer)
	}
	var scan struct{ Action, Path string }
	exchange(t, c, platform+"/scan/v1/resolve", `{"text":"https://tls.example/t/7"}`, &scan)
	assert.True(t, scan.Action == "open_mini_program" && strings.HasPrefix(scan.Path, "pages/tls?"), "the scan opens %+v", scan)

	for name, refused := range map[string]struct {
		roots *x509.CertPool
		url   string
	}{
		"a name that it does not speak for": {authority(t, certificates.AuthorityFile(data)), "https://pay.weixin.qq.com/"},
		"a client that trusts nobody":       {x509.NewCertPool(), platform},
	} {
		if resp, err := fixedClient(s, refused.roots, s.Clock.Now).Get(refused.url); err == nil {
			resp.Body.Close()
			t.Errorf("%s was served", name)
		}
	}
	_, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	assert.True(t, err != nil, "TLS 1.1 was served")
}

// A client that trusts the authority hands over these names and no others, even if its key falls into other hands.
func TestLocalCA_NameConstraints(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := servertest.Start(t, servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }})
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600, "server.pem": 0o600} {
		info, err := os.Stat(filepath.Join(data, "tls", name))
		assert.True(t, err == nil && info.Mode().Perm() == mode, "%s: %v %v", name, info, err)
	}
	ca, err := tls.LoadX509KeyPair(certificates.AuthorityFile(data), filepath.Join(data, "tls", "ca.key"))
	require.NoError(t, err)
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
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		raw, err := x509.CreateCertificate(rand.Reader, &c.leaf, ca.Leaf, key.Public(), ca.PrivateKey)
		require.NoError(t, err)
		leaf, err := x509.ParseCertificate(raw)
		require.NoError(t, err)
		roots := authority(t, certificates.AuthorityFile(data))
		_, err = leaf.Verify(x509.VerifyOptions{DNSName: c.name, Roots: roots, CurrentTime: s.Clock.Now()})
		assert.True(t, (err == nil) == c.valid, "%s: %v", c.name, err)
	}
}

// shown is the certificate of a handshake.
func shown(t *testing.T, s *servertest.Server) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestLocalCA_LeafRenewal(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	o := servertest.Options{Data: data, Seed: shop, Config: func(c *server.Config) { c.TLSDev = true }}
	s := servertest.Start(t, o)
	first := shown(t, s)
	ca, err := os.ReadFile(certificates.AuthorityFile(data))
	require.NoError(t, err)
	s.Stop()

	s = servertest.Start(t, o)
	assert.True(t, shown(t, s).Equal(first), "a restart made another certificate")
	s.Clock.Step(366 * 24 * time.Hour)
	assert.True(t, shown(t, s).Equal(first), "it was made anew long before its end")
	s.Clock.Step(2 * 24 * time.Hour)
	renewed := shown(t, s)
	assert.True(t, !renewed.Equal(first) && renewed.NotAfter.After(first.NotAfter.Add(300*24*time.Hour)),
		"near its end the certificate is valid until %v", renewed.NotAfter)
	s.Stop()

	// A start finds one that has ended.
	late := o
	late.Began = servertest.Began.Add(5 * 366 * 24 * time.Hour)
	s = servertest.Start(t, late)
	again := shown(t, s)
	assert.True(t, !again.Equal(renewed) && !again.Equal(first), "a start with an ended certificate kept it")
	c := fixedClient(s, authority(t, certificates.AuthorityFile(data)), s.Clock.Now)
	exchange(t, c, "https://api.weixin.qq.com/healthz", "", nil)
	now, err := os.ReadFile(certificates.AuthorityFile(data))
	assert.True(t, err == nil && bytes.Equal(now, ca), "the authority that people trust was made anew: %v", err)
	s.Stop()

	// One of a time to come (the clock was wrong), and none that can be read.
	s = servertest.Start(t, o)
	exchange(t, fixedClient(s, authority(t, certificates.AuthorityFile(data)), s.Clock.Now), "https://api.weixin.qq.com/healthz", "", nil)
	s.Stop()
	for _, text := range []string{"rubbish", ""} {
		require.NoError(t, os.WriteFile(filepath.Join(data, "tls", "server.pem"), []byte(text), 0o600))
		s = servertest.Start(t, o)
		trusting := fixedClient(s, authority(t, certificates.AuthorityFile(data)), s.Clock.Now)
		exchange(t, trusting, "https://api.weixin.qq.com/healthz", "", nil)
		s.Stop()
	}
	for _, name := range []string{"ca.pem", "ca.key"} {
		path := filepath.Join(data, "tls", name)
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, []byte("rubbish"), 0o600))
		if _, err := servertest.Try(t, o); !errors.Is(err, server.ErrUsage) || !strings.Contains(err.Error(), "delete the folder") {
			t.Errorf("%s is rubbish: %v", name, err)
		}
		require.NoError(t, os.WriteFile(path, whole, 0o600))
	}
	ended := o
	ended.Began = servertest.Began.Add(11 * 366 * 24 * time.Hour)
	_, err = servertest.Try(t, ended)
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "it expired on"), "the authority has ended: %v", err)
	require.NoError(t, os.Remove(filepath.Join(data, "tls", "ca.key")))
	_, err = servertest.Try(t, o)
	assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), "is missing"), "ca.key is gone: %v", err)
}

// ownPair writes a certificate that signed itself, and its key.
func ownPair(t *testing.T, cert, key, name string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: servertest.Began.Add(-time.Hour), NotAfter: servertest.Began.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	require.NoError(t, err)
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: raw}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if path == "" {
			continue
		}
		// As the tools that renew certificates do.
		require.NoError(t, os.WriteFile(path+".new", pem.EncodeToMemory(b), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
}

func TestServerTLS_OperatorCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ownPair(t, cert, key, "one.example")
	s := servertest.Start(t, servertest.Options{Seed: shop, Guarded: true, Config: func(c *server.Config) {
		c.TLSCert, c.TLSKey = cert, key
		c.ScanListen, c.AdminListen = "localhost:0", "127.0.0.2:0"
	}})
	exchange(t, fixedClient(s, authority(t, cert), s.Clock.Now), "https://one.example/healthz", "", nil)
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

	// Whoever runs the server is told at home that it ends within the hour.
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true}}
	home, err := browser.PostForm(s.AdminURL+"/console/login", url.Values{"password": {servertest.AdminToken}, "next": {"/console/home"}})
	require.NoError(t, err)
	page, err := io.ReadAll(home.Body)
	home.Body.Close()
	if ends := servertest.Began.Add(time.Hour).UTC().Format("2006-01-02 15:04 UTC"); err != nil || !strings.Contains(string(page), ends) {
		t.Errorf("the home does not tell that the certificate ends at %s: %d %v", ends, home.StatusCode, err)
	}

	// A new pair counts from the next handshake on.
	ownPair(t, cert, key, "two.example")
	exchange(t, fixedClient(s, authority(t, cert), s.Clock.Now), "https://two.example/healthz", "", nil)

	// Half of one does not: the old certificate stays until the key has come.
	ownPair(t, cert, "", "three.example")
	for range 2 {
		got := shown(t, s).DNSNames[0]
		assert.True(t, got == "two.example", "with half a pair %s is shown", got)
	}
	n := strings.Count(s.Log(), "new certificate not usable")
	assert.True(t, n == 1, "this was told %d times, want once", n)
	require.NoError(t, os.Remove(cert))
	got := shown(t, s).DNSNames[0]
	assert.True(t, got == "two.example", "without a file %s is shown", got)
	ownPair(t, cert, key, "four.example")
	assert.Equal(t, shown(t, s).DNSNames[0], "four.example", "shown")
}

func TestServerTLS_RejectsInvalidCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ownPair(t, file("a.pem"), file("a.key"), "a.example")
	ownPair(t, file("b.pem"), file("b.key"), "b.example")
	for _, c := range []struct {
		name, want string
		config     func(*server.Config)
	}{
		{"a certificate without its key", "both or neither", func(c *server.Config) { c.TLSCert = file("a.pem") }},
		{"a key without its certificate", "both or neither", func(c *server.Config) { c.TLSKey = file("a.key") }},
		{"both kinds", "not both", func(c *server.Config) { c.TLSCert, c.TLSKey, c.TLSDev = file("a.pem"), file("a.key"), true }},
		{"no such certificate", "--tls-cert", func(c *server.Config) { c.TLSCert, c.TLSKey = file("none"), file("a.key") }},
		{"no such key", "--tls-key", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), file("none") }},
		{"a folder", "--tls-key", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), dir }},
		{"another's key", "do not match", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.pem"), file("b.key") }},
		{"swapped", "do not match", func(c *server.Config) { c.TLSCert, c.TLSKey = file("a.key"), file("a.pem") }},
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
			_, err := servertest.Try(t, servertest.Options{Config: c.config})
			assert.True(t, errors.Is(err, server.ErrUsage) && strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "\n"),
				"got %v, want one line with %q", err, c.want)
		})
	}
	servertest.Start(t, servertest.Options{Config: func(c *server.Config) { c.TLSDev, c.Listen, c.DevPublic = true, "0.0.0.0:0", true }})
}

// The certificate of an operator that has ended is his to see, not a reason to stay down.
func TestServerTLS_ExpiredCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ownPair(t, cert, key, "old.example")
	s, err := servertest.Try(t, servertest.Options{Seed: shop, Began: servertest.Began.Add(2 * time.Hour),
		Config: func(c *server.Config) { c.TLSCert, c.TLSKey = cert, key }})
	require.NoError(t, err)
	assert.True(t, strings.Contains(s.Log(), "clients will reject it"), "nobody is told")
	if resp, err := fixedClient(s, authority(t, cert), s.Clock.Now).Get("https://old.example/healthz"); err == nil {
		resp.Body.Close()
		t.Error("a client was served")
	} else if text := fmt.Sprint(err); !strings.Contains(text, "expired") {
		t.Error(err)
	}
}
