package index

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// A glance finds the governing rule of an ordinary link in one pass, eight bytes per step. An ordinary link has a lower-case scheme
// and host, a path, a host of at most 31 bytes and at most four places where a rule can end, and is not a code of a service
// account. Links that are not ordinary are handled by core.search; tests check that glance and core.search return the same results.
//
// While a processor waits for memory, it continues with independent instructions and predicts branches. A glance computes the table
// positions from the link alone, and uses the host entry only in branches, so that the processor need not wait for the host entry.

const (
	ones    = 0x0101010101010101
	highs   = 0x8080808080808080
	slashes = '/' * ones
	quests  = '?' * ones

	httpStart  = 0x002f2f3a70747468 // "http://"
	httpsStart = 0x2f2f3a7370747468 // "https://"

	serviceOrigin = "http://weixin.qq.com/"
)

// load returns the eight bytes at offset pos.
func load(p unsafe.Pointer, pos int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(p, pos))[:])
}

// loadIn returns up to eight bytes at a position of a text of n bytes, where n is at least eight; bytes past the end are 0.
func loadIn(p unsafe.Pointer, pos, n int) uint64 {
	if pos+8 <= n {
		return load(p, pos)
	}
	return load(p, n-8) >> (uint(8*(pos+8-n)) & 63)
}

// spot is a position in a link where a rule can end, together with the first bucket of its hash.
type spot struct {
	hash   uint64
	end    int
	bucket *bucket
	tags   uint64
}

// spots holds the positions in a link where a rule can end, shortest first.
type spots struct {
	n    int
	list [glanceSlots]spot
}

// glanceSlots is the maximum number of positions in a link that a glance examines.
const glanceSlots = 4

// add appends a position where a rule can end and starts loading the bucket of its hash. add returns false if there is no room for
// another position.
func (s *spots) add(t *table, hash uint64, end int) bool {
	if s.n >= glanceSlots {
		return false
	}
	p := &s.list[s.n&(glanceSlots-1)]
	seg := t.segment(hash)
	n, first := seg.n.Load(), seg.buckets.Load()
	if n == 0 {
		return true
	}
	b := bucketAt(first, firstBucket(partOf(hash), n))
	p.hash, p.end, p.bucket, p.tags = hash, end, b, atomic.LoadUint64(&b[0])
	s.n++
	return true
}

// glanced is the result of glance.
type glanced uint8

const (
	glanceUnsure glanced = iota // core.search must handle the link
	glanceMiss                  // no rule governs the link
	glanceHit
)

// glance finds the governing rule of a common link and stores it in hit.
func (c *core) glance(text string, x *Index, hit *rules.Match) glanced {
	p, n := unsafe.Pointer(unsafe.StringData(text)), len(text)
	if n < len("http://a/") || n > rules.MaxLink {
		return glanceUnsure
	}
	pos, secure := len("https://"), uint64(1)
	if w := load(p, 0); w != httpsStart {
		pos, secure = len("http://"), 0
		if w<<8 != httpStart<<8 || strings.HasPrefix(text, serviceOrigin) {
			return glanceUnsure
		}
	}
	// The host.
	var name [4]uint64
	hostLen := -pos
	state := c.seed
	for i := 0; ; i++ {
		if pos >= n || i == len(name) {
			return glanceUnsure
		}
		w := loadIn(p, pos, n)
		d := w ^ slashes
		if z := (d - ones) & ^d & highs; z != 0 {
			j := bits.TrailingZeros64(z) & 56
			w &= 1<<j - 1
			name[i&3] = w
			pos += j >> 3
			hostLen += pos
			state = originEnd(state, w, hostLen, secure)
			break
		}
		name[i&3] = w
		state = mix(state^w, mixBlock)
		pos += 8
	}
	lower := state
	h := c.hosts.glance(lower, uint64(hostLen), &name)
	if h == nil {
		if plain(text[:pos]) {
			return glanceMiss
		}
		return glanceUnsure
	}
	paths, asks := atomic.LoadUint64(&h[1]), atomic.LoadUint64(&h[2])
	number := atomic.LoadUint64(&h[3])

	// The path of the link begins at p; the positions where a rule can end are offsets from p.
	p = unsafe.Add(p, pos)
	path := pos
	n -= pos
	pos = 0
	if h.longest() < n && n > 512 { // the longest rule of the host ends far before the end of this link
		return glanceUnsure
	}
	var found spots
	depth, pathLen := uint(0), 0
	state = c.seed
	prev, back := uint64(0), state // prev is the previous block of eight bytes, and back is the hash state before this block
	for {
		// loadIn may read bytes before p, because more than eight bytes of the text precede p.
		w := loadIn(p, pos, n)
		d := w ^ slashes
		marks := ^((d&lowBits + lowBits) | d | lowBits)
		d = w ^ quests
		quest := (d - ones) & ^d & highs
		if quest != 0 {
			marks &= quest&-quest - 1
		}
		for ; marks != 0; marks &= marks - 1 {
			if depth < 31 {
				depth++
			}
			if paths>>depth&1 != 0 {
				end := pos + bits.TrailingZeros64(marks)>>3 + 1
				if !found.add(&c.ruleTable, prefixHash(state, w, end, lower), end) {
					return glanceUnsure
				}
			}
		}
		if quest == 0 {
			if pos += 8; pos < n {
				prev, back = w, state
				state = mix(state^w, mixBlock)
				continue
			}
			// The link has no parameters, so the path extends to its end.
			pathLen = n
			if asks&1 != 0 {
				return glanceUnsure
			}
			if paths>>(32+depth)&1 != 0 && *(*byte)(unsafe.Add(p, n-1)) != '/' {
				if !found.add(&c.ruleTable, prefixHash(state, w, n, lower), n) {
					return glanceUnsure
				}
			}
			break
		}
		ask := pos + bits.TrailingZeros64(quest)>>3
		pathLen = ask
		if paths>>(32+depth)&1 != 0 && *(*byte)(unsafe.Add(p, ask-1)) != '/' {
			s, b := state, w
			if ask == pos {
				s, b = back, prev
			}
			if !found.add(&c.ruleTable, prefixHash(s, b, ask, lower), ask) {
				return glanceUnsure
			}
		}
		if uint32(asks) == 0 {
			break
		}
		ask++
		if ask+2 <= n && asks&askBit(uint64(binary.LittleEndian.Uint16((*[2]byte)(unsafe.Add(p, ask))[:]))) == 0 {
			break
		}
		if asks&(1<<lastAsk) != 0 && n >= ask+lastAsk {
			return glanceUnsure
		}
		for lengths := asks & askLengths; lengths != 0; lengths &= lengths - 1 {
			end := ask + bits.TrailingZeros64(lengths)
			if end > n {
				break
			}
			for end > pos+8 {
				state = mix(state^w, mixBlock)
				pos += 8
				w = loadIn(p, pos, n)
			}
			if !found.add(&c.ruleTable, prefixHash(state, w, end, lower), end) {
				return glanceUnsure
			}
		}
		break
	}

	for i := found.n - 1; i >= 0; i-- {
		x.step("judge")
		s := &found.list[i&(glanceSlots-1)]
		tag, part, end := tagOf(s.hash), partOf(s.hash), s.end
		for m := sameTags(s.tags, tag); m != 0; m &= m - 1 {
			v := atomic.LoadUint64(&s.bucket[(bits.TrailingZeros64(m)>>3+1)&7])
			if v&0xffffff != part {
				continue
			}
			r := c.rules.recordAt(addressOf(v), end)
			if r == nil || !equalBytes(unsafe.Add(r, ruleHead), p, end) {
				return glanceUnsure
			}
			head, owner := load(r, 0), load(r, 8)
			if (head^number)&(1<<40-1) != 0 || int(head>>48&maxTail) != end || end < pathLen && head>>40&flagSub == 0 ||
				head>>40&(flagPublished|flagTarget|flagExtra|flagService) != flagPublished {
				return glanceUnsure
			}
			page := load(r, 12) >> 16
			idLen := uint(head >> 60 & 7)
			hit.ID = int64(load(r, ruleHead+end+int(idLen)-7) >> ((56 - 8*idLen) & 63))
			hit.Kind = rules.Ordinary
			hit.Owner = c.texts.textOf(address(owner&(1<<40-1)), byte(owner>>40))
			hit.Target = hit.Owner
			hit.Prefix = text[:path+end]
			hit.Page = c.texts.textOf(address(page&(1<<40-1)), byte(page>>40))
			return glanceHit
		}
		if s.tags&goesOn(tag) != 0 {
			return glanceUnsure
		}
	}
	return glanceMiss
}

// plain reports whether a link's host can be looked up without normalization.
func plain(origin string) bool {
	for i := range len(origin) {
		if c := origin[i]; c == '?' || c == '#' || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// glance finds a host entry like find, for a host name of at most 31 bytes that is split into words.
func (t *hostTable) glance(hash, length uint64, name *[4]uint64) *host {
	s := &t.segments[hash>>(64-hostBits)]
	n, first := s.n.Load(), s.lines.Load()
	if n == 0 {
		return nil
	}
	pos, _ := bits.Mul64(hash<<hostBits, n)
	for range n {
		h := hostLine(first, pos)
		switch atomic.LoadUint64(&h[0]) {
		case hash:
			if (h[4]^name[0])|(h[5]^name[1])|(h[6]^name[2])|(h[7]^name[3])|(atomic.LoadUint64(&h[3])>>40&0xff^length) == 0 {
				return h
			}
		case 0:
			return nil
		}
		pos = nextPos(pos, n)
	}
	return nil
}

// equalBytes reports whether n bytes at a and b are equal; at least eight readable bytes must precede both pointers.
func equalBytes(a, b unsafe.Pointer, n int) bool {
	d := uint64(0)
	pos := 0
	for ; pos+8 < n; pos += 8 {
		d |= load(a, pos) ^ load(b, pos)
	}
	return d|(load(a, n-8)^load(b, n-8))>>(uint(8*(pos+8-n))&63) == 0
}

// recordAt returns the record at an address, or nil if a record with a tail of n bytes does not fit between the address and the end of its
// chunk. The caller must still check that the record's tail has n bytes.
func (a *arena) recordAt(addr address, n int) unsafe.Pointer {
	c := a.chunk(addr)
	from := int(addr & (chunkSize - 1))
	if c == nil || from+ruleHead+n >= chunkSize {
		return nil
	}
	return unsafe.Pointer(&c[from])
}
