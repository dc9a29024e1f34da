package safehttp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// authority is a private certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// certificate has the properties of a certificate that tests vary.
type certificate struct {
	names  []string
	ips    []net.IP
	around time.Time // valid one hour before and after
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test authority"},
		NotBefore:             time.Unix(0, 0),
		NotAfter:              time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der := require.Value(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
	cert := require.Value(x509.ParseCertificate(der))(t)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return authority{cert: cert, key: key, pool: pool}
}

func (a authority) issue(t *testing.T, c certificate) tls.Certificate {
	t.Helper()
	key := require.Value(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		DNSNames:     c.names,
		IPAddresses:  c.ips,
		NotBefore:    c.around.Add(-time.Hour),
		NotAfter:     c.around.Add(time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := require.Value(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))(t)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS_HandshakeAndRequests(t *testing.T) {
	ca := newAuthority(t)
	now := time.Now()
	good := ca.issue(t, certificate{names: []string{"h.example"}, around: now})
	for _, c := range []struct {
		name     string
		config   *tls.Config
		roots    *x509.CertPool
		tlsSteps string // beginning of the step of a successful handshake
		errText  string // of a failed handshake
	}{
		{name: "a name proved by the authority", roots: ca.pool,
			config: &tls.Config{Certificates: []tls.Certificate{good}}, tlsSteps: "TLS 1.3, certificate for h.example valid until "},
		{name: "TLS 1.2", roots: ca.pool,
			config: &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, tlsSteps: "TLS 1.2, "},
		{name: "TLS 1.1", roots: ca.pool,
			config:  &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			errText: "protocol version"},
		{name: "a wrong name", roots: ca.pool,
			config:  &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate{names: []string{"other.example"}, around: now})}},
			errText: "certificate is valid for other.example, not h.example"},
		{name: "an address instead of the name", roots: ca.pool,
			config: &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate{ips: []net.IP{net.ParseIP(public)},
				around: now})}},
			errText: "h.example"},
		{name: "an expired certificate", roots: ca.pool,
			config: &tls.Config{Certificates: []tls.Certificate{ca.issue(t,
				certificate{names: []string{"h.example"}, around: now.AddDate(0, 0, -1)})}},
			errText: "expired"},
		{name: "another authority", roots: newAuthority(t).pool,
			config: &tls.Config{Certificates: []tls.Certificate{good}}, errText: "unknown authority"},
		{name: "an authority that the system does not know", roots: nil,
			config: &tls.Config{Certificates: []tls.Certificate{good}}, errText: "x509"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var serverName string
			c.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				serverName = hello.ServerName
				return nil, nil
			}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter,
				r *http.Request) {
				io.WriteString(rw, r.Host)
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.Listener = tls.NewListener(server.Listener, c.config)
			server.Start()
			defer server.Close()

			w := &fakeDialer{to: server.Listener.Addr().String()}
			client := &safehttp.Client{Resolver: newResolver("h.example", []string{public}), Dial: w.dial, RootCAs: c.roots}
			answer, steps, err := do(t, client, safehttp.Request{URL: "https://h.example/"})
			assert.Equal(t, serverName, "h.example", "SNI server name")
			assert.True(t, len(w.dialed) == 1 && w.dialed[0] == public+":443", "dialed %v, want %s:443", w.dialed, public)
			if c.errText != "" {
				wantFailure(t, steps, err, safehttp.TLSFailed, c.errText)
				return
			}
			require.True(t, err == nil && string(answer.Body) == "h.example", "body %q, %v, want h.example", answer.Body, err)
			got := steps[3]
			assert.True(t, got.Action == "tls" && strings.HasPrefix(got.Detail, c.tlsSteps), "step %+v, want %q", got, c.tlsSteps)
		})
	}
}

func TestSafeHTTP_TLSOnPlainPort(t *testing.T) {
	client, _ := startServer(t, func(http.ResponseWriter, *http.Request) {})
	_, steps, err := do(t, client, safehttp.Request{URL: "https://h.example/"})
	wantFailure(t, steps, err, safehttp.TLSFailed, "")
}

func TestSafeHTTP_CertificateIPAddress(t *testing.T) {
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t,
		certificate{ips: []net.IP{net.ParseIP("127.0.0.1")}, around: time.Now()})}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Listener = tls.NewListener(server.Listener, config)
	server.Start()
	defer server.Close()
	client := &safehttp.Client{AllowPrivate: true, RootCAs: ca.pool}
	_, _, err := do(t, client, safehttp.Request{URL: "https://" + server.Listener.Addr().String() + "/"})
	assert.NoError(t, err)
}
