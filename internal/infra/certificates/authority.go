package certificates

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

const (
	caLife    = 10 * 365 * 24 * time.Hour
	leafLife  = 397 * 24 * time.Hour // some systems reject certificates that are valid for more than 398 days
	leafFresh = 30 * 24 * time.Hour  // a leaf certificate is reissued this long before its expiry
	backdate  = 24 * time.Hour       // the clocks of clients may be slow
)

// loopbackAddresses lists the IP addresses in the leaf certificate, in addition to its names.
var loopbackAddresses = []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}

// Authority is the local certificate authority of --tls-dev, for SDKs whose API address is fixed. The CA certificate is constrained
// to weixin.qq.com and this machine, so that trusting the CA does not affect other sites.
type Authority struct {
	dir   string   // DIR/tls
	names []string // the names in the leaf certificate
	now   func() time.Time
	cert  *x509.Certificate
	key   crypto.Signer

	mu   sync.Mutex
	leaf *tls.Certificate
}

// AuthorityFile returns the path at which --tls-dev stores the CA certificate that clients must trust.
func AuthorityFile(data string) string { return filepath.Join(data, "tls", "ca.pem") }

// OpenAuthority reads the authority from a data folder, or creates the authority if it does not exist. If no leaf certificate
// exists yet, the method Get issues one.
func OpenAuthority(data string, names []string, now func() time.Time) (*Authority, error) {
	ca := &Authority{dir: filepath.Join(data, "tls"), names: names, now: now}
	if err := os.MkdirAll(ca.dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder of --tls-dev: %v", err)
	}
	err := ca.read(AuthorityFile(data), filepath.Join(ca.dir, "ca.key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key of %s is missing: delete the folder %s, and trust the ca.pem that the next start creates",
			AuthorityFile(data), ca.dir)
	}
	if err != nil {
		return nil,
			fmt.Errorf(
				"the authority of --tls-dev cannot be used (%v): delete the folder %s, and trust the ca.pem that the next start creates",
				err, ca.dir)
	}
	// A leaf file that is unreadable or signed by another authority is replaced.
	if text, err := os.ReadFile(ca.leafFile()); err == nil {
		if leaf, err := tls.X509KeyPair(text, text); err == nil && leaf.Leaf.CheckSignatureFrom(ca.cert) == nil {
			ca.leaf = &leaf
		}
	}
	return ca, nil
}

func (ca *Authority) leafFile() string { return filepath.Join(ca.dir, "server.pem") }

// read loads the authority, or creates it if the certificate file does not exist.
func (ca *Authority) read(certFile, keyFile string) error {
	cert, err := os.ReadFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		return ca.make(certFile, keyFile)
	}
	if err != nil {
		return err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	read, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	signer, ok := read.PrivateKey.(crypto.Signer)
	if !ok || !read.Leaf.IsCA {
		return errors.New("not a CA certificate")
	}
	if !ca.now().Before(read.Leaf.NotAfter) {
		return fmt.Errorf("it expired on %s", read.Leaf.NotAfter.Format(time.DateOnly))
	}
	ca.cert, ca.key = read.Leaf, signer
	return nil
}

// make creates the key and the certificate of the authority. The certificate is written last, so that if the certificate exists,
// the key exists too.
func (ca *Authority) make(certFile, keyFile string) error {
	var id [4]byte
	_, _ = rand.Read(id[:]) // it never fails
	template := &x509.Certificate{
		// A random suffix gives two authorities on one machine different names.
		Subject:  pkix.Name{CommonName: "qrjump development CA " + hex.EncodeToString(id[:])},
		NotAfter: ca.now().Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"weixin.qq.com", "localhost"},
		PermittedIPRanges: []*net.IPNet{
			{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
			{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
		},
	}
	cert, key, err := ca.sign(template)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(keyFile, key, 0o600); err != nil {
		return err
	}
	if err := atomicfile.Replace(certFile, cert, 0o644); err != nil {
		return err
	}
	return ca.read(certFile, keyFile)
}

// sign returns a new key and its certificate, as PEM. A certificate of the authority itself is signed with its own key.
func (ca *Authority) sign(template *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.BasicConstraintsValid = ca.now().Add(-backdate), true
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	parent, signer := ca.cert, ca.key
	if template.IsCA {
		parent, signer = template, private
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	return block("CERTIFICATE", signed), block("PRIVATE KEY", secret), err
}

// Get returns the leaf certificate, and reissues the certificate shortly before it expires; no timer is needed.
func (ca *Authority) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.leaf != nil && ca.serves(ca.leaf.Leaf) {
		return ca.leaf, nil
	}
	leaf, err := ca.issue()
	if err != nil {
		return nil, fmt.Errorf("creating the certificate of --tls-dev: %w", err)
	}
	ca.leaf = leaf
	return leaf, nil
}

// serves reports whether a leaf certificate has all names and stays valid for at least leafFresh.
func (ca *Authority) serves(leaf *x509.Certificate) bool {
	now := ca.now()
	return !now.Before(leaf.NotBefore) && now.Add(leafFresh).Before(leaf.NotAfter) && slices.Equal(leaf.DNSNames, ca.names) &&
		slices.EqualFunc(leaf.IPAddresses, loopbackAddresses, net.IP.Equal)
}

func (ca *Authority) issue() (*tls.Certificate, error) {
	cert, key, err := ca.sign(&x509.Certificate{
		Subject:  pkix.Name{CommonName: ca.names[0]},
		NotAfter: ca.now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: ca.names, IPAddresses: loopbackAddresses,
	})
	if err != nil {
		return nil, err
	}
	// Certificate and key share one file, so that they always match.
	text := slices.Concat(cert, key)
	if err := atomicfile.Replace(ca.leafFile(), text, 0o600); err != nil {
		return nil, err
	}
	leaf, err := tls.X509KeyPair(text, text)
	return &leaf, err
}

func block(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}
