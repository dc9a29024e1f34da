package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/index"
)

// When a snapshot is written.
const (
	// snapshotPause is the least time between two; a large one waits twenty
	// times as long as it took to write.
	snapshotPause = 30 * time.Second
	// snapshotBehind is how many changes a start reads again without being much
	// slower for it; a stop leaves that many to it.
	snapshotBehind = 10_000
	// snapshotStale is with how many changes since then a snapshot is not worth
	// reading.
	snapshotStale = 500_000
)

// log is where the changes of the store can be read.
func (c *Current) log() ChangeLog {
	if c.Changes != nil {
		return c.Changes
	}
	return c.History
}

// restore reads the rules from the snapshot file, once, and returns the position
// up to which it holds everything. ok is false where there is no usable file;
// then one line in the log says why.
func (c *Current) restore(ctx context.Context, into *memory) (at position, ok bool) {
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
	at = position{s.Seq, s.Identity}
	if err := c.fits(ctx, at); err != nil {
		c.Log.InfoContext(ctx,
			"the snapshot of the rules is not of this store as it is now; they are read from the store, which takes longer", "file",
			c.SnapshotFile, "why", err)
		return at, false
	}
	held := s.Rules.Changes()
	into.rules, into.file = s.Rules, &held
	c.Log.InfoContext(ctx, "rules read from the snapshot", "file", c.SnapshotFile, "rules", s.Rules.Len(), "seq", at.seq, "took",
		c.now().Sub(began))
	return at, true
}

// fits returns an error unless a position lies in the store's history, not far
// from its end.
func (c *Current) fits(ctx context.Context, at position) error {
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
	case head-at.seq > snapshotStale:
		return fmt.Errorf("%d changes were made since", head-at.seq)
	}
	return nil
}

// rulesSince brings rules from a position to the end of the log, page by page in
// the line of all others that read into them. ok is false where that cannot be done
// change by change.
func (c *Current) rulesSince(ctx context.Context, into *index.Index, line sync.Locker, at position) (ok bool, err error) {
	page := func() (more bool, err error) {
		line.Lock()
		defer line.Unlock()
		list, err := c.log().ChangesFrom(ctx, at.seq+1, followPage)
		if err != nil {
			return false, err
		}
		for _, change := range list {
			switch change.Kind {
			case ResetChange:
				return false, nil
			case RuleChange:
				setRule(into, change.Key, change.Rule)
			}
			at.seq = change.Seq
		}
		ok = len(list) < followPage
		return !ok, nil
	}
	for more := true; more && err == nil; {
		more, err = page()
	}
	return ok, err
}

// readRules reads all rules, from the snapshot and what changed since, or from
// the store.
func (c *Current) readRules(ctx context.Context, into *memory) error {
	if from, ok := c.restore(ctx, into); ok {
		ok, err := c.rulesSince(ctx, into.rules, &sync.Mutex{}, from)
		if err != nil {
			return fmt.Errorf("reading the rules changed since the snapshot: %w", err)
		}
		if ok {
			return nil
		}
		into.file = nil
	}
	if err := into.rules.Load(c.RuleStore.AllRules(ctx)); err != nil {
		return fmt.Errorf("loading rules: %w", err)
	}
	return nil
}

// unsaved is how many changes the snapshot file does not hold.
func (c *Current) unsaved() uint64 { return c.Rules.Changes() - c.saved.Load() }

// SaveSnapshot writes the snapshot file. It does nothing where there is none to
// be kept, or before the first change of a store.
func (c *Current) SaveSnapshot(ctx context.Context) error {
	if c.SnapshotFile == "" {
		return nil
	}
	// Everything up to this position is in the index before it is copied.
	if err := c.CatchUp(ctx); err != nil {
		return fmt.Errorf("writing the snapshot of the rules: %w", err)
	}
	at, changes := c.at(), c.Rules.Changes()
	if at.seq == 0 {
		return nil
	}
	if err := c.Rules.WriteSnapshot(c.SnapshotFile, index.Mark{Seq: at.seq, Identity: at.hash}, c.Accounts.snapshot()); err != nil {
		return err
	}
	c.saved.Store(changes)
	return nil
}

// KeepSnapshot writes the snapshot file when rules changed, seldom enough to cost
// little, until ctx ends.
func (c *Current) KeepSnapshot(ctx context.Context) {
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(pause, time.Second)):
		}
		if c.unsaved() == 0 {
			continue
		}
		began := time.Now()
		if err := c.SaveSnapshot(ctx); err != nil && ctx.Err() == nil {
			c.Log.WarnContext(ctx, "the next start will be slower", "error", err)
		}
		pause = max(snapshotPause, 20*time.Since(began))
	}
}

// LastSnapshot writes the file at a clean stop, unless the one that there is is
// nearly as good.
func (c *Current) LastSnapshot(ctx context.Context) error {
	if n := c.unsaved(); n == 0 || n < snapshotBehind && c.Rules.Len() > 10*snapshotBehind && c.saved.Load() > 0 {
		return nil
	}
	return c.SaveSnapshot(ctx)
}

// snapshot is what decisions need of every account, in the order of AppIDs.
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

// DirectoryOf is what a snapshot file holds of accounts. It knows no members:
// nobody has test links.
func DirectoryOf(list []index.SnapshotAccount) *Directory {
	d := NewDirectory()
	for _, a := range list {
		d.Set(accounts.Account{AppID: a.AppID, Kind: a.Kind, JumpOpen: a.JumpOpen, Versions: a.Versions}, a.Linked)
	}
	return d
}
