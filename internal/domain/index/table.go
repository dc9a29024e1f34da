package index

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A table finds addresses by hash. It knows nothing of what lies there.
//
// It is cut into segments, each an array of buckets of one cache line: word 0 holds seven tags of
// seven bits (0 = free), one for each of the seven slots behind it; its last byte says which tags
// had to go on to the next bucket. A slot is an address (40 bits) and 24 bits of the hash. So a
// look-up reads one line, and of a million records that it goes on to about one is the wrong one.
//
// Readers take no lock. A slot changes by one atomic store. A full segment is
// built anew, alone, from its own slots.
type table struct {
	segments []segment
	bits     uint // len(segments) is 1<<bits

	// Of the writer alone:
	use   []segmentUse
	n     int
	bytes int64
}

type bucket [8]uint64

const slots = 7

// segment is the location and number of buckets. A writer stores buckets, then n, and n never shrinks; a reader loads n, then
// buckets: what it reads is inside the array, and whether both belong together Index.version tells.
type segment struct {
	n       atomic.Uint64
	buckets atomic.Pointer[bucket]
}

// segmentUse counts the slots that are taken, and those that were freed since the segment was built: a freed slot keeps the mark
// that sends look-ups on to the next bucket.
type segmentUse struct{ used, spent int32 }

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	tagBytes = 0x0080808080808080

	// fillNew is the load of a new segment, and fillMost the maximum load, in taken slots of a thousand. Less costs memory, more
	// costs look-ups more buckets.
	fillNew  = 640
	fillMost = 800

	minSegmentBits = 10
)

// newTable is made for about n entries: the segments are so small that one of
// them is built anew in a fraction of a millisecond.
func newTable(n int) table {
	b := uint(max(minSegmentBits, bits.Len(uint(n/16_384))))
	return table{segments: make([]segment, 1<<b), bits: b, use: make([]segmentUse, 1<<b), bytes: (16 + 8) << b}
}

func (t *table) segment(hash uint64) *segment { return &t.segments[hash>>(64-t.bits)] }

// bucket is the i-th bucket; i must be less than a loaded n.
func bucketAt(first *bucket, i uint64) *bucket {
	return (*bucket)(unsafe.Add(unsafe.Pointer(first), i*uint64(unsafe.Sizeof(bucket{}))))
}

// partOf returns the 24 bits of a hash that a slot keeps; home is the first of n buckets to look in.
func partOf(hash uint64) uint64     { return hash >> 7 & 0xffffff }
func home(part, n uint64) uint64    { return part * n >> 24 }
func tagOf(hash uint64) uint64      { return hash&0x7f | 0x80 }
func goesOn(tag uint64) uint64      { return 1 << (56 + tag&7) }
func addressOf(slot uint64) address { return address(slot >> 24) }

// sameTags has the high bit of each byte of tags that equals tag.
func sameTags(tags, tag uint64) uint64 {
	x := tags ^ tag*0x0001010101010101
	return ^((x&lowBits + lowBits) | x | lowBits) & tagBytes
}

// find returns the bucket and slot whose address eq accepts, nil where there is
// none.
func (t *table) find(hash uint64, eq func(address) bool) (b *bucket, slot int) {
	s := t.segment(hash)
	n, first := s.n.Load(), s.buckets.Load()
	tag, part := tagOf(hash), partOf(hash)
	for pos, left := home(part, n), n; left > 0; left-- {
		b := bucketAt(first, pos)
		tags := atomic.LoadUint64(&b[0])
		for m := sameTags(tags, tag); m != 0; m &= m - 1 {
			i := bits.TrailingZeros64(m)/8 + 1
			if v := atomic.LoadUint64(&b[i]); v&0xffffff == part && eq(addressOf(v)) {
				return b, i
			}
		}
		if tags&goesOn(tag) == 0 {
			return nil, 0
		}
		if pos++; pos == n {
			pos = 0
		}
	}
	return nil, 0
}

// room makes sure that one more entry fits. Where a larger segment takes the place of a full one,
// version is raised meanwhile; readers find the same in both.
func (t *table) room(hash uint64, version *atomic.Uint64) {
	i := hash >> (64 - t.bits)
	s, use := &t.segments[i], &t.use[i]
	n := s.n.Load()
	if int(use.used+use.spent+1)*1000 <= int(n)*slots*fillMost {
		return
	}
	grown := max(n, bucketsFor(int(use.used+1)*5/4))
	first := newBuckets(grown)
	for b := range t.live(s) {
		for i, tag := range b.tags() {
			insertSlot(first, grown, tag, b[i])
		}
	}
	*use = segmentUse{used: use.used}
	t.bytes += int64(grown-n) * 64
	version.Add(1)
	s.buckets.Store(first)
	s.n.Store(grown)
	version.Add(1)
}

// live yields the buckets of a segment.
func (t *table) live(s *segment) func(yield func(*bucket) bool) {
	return func(yield func(*bucket) bool) {
		n, first := s.n.Load(), s.buckets.Load()
		for i := range n {
			if !yield(bucketAt(first, i)) {
				return
			}
		}
	}
}

// tags yields number and tag of each taken slot.
func (b *bucket) tags() func(yield func(int, uint64) bool) {
	return func(yield func(int, uint64) bool) {
		for i := range slots {
			if tag := b[0] >> (8 * i) & 0xff; tag != 0 && !yield(i+1, tag) {
				return
			}
		}
	}
}

// bucketsFor returns the number of buckets of a new segment with n entries.
func bucketsFor(n int) uint64 { return uint64(max(1, (n*1000+slots*fillNew-1)/(slots*fillNew))) }

func newBuckets(n uint64) *bucket { return unsafe.SliceData(make([]bucket, n)) }

// blocks cuts memory for many segments at once from pieces of some megabytes: a
// piece lies in large pages, and is freed when all of its segments were built
// anew.
type blocks struct {
	left   uint64 // buckets that will be asked for
	spare  []bucket
	pieces [][]byte
}

const pieceMost = 16 << 20 / 64

func (b *blocks) allot(n uint64) *bucket {
	if uint64(len(b.spare)) < n {
		b.spare = make([]bucket, max(n, min(b.left, pieceMost)))
		all := unsafe.Slice((*byte)(unsafe.Pointer(&b.spare[0])), len(b.spare)*64)
		wantHuge(all)
		b.pieces = append(b.pieces, all)
	}
	first := &b.spare[0]
	b.spare = b.spare[n:]
	b.left -= n
	return first
}

// place gives an empty segment its buckets.
func (t *table) place(i int, n uint64, from *blocks) *bucket {
	first := from.allot(n)
	t.segments[i].buckets.Store(first)
	t.segments[i].n.Store(n)
	t.bytes += int64(n) * 64
	return first
}

// insert adds an entry that is not there; room was called before.
func (t *table) insert(hash uint64, a address) {
	i := hash >> (64 - t.bits)
	s := &t.segments[i]
	insertSlot(s.buckets.Load(), s.n.Load(), tagOf(hash), uint64(a)<<24|partOf(hash))
	t.use[i].used++
	t.n++
}

func insertSlot(first *bucket, n, tag, slot uint64) {
	for pos := home(slot&0xffffff, n); ; {
		b := bucketAt(first, pos)
		tags := b[0]
		if free := ^tags & tagBytes; free != 0 {
			i := bits.TrailingZeros64(free) / 8
			atomic.StoreUint64(&b[i+1], slot)
			atomic.StoreUint64(&b[0], tags|tag<<(8*i))
			return
		}
		atomic.StoreUint64(&b[0], tags|goesOn(tag))
		if pos++; pos == n {
			pos = 0
		}
	}
}

// swap lets a slot that find returned point to another record of the same key.
func (b *bucket) swap(slot int, a address) {
	atomic.StoreUint64(&b[slot], b[slot]&0xffffff|uint64(a)<<24)
}

// remove frees a slot that find returned.
func (t *table) remove(hash uint64, b *bucket, slot int) {
	atomic.StoreUint64(&b[0], b[0]&^(0xff<<(8*(slot-1))))
	use := &t.use[hash>>(64-t.bits)]
	use.used--
	use.spent++
	t.n--
}
