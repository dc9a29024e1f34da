package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/store"
)

// chosen holds the settings from the seed and from operators.
type chosen struct {
	seed     *seedFile // nil = none
	settings *settings.Live
	loading  sync.Mutex // serialises the loading of stored settings
}

const settingsMeta = "settings"

// settingsComponent returns the component that loads the stored settings and then applies the seed.
func (s *Server) settingsComponent() component {
	return component{name: "settings", start: func(ctx context.Context) error {
		if err := s.settings().loadSettings(ctx); err != nil {
			return err
		}
		if err := s.seeder().applySeed(ctx, s.chosen.seed, s.now); err != nil {
			return err
		}
		return s.settings().applySet(ctx)
	}}
}

// setObject returns the settings of --set as one JSON object; nil = none. Errors name the flag --set.
func (c Config) setObject() ([]byte, error) {
	if len(c.Set) == 0 {
		return nil, nil
	}
	defaults, err := json.Marshal(settings.Defaults())
	if err != nil {
		return nil, err
	}
	var known, given map[string]json.RawMessage
	if err := json.Unmarshal(defaults, &known); err != nil {
		return nil, err
	}
	given = map[string]json.RawMessage{}
	for _, text := range c.Set {
		name, typed, found := strings.Cut(text, "=")
		if !found {
			return nil, usage("--set %.100q: want NAME=VALUE, for example rule_rate_limit=20", text)
		}
		given[name] = settings.Typed(typed, known[name])
	}
	object, err := json.Marshal(given)
	if err == nil {
		_, err = settings.Merge(settings.Defaults(), object)
	}
	if err == nil {
		err = checkLimits(object)
	}
	if err != nil {
		return nil, usage("--set: %v", err)
	}
	return object, nil
}

// applySet applies the settings of --set, which override the settings of the seed and earlier changes.
func (s settingsService) applySet(ctx context.Context) error {
	object, err := s.config.setObject()
	if object == nil || err != nil {
		return err
	}
	return s.changeSettings(accounts.WithActor(ctx, accounts.Actor{ActorID: "seed"}), object)
}

// changeSettings changes the fields that a JSON object contains.
func (s settingsService) changeSettings(ctx context.Context, object []byte) error {
	if err := s.saveSettings(ctx, object); err != nil {
		return err
	}
	return s.loadSettings(ctx)
}

// editSettings lets f change the stored settings in a transaction; f returns false if it changed nothing.
func (s settingsService) editSettings(ctx context.Context, f func(kept map[string]json.RawMessage) bool) error {
	return s.store.InTx(ctx, func(tx *store.Store) error {
		s := settingsService{s.withStore(tx), s.chosen}
		// Another node may change another field at the same time.
		if err := s.store.Lock(ctx, "settings"); err != nil {
			return err
		}
		kept, err := s.keptSettings(ctx)
		if err != nil || !f(kept) {
			return err
		}
		text, err := json.Marshal(kept)
		if err != nil {
			return err
		}
		return s.store.PutMeta(ctx, settingsMeta, string(text))
	})
}

// saveSettings stores the fields that a JSON object contains; they survive a restart. The defaults of other fields are not stored, so these
// fields always have the defaults of the running program version.
func (s settingsService) saveSettings(ctx context.Context, object []byte) error {
	if err := checkLimits(object); err != nil {
		return err
	}
	given := map[string]json.RawMessage{}
	if err := json.Unmarshal(object, &given); err != nil {
		return fmt.Errorf("storing the settings: %w", err)
	}
	return s.editSettings(ctx, func(kept map[string]json.RawMessage) bool {
		for name, value := range given {
			if string(value) == "null" && !slices.ContainsFunc(settings.Table, func(f settings.Field) bool {
				return strings.EqualFold(f.Name, name) && f.CanBeUnlimited()
			}) { // it changes nothing
				continue
			}
			kept[strings.ToLower(name)] = value // stored names are in lower case, because encoding/json ignores the case of names
		}
		return true
	})
}

// resetSetting deletes the stored value of a setting, so that its default applies.
func (s settingsService) resetSetting(ctx context.Context, name string) error {
	err := s.editSettings(ctx, func(kept map[string]json.RawMessage) bool {
		_, chosen := kept[name]
		delete(kept, name)
		return chosen
	})
	if err != nil {
		return err
	}
	return s.loadSettings(ctx)
}

// assignGS1Prefix assigns a GS1 Company Prefix to an account.
func (s settingsService) assignGS1Prefix(ctx context.Context, prefix, appid string) error {
	var invalid error
	err := s.editSettings(ctx, func(kept map[string]json.RawMessage) bool {
		prefixes := settings.Prefixes{}
		if stored := kept["gs1_prefixes"]; stored != nil {
			invalid = json.Unmarshal(stored, &prefixes)
		}
		if invalid == nil {
			prefixes[prefix] = appid
			kept["gs1_prefixes"], invalid = json.Marshal(prefixes)
		}
		return invalid == nil
	})
	if err = cmp.Or(err, invalid); err != nil {
		return fmt.Errorf("assigning the prefix %s: %w", prefix, err)
	}
	return s.loadSettings(ctx)
}

// keptSettings returns the stored settings as JSON values, keyed by name.
func (s settingsService) keptSettings(ctx context.Context) (map[string]json.RawMessage, error) {
	kept := map[string]json.RawMessage{}
	text, err := s.store.Meta(ctx, settingsMeta)
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("storing the settings: %w", err)
	}
	return kept, nil
}

// defaultSettings returns the settings that apply if the operator sets none.
func (s settingsService) defaultSettings() settings.Settings {
	base := settings.Defaults()
	base.AllowPrivateHosts, base.Strict, base.StrictFrom = s.config.Dev, s.config.Strict != "", s.config.Strict
	base.AsOf = s.config.AsOf
	return base
}

// loadSettings loads the stored settings and applies them.
func (s settingsService) loadSettings(ctx context.Context) error {
	s.chosen.loading.Lock()
	defer s.chosen.loading.Unlock()
	stored, err := s.storedSettings(ctx)
	if err != nil {
		return err
	}
	s.chosen.settings.Set(stored)
	return nil
}

// storedSettings returns the stored settings, with defaults for fields that were never set.
func (s settingsService) storedSettings(ctx context.Context) (settings.Settings, error) {
	base := s.defaultSettings()
	kept, err := s.keptSettings(ctx)
	if err != nil {
		return base, err
	}
	object, err := json.Marshal(kept)
	if err != nil {
		return base, err
	}
	if base, err = settings.Merge(base, object); err != nil {
		return base, fmt.Errorf("the stored %w", err)
	}
	return base, nil
}
