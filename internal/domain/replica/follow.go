package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/qrjump/qrjump/internal/domain/index"
	"github.com/qrjump/qrjump/internal/domain/rules"
)

// The kinds of changes that affect the memory. The comment of each kind describes the field Key of the change.
const (
	RuleChange       = "rule"       // key: the key of the rule
	AccountChange    = "account"    // key: the AppID
	AppearanceChange = "appearance" // key: the AppID
	LinkChange       = "link"       // key: the AppID of the service account, a space, the AppID of the Mini Program
	BatchChange      = "batch"      // key: the number of the batch
	CodesChange      = "codes"      // key: the number of the batch
	MetaChange       = "meta"       // key: the name of the value
	ScanKeyChange    = "scan_key"   // key: the name of the scan key
	GS1Change        = "gs1"        // key: the GS1 key
	ResetChange      = "reset"      // everything is reloaded
	EmptiedChange    = "emptied"    // key: the AppID of an account whose data was all deleted; everything is reloaded
	ImportChange     = "import"     // key: the range of change numbers that this entry makes visible, as FormatSeqRange returns it
)

// FormatSeqRange returns the key of an import: the numbers of its first and last change.
func FormatSeqRange(first, last int64) string { return fmt.Sprintf("%d-%d", first, last) }

// ParseSeqRange parses a key that FormatSeqRange returned.
func ParseSeqRange(key string) (first, last int64, ok bool) {
	n, err := fmt.Sscanf(key, "%d-%d", &first, &last)
	return first, last, n == 2 && err == nil && first > 0 && first <= last
}

// Change is one entry of the change log. The change log contains every commit of every node, in commit order and without gaps.
type Change struct {
	Seq  int64
	Hash string // hash of this entry and all entries before it
	Kind string
	Key  string
	Rule *rules.Rule // RuleChange: the current version of the rule; nil = deleted
	// Damaged is the error of decoding the rule; nil = no error.
	Damaged error
}

// ChangeLog is the change log of the store.
type ChangeLog interface {
	// ChangeHead returns the number and hash of the last entry; 0 and "" if the log is empty.
	ChangeHead(ctx context.Context) (seq int64, hash string, err error)
	// ChangesFrom returns at most limit entries with numbers from the given one on, together with the current versions of the rules
	// that the entries name.
	ChangesFrom(ctx context.Context, from int64, limit int) ([]Change, error)
	// Updates returns the number of update transactions of this process that have ended, whatever their outcome.
	Updates() int64
	// Listen opens a connection that receives notifications of the commits of all nodes.
	Listen(ctx context.Context) (Notifier, error)
}

// Notifier wakes the replica when something may have been committed. Notifications may be spurious, and a broken connection loses
// notifications: only the log is authoritative.
type Notifier interface {
	// Wait returns the number of the last entry of a commit, 0 if it is not known, or the error of a broken connection or of ctx.
	Wait(ctx context.Context) (seq int64, err error)
	Close()
}

// Limits of following.
const (
	followPage = 1000
	// shownPage is the page size for the changes of a bulk import. The page is larger than usual because each page costs a query
	// plan and a transaction; a change of this node waits until the current page has been read.
	shownPage = 5000
	// followTogether is the number of changed rules that are read in one query.
	followTogether = 100
	// followEvery is the interval at which the log is polled if no notification arrives.
	followEvery = time.Second
	// FollowLimit is the staleness above which a node reports that it is not ready.
	FollowLimit = 5 * time.Second
	// The minimum and maximum delay before the notification connection is reopened.
	firstPause, longestPause = 50 * time.Millisecond, 5 * time.Second
)

// position is the offset up to which the replica has followed the log.
type position struct {
	seq  int64
	hash string
	// While an import is being read: the first and last change that its log entry makes visible, and the last change read; otherwise 0.
	first, last, shown int64
}

// Follow keeps the memory in sync with the commits of all nodes until ctx ends, if there are other nodes. Load must be called before.
func (c *Replica) Follow(ctx context.Context) {
	if c.Changes == nil {
		return
	}
	rung := make(chan int64, 1)
	var listening sync.WaitGroup
	listening.Go(func() { c.listen(ctx, rung) })
	defer listening.Wait() // the notification connection must be closed before the store is closed
	for seq := int64(0); ctx.Err() == nil; {
		if seq == 0 || !c.contains(seq) { // after a change of this node, the memory often contains the change already
			if err := c.CatchUp(ctx); err != nil && ctx.Err() == nil {
				c.notFollowing(ctx, err)
			}
		}
		seq = 0
		select {
		case <-ctx.Done():
		case seq = <-rung:
		case <-time.After(followEvery):
		}
	}
}

// notFollowing logs that the log cannot be read, once per outage.
func (c *Replica) notFollowing(ctx context.Context, err error) {
	c.mu.Lock()
	first := !c.silent
	c.silent = true
	c.mu.Unlock()
	if first {
		c.Log.ErrorContext(ctx, "replication failed", "will_retry", true, "error", err)
	}
}

// listen forwards the newest notification to the channel rung; 0 = anything may have been committed. If the connection breaks, listen opens
// a new connection.
func (c *Replica) listen(ctx context.Context, rung chan int64) {
	ring := func(seq int64) {
		select {
		case <-rung: // a notification of an earlier commit
		default:
		}
		rung <- seq
	}
	pause := firstPause
	for ctx.Err() == nil {
		bell, err := c.Changes.Listen(ctx)
		if err == nil {
			ring(0) // this signal covers commits made before the connection was opened
			for err == nil {
				var seq int64
				if seq, err = bell.Wait(ctx); err == nil {
					pause = firstPause
					ring(seq)
				}
			}
			bell.Close()
		}
		if ctx.Err() != nil {
			return
		}
		c.Log.WarnContext(ctx, "change notification connection lost; polling once a second", "error",
			err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// CatchUp applies all changes committed since the last call to the memory.
func (c *Replica) CatchUp(ctx context.Context) error {
	for {
		hasMore, err := c.catchUp(ctx)
		if err != nil || !hasMore {
			return err
		}
	}
}

// catchUp applies one page of the log while holding the read lock, so that it never replaces newer data by older data.
func (c *Replica) catchUp(ctx context.Context) (hasMore bool, err error) {
	c.reading.Lock()
	swaps := c.swapped()
	hasMore, err = c.nextPage(ctx)
	c.reading.Unlock()
	if errors.Is(err, errOtherLog) {
		return false, c.reload(ctx, func() bool { return c.swapped() == swaps })
	}
	return hasMore, err
}

// contains reports whether the last change that the memory contains has the given number. contains waits for a running read.
func (c *Replica) contains(seq int64) bool {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.currentPosition().seq == seq
}

// readOwn makes the memory contain everything that the ended update transactions of this node wrote or saw, and returns false if it could
// not. It reads the log only if no read that began after the end of these transactions has succeeded. The caller must hold the mutex
// "reading".
func (c *Replica) readOwn(ctx context.Context) bool {
	// Without a position there is no log, or nothing was loaded. The pages of an import take long.
	if pos := c.currentPosition(); c.Changes == nil || pos.seq == 0 || pos.shown > 0 || c.replaced {
		return false
	}
	if c.updates >= c.Changes.Updates() {
		return true
	}
	hasMore, err := c.nextPage(ctx)
	return err == nil && !hasMore
}

// nextPage applies one page of the log to the memory. The caller must hold the mutex "reading".
func (c *Replica) nextPage(ctx context.Context) (hasMore bool, err error) {
	began, pos, updates := c.clockNow(), c.currentPosition(), c.log().Updates()
	hasMore, err = c.page(ctx, c.current(), &pos)
	c.replaced = errors.Is(err, errOtherLog)
	if err == nil {
		if !hasMore {
			c.updates = updates
		}
		if pos.seq > c.ruled.seq {
			c.ruled = pos
		}
		c.mu.Lock()
		c.followed = pos
		if !hasMore {
			c.checked = began
		}
		if c.silent {
			c.silent = false
			c.Log.InfoContext(ctx, "replication recovered", "seq", pos.seq)
		}
		c.mu.Unlock()
	}
	return hasMore, err
}

// errOtherLog is returned if the log was replaced by another log, so that everything must be reloaded.
var errOtherLog = errors.New("replica: the audit log was replaced")

// page applies the log entries after pos, at most one page, to the memory dst. page returns errOtherLog if the log was replaced.
func (c *Replica) page(ctx context.Context, dst memory, pos *position) (hasMore bool, err error) {
	defer func() {
		if err == nil || errors.Is(err, errOtherLog) {
			c.hear()
		}
	}()
	// The page begins with the last entry that was already read: its hash proves that the log is still the same one.
	list, err := c.log().ChangesFrom(ctx, pos.seq, followPage)
	if err != nil {
		return false, err
	}
	if pos.seq > 0 {
		if len(list) == 0 || list[0].Seq != pos.seq || list[0].Hash != pos.hash {
			c.Log.WarnContext(ctx,
				"the audit log was replaced (by a reset, or a database that lost commits): all data is reloaded", "seq", pos.seq)
			return false, errOtherLog
		}
		list = list[1:]
	}
	if slices.ContainsFunc(list, func(c Change) bool { return c.Kind == ResetChange || c.Kind == EmptiedChange }) {
		return false, errOtherLog
	}
	full := len(list) >= followPage-1
	if n := slices.IndexFunc(list, func(change Change) bool { return change.Kind == ImportChange }); n == 0 {
		return true, c.shown(ctx, dst, list[0], pos)
	} else if n > 0 {
		list, full = list[:n], true
	}
	if err := c.applyAll(ctx, dst, list); err != nil {
		return false, err
	}
	if n := len(list); n > 0 {
		*pos = position{seq: list[n-1].Seq, hash: list[n-1].Hash}
	}
	return full, nil
}

// shown applies one page of the changes that an import entry makes visible. The imported changes have lower numbers than the import
// entry itself: this node passed these numbers before the changes became visible.
func (c *Replica) shown(ctx context.Context, dst memory, entry Change, pos *position) error {
	first, last, ok := ParseSeqRange(entry.Key)
	if ok {
		list, err := c.log().ChangesFrom(ctx, max(first, pos.shown+1), shownPage)
		if err != nil {
			return err
		}
		if n := slices.IndexFunc(list, func(change Change) bool { return change.Seq > last }); n >= 0 {
			list = list[:n]
		}
		if err := c.applyAll(ctx, dst, list); err != nil {
			return err
		}
		if n := len(list); n > 0 && list[n-1].Seq < last {
			pos.first, pos.last, pos.shown = first, last, list[n-1].Seq
			return nil
		}
	}
	*pos = position{seq: entry.Seq, hash: entry.Hash}
	return nil
}

// applyAll applies a list of log entries: each object is read only once, and all accounts are read together. If an object for the
// current memory cannot be read although the store responds, the object is set aside for Retry.
func (c *Replica) applyAll(ctx context.Context, dst memory, list []Change) error {
	read := func(subject string, f func(context.Context) error) error {
		if dst != c.current() {
			return f(ctx)
		}
		return c.setAside(ctx, subject, f, func(ctx context.Context) error { return c.readAgain(ctx, subject, f) })
	}
	var appids, products []string
	seen := map[string]bool{}
	for _, change := range list {
		key := change.Key
		if change.Kind == LinkChange {
			key, _, _ = strings.Cut(key, " ")
		}
		kind := change.Kind
		switch kind {
		case LinkChange:
			kind = AccountChange
		case CodesChange:
			kind = BatchChange
		}
		if seen[kind+" "+key] {
			continue
		}
		seen[kind+" "+key] = true
		if kind == AccountChange {
			appids = append(appids, key)
			continue
		}
		if kind == GS1Change {
			products = append(products, key)
			continue
		}
		if err := read(kind+" "+key, func(ctx context.Context) error { return c.apply(ctx, dst, kind, change) }); err != nil {
			return fmt.Errorf("applying change %d of %s %.120s: %w", change.Seq, change.Kind, change.Key, err)
		}
	}
	if dst.accounts == nil { // dst contains only rules
		return nil
	}
	// If reading all objects fails, each object is read by itself, so that one unreadable object does not block the other objects.
	reloadAll := func(kind string, keys []string, f func(ctx context.Context, keys ...string) error) error {
		if len(keys) == 0 || f(ctx, keys...) == nil {
			return nil
		}
		for _, key := range keys {
			if err := read(kind+" "+key, func(ctx context.Context) error { return f(ctx, key) }); err != nil {
				return fmt.Errorf("applying changes of %s %.120s: %w", kind, key, err)
			}
		}
		return nil
	}
	if c.Products != nil {
		if err := reloadAll(GS1Change, products, c.Products); err != nil {
			return err
		}
	}
	return reloadAll(AccountChange, appids, func(ctx context.Context, appids ...string) error {
		return c.readThese(ctx, dst.accounts, appids)
	})
}

func (c *Replica) apply(ctx context.Context, dst memory, kind string, change Change) error {
	switch {
	case kind == RuleChange && change.Damaged != nil && dst == c.current():
		return c.readKeys(ctx, []string{change.Key})
	case kind == RuleChange && change.Damaged != nil:
		return change.Damaged
	case kind == RuleChange:
		setRule(dst.rules, change.Key, change.Rule)
	case dst.accounts == nil:
		// dst contains only rules.
	case kind == BatchChange:
		id, err := strconv.ParseInt(change.Key, 10, 64)
		if err != nil || dst.codes == nil {
			return err
		}
		return dst.codes.Changed(ctx, id)
	case c.Handlers[kind] != nil:
		return c.Handlers[kind](ctx, change.Key)
	}
	return nil
}

// setRule stores the current version of a rule in dst; nil = the rule was deleted.
func setRule(dst *index.Index, key string, rule *rules.Rule) {
	if rule == nil {
		dst.Remove(key)
	} else {
		dst.Set(*rule)
	}
}

func (c *Replica) currentPosition() position {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.followed
}

func (c *Replica) clockNow() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Staleness returns the time since the memory was last known to contain every commit: 0 if no other process can commit and no read failed.
func (c *Replica) Staleness() time.Duration {
	now := c.clockNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	since := now
	if c.Changes != nil {
		since = c.checked
	}
	for _, m := range c.missed {
		if m.since.Before(since) {
			since = m.since
		}
	}
	return max(0, now.Sub(since))
}

// AppliedSeq returns the number of the last log entry that was applied to the memory.
func (c *Replica) AppliedSeq() int64 { return c.currentPosition().seq }

// Lag returns the number of entries of the log that the replica has not followed yet.
func (c *Replica) Lag(ctx context.Context) (int64, error) {
	if c.Changes == nil {
		return 0, nil
	}
	seq, _, err := c.Changes.ChangeHead(ctx)
	return max(0, seq-c.currentPosition().seq), err
}
