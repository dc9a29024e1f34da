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

// Config is the operator's configuration of a server. Its tags define the flags of "qrjump serve" and their environment variables QRJUMP_…;
// the help text of a flag describes the field. "", nil and zero mean that the option is off, unless a comment says otherwise.
type Config struct {
	Data         string `env:"QRJUMP_DATA" default:"./qrjump-data" placeholder:"DIR"`
	Database     string `env:"QRJUMP_DATABASE" placeholder:"URL"`      // "" = the embedded database in Data
	DatabaseRead string `env:"QRJUMP_DATABASE_READ" placeholder:"URL"` // a read replica of Database
	ScanStream   string `env:"QRJUMP_SCAN_STREAM" placeholder:"URL"`   // "" = scans are shipped to the database
	Lake         string `env:"QRJUMP_LAKE" placeholder:"PLACE"`
	Listen       string `env:"QRJUMP_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR"`
	ScanListen   string `env:"QRJUMP_SCAN_LISTEN" placeholder:"ADDR"`  // "" = same as Listen
	AdminListen  string `env:"QRJUMP_ADMIN_LISTEN" placeholder:"ADDR"` // "" = same as Listen
	Seed         string `env:"QRJUMP_SEED" placeholder:"FILE" file:"in"`
	// A value may contain commas, so line breaks separate the settings in the environment variable.
	Set       []string `env:"QRJUMP_SET" sep:"\n" placeholder:"NAME=VALUE"`
	Dev       bool     `env:"QRJUMP_DEV"`
	DevPublic bool     `env:"QRJUMP_DEV_PUBLIC"`
	DevHost   []string `env:"QRJUMP_DEV_HOST" placeholder:"NAME"`
	Emulator  bool     `env:"QRJUMP_EMULATOR"` // implied by Dev
	// Strict makes the server reject a call that the platform would reject, if the evidence for this has at least this level; "" = no such
	// call is rejected. A setting overrides Strict.
	Strict         behaviour.Evidence `env:"QRJUMP_STRICT" type:"strict" enum:",observed,documented,inferred,assumed" default:"" placeholder:"LEVEL"`
	AsOf           string             `env:"QRJUMP_AS_OF" placeholder:"DATE"` // 2006-01-02; "" = today
	TLSCert        string             `name:"tls-cert" env:"QRJUMP_TLS_CERT" placeholder:"FILE" file:"in"`
	TLSKey         string             `name:"tls-key" env:"QRJUMP_TLS_KEY" placeholder:"FILE" file:"in"`
	TLSDev         bool               `name:"tls-dev" env:"QRJUMP_TLS_DEV"`
	TrustedProxy   []string           `env:"QRJUMP_TRUSTED_PROXY" placeholder:"CIDR"`
	CodePrefix     string             `env:"QRJUMP_CODE_PREFIX" placeholder:"TEXT"`
	MinCodeCounter uint64             `env:"QRJUMP_MIN_CODE_COUNTER" default:"0" placeholder:"N"`
	Regions        string             `env:"QRJUMP_REGIONS" placeholder:"FILE" file:"in"`
	AdminToken     string             `env:"QRJUMP_ADMIN_TOKEN" placeholder:"TOKEN"` // "" = the generated token in Data/admin-token
	OIDC           OIDC               `embed:"" prefix:"oidc-"`

	LogFormat string           `kong:"-"` // text or json
	SeedAllow []string         `kong:"-"` // networks that may use those accounts and platforms of Seed that have no ip_allowlist; nil = any
	Language  i18n.Language    `kong:"-"` // language of the texts that serve prints on its terminal
	MasterKey string           `kong:"-"` // 64 hexadecimal digits; "" = the key in Data/master.key; no flag: process lists show flags
	Tracing   tracing.Recorder `kong:"-"` // recorder of spans, for --otlp-endpoint
	// ShutdownDelay is the time for which /readyz responds with 503 before the listeners close.
	ShutdownDelay time.Duration `kong:"-"`
}

// Loopback lists the networks of this machine's own addresses, for SeedAllow.
var Loopback = []string{"127.0.0.0/8", "::1/128"}

// OIDC configures an OpenID Connect provider and this server as its client.
type OIDC struct {
	Issuer       string `env:"QRJUMP_OIDC_ISSUER" placeholder:"URL"`
	ClientID     string `name:"client-id" env:"QRJUMP_OIDC_CLIENT_ID" placeholder:"ID"`
	ClientSecret string `env:"QRJUMP_OIDC_CLIENT_SECRET" placeholder:"SECRET"`
	RolesClaim   string `env:"QRJUMP_OIDC_ROLES_CLAIM" default:"roles" placeholder:"CLAIM"` // "" = roles
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

// Check returns a one-line error that names the invalid value. It is not called Validate, because kong would call a method of this name
// before Run.
func (c Config) Check() error {
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
			return usage("%s %s: --dev and --emulator give other machines access: listen on 127.0.0.1, or add --dev-public", flag, address)
		}
		if c.TLSDev && !c.DevPublic && !loopback(host) {
			return usage("%s %s: --tls-dev is for development on this machine: listen on 127.0.0.1, or add --dev-public", flag, address)
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
	if c.MinCodeCounter >= codes.Space {
		return usage("--min-code-counter %d: want at most %d", c.MinCodeCounter, uint64(codes.Space-1))
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
