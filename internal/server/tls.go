package server

import (
	"slices"

	"github.com/qrjump/qrjump/internal/edge/landing"
	"github.com/qrjump/qrjump/internal/infra/certificates"
)

// devNames are the names that the certificate of --tls-dev speaks for.
var devNames = append(slices.Clone(landing.PlatformNames), "localhost")

// openTLS prepares the certificate. Its times are real: clients judge it by
// their own clocks, whatever the emulator's says.
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

// openAuthority opens the authority of this machine, with a leaf for the platform's names.
func (s *Server) openAuthority() (*certificates.Authority, error) {
	ca, err := certificates.OpenAuthority(s.config.Data, devNames, s.realNow)
	if err != nil {
		return nil, usage("%v", err)
	}
	_, err = ca.Get(nil) // now, so that a leaf that cannot be written is told
	return ca, err
}

// checkTLS says which of the flags do not go together.
func (c Config) checkTLS() error {
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return usage("--tls-cert and --tls-key belong together: give both or neither")
	case c.TLSDev && c.TLSCert != "":
		return usage("--tls-dev makes a certificate of its own: give it or --tls-cert, not both")
	}
	return nil
}
