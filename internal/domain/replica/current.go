// Package replica keeps the in-memory data that serves scans in sync with the store, whichever node changes the store.
package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Replica is the in-memory copy of the data that serves scans, kept in sync with the store.
//
// A replica applies only data that it has itself read from the store or its change log. When a replica is notified of a change, it
// reads the changed object from the store again and stores the result. Reads are serialized by one lock, so the last read sees the
// last commit, in whatever order the notifications arrive.
type Replica struct {
	Rules    *index.Index
	Accounts *Accounts
	Codes    *codes.Memory // nil = no codes

	RuleStore    rules.Store
	AccountStore accounts.Store
	Log          *slog.Logger

	// Changes is the log that Follow follows; nil = no other process writes to the store, and History is set instead.
	Changes ChangeLog
	// History is the change log of a store without other writers; snapshots are checked against it.
	History ChangeLog
	// SnapshotFile is the path of the file that stores the index for the next start; "" = none.
	SnapshotFile string
	// Handlers holds, for each kind of change, a function that is called with the key of each change, whether this node or another
	// node made the change. Load calls each handler with the key "", which means that everything may have changed.
	Handlers map[string]func(ctx context.Context, key string) error
	// Products reloads the links of the given GS1 keys; nil = the server has no GS1 keys. Without keys, Products reloads the links
	// of all GS1 keys.
	Products func(ctx context.Context, keys ...string) error
	// Now returns the real time, used for the staleness of the replica; nil = time.Now.
	Now func() time.Time

	reading          sync.Mutex // held while data is being read into memory
	updates          int64      // number of this node's update transactions whose results the memory contains; guarded by "reading"
	replaced         bool       // true if the last read found another log and the memory must be reloaded; guarded by "reading"
	reloading        sync.Mutex // serializes full reloads; locked before the mutex "reading"
	mu               sync.Mutex
	missed           map[string]missed // reads that failed and must be repeated, by name
	next             *changedRules     // the rules that wait for the next read; nil = none
	loaded           bool
	swaps            uint64 // number of times that a full reload replaced the memory
	followed         position
	checked          time.Time // last time at which the memory contained every change that was committed
	lastResponse     time.Time // last time at which the store responded with a page of the log or with rules of a reload
	silent           bool      // true if the program has logged that the change log cannot be read
	restored         bool      // true if loading the snapshot file was attempted
	snapshotPosition position  // log position up to which the snapshot file contains every rule change; 0 = no file for this log
	ruled            position  // log position up to which the memory contains every rule change; guarded by the mutex "reading"
	// midway is a test hook that forces interleavings; a reload calls it before it locks the mutex "reading".
	midway func(context.Context)
}

// missed is a failed read that must be repeated.
type missed struct {
	retry func(context.Context) error
	since time.Time
	// unreadable is the error of a read that failed although the store responded; nil = the store may not have responded.
	unreadable error
}

// RefreshRule makes the memory contain the committed change of the rule with a key: it follows the log, or reads the rule if there is no
// log to follow or the log cannot be read to its end. Rules that wait for the read lock are read together.
func (c *Replica) RefreshRule(ctx context.Context, key string) {
	c.mu.Lock()
	batch := c.next
	if batch != nil && len(batch.keys) < followTogether {
		batch.keys = append(batch.keys, key)
		c.mu.Unlock()
		<-batch.read
		return
	}
	batch = &changedRules{keys: []string{key}, read: make(chan struct{})}
	c.next = batch
	c.mu.Unlock()
	defer close(batch.read)
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	if c.next == batch { // rules that arrive from now on wait for the next read
		c.next = nil
	}
	c.mu.Unlock()
	contained, err := false, errUnread // after a panic, err is still errUnread, and the rules are read again later
	defer func() {
		if contained { // the read of the log has recorded what it could not read
			return
		}
		for _, key := range batch.keys {
			kind, err := "rule "+key, err
			// After an error each rule is read by itself, so that one unreadable rule does not block the other rules.
			if err != nil && !errors.Is(err, errUnread) && len(batch.keys) > 1 {
				err = c.readKeys(ctx, []string{key})
			}
			c.recordFailure(kind, func(ctx context.Context) error {
				return c.readAgain(ctx, kind, func(ctx context.Context) error { return c.readKeys(ctx, []string{key}) })
			}, err)
		}
	}()
	if contained = c.readOwn(ctx); !contained {
		err = c.readKeys(ctx, batch.keys)
	}
}

var errUnread = errors.New("an earlier read of it failed")

// changedRules is a list of changed rules that wait to be reloaded.
type changedRules struct {
	keys []string
	read chan struct{} // closed after the rules have been read
}

func (c *Replica) readKeys(ctx context.Context, keys []string) error {
	return c.RuleStore.ViewRules(ctx, func(tx rules.Tx) error {
		all, err := tx.RulesAt(ctx, keys)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if n := slices.IndexFunc(all, func(r rules.Rule) bool { return r.Prefix.Key == key }); n >= 0 {
				c.Rules.Set(all[n])
			} else {
				c.Rules.Remove(key)
			}
		}
		return nil
	})
}

// RefreshMany reloads about n rules, whose changes are in the audit log from entry number first on.
func (c *Replica) RefreshMany(ctx context.Context, first int64, n int) {
	_ = c.readUnlocked(ctx, fmt.Sprintf("the rules since change %d", first), func(ctx context.Context) error {
		// If most rules changed, a full reload is cheaper than reading the rules one by one.
		if n < c.Rules.Len() {
			if err := c.followRules(ctx, c.Rules, &c.reading, &c.ruled); !errors.Is(err, errOtherLog) {
				return err
			}
		}
		return c.readBeside(ctx, false)
	})
}

// FollowOwn applies all committed changes like CatchUp. If it fails, Retry repeats it, and Ready returns an error until then. The name
// identifies the call in this error and is different for each call.
func (c *Replica) FollowOwn(ctx context.Context, name string) {
	_ = c.readUnlocked(ctx, name, c.CatchUp)
}

// RefreshBatch reloads the changes of a batch of codes.
func (c *Replica) RefreshBatch(ctx context.Context, id int64) {
	_ = c.readAgain(ctx, fmt.Sprintf("batch %d", id), func(ctx context.Context) error { return c.Codes.Changed(ctx, id) })
}

// ProductsChanged reloads the links of GS1 keys, many keys per transaction.
func (c *Replica) ProductsChanged(ctx context.Context, keys ...string) {
	for names := range slices.Chunk(keys, followPage) {
		_ = c.readAgain(ctx, nameOf(GS1Change, names), func(ctx context.Context) error { return c.Products(ctx, names...) })
	}
}

// RefreshAccounts reloads accounts and their links, many accounts per transaction.
func (c *Replica) RefreshAccounts(ctx context.Context, appids ...string) {
	for names := range slices.Chunk(appids, followPage) {
		_ = c.readAgain(ctx, nameOf(AccountChange, names), func(ctx context.Context) error { return c.readThese(ctx, c.Accounts, names) })
	}
}

// nameOf returns a name that identifies a set of keys of one kind.
func nameOf(kind string, keys []string) string {
	if len(keys) == 1 {
		return kind + " " + keys[0]
	}
	return fmt.Sprintf("%s %s and %d more (%x)", kind, keys[0], len(keys)-1, sha256.Sum256([]byte(strings.Join(keys, " "))))
}

// readThese reads accounts and their links from the store into dst, and removes accounts that are not in the store.
func (c *Replica) readThese(ctx context.Context, dst *Accounts, appids []string) error {
	return c.AccountStore.ViewAccounts(ctx, func(tx accounts.Tx) error {
		storedAccounts, err := tx.AccountsAt(ctx, appids)
		if err != nil {
			return err
		}
		found := make(map[string]bool, len(storedAccounts))
		for _, a := range storedAccounts {
			found[a.AppID] = true
		}
		if err := setAccounts(ctx, tx, dst, storedAccounts); err != nil {
			return err
		}
		for _, appid := range appids {
			if !found[appid] {
				dst.Remove(appid)
			}
		}
		return nil
	})
}

// setAccounts reads the links of accounts from the database, and stores the accounts and their links in dst.
func setAccounts(ctx context.Context, tx accounts.Tx, dst *Accounts, all []accounts.Account) error {
	var services []string
	for _, a := range all {
		// Links between accounts are stored with the service account.
		if a.Kind != accounts.MiniProgram {
			services = append(services, a.AppID)
		}
	}
	links, err := tx.LinksAt(ctx, services)
	if err != nil {
		return err
	}
	for _, a := range all {
		dst.Set(a, links[a.AppID])
	}
	return nil
}

// readUnlocked works like readAgain, with a read that acquires the read lock itself.
func (c *Replica) readUnlocked(ctx context.Context, kind string, read func(context.Context) error) error {
	err := read(ctx)
	c.recordFailure(kind, func(ctx context.Context) error { return c.readUnlocked(ctx, kind, read) }, err)
	return err
}

// readAgain runs a read while holding the read lock. If the read fails, Retry repeats it later; until then Ready returns an error.
func (c *Replica) readAgain(ctx context.Context, kind string, read func(context.Context) error) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	err := read(ctx)
	c.recordFailure(kind, func(ctx context.Context) error { return c.readAgain(ctx, kind, read) }, err)
	return err
}

// recordFailure records a failed read, or removes the record when err is nil.
func (c *Replica) recordFailure(kind string, retry func(context.Context) error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		delete(c.missed, kind)
		return
	}
	if c.missed == nil {
		c.missed = map[string]missed{}
	}
	m := c.missed[kind]
	if m.since.IsZero() {
		m.since = c.clockNow()
	}
	// One outage makes many reads fail: only the first failed read is logged; Ready and Unreadable report all failed reads.
	if len(c.missed) == 0 {
		c.Log.Error("committed changes not readable; scans may use the previous state", "kind", kind, "error", err)
	}
	m.retry = retry
	c.missed[kind] = m
}

// setAside calls read, and calls it a second time if the read failed although the store responds. If the second call fails too, setAside
// records kind as missed and unreadable, and returns nil: the replica follows the rest of the log, and Retry repeats the read. If the store
// does not respond, setAside returns an error.
func (c *Replica) setAside(ctx context.Context, kind string, read, retry func(context.Context) error) error {
	for tries := 1; ; tries++ {
		err := read(ctx)
		if err == nil {
			return nil
		}
		if _, silent := c.log().ChangesFrom(ctx, c.currentPosition().seq, 1); silent != nil {
			return err
		}
		if tries == 2 {
			c.recordFailure(kind, retry, err)
			c.mu.Lock()
			defer c.mu.Unlock()
			m := c.missed[kind]
			m.unreadable = err
			c.missed[kind] = m
			return nil
		}
	}
}

// Retry repeats the failed reads at every interval until ctx ends.
func (c *Replica) Retry(ctx context.Context, interval time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
		for kind, m := range c.missing() {
			if ctx.Err() == nil {
				_ = c.setAside(ctx, kind, m.retry, m.retry) // noted and logged
			}
		}
	}
}

// missing returns a copy of the failed reads. An object stays in missed while it is being read again, because Ready must report it
// until the read succeeds.
func (c *Replica) missing() map[string]missed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.missed)
}

// Loaded reports whether the memory has been loaded, however stale it is.
func (c *Replica) Loaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded
}

// Ready returns nil if the memory is loaded, every read of this node's own changes succeeded, and a page of the log was read within
// FollowLimit. Ready also returns nil while a long import is being read (see Reading and Stale). Ready ignores objects that cannot be read
// although the store responds, because no node could read them (see Unreadable).
func (c *Replica) Ready() error {
	c.mu.Lock()
	loaded := c.loaded
	n, name := 0, ""
	for kind, m := range c.missed {
		if m.unreadable == nil {
			n, name = n+1, kind
		}
	}
	heard := c.lastResponse
	c.mu.Unlock()
	switch silence := c.clockNow().Sub(heard); {
	case !loaded:
		return errors.New("rules are being loaded")
	case n > 0:
		return fmt.Errorf("%d changes behind the store, one of them of %s", n, name)
	case c.Changes != nil && silence > FollowLimit:
		return fmt.Errorf("changes of other nodes were last read %s ago: the store does not respond", silence.Truncate(time.Second))
	}
	return nil
}

// Unreadable returns the number of changes that cannot be read although the store responds, and the name and error of the first of
// these changes; 0 = none. All changes other than the unreadable ones are being followed.
func (c *Replica) Unreadable() (n int, first string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, m := range c.missed {
		if m.unreadable == nil {
			continue
		}
		n++
		if n == 1 || kind < first {
			first, err = kind, m.unreadable
		}
	}
	return n, first, err
}

// Stale reports whether a scan may see a state that is older than FollowLimit.
func (c *Replica) Stale() bool { return c.Ready() != nil || c.Staleness() > FollowLimit }

// Reading returns the number of changes of a bulk import that the memory has read, and their total number; 0, 0 if no bulk import
// is being read.
func (c *Replica) Reading() (done, all int64) {
	pos := c.currentPosition()
	if pos.shown == 0 {
		return 0, 0
	}
	return pos.shown - pos.first + 1, pos.last - pos.first + 1
}

// hear records that the store has just responded.
func (c *Replica) hear() {
	now := c.clockNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastResponse = now
}

// hearing wraps a stream of rules: while rules arrive, the wrapper records that the store responds.
func (c *Replica) hearing(all iter.Seq2[rules.Rule, error]) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		n := 0
		for r, err := range all {
			n++
			if n%followPage == 0 && err == nil {
				c.hear()
			}
			if !yield(r, err) {
				return
			}
		}
	}
}
