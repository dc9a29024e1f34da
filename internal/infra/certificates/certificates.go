// Package certificates provides the TLS certificate of the listeners: the operator's, or one issued by a local authority.
package certificates

import "crypto/tls"

// Certificate provides the TLS certificate of the listeners. Get is called for every handshake.
type Certificate interface {
	Get(*tls.ClientHelloInfo) (*tls.Certificate, error)
}

// Config returns a default TLS configuration with the certificate and with TLS 1.2 as the minimum version.
func Config(c Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get}
}
