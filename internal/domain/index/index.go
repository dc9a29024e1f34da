// Package index finds the rules that match a link among very many rules, using little more memory than the rules' texts.
package index

import (
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Index keeps every rule in memory, using little more memory than the rules' texts. A look-up takes no lock and allocates nothing. A change
// is visible to every look-up that begins after Set or Remove has returned, and every look-up sees a single consistent state of the rules.
//
// For each rule, the index stores the fields that a scan decision and its explanation need. Index does not store the times at which
// a rule was created or changed.
type Index struct {
	// version is odd while a change is in progress: a look-up that observes a changed version starts again.
	version atomic.Uint64
	state   atomic.Pointer[core]
	writing sync.Mutex
	count   atomic.Int64

	snapshots sync.Mutex // serializes the writing of snapshots

	// keys of the rules that changed since a snapshot began; nil = no snapshot is being written. Unless changed is nil, no chunk is dropped
	changed map[string]struct{}

	// midway is a test hook, called between the steps of a look-up and of a change to force interleavings.
	midway func(step string)
	// careless skips the check of version; tests set it to verify that they detect the missing check.
	careless bool
}

// New returns an empty index.
func New() *Index {
	x := &Index{}
	x.replace(newCore(0))
	return x
}

// Len returns the number of rules.
func (x *Index) Len() int { return int(x.count.Load()) }

// measure stores the value that Len returns, so that Len need not wait for a writer.
func (x *Index) measure(c *core) { x.count.Store(int64(c.ruleTable.n)) }

// replace makes c the current state.
func (x *Index) replace(c *core) {
	x.state.Store(c)
	x.measure(c)
}

// Set adds a rule or replaces the rule with the same key.
func (x *Index) Set(r rules.Rule) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.set(r)
}

func (x *Index) set(r rules.Rule) {
	c := x.state.Load()
	addr, hash := c.add(&r, &x.version)
	if addr == 0 || c.wasteful() {
		c = x.renew(c)
		if addr, hash = c.add(&r, &x.version); addr == 0 {
			panic("index: more rules than an index can hold") // the limit is 1 TiB of rules
		}
	}
	c.ruleTable.room(hash, &x.version)
	key := r.Prefix.Key
	b, slot, _ := c.slotOf(key)
	var oldAddress address
	if b != nil {
		oldAddress = addressOf(b[slot])
	}
	x.change(c, key, c.lists(oldAddress), r.TestLinks, func() {
		if b != nil {
			b.swap(slot, addr)
		} else {
			c.ruleTable.insert(hash, addr)
		}
	})
	x.buried(c, oldAddress)
}

// Remove deletes the rule with a key.
func (x *Index) Remove(key string) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.remove(key)
}

func (x *Index) remove(key string) {
	c := x.state.Load()
	b, slot, hash := c.slotOf(key)
	if b == nil {
		return
	}
	oldAddress := addressOf(b[slot])
	x.change(c, key, c.lists(oldAddress), nil, func() { c.ruleTable.remove(hash, b, slot) })
	x.buried(c, oldAddress)
}

// change applies one change and makes it visible to readers.
func (x *Index) change(c *core, key string, oldNames, currentNames []string, do func()) {
	if len(oldNames)+len(currentNames) > 0 {
		c.testMu.Lock()
		defer c.testMu.Unlock()
		c.retest(key, oldNames, currentNames)
	}
	x.version.Add(1)
	do()
	x.version.Add(1)
	if x.changed != nil {
		x.changed[key] = struct{}{}
	}
}

// buried cleans up after a change that left a dead record: it empties at most one chunk, so its cost is independent of the number of rules.
func (x *Index) buried(c *core, oldAddress address) {
	defer func() { x.measure(x.state.Load()) }()
	if oldAddress == 0 {
		return
	}
	c.bury(oldAddress)
	if x.changed != nil {
		return
	}
	n, ok := c.rules.leave()
	if !ok {
		return
	}
	if !c.move(n) {
		x.renew(c)
		return
	}
	x.version.Add(1)
	c.rules.drop(n)
	x.version.Add(1)
}

// wasteful reports whether unused hosts and texts may take more memory than the used ones.
func (c *core) wasteful() bool { return c.texts.bytes > 2*c.grownAt+64<<20 }

// renew rebuilds the state from its current rules.
func (x *Index) renew(c *core) *core {
	fresh, err := build(c.all())
	if err != nil {
		panic("index: " + err.Error()) // cannot happen: an index has accepted these rules before
	}
	x.replace(fresh)
	return fresh
}

// Adopt takes over the rules of another index, which must have no other user.
func (x *Index) Adopt(from *Index) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.replace(from.state.Load())
}

// Load replaces all rules by those of a stream; if two rules have the same key, the later rule wins. Until Load returns, and after
// a failed Load, look-ups see the old rules.
func (x *Index) Load(list iter.Seq2[rules.Rule, error]) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	c, err := build(list)
	if err != nil {
		return err
	}
	x.replace(c)
	return nil
}

// patience is the number of times that a look-up restarts because of concurrent changes before it waits for the writer's lock.
const patience = 16

func (x *Index) step(name string) {
	if x.midway != nil {
		x.midway(name)
	}
}

// Governing implements scan.Finder.
func (x *Index) Governing(text string) (hit rules.Match, ok bool) {
	for range patience {
		prev := x.version.Load()
		if prev&1 != 0 {
			runtime.Gosched()
			continue
		}
		c := x.state.Load()
		seen := c.glance(text, x, &hit)
		ok = seen == glanceHit
		if seen == glanceUnsure {
			hit, ok = c.search(text, x)
		}
		if x.version.Load() == prev || x.careless {
			return hit, ok
		}
		hit = rules.Match{}
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.state.Load().search(text, x)
}

// search finds the governing rule of any text; glance is a faster implementation for common links.
func (c *core) search(text string, x *Index) (hit rules.Match, ok bool) {
	link, ok := rules.ParseLink(text)
	if !ok {
		return hit, false
	}
	return c.governing(&link, x)
}

func (c *core) governing(link *rules.Link, x *Index) (hit rules.Match, ok bool) {
	var buf [window]place
	l, found := c.begin(link, buf[:0])
	var nearPair [window]reached
	var hiddenBuf [8]address
	hidden := hiddenBuf[:0] // the owners of longer rules that are unpublished, which hide shorter rules of the same owner
	for end := len(found); end > 0; end -= window {
		from := max(0, end-window)
		c.reach(found[from:end], &nearPair)
		for i := end - 1; i >= from; i-- {
			x.step("judge")
			r, addr := c.judge(&l, found[i], nearPair[(i-from)&(window-1)])
			if addr == 0 {
				continue
			}
			switch {
			case slices.Contains(hidden, r.owner()):
			case r.flags()&flagPublished == 0:
				hidden = append(hidden, r.owner())
			default:
				path, _ := link.Cuts()
				return c.matched(r, link.Key, path+found[i].end), true
			}
		}
	}
	return hit, false
}

// Matching implements scan.Finder. The returned rules have no times of creation or change.
func (x *Index) Matching(link rules.Link) []rules.Rule {
	return x.consistent(func(c *core) []rules.Rule { return c.matching(&link) })
}

// consistent returns the result of read on a single consistent state of the rules.
func (x *Index) consistent(read func(*core) []rules.Rule) []rules.Rule {
	for range patience {
		prev := x.version.Load()
		if prev&1 != 0 {
			runtime.Gosched()
			continue
		}
		found := read(x.state.Load())
		if x.version.Load() == prev {
			return found
		}
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	return read(x.state.Load())
}

func (c *core) matching(link *rules.Link) (list []rules.Rule) {
	var buf [window]place
	l, found := c.begin(link, buf[:0])
	var nearPair [window]reached
	for i := len(found) - 1; i >= 0; i-- {
		c.reach(found[i:i+1], &nearPair)
		if r, addr := c.judge(&l, found[i], nearPair[0]); addr != 0 {
			list = append(list, c.rule(r))
		}
	}
	return list
}

// Testing implements scan.Finder. The returned rules have no times of creation or change.
func (x *Index) Testing(text string) []rules.Rule {
	if x.state.Load().testCount.Load() == 0 {
		return nil
	}
	return x.consistent(func(c *core) []rules.Rule { return c.testing(text) })
}

func (c *core) testing(text string) (found []rules.Rule) {
	c.testMu.RLock()
	defer c.testMu.RUnlock()
	for _, key := range c.tests[text] {
		if b, i, _ := c.slotOf(key); b != nil {
			if r := c.rules.record(addressOf(atomic.LoadUint64(&b[i]))); r.ok() {
				found = append(found, c.rule(r))
			}
		}
	}
	rules.SortTesting(found)
	return found
}
