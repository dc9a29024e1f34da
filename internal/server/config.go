package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/edge/oidc"
	"github.com/qrjump/qrjump/internal/eventlog/lake"
	"github.com/qrjump/qrjump/internal/eventlog/stream"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// Config is the operator's configuration of a server. Every field is a flag of "qrjump serve" and an environment variable QRJUMP_….
type Config struct {
	Data         string        // folder of the embedded database and the keys
	Database     string        // postgres://…; "" = embedded in Data
	Events       string        // nats://…: scans are shipped to a stream there; "" = to the database
	Lake         string        // folder or s3://BUCKET/PREFIX where scans are written as Parquet; "" = nowhere
	Listen       string        // address of everything; port 0 picks one
	ScanListen   string        // address of the scan API; "" = on Listen
	AdminListen  string        // address of the admin API and metrics; "" = on Listen
	Seed         string        // YAML file; "" = none
	SeedAllow    []string      // ranges that may call accounts and platforms of Seed that have no ip_allowlist; nil = any
	Set          []string      // settings, NAME=VALUE each, over those of the seed; a reset keeps them
	Language     i18n.Language // of what serve says to a person at its terminal
	Dev          bool          // demo accounts, emulator, no credentials for scan and admin
	DevPublic    bool          // Dev or Emulator although strangers can reach a listener
	DevHost      []string      // names under which Dev is called, beside this machine's own
	Emulator     bool          // emulator controls without the rest of Dev
	TLSCert      string        // certificate file of every listener; "" = plain HTTP
	TLSKey       string        // its key
	TLSDev       bool          // a local authority in Data/tls and a certificate of it
	TrustedProxy []string      // CIDR of proxies whose X-Forwarded-For is believed
	AdminToken   string        // "" = the one in Data/admin-token, made at the first start
	OIDC         OIDC          // where people sign in who have no password here; zero = there is no such provider
	CodePrefix   string        // stands before every new code text; "" = none of the operator's own
	CodeFloor    uint64        // new codes' counters are not below it
	Regions      string        // file in the MaxMind DB format; "" = regions are unknown
	LogFormat    string        // text or json
	MasterKey    string        // 64 hexadecimal digits; "" = the one in Data/master.key
	// Strict is the least sure mark of what is refused, unless a setting says otherwise; "" = nothing is.
	Strict behaviour.Evidence
	AsOf   string // the day, 2006-01-02, as of which answers are what the platform's were; "" = today
	// ShutdownDelay is the time for which /readyz answers 503 before the listeners close.
	ShutdownDelay time.Duration
}

// Loopback are the ranges of this machine's own addresses, for SeedAllow.
var Loopback = []string{"127.0.0.0/8", "::1/128"}

// OIDC is an OpenID Connect provider, and this server as its client.
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret string // "" = the one in Data/oidc-client-secret; without both a public client
	RolesClaim   string // the claim with the roles; "" = roles
}

func (o OIDC) check() error {
	switch {
	case o == OIDC{RolesClaim: o.RolesClaim}:
		return nil
	case o.Issuer == "" || o.ClientID == "":
		return usage("--oidc-issuer and --oidc-client-id belong together: give both or neither")
	}
	if fault := oidc.CheckIssuer(o.Issuer); fault != "" {
		return usage("--oidc-issuer %q: %s", o.Issuer, fault)
	}
	return nil
}

// longestDelay bounds ShutdownDelay.
const longestDelay = 10 * time.Minute

// ErrUsage marks errors of the person who started the program: a wrong flag, an
// unreadable seed, a busy port. The program exits with 2.
var ErrUsage = errors.New("usage")

type usageError struct{ err error }

func (e usageError) Error() string        { return e.err.Error() }
func (e usageError) Unwrap() error        { return e.err }
func (e usageError) Is(target error) bool { return target == ErrUsage }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Default returns the values that work with no flag at all.
func Default() Config {
	return Config{Data: "qrjump-data", Listen: "127.0.0.1:8080", LogFormat: "text"}
}

// Validate returns which value is wrong, in one line.
func (c Config) Validate() error {
	if c.Data == "" {
		return usage("--data is empty: name a folder")
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	if err := c.checkAdminToken(c.AdminToken, "--admin-token"); err != nil {
		return err
	}
	if err := c.OIDC.check(); err != nil {
		return err
	}
	if _, err := c.setObject(); err != nil {
		return err
	}
	if c.Events != "" {
		if _, err := stream.Parse(c.Events); err != nil {
			return usage("--events: %v", err)
		}
	}
	if c.Lake != "" {
		if _, err := lake.Parse(c.Lake); err != nil {
			return usage("--lake: %v", err)
		}
	}
	for flag, address := range map[string]string{"--listen": c.Listen, "--scan-listen": c.ScanListen, "--admin-listen": c.AdminListen} {
		if address == "" && flag != "--listen" {
			continue
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return usage("%s %q: want HOST:PORT, for example 127.0.0.1:8080", flag, address)
		}
		if c.emulates() && !c.DevPublic && !loopback(host) {
			return usage(
				"%s %s can be reached by strangers, and --dev and --emulator let everybody do everything: listen on 127.0.0.1, or add --dev-public if you mean it", flag, address)
		}
		if c.TLSDev && !c.DevPublic && !loopback(host) {
			return usage(
				"%s %s can be reached by strangers, and --tls-dev is for development: listen on 127.0.0.1, or add --dev-public if you mean it", flag, address)
		}
	}
	for _, name := range c.DevHost {
		if name == "" || strings.ContainsAny(name, ":/*@[] ") {
			return usage("--dev-host %q: want a name without a port, for example qrjump.test", name)
		}
	}
	if c.CodePrefix != "" {
		if err := codes.CheckPrefix(c.CodePrefix); err != nil {
			return usage("--code-prefix %q: %v", c.CodePrefix, err)
		}
	}
	for _, text := range c.TrustedProxy {
		if _, err := netip.ParsePrefix(text); err != nil {
			return usage("--trusted-proxy %q: want a range such as 10.0.0.0/8", text)
		}
	}
	if c.ShutdownDelay < 0 || c.ShutdownDelay > longestDelay {
		return usage("--shutdown-delay %s: want 0s to %s", c.ShutdownDelay, longestDelay)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return usage("--log-format %q: want text or json", c.LogFormat)
	}
	return nil
}

// emulates reports whether the clock can be moved and faults injected.
func (c Config) emulates() bool { return c.Dev || c.Emulator }

// loopback reports whether a listen host is reached from this machine only.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
