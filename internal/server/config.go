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
	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Config is the operator's configuration of a server. Every field is a flag of "qrjump serve" and an environment variable QRJUMP_….
type Config struct {
	Data           string           // folder that holds the embedded database and the keys
	Database       string           // postgres:// URL; "" = embedded database in Data
	DatabaseRead   string           // postgres:// URL of a read replica of Database; "" = none
	ScanStream     string           // nats:// URL of the stream to which scans are shipped; "" = shipped to the database
	Lake           string           // folder or s3://BUCKET/PREFIX to which scans are written as Parquet files; "" = none
	Listen         string           // address of all APIs; port 0 selects a free port
	ScanListen     string           // address of the scan API; "" = same as Listen
	AdminListen    string           // address of the admin API and metrics; "" = same as Listen
	Seed           string           // path of the seed file in YAML; "" = none
	SeedAllow      []string         // networks that may use those accounts and platforms of Seed that have no ip_allowlist; nil = any
	Set            []string         // settings as NAME=VALUE that override the seed; they survive a reset
	Language       i18n.Language    // language of the texts that serve prints on its terminal
	Dev            bool             // developer mode: demo accounts, emulator, no credentials for the scan and admin APIs
	DevPublic      bool             // allows Dev or Emulator even if other machines can reach a listener
	DevHost        []string         // additional host names under which a Dev server accepts requests
	Emulator       bool             // turns on the emulator's controls; implied by Dev, which has further effects
	TLSCert        string           // TLS certificate file of every listener; "" = plain HTTP
	TLSKey         string           // its key
	TLSDev         bool             // use a local certificate authority in Data/tls and a certificate from this authority
	TrustedProxy   []string         // CIDR ranges of proxies whose X-Forwarded-For header is trusted
	AdminToken     string           // "" = the token in Data/admin-token, generated at the first start
	OIDC           OIDC             // OpenID Connect provider at which people can sign in; zero = none
	CodePrefix     string           // prefix of every new code text; "" = the operator has no prefix
	MinCodeCounter uint64           // lower bound for the counters of new codes
	Regions        string           // region database in the MaxMind DB format; "" = regions are unknown
	LogFormat      string           // text or json
	MasterKey      string           // 64 hexadecimal digits; "" = the key in Data/master.key
	Tracing        tracing.Recorder // recorder of spans, for --otlp-endpoint; nil = none
	// Strict makes the server reject a call that the platform would reject, if the evidence for this has at least this level; "" = no such
	// call is rejected. A setting overrides Strict.
	Strict behaviour.Evidence
	AsOf   string // day (2006-01-02); the server responds as the platform did on this day; "" = today
	// ShutdownDelay is the time for which /readyz responds with 503 before the listeners close.
	ShutdownDelay time.Duration
}

// Loopback lists the networks of this machine's own addresses, for SeedAllow.
var Loopback = []string{"127.0.0.0/8", "::1/128"}

// OIDC configures an OpenID Connect provider and this server as its client.
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret string // "" = the secret in Data/oidc-client-secret; without either secret the server is a public client
	RolesClaim   string // name of the claim that holds the roles; "" = roles
}

func (o OIDC) check() error {
	switch {
	case o == OIDC{RolesClaim: o.RolesClaim}:
		return nil
	case o.Issuer == "" || o.ClientID == "":
		return usage("--oidc-issuer and --oidc-client-id belong together: give both or neither")
	}
	if err := oidc.CheckIssuer(o.Issuer); err != nil {
		return usage("--oidc-issuer %q: %w", o.Issuer, err)
	}
	return nil
}

// longestDelay bounds ShutdownDelay.
const longestDelay = 10 * time.Minute

// ErrUsage marks errors that are caused by the start of the program: a wrong flag, an unreadable seed file, a busy port. The program exits
// with code 2 on an error that is marked with ErrUsage.
var ErrUsage = errors.New("usage")

type usageError struct{ err error }

func (e usageError) Error() string        { return e.err.Error() }
func (e usageError) Unwrap() error        { return e.err }
func (e usageError) Is(target error) bool { return target == ErrUsage }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Default returns the configuration of a server that is started without flags.
func Default() Config {
	return Config{Data: "qrjump-data", Listen: "127.0.0.1:8080", LogFormat: "text"}
}

// Validate returns a one-line error that names the invalid value.
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
	if c.DatabaseRead != "" && c.Database == "" {
		return usage("--database-read is a replica of the PostgreSQL server in --database: give both, or neither")
	}
	if c.ScanStream != "" {
		if _, err := stream.Parse(c.ScanStream); err != nil {
			return usage("--scan-stream: %v", err)
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

// emulates reports whether the emulator is on, which can move the clock and inject faults.
func (c Config) emulates() bool { return c.Dev || c.Emulator }

// loopback reports whether a listen host is reachable from this machine only.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
