// Package live keeps what scans are answered from in memory equal to the store,
// whichever node changes it.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/index"
	"github.com/qrjump/qrjump/internal/rules"
)

// Current keeps the memory that scans are answered from equal to the store.
//
// It never applies a change from hand to hand: told that something changed, it
// reads that thing again and keeps what it read. Reads are in one line, so the
// last of them sees the last commit, whatever order the changes came in.
type Current struct {
	Rules    *index.Index
	Accounts *Directory
	Codes    *codes.Memory // nil = no codes

	RuleStore    rules.Store
	AccountStore accounts.Store
	Log          *slog.Logger

	// Changes is the log that Follow follows; nil where no other process writes.
	Changes ChangeLog
	// History is the same log where nobody else writes: snapshots hang on it.
	History ChangeLog
	// SnapshotFile is where the index is kept for the next start; "" = nowhere.
	SnapshotFile string
	// On is what else hangs on a kind of change, of other nodes and of this one;
	// it is given the key. Load calls each with "": all may be another.
	On map[string]func(ctx context.Context, key string) error
	// Now is real time, for the age of the memory; nil = time.Now.
	Now func() time.Time

	reading  sync.Mutex
	mu       sync.Mutex
	missed   map[string]missed // what could not be read again yet, by its name
	loaded   bool
	followed position
	checked  time.Time     // at this moment the memory had all up to followed
	silent   bool          // the log cannot be read, and that was said
	restored bool          // the snapshot file was tried
	saved    atomic.Uint64 // Rules.Changes of what the snapshot file holds
}

// missed is something that could not be read again yet.
type missed struct {
	read  func(context.Context) error
	since time.Time
}

// Load fills the memory from the store. What fails is tried again by Retry.
func (c *Current) Load(ctx context.Context) error {
	c.mu.Lock()
	c.loaded = false
	c.mu.Unlock()
	return c.follow(ctx, "everything", c.load)
}

func (c *Current) load(ctx context.Context) error {
	began := c.now()
	var at position
	if log := c.log(); log != nil {
		// What is committed from here on is followed, even if it is read below.
		var err error
		if at.seq, at.hash, err = log.ChangeHead(ctx); err != nil {
			return fmt.Errorf("reading the log of changes: %w", err)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(c.On)) {
		if err := c.On[kind](ctx, ""); err != nil {
			return err
		}
	}
	// What was known before answers until all is read: a node that reads all
	// again is stale, and never empty.
	known := map[string]bool{}
	for after := ""; ; {
		var page []accounts.Account
		err := c.AccountStore.ViewAccounts(ctx, func(tx accounts.Tx) (err error) {
			if page, err = tx.Accounts(ctx, after, 1000); err != nil {
				return err
			}
			for _, a := range page {
				var links []string
				// A Mini Program is only the other end of links.
				if a.Kind != accounts.MiniProgram {
					if links, err = tx.Links(ctx, a.AppID); err != nil {
						return err
					}
				}
				known[a.AppID] = true
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
	c.Accounts.keep(known)
	if c.Codes != nil {
		if err := c.Codes.Load(ctx); err != nil {
			return err
		}
	}
	if err := c.loadRules(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded, c.followed, c.checked = true, at, began
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

// ManyChanged reads about n rules again that were noted from a change on.
func (c *Current) ManyChanged(ctx context.Context, first int64, n int) {
	_ = c.follow(ctx, "many rules", func(ctx context.Context) error {
		// One by one costs more than all at once, where it is most of them.
		if c.log() != nil && n < c.Rules.Len() {
			if ok, err := c.rulesSince(ctx, position{seq: first - 1}); ok || err != nil {
				return err
			}
		}
		return c.loadRules(ctx)
	})
}

// BatchChanged reads what is new of a batch of codes.
func (c *Current) BatchChanged(ctx context.Context, id int64) {
	_ = c.follow(ctx, fmt.Sprintf("batch %d", id), func(ctx context.Context) error { return c.Codes.Changed(ctx, id) })
}

// AccountChanged reads an account and its links again.
func (c *Current) AccountChanged(ctx context.Context, appid string) {
	_ = c.follow(ctx, "account "+appid, func(ctx context.Context) error { return c.readAccount(ctx, appid) })
}

func (c *Current) readAccount(ctx context.Context, appid string) error {
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
		c.missed = map[string]missed{}
	}
	since := c.missed[what].since
	if since.IsZero() {
		since = c.now()
	}
	c.missed[what] = missed{read, since}
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
		for what, m := range c.behind() {
			if ctx.Err() == nil {
				_ = c.follow(ctx, what, m.read) // noted and logged
			}
		}
	}
}

// behind is what could not be read yet. It stays missed until it was read:
// Ready must not say otherwise meanwhile.
func (c *Current) behind() map[string]missed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.missed)
}

// Ready returns nil when the memory holds everything that was committed, as far
// as it can be known: changes of other nodes up to FollowLimit ago.
func (c *Current) Ready() error {
	c.mu.Lock()
	loaded := c.loaded
	n, one := len(c.missed), ""
	for what := range c.missed {
		one = what
	}
	c.mu.Unlock()
	switch age := c.Age(); {
	case !loaded:
		return errors.New("rules are being loaded")
	case n > 0:
		return fmt.Errorf("behind the store by %d changes, one of them of %s", n, one)
	case age > FollowLimit:
		return fmt.Errorf("changes of other nodes were last seen %s ago: the store does not answer", age.Truncate(time.Second))
	}
	return nil
}
