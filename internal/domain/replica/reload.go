package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/index"
)

// memory is the data from which scans are answered: the current one, or a new one that is being filled.
type memory struct {
	rules    *index.Index
	accounts *Directory    // nil = rules alone
	codes    *codes.Memory // nil = no codes
	// kept is up to where the snapshot file that was read has every rule; 0 = none was read.
	kept position
}

func (c *Replica) current() memory {
	return memory{rules: c.Rules, accounts: c.Accounts, codes: c.Codes}
}

// swapped returns the number of rebuilds that took effect.
func (c *Replica) swapped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swaps
}

// Load fills the memory from the store. Retry repeats what failed.
func (c *Replica) Load(ctx context.Context) error {
	c.mu.Lock()
	c.loaded = false
	c.mu.Unlock()
	return c.reload(ctx, func() bool { return true })
}

// Reload is Load while the memory of before goes on answering.
func (c *Replica) Reload(ctx context.Context) error {
	return c.reload(ctx, func() bool { return true })
}

// reload reads everything again, if that is still wanted when its turn comes.
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

// readBeside calls beside when its turn has come.
func (c *Replica) readBeside(ctx context.Context, all bool) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	return c.rebuild(ctx, all)
}

// rebuild reads everything, or every rule, into a new memory. The current one answers and follows changes meanwhile; these are in
// the log of changes. So the new one follows the log to its end before it takes the place of the current one, and at that moment
// neither is being written.
func (c *Replica) rebuild(ctx context.Context, all bool) error {
	for {
		done, err := c.followOnce(ctx, all)
		if done || err != nil {
			return err
		}
	}
}

// swapTries is the number of attempts of a new memory to replace the current one before it is read anew. A try fails when the
// current memory reads a change at that moment.
const swapTries = 100

// followOnce reports done = false where everything has to be read anew, because the log was replaced
// meanwhile.
func (c *Replica) followOnce(ctx context.Context, all bool) (done bool, err error) {
	var pos position
	// Changes after this are followed, even those that are read below already.
	if pos.seq, pos.hash, err = c.log().ChangeHead(ctx); err != nil {
		return false, fmt.Errorf("reading the log of changes: %w", err)
	}
	fresh := memory{rules: index.New()}
	if all {
		for _, kind := range slices.Sorted(maps.Keys(c.Handlers)) {
			if err := c.Handlers[kind](ctx, ""); err != nil {
				return false, err
			}
		}
		fresh.accounts = c.Accounts.newEmpty()
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
		var hasMore, isOther bool
		if hasMore, isOther, err = c.page(ctx, fresh, &pos); err == nil && !hasMore && !isOther {
			done, isOther, err = c.swap(ctx, fresh, &pos)
			tries++
		}
		if isOther {
			break
		}
	}
	return done, err
}

// swap puts a new memory in place of the current one, if one more page brings it to the end of the
// log.
func (c *Replica) swap(ctx context.Context, fresh memory, pos *position) (done, isOther bool, err error) {
	if c.midway != nil {
		c.midway(ctx)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	began := c.clockNow()
	hasMore, isOther, err := c.page(ctx, fresh, pos)
	if hasMore || isOther || err != nil {
		return false, isOther, err
	}
	if fresh.codes != nil && !c.Codes.Swap(fresh.codes) {
		return false, false, nil
	}
	c.Rules.Adopt(fresh.rules)
	c.ruled = *pos
	if fresh.accounts == nil {
		return true, false, nil
	}
	c.Accounts.adopt(fresh.accounts)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded, c.followed, c.checked, c.heard, c.kept = true, *pos, began, c.clockNow(), fresh.kept
	c.swaps++
	clear(c.missed)
	return true, false, nil
}

// readAccounts reads all accounts with their links.
func (c *Replica) readAccounts(ctx context.Context, dst *Directory) error {
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
