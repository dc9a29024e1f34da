package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/digitallink"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/emulator/seedfile"
	"github.com/qrjump/qrjump/internal/infra/safeyaml"
	"github.com/qrjump/qrjump/internal/infra/suggest"
	"github.com/qrjump/qrjump/internal/store"
)

// demoSeed is the default seed of --dev.
//
//go:embed demo.yaml
var demoSeed []byte

// maxSeed is the maximum size of a seed file in bytes.
const maxSeed = 64 << 20

// seedFile is a parsed seed with its source text, so that errors can name a line.
type seedFile struct {
	name  string
	data  []byte
	tree  *ast.File
	demo  bool // the seed contains the demo accounts, whose secrets are public
	allow []string
	seedfile.Seed
}

// readSeed reads a seed file and checks its syntax; errors name the line.
func readSeed(c Config) (*seedFile, error) {
	f := &seedFile{name: c.Seed, allow: c.SeedAllow}
	switch {
	case c.Seed != "":
		file, err := os.Open(c.Seed)
		if err != nil {
			return nil, usage("seed: %v", err)
		}
		defer file.Close()
		f.data, err = io.ReadAll(io.LimitReader(file, maxSeed+1))
		if err != nil {
			return nil, usage("seed: %v", err)
		}
		if len(f.data) > maxSeed {
			return nil, usage("seed %s is longer than %d MiB", c.Seed, maxSeed>>20)
		}
	case c.Dev:
		f.name, f.data, f.demo = "the demo seed", demoSeed, true
	default:
		return nil, nil
	}
	if err := f.parse(); err != nil {
		return nil, err
	}
	if c.Dev && !f.demo && f.settingsOnly() {
		return f.overDemo()
	}
	return f, nil
}

// settingsOnly reports whether a seed contains settings and nothing else.
func (f *seedFile) settingsOnly() bool {
	return len(f.Settings) > 0 && len(f.Accounts)+len(f.Components)+len(f.Rules)+len(f.GS1) == 0
}

// overDemo returns the demo seed with the settings of f; the demo seed's settings apply only where f has none.
func (f *seedFile) overDemo() (*seedFile, error) {
	demo := &seedFile{name: "the demo seed", data: demoSeed}
	if err := demo.parse(); err != nil {
		return nil, err
	}
	f.demo, f.data = true, append(bytes.Clone(demoSeed), f.data...) // the hash then covers both the demo seed and the seed file
	f.Accounts, f.Components, f.Rules = demo.Accounts, demo.Components, demo.Rules
	for name, value := range demo.Settings {
		if _, said := f.Settings[name]; !said {
			f.Settings[name] = value
		}
	}
	return f, nil
}

// parse parses the text of a seed.
func (f *seedFile) parse() error {
	err := safeyaml.Check(f.data)
	if err != nil {
		return usage("seed %s, %v", f.name, err)
	}
	if f.tree, err = parser.ParseBytes(f.data, 0); err != nil {
		return f.yamlError(err)
	}
	if i := slices.IndexFunc(f.tree.Docs, func(d *ast.DocumentNode) bool { return d.Body != nil }); i >= 0 {
		err = yaml.NewDecoder(bytes.NewReader(nil), yaml.Strict()).DecodeFromNode(f.tree.Docs[i].Body, &f.Seed)
	}
	if err != nil {
		return f.yamlError(err)
	}
	return nil
}

// yamlError shortens an error of the YAML library, which prints the position in the file over several lines, to one line.
func (f *seedFile) yamlError(err error) error {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok || e.GetToken() == nil {
		return usage("seed %s: %v", f.name, err)
	}
	message := e.GetMessage()
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok && yamlKinds[wrong.DstType.Kind()] != "" {
		message = "want " + yamlKinds[wrong.DstType.Kind()]
	}
	if prev := e.GetToken().Prev; prev != nil && prev.Type == token.MappingValueType {
		message = prev.Prev.Value + ": " + message
	}
	return usage("seed %s, line %d: %s", f.name, e.GetToken().Position.Line, message)
}

// yamlKinds maps the kinds of the fields of a seed to the words for their YAML values.
var yamlKinds = map[reflect.Kind]string{reflect.Bool: "true or false", reflect.String: "a text", reflect.Int: "a whole number",
	reflect.Slice: "a list", reflect.Map: "a mapping", reflect.Struct: "a mapping"}

// atLine adds the line of a seed entry to an error.
func (f *seedFile) atLine(section string, i int, err error) error {
	return usage("seed %s, line %d: %v", f.name, f.line(fmt.Sprintf("$.%s[%d]", section, i)), err)
}

// planted adds the line of a seed entry to an error of storing this entry.
func (f *seedFile) planted(section string, i int, err error) error {
	_, invalid := errors.AsType[accounts.Invalid](err)
	_, taken := errors.AsType[accounts.ExclusiveConflict](err)
	code, _ := errcode.FromError(err)
	if invalid || taken || code != errcode.SystemError || errors.Is(err, accounts.ErrNoAccount) {
		return f.atLine(section, i, err)
	}
	return fmt.Errorf("seed %s, line %d: %w", f.name, f.line(fmt.Sprintf("$.%s[%d]", section, i)), err)
}

// line returns the line number at which the YAML node at location starts in the seed; 0 = not found.
func (f *seedFile) line(location string) int {
	path, err := yaml.PathString(location)
	if err != nil {
		return 0
	}
	node, err := path.FilterFile(f.tree)
	if err != nil || node == nil {
		return 0
	}
	// The token of a block mapping is the colon after its first key.
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken().Position.Line
	}
	return node.GetToken().Position.Line
}

// hash returns a hash of the seed's content.
func (f *seedFile) hash() string {
	sum := sha256.Sum256(f.data)
	return hex.EncodeToString(sum[:])
}

// registration returns an account of the seed without its linked accounts.
func (f *seedFile) registration(i int) accounts.Registration {
	a := f.Accounts[i]
	if a.IPAllowlist == nil {
		a.IPAllowlist = f.allow
	}
	a.Linked = nil
	return a.Registration(a.AppID)
}

func (f *seedFile) component(i int) accounts.Component {
	c := f.Components[i]
	if c.IPAllowlist == nil {
		c.IPAllowlist = f.allow
	}
	component := accounts.Component{AppID: c.AppID, EventURL: c.EventURL, IPAllowlist: c.IPAllowlist, RedirectHosts: c.RedirectHosts}
	// An empty list revokes all grants; without a list the grants are kept.
	if c.Authorizations != nil {
		component.Grants = []accounts.Grant{}
	}
	for _, g := range c.Authorizations {
		component.Grants = append(component.Grants, accounts.Grant{AppID: g.AppID, PermissionSets: g.PermissionSets})
	}
	return component
}

// check returns an error for a seed that is invalid, whatever the database contains.
func (f *seedFile) check() error {
	if _, _, err := f.settingsOn(settings.Defaults()); err != nil {
		return err
	}
	directory, owners, components := &accounts.Service{}, map[string]accounts.Account{}, map[string]bool{}
	for i := range f.Accounts {
		r := f.registration(i)
		if err := directory.Check(r); err != nil {
			return f.atLine("accounts", i, err)
		}
		if _, twice := owners[r.AppID]; twice {
			return f.atLine("accounts", i, fmt.Errorf("account %s is in the seed twice", r.AppID))
		}
		for _, name := range r.Features {
			if name != codes.Feature {
				return f.atLine("accounts", i, fmt.Errorf("account %s: features: there is no %.60q%s", r.AppID, name,
					suggest.DidYouMean(name, codes.Feature)))
			}
		}
		owners[r.AppID] = r.Account
	}
	for i, c := range f.Components {
		if err := directory.CheckComponent(f.component(i), c.Secret, c.EncodingAESKey); err != nil {
			return f.atLine("components", i, err)
		}
		if components[c.AppID] {
			return f.atLine("components", i, fmt.Errorf("component %s is in the seed twice", c.AppID))
		}
		components[c.AppID] = true
	}
	for i, r := range f.Rules {
		// An owner that is missing in the seed may exist in the database.
		if owner, ok := owners[r.Owner]; ok {
			if _, err := rules.ValidateSeed(owner, r.Draft()); err != nil {
				return f.atLine("rules", i, err)
			}
		}
	}
	keys := map[string]bool{}
	for i := range f.GS1 {
		e, err := digitallink.Parse(f.GS1[i])
		if err == nil && keys[e.Key] {
			err = fmt.Errorf("GS1 key %s is in the seed twice", e.Key)
		}
		if err != nil {
			return f.atLine("gs1", i, err)
		}
		keys[e.Key] = true
	}
	return nil
}

// applySeed stores a seed in one transaction, unless a seed with the same content was applied before. If an operator deletes data of a
// seed, the data therefore stays deleted at later starts.
func (s seeder) applySeed(ctx context.Context, f *seedFile, now func() time.Time) error {
	if f == nil {
		return nil
	}
	_, err := s.plant(accounts.WithActor(ctx, accounts.Actor{ActorID: "seed"}), f, now)
	return err
}

// addSeed adds a seed from an operator to the existing data; a reset does not apply this seed again. An error about the seed's content
// names the line.
func (s seeder) addSeed(ctx context.Context, text string) (client.SeedResult, error) {
	f := &seedFile{name: "that was sent", data: []byte(text)}
	err := f.parse()
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return client.SeedResult{}, err
	}
	done := client.SeedResult{Accounts: len(f.Accounts), Components: len(f.Components), Rules: len(f.Rules)}
	if done.Applied, err = s.plant(ctx, f, s.now); err != nil || !done.Applied {
		return done, err
	}
	return done, s.domain.current.Load(ctx)
}

// plant stores a seed and loads its settings; the audit log names the actor in ctx. The caller must reload the in-memory copy afterwards.
// planted is false if a seed with the same content was applied before.
func (s seeder) plant(ctx context.Context, f *seedFile, now func() time.Time) (planted bool, err error) {
	err = s.inTx(ctx, func(s seeder) (err error) {
		planted, err = s.plantSeed(ctx, f, now)
		return err
	})
	if err != nil {
		return false, err
	}
	return planted, s.settings.loadSettings(ctx)
}

// inTx runs f in a transaction: all store calls of the seeder that f receives are part of the transaction.
func (s seeder) inTx(ctx context.Context, f func(seeder) error) error {
	return s.store.InTx(ctx, func(tx *store.Store) error {
		joined := s
		joined.deps = s.withStore(tx)
		joined.settings.deps = joined.deps
		return f(joined)
	})
}

// plantSeed stores a seed; planted is false if a seed with the same content was applied before.
func (s seeder) plantSeed(ctx context.Context, f *seedFile, now func() time.Time) (planted bool, err error) {
	hash := f.hash()
	// If many nodes start at once, only one applies the seed.
	if err := s.store.Lock(ctx, "seed"); err != nil {
		return false, err
	}
	if done, err := s.store.Seeded(ctx, hash); done || err != nil {
		return false, err
	}
	next, err := s.settings.applySettings(ctx, f)
	if err != nil {
		return false, err
	}
	if err := s.plantAccounts(ctx, f, settings.NewLive(next), now, func(string) bool { return true }); err != nil {
		return false, err
	}
	links := &digitallink.Service{Store: s.store.GS1(), Now: now, Changed: func(context.Context, ...string) {}}
	for i := range f.GS1 {
		e, err := digitallink.Parse(f.GS1[i])
		if err == nil {
			_, err = links.Put(ctx, e, false, func(string) bool { return true })
		}
		if err != nil {
			return false, f.planted("gs1", i, err)
		}
	}
	if err := s.store.PutSeeded(ctx, hash, now()); err != nil {
		return false, err
	}
	if f.demo {
		if err := s.store.PutMeta(ctx, demoMeta, "1"); err != nil {
			return false, err
		}
	}
	s.log.InfoContext(ctx, "seed applied", "seed", f.name, "accounts", len(f.Accounts), "components", len(f.Components), "rules",
		len(f.Rules))
	return true, nil
}

// plantAccounts stores the accounts of a seed that match, their links and their rules, and all platforms of the seed.
func (s seeder) plantAccounts(ctx context.Context, f *seedFile, chosen *settings.Live, now func() time.Time,
	matches func(appid string) bool) error {
	// These services do not update the in-memory copy, which is loaded after all data is stored.
	directory := &accounts.Service{Store: s.store, Key: s.secrets.vault, Settings: chosen, Now: now, Random: s.random,
		MinSecret: s.config.minSecret()}
	service := &rules.Service{Store: s.store, Settings: chosen, Now: now}
	for i, a := range f.Accounts {
		if matches(a.AppID) {
			if err := directory.Put(ctx, f.registration(i)); err != nil {
				return f.planted("accounts", i, err)
			}
		}
	}
	// A link may name an account that comes later in the seed file.
	for i, a := range f.Accounts {
		for _, mini := range a.Linked {
			if matches(a.AppID) {
				if err := directory.Link(ctx, a.AppID, mini); err != nil {
					return f.planted("accounts", i, err)
				}
			}
		}
	}
	for i, c := range f.Components {
		if err := directory.PutComponent(ctx, f.component(i), c.Secret, c.MessageToken, c.EncodingAESKey); err != nil {
			return f.planted("components", i, err)
		}
	}
	stored := map[string]bool{}
	for i, r := range f.Rules {
		if !matches(r.Owner) {
			continue
		}
		owner, err := directory.Get(ctx, r.Owner)
		if errors.Is(err, accounts.ErrNoAccount) {
			return f.atLine("rules", i, fmt.Errorf("rule %q: account %q not found", r.Prefix, r.Owner))
		}
		if err != nil {
			return f.planted("rules", i, err)
		}
		prefix, err := rules.ValidateSeed(owner, r.Draft())
		if err == nil && stored[r.Owner+" "+prefix.Key] {
			err = fmt.Errorf("rule %q is in the seed twice", r.Prefix)
		}
		if err != nil {
			return f.atLine("rules", i, err)
		}
		stored[r.Owner+" "+prefix.Key] = true
		if err := service.Seed(ctx, owner, r.Draft(), r.Published); err != nil {
			return f.planted("rules", i, err)
		}
	}
	return nil
}

// demoMeta marks a database that contains the demo accounts, whose secrets are public.
const demoMeta = "demo"

// refuseDemo returns an error if the database has the demo accounts but the server has no emulator, as in production.
func (s seeder) refuseDemo(ctx context.Context, db *store.Store) error {
	if s.config.emulates() || s.testHooks.Demo {
		return nil
	}
	demo, err := db.Meta(ctx, demoMeta)
	if err != nil {
		return fmt.Errorf("reading whether this is a demo: %w", err)
	}
	if demo != "" {
		return usage(
			"the database in %s was created by serve --dev and holds demo accounts with published secrets: start it with --dev, or choose another --data for production", s.config.Data)
	}
	return nil
}

// applySettings stores the settings of a seed and returns the resulting settings.
func (s settingsService) applySettings(ctx context.Context, f *seedFile) (settings.Settings, error) {
	current := s.chosen.settings.Get()
	object, next, err := f.settingsOn(current)
	if object == nil || err != nil {
		return current, err
	}
	return next, s.saveSettings(ctx, object)
}

// settingsOn returns the settings in a seed as JSON (nil = none), and the settings that result if they are applied to current.
func (f *seedFile) settingsOn(current settings.Settings) (object []byte, next settings.Settings, err error) {
	if len(f.Settings) == 0 {
		return nil, current, nil
	}
	if object, err = json.Marshal(f.Settings); err != nil {
		return nil, current, usage("seed %s: settings: %v", f.name, err)
	}
	if next, err = settings.Merge(current, object); err == nil {
		err = checkLimits(object)
	}
	if err != nil {
		return nil, current, usage("seed %s, line %d: %v", f.name, f.line("$.settings"), err)
	}
	return object, next, nil
}
