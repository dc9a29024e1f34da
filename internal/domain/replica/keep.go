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

// When a snapshot is written. Decision 32.
const (
	// snapshotPause is the least time between two; a large one waits twenty
	// times as long as it took to write.
	snapshotPause = 30 * time.Second
	// changeShare is the number of bytes of the next file that each change allows for: the file is due when the changes since the
	// last one allow for as many bytes as it will have.
	changeShare = 8192
	// smallSnapshot is the size in bytes below which a file is written for any change.
	smallSnapshot = 64 << 10
	// To a start, a change that is read again costs as much as changeCost rules that are read all
	// at once; fewChanges of them cost little in any case.
	changeCost, fewChanges = 4, 10_000
)

// log returns the log of the store's changes.
func (c *Replica) log() ChangeLog {
	if c.Changes != nil {
		return c.Changes
	}
	return c.History
}

// restore reads the rules from the snapshot file, once, and returns the position
// up to which it holds everything. ok is false where there is no usable file;
// then one line in the log says why.
func (c *Replica) restore(ctx context.Context, into *memory) (at position, ok bool) {
	if c.SnapshotFile == "" || c.restored {
		return at, false
	}
	c.restored = true
	index.TidySnapshots(c.SnapshotFile)
	began := c.now()
	s, err := index.ReadSnapshot(c.SnapshotFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return at, false
	case err != nil:
		c.Log.WarnContext(ctx, "the snapshot of the rules is refused; they are read from the store, which takes longer", "error", err)
		return at, false
	}
	at = position{seq: s.Seq, hash: s.Identity}
	if err := c.fits(ctx, at, s.Rules.Len()); err != nil {
		c.Log.InfoContext(ctx,
			"the snapshot of the rules is not of this store as it is now; they are read from the store, which takes longer", "file",
			c.SnapshotFile, "why", err)
		return at, false
	}
	into.rules, into.kept = s.Rules, at
	c.Log.InfoContext(ctx, "rules read from the snapshot", "file", c.SnapshotFile, "rules", s.Rules.Len(), "seq", at.seq, "took",
		c.now().Sub(began))
	return at, true
}

// fits returns an error unless a position lies in the store's history, and so near to its end that
// the changes since can be read sooner than all rules.
func (c *Replica) fits(ctx context.Context, at position, rules int) error {
	head, _, err := c.log().ChangeHead(ctx)
	if err != nil {
		return err
	}
	list, err := c.log().ChangesFrom(ctx, at.seq, 1)
	switch {
	case err != nil:
		return err
	case at.seq == 0 || len(list) == 0 || list[0].Seq != at.seq || list[0].Hash != at.hash:
		return errors.New("it is of another history")
	case head-at.seq > fewChanges+int64(rules/changeCost):
		return fmt.Errorf("%d changes were made since", head-at.seq)
	}
	return nil
}

// followRules brings rules from a position to the end of the log, and moves the position with them.
// For each page it takes line, the lock of all who read into these rules. another reports that it
// cannot be done change by change.
func (c *Replica) followRules(ctx context.Context, into *index.Index, line sync.Locker, at *position) (another bool, err error) {
	page := func() (more bool) {
		line.Lock()
		defer line.Unlock()
		more, another, err = c.page(ctx, memory{rules: into}, at)
		return more && !another && err == nil
	}
	for page() {
	}
	return another, err
}

// readRules reads all rules, from the snapshot and what changed since, or from
// the store.
func (c *Replica) readRules(ctx context.Context, into *memory) error {
	if from, ok := c.restore(ctx, into); ok {
		another, err := c.followRules(ctx, into.rules, &sync.Mutex{}, &from)
		if err != nil {
			return fmt.Errorf("reading the rules changed since the snapshot: %w", err)
		}
		if !another {
			return nil
		}
		into.kept = position{}
	}
	if err := into.rules.Load(c.hearing(c.RuleStore.AllRules(ctx))); err != nil {
		return fmt.Errorf("loading rules: %w", err)
	}
	return nil
}

// SaveSnapshot writes the snapshot file when it is due. It does nothing where no file is kept, or
// before the first change of a store.
func (c *Replica) SaveSnapshot(ctx context.Context) error {
	if c.SnapshotFile == "" {
		return nil
	}
	at, err := c.rulesToTheEnd(ctx)
	if err != nil {
		return fmt.Errorf("writing the snapshot of the rules: %w", err)
	}
	if n, _, _ := c.Unreadable(); n > 0 || !c.due(at) { // the next start would not know what could not be read
		return nil
	}
	if err := c.Rules.WriteSnapshot(c.SnapshotFile, index.Mark{Seq: at.seq, Identity: at.hash}, c.Accounts.snapshot()); err != nil {
		return err
	}
	c.keep(at)
	return nil
}

// rulesToTheEnd returns a position up to which the memory has every rule, which was
// the end of the log a moment ago.
func (c *Replica) rulesToTheEnd(ctx context.Context) (at position, err error) {
	another, err := c.followRules(ctx, c.Rules, &c.reading, &c.ruled)
	if another && err == nil {
		c.keep(position{}) // the file belongs to the former log
		err = c.readBeside(ctx, false)
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.ruled, err
}

// keep notes up to where the snapshot file has every rule; 0 = there is no file of
// this log.
func (c *Replica) keep(to position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = to
}

// due reports whether a file of the rules at a position is worth its bytes: each change may cost
// changeShare bytes of writing, however many rules there are.
func (c *Replica) due(at position) bool {
	c.mu.Lock()
	kept := c.kept
	c.mu.Unlock()
	there, err := os.Stat(c.SnapshotFile)
	if kept.seq == 0 || err != nil {
		return at.seq > 0
	}
	behind := at.seq - kept.seq
	return behind > 0 && there.Size() <= smallSnapshot+changeShare*behind
}

// KeepSnapshot writes the snapshot file when enough changed, seldom enough to cost
// little, until ctx ends.
func (c *Replica) KeepSnapshot(ctx context.Context) {
	for pause := time.Second; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		began := time.Now()
		if err := c.SaveSnapshot(ctx); err != nil && ctx.Err() == nil {
			c.Log.WarnContext(ctx, "the next start will be slower", "error", err)
		}
		pause = max(snapshotPause, 20*time.Since(began))
	}
}

// snapshot returns the parts of every account that decisions need, in the order of AppIDs.
func (d *Directory) snapshot() []index.SnapshotAccount {
	list := []index.SnapshotAccount{}
	for i := range d.shelves {
		m := d.shelves[i].Load()
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

// DirectoryOf is the directory of the accounts in a snapshot file. They have no members, so test links open for no user.
func DirectoryOf(list []index.SnapshotAccount) *Directory {
	d := NewDirectory()
	for _, a := range list {
		d.Set(accounts.Account{AppID: a.AppID, Kind: a.Kind, JumpOpen: a.JumpOpen, Versions: a.Versions}, a.Linked)
	}
	return d
}
