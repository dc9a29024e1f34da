package index

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// Everything that the index stores is a record in an arena. The bytes of a record are written once, before any reader can find the
// record, and do not change while a reader can find it. Readers need no lock, because a record that they can find does not change;
// records contain no Go pointers.

const (
	chunkBits = 16
	chunkSize = 1 << chunkBits
	// pageBits is the number of low bits of a chunk number; these bits are the index of the chunk in a page of the directory.
	pageBits = 12
	dirBits  = 12
	// maxChunks limits an arena to 1 TiB. Chunk numbers are never reused, so maxChunks also limits how much can be appended between two
	// calls of Load.
	maxChunks = 1 << (pageBits + dirBits)
)

// An address locates a record in an arena: the chunk number and the 16-bit offset in the chunk, together 40 bits. Address 0 means
// no record, because the first eight bytes of chunk 0 stay unused.
type address uint64

type chunk [chunkSize]byte

type arenaPage [1 << pageBits]atomic.Pointer[chunk]

type arena struct {
	dir [1 << dirBits]atomic.Pointer[arenaPage]

	// The following fields are used only by the writer:
	chunks  []chunkUse // by number
	slabs   []slab
	leaving int   // 1 + the number of the slab that is being emptied; 0 = none
	free    int   // offset of the next record in the last chunk
	bytes   int64 // memory held
}

// chunkUse is the writer's bookkeeping for a chunk; used = 0 means that the chunk was dropped.
type chunkUse struct{ used, dead, slab int32 }

// A slab is a block of memory for several chunks; the block can be freed only as a whole. Slabs grow with the arena: a small arena
// stays small, and a large arena can use huge pages.
type slab struct {
	spare []chunk // not used yet
	all   []byte  // memory of all chunks; nil = the slab was freed

	chunksInUse int   // number of chunks in use
	used, dead  int64 // used and dead bytes; all bytes of a dropped chunk are dead
}

// slabMost is the maximum number of chunks in a slab.
const slabMost = 256

// chunk returns the chunk of an address, or nil if the chunk was dropped.
func (a *arena) chunk(addr address) *chunk {
	page := a.dir[addr>>(chunkBits+pageBits)&(1<<dirBits-1)].Load()
	if page == nil {
		return nil
	}
	return page[addr>>chunkBits&(1<<pageBits-1)].Load()
}

// grow adds a chunk to the arena. grow returns false if the arena is full.
func (a *arena) grow() bool {
	n := len(a.chunks)
	if n == maxChunks {
		return false
	}
	if len(a.slabs) == 0 || len(a.slabs[len(a.slabs)-1].spare) == 0 {
		a.reserve(min(slabMost, 1+n/4))
	}
	s := &a.slabs[len(a.slabs)-1]
	c := &s.spare[0]
	s.spare = s.spare[1:]
	s.chunksInUse++
	a.enter(c, int32(len(a.slabs)-1))
	return true
}

// reserve allocates a slab of n chunks.
func (a *arena) reserve(n int) {
	list := make([]chunk, n)
	all := unsafe.Slice(&list[0][0], n*chunkSize)
	wantHuge(all)
	a.slabs = append(a.slabs, slab{spare: list, all: all})
	a.bytes += int64(len(all))
}

// trim frees the unused rest of the last slab, by copying the slab to a smaller slab. trim may be called only before any reader can
// access the slab.
func (a *arena) trim() {
	if len(a.slabs) == 0 || len(a.slabs[len(a.slabs)-1].spare)*16 < len(a.chunks) {
		return
	}
	number := len(a.slabs) - 1
	old := a.slabs[number]
	a.slabs = a.slabs[:number]
	a.bytes -= int64(len(old.all))
	a.reserve(old.chunksInUse)
	s := &a.slabs[number]
	copy(s.all, old.all)
	first := len(a.chunks) - old.chunksInUse
	for i := range old.chunksInUse {
		n := first + i
		a.dir[n>>pageBits].Load()[n&(1<<pageBits-1)].Store(&s.spare[i])
	}
	s.spare, s.chunksInUse, s.used, s.dead = nil, old.chunksInUse, old.used, old.dead
}

// enter assigns the next chunk number to a chunk; nil stands for a chunk that was dropped.
func (a *arena) enter(c *chunk, slab int32) {
	n := len(a.chunks)
	page := a.dir[n>>pageBits].Load()
	if page == nil {
		page = new(arenaPage)
		a.bytes += int64(unsafe.Sizeof(*page))
		a.dir[n>>pageBits].Store(page)
	}
	page[n&(1<<pageBits-1)].Store(c)
	a.chunks = append(a.chunks, chunkUse{slab: slab})
	a.free = 0
	if n == 0 {
		a.free = 8
	}
}

// append writes a record of at most chunkSize-8 bytes after the existing records. append returns 0 if the arena is full.
func (a *arena) append(record []byte) address {
	if len(a.chunks) == 0 || a.free+len(record) > chunkSize {
		if !a.grow() {
			return 0
		}
	}
	n := len(a.chunks) - 1
	addr := address(n<<chunkBits | a.free)
	copy(a.chunk(addr)[a.free:], record)
	a.free += len(record)
	a.chunks[n].used = int32(a.free)
	a.slabs[a.chunks[n].slab].used += int64(len(record))
	return addr
}

// bury counts size bytes at an address as dead, because nothing points to the record at this address any more.
func (a *arena) bury(addr address, size int32) {
	use := &a.chunks[addr>>chunkBits]
	use.dead += size
	s := &a.slabs[use.slab]
	s.dead += int64(size)
	if n := int(use.slab); a.leaving == 0 && n < len(a.slabs)-1 && s.dead > s.used/2 {
		a.leaving = n + 1
	}
}

// leave returns the number of a chunk to be emptied, so that its mostly dead slab can be freed; ok = false: no slab must be emptied.
func (a *arena) leave() (n int, ok bool) {
	if a.leaving == 0 {
		return 0, false
	}
	// The chunks of a slab have consecutive numbers.
	first, _ := slices.BinarySearchFunc(a.chunks, int32(a.leaving-1), func(c chunkUse, slab int32) int { return cmp.Compare(c.slab, slab) })
	for n := first; n < len(a.chunks) && a.chunks[n].slab == int32(a.leaving-1); n++ {
		if a.chunks[n].used > 0 {
			return n, true
		}
	}
	return 0, false
}

// drop removes a chunk from the arena. A reader that still uses the chunk keeps its memory alive.
func (a *arena) drop(n int) {
	a.dir[n>>pageBits].Load()[n&(1<<pageBits-1)].Store(nil)
	use := &a.chunks[n]
	s := &a.slabs[use.slab]
	s.dead += int64(use.used - use.dead)
	use.used, use.dead = 0, 0
	s.chunksInUse--
	if s.chunksInUse == 0 {
		a.bytes -= int64(len(s.all))
		*s = slab{}
		a.leaving = 0
	}
}

// pieces returns the memory of the arena, as a list of slabs.
func (a *arena) pieces() (list [][]byte) {
	for _, s := range a.slabs {
		list = append(list, s.all)
	}
	return list
}

// bytesAt returns the bytes of a chunk from an address to the end of the chunk; nil if the chunk was dropped.
func (a *arena) bytesAt(addr address) []byte {
	c := a.chunk(addr)
	if c == nil {
		return nil
	}
	return c[addr&(chunkSize-1):]
}

// view returns bytes of an arena, which never change, as a string without copying.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// textOf returns the text at an address. The caller passes the length of the text, so that textOf need not read it from memory; 255 means
// that textOf must read the length.
func (a *arena) textOf(addr address, length byte) string {
	b := a.bytesAt(addr)
	if length == 255 || len(b) < 2+int(length) {
		return a.text(addr)
	}
	return view(b[2 : 2+int(length)])
}

// Each distinct text (host, AppID, page) is stored once: a length of two bytes, then the text.

func (a *arena) text(addr address) string {
	b := a.bytesAt(addr)
	if len(b) < 2 {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n > len(b)-2 {
		return ""
	}
	return view(b[2 : 2+n])
}

// A rule's record:
//
//	 0  5  host
//	 5  1  flags
//	 6  2  length of the tail (12 bits), length of the id less one (3)
//	 8  6  owner: address of its text, length of the text (255 = 255 or more)
//	14  6  page: address of its text, length of the text (255 = 255 or more)
//	20     tail: the part of the key from the path on
//	       id, little endian
//	       with flagTarget: address of the target's text (5)
//	       with flagExtra: the prefix as it was added, or ffff if it is equal
//	       to the key; then the test links; then ffff. The prefix and each
//	       test link consist of a length of two bytes and the text
const (
	ruleHead = 20
	maxTail  = 1<<12 - 1
)

const (
	flagPublished = 1 << iota
	flagSub
	flagOccupy
	flagService
	flagTarget // the record has a target that differs from its owner
	flagExtra
	versionShift = iota // position of the two flag bits with the version that a test link opens
)

const noText = math.MaxUint16

type record struct{ b []byte }

func (a *arena) record(addr address) record { return record{a.bytesAt(addr)} }

func address5(b []byte) address {
	return address(binary.LittleEndian.Uint32(b)) | address(b[4])<<32
}

func appendAddress(b []byte, addr address) []byte {
	return append(b, byte(addr), byte(addr>>8), byte(addr>>16), byte(addr>>24), byte(addr>>32))
}

func (r record) ok() bool       { return len(r.b) >= ruleHead && ruleHead+r.tailLen()+r.idLen() <= len(r.b) }
func (r record) host() address  { return address5(r.b) }
func (r record) flags() byte    { return r.b[5] }
func (r record) tailLen() int   { return int(binary.LittleEndian.Uint16(r.b[6:]) & maxTail) }
func (r record) idLen() int     { return int(r.b[7]>>4) + 1 }
func (r record) owner() address { return address5(r.b[8:]) }
func (r record) page() address  { return address5(r.b[14:]) }
func (r record) tail() string   { return view(r.b[ruleHead : ruleHead+r.tailLen()]) }

func (r record) kind() rules.Kind {
	if r.flags()&flagService != 0 {
		return rules.KindService
	}
	return rules.Ordinary
}

// trailer parses the part of the record that follows the tail.
func (r record) trailer() (id int64, target address, extra []byte) {
	b := r.b[ruleHead+r.tailLen():]
	n := r.idLen()
	for i, c := range b[:n] {
		id |= int64(c) << (8 * i)
	}
	b, target = b[n:], r.owner()
	if r.flags()&flagTarget != 0 {
		target, b = address5(b), b[5:]
	}
	if r.flags()&flagExtra != 0 {
		extra = b
	}
	return id, target, extra
}

// extraText returns the first text in b, the extra texts of a record, and the bytes after this text; ok is false if b has no more texts.
func extraText(b []byte) (text string, rest []byte, ok bool) {
	n := int(binary.LittleEndian.Uint16(b))
	if n == noText {
		return "", b[2:], false
	}
	return view(b[2 : 2+n]), b[2+n:], true
}

// size returns the length of the record in bytes.
func (r record) size() int {
	if _, _, extra := r.trailer(); extra != nil {
		_, rest, _ := extraText(extra) // the prefix
		for hasMore := true; hasMore; {
			_, rest, hasMore = extraText(rest)
		}
		return len(r.b) - len(rest)
	}
	if r.flags()&flagTarget != 0 {
		return ruleHead + r.tailLen() + r.idLen() + 5
	}
	return ruleHead + r.tailLen() + r.idLen()
}

// encodeRule appends the record of a rule to b. The last four parameters are addresses of texts.
func encodeRule(b []byte, r *rules.Rule, tail string, host, owner, target, page address) []byte {
	flags := byte(r.OpenVersion&3) << versionShift
	set := func(bit byte, on bool) {
		if on {
			flags |= bit
		}
	}
	set(flagPublished, r.Published)
	set(flagSub, r.Prefix.Sub)
	set(flagOccupy, r.Occupy)
	set(flagService, r.Kind == rules.KindService)
	set(flagTarget, target != owner)
	text := r.Prefix.Text != r.Prefix.Key
	set(flagExtra, text || len(r.TestLinks) > 0)
	b = appendAddress(b, host)
	b = append(b, flags)
	idLen := (bits.Len64(uint64(r.ID)|1) + 7) / 8
	b = binary.LittleEndian.AppendUint16(b, uint16(len(tail)|(idLen-1)<<12))
	b = append(appendAddress(b, owner), byte(min(len(r.Owner), 255)))
	b = append(appendAddress(b, page), byte(min(len(r.Path), 255)))
	b = append(b, tail...)
	for i := range idLen {
		b = append(b, byte(r.ID>>(8*i)))
	}
	if target != owner {
		b = appendAddress(b, target)
	}
	if flags&flagExtra != 0 {
		if text {
			b = appendText(b, r.Prefix.Text)
		} else {
			b = binary.LittleEndian.AppendUint16(b, noText)
		}
		for _, link := range r.TestLinks {
			b = appendText(b, link)
		}
		b = binary.LittleEndian.AppendUint16(b, noText)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}
