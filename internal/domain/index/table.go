package index

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A table is a hash table that maps hashes to addresses. The table does not read the records at the addresses.
//
// The table is divided into segments, each an array of buckets of one cache line. Word 0 of a bucket holds seven tags of seven bits
// (0 = free), one for each of the seven slots that follow; its last byte marks the tags that overflowed to the next bucket. A slot
// holds an address (40 bits) and 24 bits of the hash. A look-up reads one cache line of the table and the records whose tags and
// hash bits match; about one in a million of these records is a false match.
//
// Readers take no lock. A slot changes by a single atomic store. A full segment is rebuilt separately, from its own slots.
type table struct {
	segments []segment
	bits     uint // len(segments) is 1<<bits

	// The following fields are used only by the writer:
	use   []segmentUse
	n     int
	bytes int64
}

type bucket [8]uint64

const slots = 7

// segment holds the location and the number of its buckets. A writer stores buckets before n, and n never shrinks. A reader loads n before
// buckets, so it reads only inside the array; Index.version shows whether the two values belong together.
type segment struct {
	n       atomic.Uint64
	buckets atomic.Pointer[bucket]
}

// segmentUse counts the slots of a segment: "used" are in use, and "spent" were freed since the segment was built. The overflow mark of a
// freed slot still sends look-ups to the next bucket.
type segmentUse struct{ used, spent int32 }

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	tagBytes = 0x0080808080808080

	// fillNew is the load of a new segment, and fillMost is the maximum load, both in used slots per thousand. A lower load of a segment
	// costs more memory; a higher load makes look-ups read more buckets.
	fillNew  = 640
	fillMost = 800

	minSegmentBits = 10
)

// newTable returns a table for about n entries, with segments small enough to rebuild one in a fraction of a millisecond.
func newTable(n int) table {
	b := uint(max(minSegmentBits, bits.Len(uint(n/16_384))))
	return table{segments: make([]segment, 1<<b), bits: b, use: make([]segmentUse, 1<<b), bytes: (16 + 8) << b}
}

func (t *table) segment(hash uint64) *segment { return &t.segments[hash>>(64-t.bits)] }

// bucketAt returns the i-th bucket; i must be less than a value of n that was loaded before.
func bucketAt(first *bucket, i uint64) *bucket {
	return (*bucket)(unsafe.Add(unsafe.Pointer(first), i*uint64(unsafe.Sizeof(bucket{}))))
}

// partOf returns the 24 bits of a hash that a slot stores; firstBucket returns the first of n buckets to search.
func partOf(hash uint64) uint64         { return hash >> 7 & 0xffffff }
func firstBucket(part, n uint64) uint64 { return part * n >> 24 }
func tagOf(hash uint64) uint64          { return hash&0x7f | 0x80 }
func goesOn(tag uint64) uint64          { return 1 << (56 + tag&7) }
func addressOf(slot uint64) address     { return address(slot >> 24) }

// sameTags returns a word with the high bit set in each byte where tags equals tag.
func sameTags(tags, tag uint64) uint64 {
	x := tags ^ tag*0x0001010101010101
	return ^((x&lowBits + lowBits) | x | lowBits) & tagBytes
}

// find returns the bucket and slot with an address for which the function eq returns true; nil if there is no such address.
func (t *table) find(hash uint64, eq func(address) bool) (b *bucket, slot int) {
	s := t.segment(hash)
	n, first := s.n.Load(), s.buckets.Load()
	tag, part := tagOf(hash), partOf(hash)
	for pos, left := firstBucket(part, n), n; left > 0; left-- {
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
		pos = nextPos(pos, n)
	}
	return nil, 0
}

// room ensures that one more entry fits into the segment of a hash. While room replaces a full segment by a larger one, version is
// odd; readers find the same entries in both segments.
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

// live iterates over the buckets of a segment.
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

// tags iterates over the number and tag of each used slot.
func (b *bucket) tags() func(yield func(int, uint64) bool) {
	return func(yield func(int, uint64) bool) {
		for i := range slots {
			if tag := b[0] >> (8 * i) & 0xff; tag != 0 && !yield(i+1, tag) {
				return
			}
		}
	}
}

// bucketsFor returns the number of buckets of a new segment for n entries.
func bucketsFor(n int) uint64 { return uint64(max(1, (n*1000+slots*fillNew-1)/(slots*fillNew))) }

func newBuckets(n uint64) *bucket { return unsafe.SliceData(make([]bucket, n)) }

// blocks allocates the memory of many segments from blocks of some megabytes: a block can use huge pages, and is freed after all of
// its segments have been rebuilt.
type blocks struct {
	remaining uint64 // number of buckets that are still to be allocated
	spare     []bucket
	pieces    [][]byte
}

const pieceMost = 16 << 20 / 64

func (b *blocks) allot(n uint64) *bucket {
	if uint64(len(b.spare)) < n {
		b.spare = make([]bucket, max(n, min(b.remaining, pieceMost)))
		all := unsafe.Slice((*byte)(unsafe.Pointer(&b.spare[0])), len(b.spare)*64)
		wantHuge(all)
		b.pieces = append(b.pieces, all)
	}
	first := &b.spare[0]
	b.spare = b.spare[n:]
	b.remaining -= n
	return first
}

// place allocates n buckets for an empty segment.
func (t *table) place(i int, n uint64, from *blocks) *bucket {
	first := from.allot(n)
	t.segments[i].buckets.Store(first)
	t.segments[i].n.Store(n)
	t.bytes += int64(n) * 64
	return first
}

// insert adds an entry that is not in the table yet; the caller must have called room before.
func (t *table) insert(hash uint64, a address) {
	i := hash >> (64 - t.bits)
	s := &t.segments[i]
	insertSlot(s.buckets.Load(), s.n.Load(), tagOf(hash), uint64(a)<<24|partOf(hash))
	t.use[i].used++
	t.n++
}

func insertSlot(first *bucket, n, tag, slot uint64) {
	for pos := firstBucket(slot&0xffffff, n); ; {
		b := bucketAt(first, pos)
		tags := b[0]
		if free := ^tags & tagBytes; free != 0 {
			i := bits.TrailingZeros64(free) / 8
			atomic.StoreUint64(&b[i+1], slot)
			atomic.StoreUint64(&b[0], tags|tag<<(8*i))
			return
		}
		atomic.StoreUint64(&b[0], tags|goesOn(tag))
		pos = nextPos(pos, n)
	}
}

// swap stores the address of another record with the same key in a slot that find has returned.
func (b *bucket) swap(slot int, a address) {
	atomic.StoreUint64(&b[slot], b[slot]&0xffffff|uint64(a)<<24)
}

// remove frees a slot that find has returned.
func (t *table) remove(hash uint64, b *bucket, slot int) {
	atomic.StoreUint64(&b[0], b[0]&^(0xff<<(8*(slot-1))))
	use := &t.use[hash>>(64-t.bits)]
	use.used--
	use.spent++
	t.n--
}
