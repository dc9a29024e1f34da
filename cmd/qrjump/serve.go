package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
	"github.com/qrjump/qrjump/internal/infra/tracing"
	"github.com/qrjump/qrjump/internal/infra/tracing/otlp"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/server"
)

// serveCommand holds the server's flags; each can also be set by an environment variable or in the configuration file. A flag overrides the
// environment variable, and both override the configuration file.
type serveCommand struct {
	Data         string `env:"QRJUMP_DATA" default:"./qrjump-data" placeholder:"DIR"`
	Database     string `env:"QRJUMP_DATABASE" placeholder:"URL"`
	DatabaseRead string `env:"QRJUMP_DATABASE_READ" placeholder:"URL"`
	ScanStream   string `env:"QRJUMP_SCAN_STREAM" placeholder:"URL"`
	Lake         string `env:"QRJUMP_LAKE" placeholder:"PLACE"`
	Listen       string `env:"QRJUMP_LISTEN" default:"127.0.0.1:8080" placeholder:"ADDR"`
	ScanListen   string `env:"QRJUMP_SCAN_LISTEN" placeholder:"ADDR"`
	AdminListen  string `env:"QRJUMP_ADMIN_LISTEN" placeholder:"ADDR"`
	Seed         string `env:"QRJUMP_SEED" placeholder:"FILE" file:"in"`
	// A value may contain commas, so line breaks separate the settings in the environment variable.
	Set            []string   `env:"QRJUMP_SET" sep:"\n" placeholder:"NAME=VALUE"`
	Dev            bool       `env:"QRJUMP_DEV"`
	DevPublic      bool       `env:"QRJUMP_DEV_PUBLIC"`
	DevHost        []string   `env:"QRJUMP_DEV_HOST" placeholder:"NAME"`
	Emulator       bool       `env:"QRJUMP_EMULATOR"`
	Strict         strictness `env:"QRJUMP_STRICT" enum:",observed,documented,inferred,assumed" default:"" placeholder:"LEVEL"`
	AsOf           string     `env:"QRJUMP_AS_OF" placeholder:"DATE"`
	TLSCert        string     `name:"tls-cert" env:"QRJUMP_TLS_CERT" placeholder:"FILE" file:"in"`
	TLSKey         string     `name:"tls-key" env:"QRJUMP_TLS_KEY" placeholder:"FILE" file:"in"`
	TLSDev         bool       `name:"tls-dev" env:"QRJUMP_TLS_DEV"`
	TrustedProxy   []string   `env:"QRJUMP_TRUSTED_PROXY" placeholder:"CIDR"`
	CodePrefix     string     `env:"QRJUMP_CODE_PREFIX" placeholder:"TEXT"`
	MinCodeCounter uint64     `env:"QRJUMP_MIN_CODE_COUNTER" default:"0" placeholder:"N"`
	Regions        string     `env:"QRJUMP_REGIONS" placeholder:"FILE" file:"in"`
	AdminToken     string     `env:"QRJUMP_ADMIN_TOKEN" placeholder:"TOKEN"`
	OIDCIssuer     string     `name:"oidc-issuer" env:"QRJUMP_OIDC_ISSUER" placeholder:"URL"`
	OIDCClient     string     `name:"oidc-client-id" env:"QRJUMP_OIDC_CLIENT_ID" placeholder:"ID"`
	OIDCSecret     string     `name:"oidc-client-secret" env:"QRJUMP_OIDC_CLIENT_SECRET" placeholder:"SECRET"`
	OIDCRoles      string     `name:"oidc-roles-claim" env:"QRJUMP_OIDC_ROLES_CLAIM" default:"roles" placeholder:"CLAIM"`
	// The tag has no default, because the default depends on other flags: no delay with --dev or --emulator.
	ShutdownDelay *time.Duration `env:"QRJUMP_SHUTDOWN_DELAY" placeholder:"TIME"`
	OTLPEndpoint  string         `name:"otlp-endpoint" env:"QRJUMP_OTLP_ENDPOINT" placeholder:"URL"`
	LogFormat     string         `env:"QRJUMP_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"text|json"`
	Config        string         `env:"QRJUMP_CONFIG" placeholder:"FILE" file:"in"`
}

// strictness is the value of --strict: the server rejects deviations whose evidence has at least this level. The value is optional:
// --strict alone means --strict=inferred.
type strictness behaviour.Evidence

func (strictness) IsBool() bool { return true }

func (s *strictness) Decode(ctx *kong.DecodeContext) error {
	*s = strictness(behaviour.Inferred)
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch word := fmt.Sprint(ctx.Scan.Pop().Value); strings.ToLower(word) {
	case "true", "1", "yes":
	case "false", "0", "no":
		*s = ""
	default:
		*s = strictness(word)
	}
	return nil
}

// Run serves until the process receives a signal.
func (c *serveCommand) Run(s *session, chosen *kong.Context) error {
	config, err := c.config(chosen)
	if err != nil {
		return err
	}
	return server.Run(s.ctx, config, s.seams, s.out, s.err)
}

// config returns the server's configuration from the flags and the configuration file.
func (c *serveCommand) config(chosen *kong.Context) (server.Config, error) {
	if c.Config != "" {
		if err := readConfig(c.Config, chosen); err != nil {
			return server.Config{}, err
		}
	}
	delay := 3 * time.Second
	if c.ShutdownDelay != nil {
		delay = *c.ShutdownDelay
	} else if c.Dev || c.Emulator {
		delay = 0
	}
	asOf := ""
	if c.AsOf != "" {
		t, err := parseTime("--as-of", c.AsOf, false)
		if err != nil {
			return server.Config{}, err
		}
		asOf = t.Format(time.DateOnly)
	}
	var recorder tracing.Recorder
	if c.OTLPEndpoint != "" {
		spans, err := otlp.New(c.OTLPEndpoint, version.Number())
		if err != nil {
			return server.Config{}, misused("batch_download.of", "--otlp-endpoint", err)
		}
		recorder = spans
	}
	return server.Config{
		ShutdownDelay: delay, Tracing: recorder,
		Data: c.Data, Database: c.Database, DatabaseRead: c.DatabaseRead, Listen: c.Listen, ScanListen: c.ScanListen,
		AdminListen: c.AdminListen, Seed: c.Seed, Set: c.Set, Dev: c.Dev, DevPublic: c.DevPublic, DevHost: c.DevHost, Emulator: c.Emulator,
		Strict: behaviour.Evidence(c.Strict), AsOf: asOf,
		TLSCert: c.TLSCert, TLSKey: c.TLSKey, TLSDev: c.TLSDev, TrustedProxy: c.TrustedProxy,
		CodePrefix: c.CodePrefix, MinCodeCounter: c.MinCodeCounter, Regions: c.Regions, ScanStream: c.ScanStream, Lake: c.Lake,
		AdminToken: c.AdminToken,
		OIDC:       server.OIDC{Issuer: c.OIDCIssuer, ClientID: c.OIDCClient, ClientSecret: c.OIDCSecret, RolesClaim: c.OIDCRoles},
		LogFormat:  c.LogFormat, Language: outputLanguage.language(),
		// The master key has no flag, because flags are visible in the process list.
		MasterKey: os.Getenv("QRJUMP_MASTER_KEY"),
	}, nil
}

// readConfig reads the configuration file and sets its flags, except flags that the command line or the environment already sets.
func readConfig(file string, chosen *kong.Context) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return misused("serve.config", err)
	}
	document, err := parseYAML(file, text)
	if err != nil || document == nil {
		return err
	}
	entries, ok := document.(*ast.MappingNode)
	if !ok {
		return misused("serve.want_one_flag_a_line", safeyaml.Location(file, document))
	}
	flags := map[string]*kong.Flag{}
	var names []string
	for _, flag := range chosen.Selected().Flags {
		// A configuration file cannot name another configuration file.
		if flag.Name != "config" && flag.Name != "help" {
			flags[flag.Name] = flag
			names = append(names, flag.Name)
		}
	}
	for _, entry := range entries.Values {
		name := entry.Key.GetToken().Value
		flag, ok := flags[name]
		if !ok {
			return misused("serve.unknown_key_want_one_of", safeyaml.Location(file, entry.Key), name, strings.Join(names, ", "))
		}
		values, err := scalars(entry.Value)
		if err != nil || len(values) != 1 && !flag.IsSlice() {
			return misused("serve.want_one_value", safeyaml.Location(file, entry.Key), name)
		}
		if isSet(chosen, flag) {
			continue
		}
		if err := set(flag, values); err != nil {
			return misused("batch_download.of", safeyaml.Location(file, entry.Key), err)
		}
	}
	return nil
}

// parseYAML returns the single document of a file, or nil if the file is empty.
func parseYAML(file string, text []byte) (ast.Node, error) {
	document, err := safeyaml.Parse(file, text)
	if err != nil {
		return nil, usageError(err.Error())
	}
	return document, nil
}

// scalars returns the texts of a value or of a list exactly as written, so that a token of digits is not converted to a number.
func scalars(node ast.Node) ([]string, error) {
	switch node := node.(type) {
	case *ast.SequenceNode:
		list := []string{}
		for _, item := range node.Values {
			names, err := scalars(item)
			if err != nil || len(names) != 1 {
				return nil, misused("serve.want_a_list_of_texts")
			}
			list = append(list, names[0])
		}
		return list, nil
	case *ast.LiteralNode:
		return []string{node.Value.Value}, nil
	case *ast.NullNode:
		return nil, misused("serve.want_a_value")
	case ast.ScalarNode:
		return []string{node.GetToken().Value}, nil
	}
	return nil, misused("serve.want_a_value")
}

// isSet reports whether the command line or the environment set a flag.
func isSet(chosen *kong.Context, flag *kong.Flag) bool {
	if slices.ContainsFunc(chosen.Path, func(p *kong.Path) bool { return p.Flag == flag }) {
		return true
	}
	return slices.ContainsFunc(flag.Envs, func(name string) bool {
		_, ok := os.LookupEnv(name)
		return ok
	})
}

func set(flag *kong.Flag, values []string) error {
	if flag.Enum != "" && !flag.EnumMap()[values[0]] {
		return fault("serve.must_be_one_of_but", flag.Name, flag.Enum, values[0])
	}
	sep := ","
	if flag.Tag != nil && flag.Tag.Sep > 0 {
		sep = string(flag.Tag.Sep)
	}
	text := strings.Join(values, sep)
	flag.Target.SetZero()
	return flag.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), flag.Target)
}
