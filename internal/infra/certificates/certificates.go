// Package certificates knows which certificate the listeners show: the operator's, or one of an authority of this machine's own.
package certificates

import "crypto/tls"

// Certificate is the source of the listeners' certificate. Get is asked at every handshake.
type Certificate interface {
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Config returns the zero value but for old versions and the certificate.
func Config(c Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get}
}
