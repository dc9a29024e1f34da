// Package index finds the rules that a link falls on among very many, in little
// more memory than their texts take.
package index

import (
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Index keeps every rule in memory, in little more than the bytes of their
// texts. A look-up takes no lock and allocates nothing. A change is visible to
// every look-up that begins after Set or Remove returned, and a look-up sees
// one state of the rules, never half of two.
//
// Of a rule it keeps what a decision and its explanation need. It does not keep when the rule was
// added or changed.
type Index struct {
	// version is odd while a change is being made: a look-up that saw it change
	// looks again.
	version atomic.Uint64
	state   atomic.Pointer[core]
	writing sync.Mutex
	count   atomic.Int64
	memory  atomic.Int64

	snapshots sync.Mutex // one is written at a time

	changed map[string]struct{} // keys changed since a snapshot began; nil = none is being written: then no chunk is dropped

	// midway is called between the steps of a look-up and of a change; tests
	// force interleavings by it.
	midway func(step string)
	// careless leaves out the check of version: the fault that tests plant.
	careless bool
}

// New is empty.
func New() *Index {
	x := &Index{}
	x.replace(newCore(0))
	return x
}

// Len returns the number of rules.
func (x *Index) Len() int { return int(x.count.Load()) }

// Bytes returns the memory that the rules take, texts included.
func (x *Index) Bytes() int64 { return x.memory.Load() }

// measure notes what Len and Bytes return, so that they wait for no writer.
func (x *Index) measure(c *core) {
	x.count.Store(int64(c.ruleTable.n))
	x.memory.Store(c.bytes())
}

// replace makes another state the current one.
func (x *Index) replace(c *core) {
	x.state.Store(c)
	x.measure(c)
}

// Set adds or replaces the rule with its key.
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
			panic("index: more rules than an index can hold") // 1 TiB of them
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

// Remove forgets the rule with a key.
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

// change makes one change visible.
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

// buried tidies up after a change that left a dead record: at most one chunk, however many rules
// there are.
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

// wasteful reports that hosts and texts that nothing uses any more may take more
// than what is used.
func (c *core) wasteful() bool { return c.texts.bytes > 2*c.grownAt+64<<20 }

// renew makes the state anew from its own rules.
func (x *Index) renew(c *core) *core {
	fresh, err := build(c.all())
	if err != nil {
		panic("index: " + err.Error()) // they fitted before
	}
	x.replace(fresh)
	return fresh
}

// Adopt takes over the rules of an index that has no other user.
func (x *Index) Adopt(otherIndex *Index) {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.replace(otherIndex.state.Load())
}

// Load replaces every rule by those of a stream; of two with one key the later counts. Until it
// returns, look-ups see the old rules, and they still do after an error.
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

// patience is the number of times that a look-up starts anew because of a change before it waits for the writer.
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
		ok, done := c.glance(text, x, &hit)
		if !done {
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

// search finds what governs a text of any kind; glance does it faster for the most common ones.
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
	var hidden hiding
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
			case r.flags()&flagPublished == 0:
				// The owner's own longer rule, unpublished, hides shorter ones.
				hidden.add(r.owner())
			case !hidden.has(r.owner()):
				path, _ := link.Cuts()
				return c.matched(r, link.Key, path+found[i].end), true
			}
		}
	}
	return hit, false
}

// hiding are owners whose shorter rules do not count.
type hiding struct {
	few  [8]address
	n    int
	many map[address]struct{}
}

func (h *hiding) add(owner address) {
	if h.n < len(h.few) {
		h.few[h.n] = owner
		h.n++
		return
	}
	if h.many == nil {
		h.many = map[address]struct{}{}
	}
	h.many[owner] = struct{}{}
}

func (h *hiding) has(owner address) bool {
	if h.n == 0 {
		return false
	}
	if slices.Contains(h.few[:h.n], owner) {
		return true
	}
	_, ok := h.many[owner]
	return ok
}

// Matching implements scan.Finder. Its rules have no times.
func (x *Index) Matching(link rules.Link) []rules.Rule {
	for range patience {
		prev := x.version.Load()
		if prev&1 != 0 {
			runtime.Gosched()
			continue
		}
		found := x.state.Load().matching(&link)
		if x.version.Load() == prev {
			return found
		}
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.state.Load().matching(&link)
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

// Testing implements scan.Finder. Its rules have no times.
func (x *Index) Testing(text string) []rules.Rule {
	for range patience {
		c := x.state.Load()
		if c.testCount.Load() == 0 {
			return nil
		}
		prev := x.version.Load()
		if prev&1 != 0 {
			runtime.Gosched()
			continue
		}
		found := c.testing(text)
		if x.version.Load() == prev {
			return found
		}
	}
	x.writing.Lock()
	defer x.writing.Unlock()
	return x.state.Load().testing(text)
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
