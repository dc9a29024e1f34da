package index

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A host stores a scheme and host in one cache line, together with masks of the places where rules of the host can end. A look-up probes
// only the places in the masks, and stops at once if the host has no rule. The words of the type host:
//
//	word 0  hash of the scheme and host, odd for https; 0 = a free line
//	     1  low half: bit d = a rule without "?" ends after the d-th "/" of the
//	        path; high half: bit d = a rule's whole path has d "/" and does not
//	        end with "/"
//	     2  low half: bit n = a rule has n bytes of parameters; high half: a
//	        filter for the first two of these bytes (see askBit)
//	     3  address of the text (40 bits), length of the host (8), length of
//	        the longest rule of the host from the path on (16)
//	     4  up to 31 bytes of the host
//
// The highest bit of a mask of depths or lengths also stands for all greater depths or lengths. Words 1, 2 and 3 of a host only
// grow; the other words never change.
type host [8]uint64

const (
	inLine   = 31 // maximum length of a host name that is stored inside the cache line
	hostFill = 600
)

// hostTable finds hosts by hash; the table is divided into segments, like a value of the type table.
type hostTable struct {
	segments [1 << hostBits]hostSegment

	// The following fields are used only by the writer:
	used  [1 << hostBits]int32
	bytes int64
}

const hostBits = 8

type hostSegment struct {
	n     atomic.Uint64
	lines atomic.Pointer[host]
}

func hostLine(first *host, i uint64) *host {
	return (*host)(unsafe.Add(unsafe.Pointer(first), i*uint64(unsafe.Sizeof(host{}))))
}

// The constants below describe the lower half of word 2 of a host.
const (
	lastAsk    = 31
	askLengths = 1<<(lastAsk+1) - 1
)

// askBit returns the filter bit for the first two bytes of a link's parameters.
func askBit(two uint64) uint64 { return 1 << (32 + (two*0x9e3779b97f4a7c15)>>59) }

func (h *host) address() address { return address(atomic.LoadUint64(&h[3]) & (1<<40 - 1)) }
func (h *host) longest() int     { return int(atomic.LoadUint64(&h[3]) >> 48) }

// is reports whether an entry with the same hash belongs to this scheme and host.
func (h *host) is(origin string, texts *arena) bool {
	w := atomic.LoadUint64(&h[3])
	secure := origin[len("http")] == 's'
	name := origin[len("http://"):]
	if secure {
		name = name[1:]
	}
	if len(name) > inLine {
		return texts.text(address(w&(1<<40-1))) == origin
	}
	if int(w>>40&0xff) != len(name) || (h[0]&1 == 1) != secure {
		return false
	}
	for i := range 4 {
		if h[4+i] != block(name, 8*i) {
			return false
		}
	}
	return true
}

// nextPos returns the position after pos in a circular table of n positions.
func nextPos(pos, n uint64) uint64 {
	if pos+1 >= n {
		return 0
	}
	return pos + 1
}

// find returns the entry of a host; nil if the host has no rule.
func (t *hostTable) find(hash uint64, origin string, texts *arena) *host {
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
			if h.is(origin, texts) {
				return h
			}
		case 0:
			return nil
		}
		pos = nextPos(pos, n)
	}
	return nil
}

// add creates the entry of a host that has none. text is the address of the host's text.
func (t *hostTable) add(hash uint64, origin string, text address, version *atomic.Uint64) *host {
	i := hash >> (64 - hostBits)
	s := &t.segments[i]
	if n := s.n.Load(); int(t.used[i]+1)*1000 > int(n)*hostFill {
		grown := max(4, n*2)
		first := unsafe.SliceData(make([]host, grown))
		for old := range t.lines(s) {
			*freeLine(first, grown, old[0]) = *old
		}
		t.bytes += int64(grown-n) * 64
		version.Add(1)
		s.lines.Store(first)
		s.n.Store(grown)
		version.Add(1)
	}
	h := freeLine(s.lines.Load(), s.n.Load(), hash)
	name := origin[len("http://"):]
	if origin[len("http")] == 's' {
		name = name[1:]
	}
	if len(name) <= inLine {
		var line [32]byte
		copy(line[:], name)
		for i := range 4 {
			h[4+i] = binary.LittleEndian.Uint64(line[8*i:]) // stored in the byte order in which glance reads text, on any machine
		}
	}
	h[3] = uint64(text) | uint64(min(len(name), 255))<<40
	atomic.StoreUint64(&h[0], hash)
	t.used[i]++
	return h
}

func freeLine(first *host, n, hash uint64) *host {
	pos, _ := bits.Mul64(hash<<hostBits, n)
	for hostLine(first, pos)[0] != 0 {
		pos = nextPos(pos, n)
	}
	return hostLine(first, pos)
}

// lines iterates over the hosts of a segment.
func (t *hostTable) lines(s *hostSegment) func(yield func(*host) bool) {
	return func(yield func(*host) bool) {
		n, first := s.n.Load(), s.lines.Load()
		for i := range n {
			if h := hostLine(first, i); h[0] != 0 && !yield(h) {
				return
			}
		}
	}
}

// admit sets the mask bits of a rule, so that look-ups probe the position where the rule ends; tail is the rule's key from its path on.
func (h *host) admit(tail string) {
	paths, asks := placesOf(tail)
	for i, mask := range [...]uint64{paths, asks} {
		if h[i+1]|mask != h[i+1] {
			atomic.StoreUint64(&h[i+1], h[i+1]|mask)
		}
	}
	if n := uint64(len(tail)); n > h[3]>>48 {
		atomic.StoreUint64(&h[3], h[3]&(1<<48-1)|n<<48)
	}
}

// placesOf returns the bits that a rule sets in the masks of its host.
func placesOf(tail string) (paths, asks uint64) {
	path, ask := len(tail), -1
	depth := 0
	for i := range len(tail) {
		if tail[i] == '?' {
			path, ask = i, len(tail)-i-1
			break
		}
		if tail[i] == '/' {
			depth++
		}
	}
	switch {
	case ask >= 0:
		asks = 1 << min(ask, lastAsk)
		if ask < 2 {
			return 0, asks | ^uint64(askLengths)
		}
		return 0, asks | askBit(uint64(tail[path+1])|uint64(tail[path+2])<<8)
	case path > 0 && tail[path-1] == '/':
		return 1 << min(depth, 31), 0
	}
	return 1 << (32 + min(depth, 31)), 0
}
