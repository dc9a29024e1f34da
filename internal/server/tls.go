package server

import (
	"slices"

	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/infra/certificates"
)

// devNames lists the host names in the certificate of --tls-dev.
var devNames = append(slices.Clone(landing.PlatformNames), "localhost")

// openTLS loads or generates the TLS certificate. The certificate's dates use real time: clients check them by their own clocks, not by the
// emulator's clock.
func (s *Server) openTLS() (err error) {
	switch {
	case s.config.TLSDev:
		s.serving.certificate, err = s.openAuthority()
	case s.config.TLSCert != "":
		if s.serving.certificate, err = certificates.OpenPair(s.config.TLSCert, s.config.TLSKey, s.realNow, s.log); err != nil {
			return usage("%v", err)
		}
	}
	return err
}

// openAuthority opens this machine's certificate authority, with a leaf certificate for the platform's names.
func (s *Server) openAuthority() (*certificates.Authority, error) {
	ca, err := certificates.OpenAuthority(s.config.Data, devNames, s.realNow)
	if err != nil {
		return nil, usage("%v", err)
	}
	_, err = ca.Get(nil) // the leaf certificate is issued now, so that a failure to write its file is reported at the start
	return ca, err
}

// checkTLS returns an error if TLS flags contradict each other.
func (c Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return usage("--tls-cert and --tls-key belong together: give both or neither")
	case c.TLSDev && c.TLSCert != "":
		return usage("--tls-dev makes a certificate of its own: give it or --tls-cert, not both")
	}
	return nil
}
