package scan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
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

	RuleStore    rules.Store
	AccountStore accounts.Store
	Log          *slog.Logger

	reading sync.Mutex
	mu      sync.Mutex
	missed  []missed
	loaded  bool
}

// missed is a change that could not be read again yet.
type missed struct {
	what string
	read func(context.Context) error
}

// Load fills the memory from the store.
func (c *Current) Load(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
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
	for rule, err := range c.RuleStore.AllRules(ctx) {
		if err != nil {
			return fmt.Errorf("loading rules: %w", err)
		}
		c.Rules.Set(rule)
	}
	c.mu.Lock()
	c.loaded = true
	c.mu.Unlock()
	return nil
}

// RuleChanged reads the rule with a key again.
func (c *Current) RuleChanged(ctx context.Context, key string) {
	c.follow(ctx, "rule "+key, func(ctx context.Context) error {
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

// AccountChanged reads an account and its links again.
func (c *Current) AccountChanged(ctx context.Context, appid string) {
	c.follow(ctx, "account "+appid, func(ctx context.Context) error {
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
func (c *Current) follow(ctx context.Context, what string, read func(context.Context) error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if err := read(ctx); err != nil {
		c.Log.Error("a committed change cannot be read back; scans may show the state before it until the store answers", "what", what, "error", err)
		c.mu.Lock()
		c.missed = append(c.missed, missed{what: what, read: read})
		c.mu.Unlock()
	}
}

// Retry reads again what could not be read, every interval until ctx ends.
func (c *Current) Retry(ctx context.Context, interval time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
		c.mu.Lock()
		behind := c.missed
		c.missed = nil
		c.mu.Unlock()
		for _, m := range behind {
			c.follow(ctx, m.what, m.read)
		}
	}
}

// Ready returns nil when the memory holds everything that was committed.
func (c *Current) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.loaded {
		return errors.New("rules are being loaded")
	}
	if len(c.missed) > 0 {
		return fmt.Errorf("behind the store by %d changes, the first of %s", len(c.missed), c.missed[0].what)
	}
	return nil
}
