// Package certificates provides the TLS certificate of the listeners: the operator's, or one issued by a local authority.
package certificates

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Pair is the operator's certificate and key files. The certificate file and the key file are checked at every handshake, and
// reloaded when they have changed.
type Pair struct {
	cert, key string
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex
	loaded  [2]fs.FileInfo // file information at the last attempt to load the files
	current *tls.Certificate
}

// OpenPair loads the certificate file and the key file. A certificate that is not valid at present is only logged, because the
// clock may be wrong.
func OpenPair(cert, key string, now func() time.Time, log *slog.Logger) (*Pair, error) {
	p := &Pair{cert: cert, key: key, now: now, log: log}
	var err error
	if p.loaded, err = p.stat(); err == nil {
		err = p.read()
	}
	return p, err
}

func (p *Pair) stat() (seen [2]fs.FileInfo, err error) {
	for i, file := range []struct{ flag, name string }{{"--tls-cert", p.cert}, {"--tls-key", p.key}} {
		if seen[i], err = os.Stat(file.name); err != nil {
			return seen, fmt.Errorf("%s: %w", file.flag, err)
		}
	}
	return seen, nil
}

func (p *Pair) read() error {
	cert, err := os.ReadFile(p.cert)
	if err != nil {
		return fmt.Errorf("--tls-cert: %w", err)
	}
	key, err := os.ReadFile(p.key)
	if err != nil {
		return fmt.Errorf("--tls-key: %w", err)
	}
	read, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s and --tls-key %s cannot be used together: %w", p.cert, p.key, err)
	}
	p.current = &read
	if t := p.now(); t.Before(read.Leaf.NotBefore) || t.After(read.Leaf.NotAfter) {
		p.log.Warn("certificate is not valid now; clients will reject it", "file", p.cert,
			"from", read.Leaf.NotBefore, "until", read.Leaf.NotAfter)
	}
	return nil
}

// Get returns the current certificate; the old certificate stays while the new files are absent or do not match.
func (p *Pair) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, err := p.stat()
	if err != nil || sameFile(seen[0], p.loaded[0]) && sameFile(seen[1], p.loaded[1]) {
		return p.current, nil
	}
	p.loaded = seen
	if err := p.read(); err != nil {
		p.log.Error("new certificate not usable; the old one stays in use", "error", err)
	} else {
		p.log.Info("certificate reloaded", "file", p.cert, "until", p.current.Leaf.NotAfter)
	}
	return p.current, nil
}

// sameFile reports whether a file is unchanged.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Certificate provides the TLS certificate of the listeners. Get is called for every handshake.
type Certificate interface {
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Config returns a default TLS configuration with the certificate and with TLS 1.2 as the minimum version.
func Config(c Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get}
}
