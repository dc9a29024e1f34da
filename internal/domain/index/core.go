package index

import (
	"fmt"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// core is one state of the index; single writes change it in place. Each Load builds a new core.
type core struct {
	seed  uint64
	texts arena // stores hosts, AppIDs and pages
	rules arena

	hosts     hostTable
	textTable table // used only by the writer
	ruleTable table

	// testCount is the number of different test links; most rules have none, in particular the rules for printed codes.
	testCount atomic.Int64
	testMu    sync.RWMutex
	tests     map[string][]string // maps a test link to the keys of the rules that list it

	scratch []byte
	unseen  atomic.Uint64 // version counter for changes of data that no reader accesses, in place of Index.version
	grownAt int64         // size of texts in bytes after the last Load
}

func newCore(n int) *core {
	return &core{
		seed:      maphash.String(maphash.MakeSeed(), ""),
		textTable: newTable(0), ruleTable: newTable(n),
		tests: map[string][]string{},
	}
}

// window is the number of places whose buckets are loaded together, before judge examines the first of these places.
const window = 8

// lookup is the state of one look-up.
type lookup struct {
	host    address
	tail    string // part of the link from its path to its end
	pathLen int
}

// begin finds the host of the link and the places where a rule can end, shortest first; the result is empty if no rule can match.
func (c *core) begin(link *rules.Link, found []place) (lookup, []place) {
	path, query := link.Cuts()
	origin := link.Key[:path]
	h := c.hosts.find(hashOrigin(c.seed, origin), origin, &c.texts)
	if h == nil {
		return lookup{}, nil
	}
	l := lookup{host: h.address(), tail: link.Key[path:], pathLen: query - path}
	if link.IsService() {
		return l, append(found, place{hashText(c.seed, h[0], l.tail), len(l.tail)})
	}
	return l, places(found, c.seed, h, l.tail, l.pathLen)
}

// reached is the first bucket of a place where a rule can end, loaded in advance.
type reached struct {
	bucket *bucket // nil = the table has no bucket for the place
	tags   uint64
}

// reach loads the buckets of all places before any of them is examined, so that the processor waits for memory only once.
func (c *core) reach(found []place, nearPair *[window]reached) {
	for i := range found {
		s := c.ruleTable.segment(found[i].hash)
		n, first := s.n.Load(), s.buckets.Load()
		if n == 0 {
			nearPair[i&(window-1)].bucket = nil
			continue
		}
		b := bucketAt(first, firstBucket(partOf(found[i].hash), n))
		nearPair[i&(window-1)] = reached{b, atomic.LoadUint64(&b[0])}
	}
}

// judge returns the rule that ends at a place; the address is 0 if no rule ends there.
func (c *core) judge(l *lookup, p place, nearReached reached) (record, address) {
	b, tags := nearReached.bucket, nearReached.tags
	if b == nil {
		return record{}, 0
	}
	if r, a := c.searchBucket(l, p, b, tags); a != 0 || tags&goesOn(tagOf(p.hash)) == 0 {
		return r, a
	}
	s := c.ruleTable.segment(p.hash)
	return c.searchOverflow(l, p, s.n.Load(), s.buckets.Load())
}

// searchBucket returns the rule of a bucket that ends at a place; the address is 0 if the bucket has no such rule.
func (c *core) searchBucket(l *lookup, p place, b *bucket, tags uint64) (record, address) {
	part := partOf(p.hash)
	for m := sameTags(tags, tagOf(p.hash)); m != 0; m &= m - 1 {
		v := atomic.LoadUint64(&b[(bits.TrailingZeros64(m)>>3+1)&7])
		if v&0xffffff == part {
			if r := c.rules.record(addressOf(v)); l.fits(r, p.end) {
				return r, addressOf(v)
			}
		}
	}
	return record{}, 0
}

// searchOverflow searches the buckets that follow the first bucket of a place.
func (c *core) searchOverflow(l *lookup, p place, n uint64, first *bucket) (record, address) {
	for pos, left := firstBucket(partOf(p.hash), n), n; left > 1; left-- {
		pos = nextPos(pos, n)
		b := bucketAt(first, pos)
		tags := atomic.LoadUint64(&b[0])
		if r, a := c.searchBucket(l, p, b, tags); a != 0 || tags&goesOn(tagOf(p.hash)) == 0 {
			return r, a
		}
	}
	return record{}, 0
}

// fits reports whether the rule of a record matches the link up to the position end. fits compares every byte instead of trusting a
// hash: it implements rules.Prefix.Matches for a rule whose key ends at that position.
func (l *lookup) fits(r record, end int) bool {
	if !r.ok() || r.tailLen() != end || r.host() != l.host {
		return false
	}
	tail := r.tail()
	switch {
	case end > len(l.tail):
		return tail[end-1] == '?' && tail[:end-1] == l.tail
	case tail != l.tail[:end]:
		return false
	}
	return end >= l.pathLen || r.flags()&flagSub != 0
}

// matched returns the fields of a matching record that a scan decision needs. The returned texts are parts of the link and of the
// arena; nothing is copied.
func (c *core) matched(r record, key string, end int) rules.Match {
	id, target, extra := r.trailer()
	h := rules.Match{RuleInfo: rules.RuleInfo{ID: id, Kind: r.kind(), Owner: c.texts.textOf(r.owner(), r.b[13])},
		Page: c.texts.textOf(r.page(), r.b[19])}
	h.Target = h.Owner
	if target != r.owner() {
		h.Target = c.texts.text(target)
	}
	if extra != nil {
		if text, _, ok := extraText(extra); ok {
			h.Prefix = text
			return h
		}
	}
	if end > len(key) { // the rule ends with "?", which the link does not contain
		h.Prefix = key + "?"
		return h
	}
	h.Prefix = key[:end]
	return h
}

// rule decodes a record into a rule; the times of creation and of the last change are not in the index.
func (c *core) rule(r record) rules.Rule {
	id, target, extra := r.trailer()
	rule := rules.Rule{ID: id, Kind: r.kind(), Owner: c.texts.text(r.owner()), Target: c.texts.text(target), Path: c.texts.text(r.page()),
		Occupy: r.flags()&flagOccupy != 0, OpenVersion: int(r.flags() >> versionShift & 3), Published: r.flags()&flagPublished != 0}
	text, added := "", false
	if extra != nil {
		text, extra, added = extraText(extra)
		for {
			link, rest, ok := extraText(extra)
			if !ok {
				break
			}
			rule.TestLinks, extra = append(rule.TestLinks, link), rest
		}
	}
	if !added {
		text = c.texts.text(r.host()) + r.tail()
	}
	rule.Prefix, _ = rules.StoredPrefix(text)
	return rule
}

// The functions below are called only by the writer.

// intern returns the address of a text, storing the text if it is new; 0 if the arena is full.
func (c *core) intern(s string) address {
	hash := hashText(c.seed, 0, s)
	if b, i := c.textTable.find(hash, func(a address) bool { return c.texts.text(a) == s }); b != nil {
		return addressOf(b[i])
	}
	addr := c.texts.append(appendText(nil, s))
	if addr != 0 {
		c.textTable.room(hash, &c.unseen)
		c.textTable.insert(hash, addr)
	}
	return addr
}

// internHost returns the entry of a host, adding it if the host is new; nil if the arena is full.
func (c *core) internHost(origin string, version *atomic.Uint64) *host {
	hash := hashOrigin(c.seed, origin)
	if h := c.hosts.find(hash, origin, &c.texts); h != nil {
		return h
	}
	addr := c.texts.append(appendText(nil, origin))
	if addr == 0 {
		return nil
	}
	return c.hosts.add(hash, origin, addr, version)
}

// hashOf returns the hash under which the rule of a record is stored in the table.
func (c *core) hashOf(r record) uint64 {
	return hashText(c.seed, hashOrigin(c.seed, c.texts.text(r.host())), r.tail())
}

// add writes the record of a rule, which is not yet visible to readers. add returns 0 if an arena is full.
func (c *core) add(r *rules.Rule, version *atomic.Uint64) (addr address, hash uint64) {
	path, _ := r.Prefix.Cuts()
	tail := r.Prefix.Key[path:]
	h := c.internHost(r.Prefix.Key[:path], version)
	owner, page := c.intern(r.Owner), c.intern(r.Path)
	target := owner
	if r.Target != r.Owner {
		target = c.intern(r.Target)
	}
	if h == nil || owner == 0 || page == 0 || target == 0 {
		return 0, 0
	}
	h.admit(tail)
	c.scratch = encodeRule(c.scratch[:0], r, tail, h.address(), owner, target, page)
	return c.rules.append(c.scratch), hashText(c.seed, h[0], tail)
}

// slotOf finds the table slot of the rule with a key.
func (c *core) slotOf(key string) (b *bucket, slot int, hash uint64) {
	link, ok := rules.ParseLink(key)
	if !ok {
		return nil, 0, 0
	}
	path, _ := link.Cuts()
	origin := link.Key[:path]
	h := c.hosts.find(hashOrigin(c.seed, origin), origin, &c.texts)
	if h == nil {
		return nil, 0, 0
	}
	addr, tail := h.address(), link.Key[path:]
	hash = hashText(c.seed, h[0], tail)
	b, slot = c.ruleTable.find(hash, func(a address) bool {
		r := c.rules.record(a)
		return r.ok() && r.host() == addr && r.tail() == tail
	})
	return b, slot, hash
}

// lists returns the test links of the record at an address.
func (c *core) lists(addr address) []string {
	if r := c.rules.record(addr); addr != 0 && r.flags()&flagExtra != 0 {
		return c.rule(r).TestLinks
	}
	return nil
}

// retest replaces a rule's old test links by the rule's current test links in c.tests. The caller must hold testMu.
func (c *core) retest(key string, oldNames, currentNames []string) {
	for _, text := range oldNames {
		keys := slices.DeleteFunc(slices.Clone(c.tests[text]), func(k string) bool { return k == key })
		if len(keys) == 0 {
			delete(c.tests, text)
		} else {
			c.tests[text] = keys
		}
	}
	for _, text := range currentNames {
		if !slices.Contains(c.tests[text], key) {
			c.tests[text] = append(slices.Clone(c.tests[text]), key)
		}
	}
	c.testCount.Store(int64(len(c.tests)))
}

// bury marks a record as dead, because nothing points to the record any more.
func (c *core) bury(addr address) { c.rules.bury(addr, int32(c.rules.record(addr).size())) }

// move copies the live records of a chunk to the end of the arena. Readers see the same rules throughout; the caller may drop the
// chunk afterwards. move returns false if the arena is full.
func (c *core) move(n int) bool {
	base := address(n << chunkBits)
	from := 0
	if n == 0 {
		from = 8
	}
	for from < int(c.rules.chunks[n].used) {
		addr := base | address(from)
		r := c.rules.record(addr)
		size := r.size()
		if b, i := c.ruleTable.find(c.hashOf(r), func(a address) bool { return a == addr }); b != nil {
			to := c.rules.append(r.b[:size])
			if to == 0 {
				return false
			}
			b.swap(i, to)
		}
		from += size
	}
	return true
}

// all iterates over the rules. The index must not change during the iteration.
func (c *core) all() iter.Seq2[rules.Rule, error] {
	return func(yield func(rules.Rule, error) bool) {
		for i := range c.ruleTable.segments {
			for b := range c.ruleTable.live(&c.ruleTable.segments[i]) {
				for slot := range b.tags() {
					if !yield(c.rule(c.rules.record(addressOf(b[slot]))), nil) {
						return
					}
				}
			}
		}
	}
}

// parts is the number of partitions into which a Load sorts rules before it builds segments, so that the working set of one
// partition fits into the processor caches.
const parts = 256

type entry struct {
	hash uint64
	addr address
}

// build creates a core from a stream of rules; if two rules have the same key, the later rule wins. build returns an error if the
// stream fails, a prefix is invalid, or an arena is full.
func build(list iter.Seq2[rules.Rule, error]) (*core, error) {
	c := newCore(0)
	var sorted [parts][]entry
	n := 0
	for r, err := range list {
		if err != nil {
			return nil, err
		}
		if r.Prefix.Key == "" {
			return nil, fmt.Errorf("rule %d has no prefix", r.ID)
		}
		addr, hash := c.add(&r, &c.unseen)
		if addr == 0 {
			return nil, fmt.Errorf("rule %d: the index is full", r.ID)
		}
		sorted[hash>>56] = append(sorted[hash>>56], entry{hash, addr})
		for _, text := range r.TestLinks {
			c.tests[text] = append(c.tests[text], r.Prefix.Key)
		}
		n++
	}
	c.rules.trim()
	c.ruleTable = newTable(n)
	c.ruleTable.fill(&sorted, c)
	// A key may have occurred several times, so only the test links of its last rule are kept.
	for text, keys := range c.tests {
		slices.Sort(keys)
		keys = slices.DeleteFunc(slices.Compact(keys), func(key string) bool {
			b, i, _ := c.slotOf(key)
			return b == nil || !slices.Contains(c.lists(addressOf(b[i])), text)
		})
		c.tests[text] = keys
		if len(keys) == 0 {
			delete(c.tests, text)
		}
	}
	c.testCount.Store(int64(len(c.tests)))
	c.grownAt = c.texts.bytes
	return c, nil
}

// fill builds every segment with exactly the size that its entries need.
func (t *table) fill(sorted *[parts][]entry, c *core) {
	counts := make([]int, len(t.segments))
	var all uint64
	for _, list := range sorted {
		for _, e := range list {
			counts[e.hash>>(64-t.bits)]++
		}
	}
	for _, n := range counts {
		if n > 0 {
			all += bucketsFor(n)
		}
	}
	cut := blocks{remaining: all}
	for i, n := range counts {
		if n > 0 {
			t.place(i, bucketsFor(n), &cut)
		}
	}
	for part, list := range sorted {
		for _, e := range list {
			r := c.rules.record(e.addr)
			b, i := t.find(e.hash, func(a address) bool {
				candidate := c.rules.record(a)
				return candidate.host() == r.host() && candidate.tail() == r.tail()
			})
			if b != nil {
				c.bury(addressOf(b[i]))
				b.swap(i, e.addr)
				continue
			}
			t.insert(e.hash, e.addr)
		}
		sorted[part] = nil
	}
	gather(append(cut.pieces, c.rules.pieces()...))
}
