package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/index"
)

// memory is the set of data that serves scans: the current data, or new data that is being filled.
type memory struct {
	rules    *index.Index
	accounts *Accounts     // nil = the memory holds only rules
	codes    *codes.Memory // nil = the memory holds no codes
	// snapshotPosition is the log position of the snapshot file that was loaded; 0 = none was loaded.
	snapshotPosition position
}

func (c *Replica) current() memory {
	return memory{rules: c.Rules, accounts: c.Accounts, codes: c.Codes}
}

// swapped returns the number of full reloads that replaced the memory.
func (c *Replica) swapped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swaps
}

// Load fills the memory from the store. Retry repeats the reads that failed.
func (c *Replica) Load(ctx context.Context) error {
	c.mu.Lock()
	c.loaded = false
	c.mu.Unlock()
	return c.reload(ctx, func() bool { return true })
}

// Reload does the same as Load, while scans are served from the old memory.
func (c *Replica) Reload(ctx context.Context) error {
	return c.reload(ctx, func() bool { return true })
}

// reload waits for the reload lock, and then reloads everything unless wanted returns false.
func (c *Replica) reload(ctx context.Context, wanted func() bool) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	if !wanted() {
		return nil
	}
	err := c.rebuild(ctx, true)
	if err != nil {
		c.recordFailure("everything", func(ctx context.Context) error { return c.reload(ctx, wanted) }, err)
	}
	return err
}

// readBeside waits for the reload lock and then calls rebuild.
func (c *Replica) readBeside(ctx context.Context, all bool) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	return c.rebuild(ctx, all)
}

// rebuild loads everything, or only the rules if "all" is false, into a new memory. During the load, the current memory serves scans and
// follows the change log. After the load, rebuild applies the log to the new memory; at the end of the log the new memory replaces the
// current one, while no goroutine writes to either memory.
func (c *Replica) rebuild(ctx context.Context, all bool) error {
	for {
		done, err := c.followOnce(ctx, all)
		if done || err != nil {
			return err
		}
	}
}

// swapTries is the number of attempts to replace the current memory by the new one, after which the new memory is loaded again. An
// attempt to replace the memory fails if new changes arrive at the same moment.
const swapTries = 100

// followOnce returns done = false if everything must be loaded again: the log was replaced, or swapTries attempts have failed.
func (c *Replica) followOnce(ctx context.Context, all bool) (done bool, err error) {
	var pos position
	// All changes after this log position are applied later, even those that the reads below already include.
	if pos.seq, pos.hash, err = c.log().ChangeHead(ctx); err != nil {
		return false, fmt.Errorf("reading the audit log: %w", err)
	}
	fresh := memory{rules: index.New()}
	if all {
		for _, kind := range slices.Sorted(maps.Keys(c.Handlers)) {
			if err := c.Handlers[kind](ctx, ""); err != nil {
				return false, err
			}
		}
		fresh.accounts = &Accounts{seed: c.Accounts.seed} // the same seed, so that c.Accounts can adopt the set
		if err := c.readAccounts(ctx, fresh.accounts); err != nil {
			return false, fmt.Errorf("loading accounts: %w", err)
		}
		if c.Codes != nil {
			fresh.codes = c.Codes.Rebuild()
			if err := fresh.codes.Load(ctx); err != nil {
				return false, err
			}
		}
	}
	err = c.readRules(ctx, &fresh)
	for tries := 0; err == nil && !done && tries < swapTries; {
		var hasMore bool
		if hasMore, err = c.page(ctx, fresh, &pos); err == nil && !hasMore {
			done, err = c.swap(ctx, fresh, &pos)
			tries++
		}
	}
	if errors.Is(err, errOtherLog) {
		return false, nil
	}
	return done, err
}

// swap replaces the current memory by a new one, if one more page brings the new memory to the end of the log. swap returns
// errOtherLog if the log was replaced.
func (c *Replica) swap(ctx context.Context, fresh memory, pos *position) (done bool, err error) {
	if c.midway != nil {
		c.midway(ctx)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	began := c.clockNow()
	if hasMore, err := c.page(ctx, fresh, pos); hasMore || err != nil {
		return false, err
	}
	if fresh.codes != nil && !c.Codes.Swap(fresh.codes) {
		return false, nil
	}
	c.Rules.Adopt(fresh.rules)
	c.ruled = *pos
	if fresh.accounts == nil {
		return true, nil
	}
	c.Accounts.adopt(fresh.accounts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded, c.followed, c.checked, c.lastResponse, c.snapshotPosition = true, *pos, began, c.clockNow(), fresh.snapshotPosition
	c.swaps++
	clear(c.missed)
	return true, nil
}

// readAccounts reads all accounts and their links into dst.
func (c *Replica) readAccounts(ctx context.Context, dst *Accounts) error {
	for cursor := ""; ; {
		var page []accounts.Account
		err := c.AccountStore.ViewAccounts(ctx, func(tx accounts.Tx) (err error) {
			if page, err = tx.Accounts(ctx, cursor, 1000); err != nil {
				return err
			}
			return setAccounts(ctx, tx, dst, page)
		})
		if err != nil || len(page) == 0 {
			return err
		}
		cursor = page[len(page)-1].AppID
		c.hear()
	}
}
