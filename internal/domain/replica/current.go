// Package replica keeps what scans are answered from in memory equal to the store,
// whichever node changes it.
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

// Replica keeps the memory that scans are answered from equal to the store.
//
// It only applies changes that it read from the log itself. Told that something changed, it reads that thing from the store again
// and keeps what it read. Reads queue for one lock, so the last of them sees the last commit, in whatever order the changes were
// told.
type Replica struct {
	Rules    *index.Index
	Accounts *Directory
	Codes    *codes.Memory // nil = no codes

	RuleStore    rules.Store
	AccountStore accounts.Store
	Log          *slog.Logger

	// Changes is the log that Follow follows; nil where no other process writes, and History is set
	// instead.
	Changes ChangeLog
	// History is the same log without other writers: snapshots are compared with it.
	History ChangeLog
	// SnapshotFile is the file that stores the index for the next start; "" = none.
	SnapshotFile string
	// Handlers is called with the key of a change of its kind, whether this node made it or another. Load
	// calls each with "", which means that everything may have changed.
	Handlers map[string]func(ctx context.Context, key string) error
	// Products reads the links of GS1 keys again; nil = there are none. On reads all of them.
	Products func(ctx context.Context, keys ...string) error
	// Now is real time, for the age of the memory; nil = time.Now.
	Now func() time.Time

	reading   sync.Mutex // held while something is read into the memory
	reloading sync.Mutex // one reads everything at a time; taken before reading
	mu        sync.Mutex
	missed    map[string]missed // what is still to be read again after a read failed, by its name
	next      *changedRules     // the rules that wait for reading; nil = none do
	loaded    bool
	swaps     uint64 // how often a whole new memory took the place of the old one
	followed  position
	checked   time.Time // when the memory last had every change up to followed
	heard     time.Time // when the store last answered: with a page of the log, or with rules of a reload
	silent    bool      // the log cannot be read, and that was logged
	restored  bool      // an attempt was made to use the snapshot file
	kept      position  // up to here the snapshot file has every rule; 0 = there is none of this log
	ruled     position  // up to here the memory has every rule, and maybe further; guarded by reading
	// midway is called before a reload takes reading; tests force interleavings by it.
	midway func(context.Context)
}

// missed is something that could not be read again yet.
type missed struct {
	again func(context.Context) error
	since time.Time
	// unreadable is the error of a read that failed although the store answers; nil = it was not tried since the store recovered.
	unreadable error
}

// RefreshRule reads the rule with a key again. Rules that wait for the lock of reads are read
// together.
func (c *Replica) RefreshRule(ctx context.Context, key string) {
	c.mu.Lock()
	rules := c.next
	if rules != nil && len(rules.keys) < followTogether {
		rules.keys = append(rules.keys, key)
		c.mu.Unlock()
		<-rules.read
		return
	}
	rules = &changedRules{keys: []string{key}, read: make(chan struct{})}
	c.next = rules
	c.mu.Unlock()
	defer close(rules.read)
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	if c.next == rules { // a rule that comes from now on waits for the next read
		c.next = nil
	}
	c.mu.Unlock()
	err := errUnread // stays set after a panic: those who wait are told, and the rules are read again later
	defer func() {
		for _, key := range rules.keys {
			kind, err := "rule "+key, err
			// One rule that cannot be read must not keep the others out.
			if err != nil && !errors.Is(err, errUnread) && len(rules.keys) > 1 {
				err = c.readKeys(ctx, []string{key})
			}
			c.recordFailure(kind, func(ctx context.Context) error {
				return c.readAgain(ctx, kind, func(ctx context.Context) error { return c.readKeys(ctx, []string{key}) })
			}, err)
		}
	}()
	err = c.readKeys(ctx, rules.keys)
}

var errUnread = errors.New("reading it broke off")

// changedRules are rules that wait to be read again.
type changedRules struct {
	keys []string
	read chan struct{} // closed once they are
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

// RefreshMany reads about n rules again, which the log has from the change with the number first
// on.
func (c *Replica) RefreshMany(ctx context.Context, first int64, n int) {
	retry := func(ctx context.Context) error {
		// Where most rules changed, reading all at once costs less than reading one by one.
		if n < c.Rules.Len() {
			if isOther, err := c.followRules(ctx, c.Rules, &c.reading, &c.ruled); !isOther || err != nil {
				return err
			}
		}
		return c.readBeside(ctx, false)
	}
	var note func(ctx context.Context) error
	note = func(ctx context.Context) error {
		err := retry(ctx)
		c.recordFailure(fmt.Sprintf("the rules since change %d", first), note, err)
		return err
	}
	_ = note(ctx)
}

// RefreshBatch reads what is new of a batch of codes.
func (c *Replica) RefreshBatch(ctx context.Context, id int64) {
	_ = c.readAgain(ctx, fmt.Sprintf("batch %d", id), func(ctx context.Context) error { return c.Codes.Changed(ctx, id) })
}

// ProductsChanged reads the links of GS1 keys again, many in each transaction.
func (c *Replica) ProductsChanged(ctx context.Context, keys ...string) {
	for names := range slices.Chunk(keys, followPage) {
		_ = c.readAgain(ctx, nameOf(GS1Change, names), func(ctx context.Context) error { return c.Products(ctx, names...) })
	}
}

// RefreshAccounts reads accounts and their links again, many in each transaction.
func (c *Replica) RefreshAccounts(ctx context.Context, appids ...string) {
	for names := range slices.Chunk(appids, followPage) {
		_ = c.readAgain(ctx, nameOf(AccountChange, names), func(ctx context.Context) error { return c.readThese(ctx, c.Accounts, names) })
	}
}

// nameOf returns a name that only the same things of a kind have.
func nameOf(kind string, keys []string) string {
	if len(keys) == 1 {
		return kind + " " + keys[0]
	}
	return fmt.Sprintf("%s %s and %d more (%x)", kind, keys[0], len(keys)-1, sha256.Sum256([]byte(strings.Join(keys, " "))))
}

// readThese reads accounts with their links; those that are not storedAccounts are removed.
func (c *Replica) readThese(ctx context.Context, dst *Directory, appids []string) error {
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

// setAccounts keeps accounts with their links, which it reads.
func setAccounts(ctx context.Context, tx accounts.Tx, dst *Directory, all []accounts.Account) error {
	var services []string
	for _, a := range all {
		// Links are kept with the service account.
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

// readAgain reads one thing again, under the lock of reads. Where that fails, Retry does it later,
// and until then Ready says that the memory is behind.
func (c *Replica) readAgain(ctx context.Context, kind string, read func(context.Context) error) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	err := read(ctx)
	c.recordFailure(kind, func(ctx context.Context) error { return c.readAgain(ctx, kind, read) }, err)
	return err
}

// recordFailure remembers a read that failed, and forgets it once it succeeded.
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
		c.Log.Error("a committed change cannot be read back; scans may show the state before it until it can be", "what", kind, "error", err)
		m.since = c.clockNow()
	}
	m.again = retry
	c.missed[kind] = m
}

// setAside calls read, and once more where only that failed: the store answers. Then kind is read is missed, Retry goes on, and
// nothing else waits for it. It returns an error where the store does not answer.
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

// Retry repeats the reads that failed, every interval until ctx ends.
func (c *Replica) Retry(ctx context.Context, interval time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
		for kind, m := range c.missing() {
			if ctx.Err() == nil {
				_ = c.setAside(ctx, kind, m.again, m.again) // noted and logged
			}
		}
	}
}

// missing returns the objects that could not be read yet. It stays missed while it is being read: until that succeeded, Ready must
// report it.
func (c *Replica) missing() map[string]missed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.missed)
}

// Loaded reports whether the memory holds the rules, of whatever age.
func (c *Replica) Loaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.loaded
}

// Ready returns nil while the memory is loaded and the store lets it follow: every read of a change of this node succeeded, and
// a page of the log was read within FollowLimit. It is nil also while a long import is read, and where something cannot be read
// although the store answers, which no node can: see Stale, Reading and Unreadable.
func (c *Replica) Ready() error {
	c.mu.Lock()
	loaded := c.loaded
	n, name := 0, ""
	for kind, m := range c.missed {
		if m.unreadable == nil {
			n, name = n+1, kind
		}
	}
	heard := c.heard
	c.mu.Unlock()
	switch silence := c.clockNow().Sub(heard); {
	case !loaded:
		return errors.New("rules are being loaded")
	case n > 0:
		return fmt.Errorf("behind the store by %d changes, one of them of %s", n, name)
	case c.Changes != nil && silence > FollowLimit:
		return fmt.Errorf("changes of other nodes were last read %s ago: the store does not answer", silence.Truncate(time.Second))
	}
	return nil
}

// Unreadable returns how many changes cannot be read although the store answers, with the first of them and why; 0 = none.
// Everything else is followed.
func (c *Replica) Unreadable() (n int, first string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, m := range c.missed {
		if m.unreadable == nil {
			continue
		}
		if n++; n == 1 || kind < first {
			first, err = kind, m.unreadable
		}
	}
	return n, first, err
}

// Stale reports whether a scan may show a state that is older than FollowLimit.
func (c *Replica) Stale() bool { return c.Ready() != nil || c.Staleness() > FollowLimit }

// Reading returns how many changes of a bulk import the memory has read, of how many; 0, 0 while it reads none.
func (c *Replica) Reading() (done, all int64) {
	pos := c.currentPosition()
	if pos.shown == 0 {
		return 0, 0
	}
	return pos.shown - pos.first + 1, pos.last - pos.first + 1
}

// hear notes that the store answered.
func (c *Replica) hear() {
	now := c.clockNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = now
}

// hearing notes that the store answers while it yields rules.
func (c *Replica) hearing(all iter.Seq2[rules.Rule, error]) iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		n := 0
		for r, err := range all {
			if n++; n%followPage == 0 && err == nil {
				c.hear()
			}
			if !yield(r, err) {
				return
			}
		}
	}
}
