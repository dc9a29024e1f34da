package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/index"
)

// Parameters that control when a snapshot is written. Decision 32.
const (
	// snapshotPause is the minimum interval between two snapshots; after a large snapshot, the interval is twenty times the
	// duration of the write.
	snapshotPause = 30 * time.Second
	// changeShare is the number of bytes that may be written for each change: a new file is due when the number of changes since the last
	// file, times changeShare, reaches the size of the last file.
	changeShare = 8192
	// smallSnapshot is the size in bytes below which every change justifies a new file.
	smallSnapshot = 64 << 10
	// A starting node applies at most fewChanges changes plus one per changeCost rules: a change takes as long as loading changeCost rules.
	changeCost, fewChanges = 4, 10_000
)

// log returns the change log of the store.
func (c *Replica) log() ChangeLog {
	if c.Changes != nil {
		return c.Changes
	}
	return c.History
}

// restore loads the rules from the snapshot file, at most once, and returns the log position of the snapshot. If there is no usable
// file, ok is false and the reason is logged.
func (c *Replica) restore(ctx context.Context, dst *memory) (pos position, ok bool) {
	if c.SnapshotFile == "" || c.restored {
		return pos, false
	}
	c.restored = true
	index.TidySnapshots(c.SnapshotFile)
	began := c.clockNow()
	s, err := index.ReadSnapshot(c.SnapshotFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return pos, false
	case err != nil:
		c.Log.WarnContext(ctx, "rules snapshot rejected; rules are loaded from the store", "error", err)
		return pos, false
	}
	pos = position{seq: s.Seq, hash: s.Identity}
	if err := c.fits(ctx, pos, s.Rules.Len()); err != nil {
		c.Log.InfoContext(ctx,
			"rules snapshot is stale; rules are loaded from the store", "file",
			c.SnapshotFile, "reason", err)
		return pos, false
	}
	dst.rules, dst.snapshotPosition = s.Rules, pos
	c.Log.InfoContext(ctx, "rules loaded from the snapshot", "file", c.SnapshotFile, "rules", s.Rules.Len(), "seq", pos.seq, "took",
		c.clockNow().Sub(began))
	return pos, true
}

// fits returns an error if a position does not belong to the store's history, or is so old that loading all rules is faster than applying
// the later changes.
func (c *Replica) fits(ctx context.Context, pos position, rules int) error {
	head, _, err := c.log().ChangeHead(ctx)
	if err != nil {
		return err
	}
	list, err := c.log().ChangesFrom(ctx, pos.seq, 1)
	switch {
	case err != nil:
		return err
	case pos.seq == 0 || len(list) == 0 || list[0].Seq != pos.seq || list[0].Hash != pos.hash:
		return errors.New("it belongs to another audit log")
	case head-pos.seq > fewChanges+int64(rules/changeCost):
		return fmt.Errorf("%d changes since it was written", head-pos.seq)
	}
	return nil
}

// followRules applies the changes after a position to dst until the end of the log, and advances the position. For each page, followRules
// locks "line", which every function that writes to dst locks. followRules returns errOtherLog if the rules must be reloaded instead.
func (c *Replica) followRules(ctx context.Context, dst *index.Index, line sync.Locker, pos *position) error {
	page := func() (hasMore bool, err error) {
		line.Lock()
		defer line.Unlock()
		return c.page(ctx, memory{rules: dst}, pos)
	}
	for {
		if hasMore, err := page(); !hasMore || err != nil {
			return err
		}
	}
}

// readRules loads all rules, either from the snapshot and the changes after it, or from the store.
func (c *Replica) readRules(ctx context.Context, dst *memory) error {
	if from, ok := c.restore(ctx, dst); ok {
		switch err := c.followRules(ctx, dst.rules, &sync.Mutex{}, &from); {
		case err == nil:
			return nil
		case !errors.Is(err, errOtherLog):
			return fmt.Errorf("reading the rules changed since the snapshot: %w", err)
		}
		dst.snapshotPosition = position{}
	}
	if err := dst.rules.Load(c.hearing(c.RuleStore.AllRules(ctx))); err != nil {
		return fmt.Errorf("loading rules: %w", err)
	}
	return nil
}

// SaveSnapshot writes the snapshot file if a new file is due. SaveSnapshot does nothing if no snapshot file is configured or if the
// store has no changes.
func (c *Replica) SaveSnapshot(ctx context.Context) error {
	if c.SnapshotFile == "" {
		return nil
	}
	pos, err := c.rulesToTheEnd(ctx)
	if err != nil {
		return fmt.Errorf("writing the snapshot of the rules: %w", err)
	}
	if n, _, _ := c.Unreadable(); n > 0 || !c.due(pos) { // a snapshot does not store which changes were unreadable
		return nil
	}
	if err := c.Rules.WriteSnapshot(c.SnapshotFile, index.Checkpoint{Seq: pos.seq, Identity: pos.hash}, c.Accounts.snapshot()); err != nil {
		return err
	}
	c.keep(pos)
	return nil
}

// rulesToTheEnd applies the changes up to the end of the log, and returns the position up to which the memory has every rule change.
func (c *Replica) rulesToTheEnd(ctx context.Context) (pos position, err error) {
	err = c.followRules(ctx, c.Rules, &c.reading, &c.ruled)
	if errors.Is(err, errOtherLog) {
		c.keep(position{}) // the snapshot file belongs to the previous change log
		err = c.readBeside(ctx, false)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.ruled, err
}

// keep records the position up to which the snapshot file has every rule change; 0 = there is no file for this log.
func (c *Replica) keep(to position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshotPosition = to
}

// due reports whether a new snapshot file at a position is worth writing: each change since the last file justifies changeShare
// bytes of writing, however many rules are stored.
func (c *Replica) due(pos position) bool {
	c.mu.Lock()
	kept := c.snapshotPosition
	c.mu.Unlock()
	storedInfo, err := os.Stat(c.SnapshotFile)
	if kept.seq == 0 || err != nil {
		return pos.seq > 0
	}
	lag := pos.seq - kept.seq
	return lag > 0 && storedInfo.Size() <= smallSnapshot+changeShare*lag
}

// KeepSnapshot writes the snapshot file whenever a new file is due, at intervals that keep the cost low, until ctx ends.
func (c *Replica) KeepSnapshot(ctx context.Context) {
	for pause := time.Second; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		began := time.Now()
		if err := c.SaveSnapshot(ctx); err != nil && ctx.Err() == nil {
			c.Log.WarnContext(ctx, "rules snapshot not written", "error", err)
		}
		pause = max(snapshotPause, 20*time.Since(began))
	}
}

// snapshot returns the fields of all accounts that scan decisions need, ordered by AppID.
func (a *Accounts) snapshot() []index.SnapshotAccount {
	list := []index.SnapshotAccount{}
	for i := range a.shards {
		m := a.shards[i].Load()
		if m == nil {
			continue
		}
		for _, found := range *m {
			a := found.account
			list = append(list, index.SnapshotAccount{AppID: a.AppID, Kind: a.Kind, JumpOpen: a.JumpOpen, Versions: a.Versions,
				Linked: found.links})
		}
	}
	slices.SortFunc(list, func(a, b index.SnapshotAccount) int { return cmp.Compare(a.AppID, b.AppID) })
	return list
}

// AccountsOf returns the accounts of a snapshot file. The accounts have no members, so test links open for no user.
func AccountsOf(list []index.SnapshotAccount) *Accounts {
	d := NewAccounts()
	for _, a := range list {
		d.Set(accounts.Account{AppID: a.AppID, Kind: a.Kind, JumpOpen: a.JumpOpen, Versions: a.Versions}, a.Linked)
	}
	return d
}
