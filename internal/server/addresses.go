package server

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/qrjump/qrjump/internal/infra/atomicfile"
)

// addressesFile is the file in the data folder to which a running server writes the addresses of its listeners. A server that is killed
// leaves its addresses file behind.
const addressesFile = "addresses.json"

// Addresses holds the base URLs at which clients on the server's own machine reach its APIs.
type Addresses struct {
	Wire  string `json:"wire"`
	Scan  string `json:"scan"`
	Admin string `json:"admin"`
}

// ReadAddresses reads the addresses that a server wrote into its data folder; it returns fs.ErrNotExist if the server stopped or never ran.
func ReadAddresses(dir string) (Addresses, error) {
	var a Addresses
	file := filepath.Join(dir, addressesFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(text, &a); err != nil || a.Wire == "" || a.Scan == "" || a.Admin == "" {
		return a, errors.New(file + " does not contain the addresses of a server: remove it, or restart the server")
	}
	return a, nil
}

// keepAddresses writes the addresses of the server's listeners into the data folder. If the disk is full, the server runs without
// its addresses file.
func (s *Server) keepAddresses() {
	s.serving.addresses = Addresses{Wire: s.URL, Scan: s.ScanURL, Admin: s.AdminURL}
	text, err := json.Marshal(s.serving.addresses)
	if err == nil {
		err = atomicfile.Replace(filepath.Join(s.config.Data, addressesFile), append(text, '\n'), 0o600)
	}
	if err != nil {
		s.log.Warn("address file not written", "error", err)
		// The addresses file of an earlier server would contain wrong addresses.
		_ = os.Remove(filepath.Join(s.config.Data, addressesFile))
	}
}

// forgetAddresses removes the addresses file, unless another server has written its own addresses into it.
func (s *Server) forgetAddresses() {
	if s.serving.addresses == (Addresses{}) {
		return
	}
	if currentAddresses, err := ReadAddresses(s.config.Data); err != nil || currentAddresses != s.serving.addresses {
		return
	}
	if err := os.Remove(filepath.Join(s.config.Data, addressesFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("address file not removed", "error", err)
	}
}

// reachable returns a listener's base URL with an address that clients can dial: the unspecified address becomes the loopback address.
func reachable(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsUnspecified() {
		return base
	}
	u.Host = net.JoinHostPort("127.0.0.1", u.Port()) // also right for "::", which accepts IPv4 too
	return u.String()
}
