package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
	"github.com/qrjump/qrjump/internal/infra/tracing/otlp"
	"github.com/qrjump/qrjump/internal/infra/version"
	"github.com/qrjump/qrjump/internal/server"
)

// serveCommand holds the server's flags; each can also be set by an environment variable or in the configuration file. A flag overrides the
// environment variable, and both override the configuration file.
type serveCommand struct {
	server.Config
	// The tag has no default, because the default depends on other flags: no delay with --dev or --emulator.
	Delay        *time.Duration `name:"shutdown-delay" env:"QRJUMP_SHUTDOWN_DELAY" placeholder:"TIME"`
	OTLPEndpoint string         `name:"otlp-endpoint" env:"QRJUMP_OTLP_ENDPOINT" placeholder:"URL"`
	LogFormat    string         `env:"QRJUMP_LOG_FORMAT" default:"text" enum:"text,json" placeholder:"text|json"`
	ConfigFile   string         `name:"config" env:"QRJUMP_CONFIG" placeholder:"FILE" file:"in"`
}

// strictness decodes the value of --strict, which is optional: --strict alone means --strict=inferred.
type strictness struct{}

func (strictness) IsBool() bool { return true }

func (strictness) Decode(ctx *kong.DecodeContext, level reflect.Value) error {
	level.SetString(string(behaviour.Inferred))
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	switch word := fmt.Sprint(ctx.Scan.Pop().Value); strings.ToLower(word) {
	case "true", "1", "yes":
	case "false", "0", "no":
		level.SetString("")
	default:
		level.SetString(word)
	}
	return nil
}

// Run serves until the process receives a signal.
func (c *serveCommand) Run(s *session, chosen *kong.Context) error {
	config, err := c.config(chosen)
	if err != nil {
		return err
	}
	return server.Run(s.ctx, config, s.testHooks, s.out, s.err)
}

// config returns the server's configuration from the flags and the configuration file.
func (c *serveCommand) config(chosen *kong.Context) (server.Config, error) {
	if c.ConfigFile != "" {
		if err := readConfig(c.ConfigFile, chosen); err != nil {
			return server.Config{}, err
		}
	}
	config := c.Config
	config.LogFormat, config.Language = c.LogFormat, outputLanguage.language()
	config.MasterKey = os.Getenv("QRJUMP_MASTER_KEY")
	if c.Delay != nil {
		config.ShutdownDelay = *c.Delay
	} else if !c.Dev && !c.Emulator {
		config.ShutdownDelay = 3 * time.Second
	}
	if c.AsOf != "" {
		t, err := parseTime("--as-of", c.AsOf, false)
		if err != nil {
			return config, err
		}
		config.AsOf = t.Format(time.DateOnly)
	}
	if c.OTLPEndpoint != "" {
		spans, err := otlp.New(c.OTLPEndpoint, version.Number())
		if err != nil {
			return config, misused("batch_download.of", "--otlp-endpoint", err)
		}
		config.Tracing = spans
	}
	return config, nil
}

// readConfig reads the configuration file and sets its flags, except flags that the command line or the environment already sets.
func readConfig(file string, chosen *kong.Context) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return misused("serve.config", err)
	}
	document, err := safeyaml.Parse(file, text)
	if err != nil {
		return usageError(err.Error())
	}
	if document == nil {
		return nil
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
		values, ok := safeyaml.Scalars(entry.Value)
		if !ok || len(values) != 1 && !flag.IsSlice() {
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

// isSet reports whether the command line or the environment set a flag.
func isSet(chosen *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(chosen.Path, func(p *kong.Path) bool { return p.Flag == flag }) ||
		slices.ContainsFunc(flag.Envs, func(name string) bool {
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
