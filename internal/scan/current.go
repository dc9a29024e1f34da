package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/rules"
)

// Current keeps the memory that scans are answered from equal to the store.
//
// It never applies a change from hand to hand: told that something changed, it
// reads that thing again and keeps what it read. Reads are in one line, so the
// last of them sees the last commit, whatever order the changes came in.
type Current struct {
	Rules    *Index
	Accounts *Directory
	Codes    *codes.Memory // nil = no codes

	RuleStore    rules.Store
	AccountStore accounts.Store
	Log          *slog.Logger

	reading sync.Mutex
	mu      sync.Mutex
	missed  map[string]func(context.Context) error // what could not be read again yet, by its name
	loaded  bool
}

// Load fills the memory from the store. What fails is tried again by Retry.
func (c *Current) Load(ctx context.Context) error {
	c.mu.Lock()
	c.loaded = false
	c.mu.Unlock()
	return c.follow(ctx, "everything", c.load)
}

func (c *Current) load(ctx context.Context) error {
	c.Rules.Clear()
	c.Accounts.Clear()
	for after := ""; ; {
		var page []accounts.Account
		err := c.AccountStore.ViewAccounts(ctx, func(tx accounts.Tx) (err error) {
			if page, err = tx.Accounts(ctx, after, 1000); err != nil {
				return err
			}
			for _, a := range page {
				links, err := tx.Links(ctx, a.AppID)
				if err != nil {
					return err
				}
				c.Accounts.Set(a, links)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("loading accounts: %w", err)
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].AppID
	}
	if c.Codes != nil {
		if err := c.Codes.Load(ctx); err != nil {
			return err
		}
	}
	for rule, err := range c.RuleStore.AllRules(ctx) {
		if err != nil {
			return fmt.Errorf("loading rules: %w", err)
		}
		c.Rules.Set(rule)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = true
	clear(c.missed)
	return nil
}

// RuleChanged reads the rule with a key again.
func (c *Current) RuleChanged(ctx context.Context, key string) {
	_ = c.follow(ctx, "rule "+key, func(ctx context.Context) error {
		return c.RuleStore.ViewRules(ctx, func(tx rules.Tx) error {
			r, err := tx.Rule(ctx, key)
			if errors.Is(err, rules.ErrNoRule) {
				c.Rules.Remove(key)
				return nil
			}
			if err != nil {
				return err
			}
			c.Rules.Set(r)
			return nil
		})
	})
}

// BatchChanged reads what is new of a batch of codes.
func (c *Current) BatchChanged(ctx context.Context, id int64) {
	_ = c.follow(ctx, fmt.Sprintf("batch %d", id), func(ctx context.Context) error { return c.Codes.Changed(ctx, id) })
}

// AccountChanged reads an account and its links again.
func (c *Current) AccountChanged(ctx context.Context, appid string) {
	_ = c.follow(ctx, "account "+appid, func(ctx context.Context) error {
		return c.AccountStore.ViewAccounts(ctx, func(tx accounts.Tx) error {
			a, err := tx.Account(ctx, appid)
			if errors.Is(err, accounts.ErrNoAccount) {
				c.Accounts.Remove(appid)
				return nil
			}
			if err != nil {
				return err
			}
			links, err := tx.Links(ctx, appid)
			if err != nil {
				return err
			}
			c.Accounts.Set(a, links)
			return nil
		})
	})
}

// follow reads once; what cannot be read now is read by Retry, and until then
// Ready says that the memory is behind.
func (c *Current) follow(ctx context.Context, what string, read func(context.Context) error) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	err := read(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.missed, what)
		return nil
	}
	c.Log.Error("a committed change cannot be read back; scans may show the state before it until the store answers", "what", what, "error", err)
	if c.missed == nil {
		c.missed = map[string]func(context.Context) error{}
	}
	c.missed[what] = read
	return err
}

// Retry reads again what could not be read, every interval until ctx ends.
func (c *Current) Retry(ctx context.Context, interval time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
		for what, read := range c.behind() {
			if ctx.Err() == nil {
				_ = c.follow(ctx, what, read) // noted and logged
			}
		}
	}
}

// behind is what could not be read yet. It stays missed until it was read:
// Ready must not say otherwise meanwhile.
func (c *Current) behind() map[string]func(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.missed)
}

// Ready returns nil when the memory holds everything that was committed.
func (c *Current) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return errors.New("rules are being loaded")
	}
	for what := range c.missed {
		return fmt.Errorf("behind the store by %d changes, one of them of %s", len(c.missed), what)
	}
	return nil
}
