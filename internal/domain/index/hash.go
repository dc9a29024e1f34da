package index

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// A place is a position where a rule that matches a link can end: the number of bytes from the start of the link's path, and the
// hash of these bytes combined with the hash of the link's host.
type place struct {
	hash uint64
	end  int
}

// Constants of the hash mixing: odd numbers without a pattern. The constants are public; only the seed of the hash is secret.
const (
	mixBlock  = 0xa0761d6478bd642f
	mixEnd    = 0xe7037ed1a0b428db
	mixLength = 0x8ebc6af09c88c6e3
	mixHost   = 0x589965cc75374cc3
)

// mix returns the XOR of the high and low halves of the 128-bit product of a and b.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// prefixHash returns the hash of the first n = end bytes of a link; block contains the bytes after the last full block (one to eight), and
// state is the hash state of all blocks before. The host hash is mixed in last, so that the hash of the host and the hash of the path can
// be computed in parallel.
func prefixHash(state, block uint64, end int, host uint64) uint64 {
	return mix(state^block&(^uint64(0)>>(uint(-8*end)&56))^uint64(end)*mixLength^host, mixEnd)
}

// hashText returns the hash of a text: for a rule's tail, host is the hash of its host; for an AppID or a page, host is 0. The hash
// state starts with the seed.
func hashText(seed, host uint64, s string) uint64 {
	state := seed
	pos := 0
	for ; pos+8 < len(s); pos += 8 {
		state = mix(state^block(s, pos), mixBlock)
	}
	return prefixHash(state, block(s, pos), len(s), host)
}

// hashOrigin returns the hash of a scheme and host. The hash is never 0; it is odd for https and even for http.
func hashOrigin(seed uint64, origin string) uint64 {
	secure := uint64(0)
	name := origin[len("http://"):]
	if origin[len("http")] == 's' {
		secure, name = 1, name[1:]
	}
	state := seed
	pos := 0
	for ; pos+8 <= len(name); pos += 8 {
		state = mix(state^block(name, pos), mixBlock)
	}
	return originEnd(state, block(name, pos), len(name), secure)
}

// originEnd completes hashOrigin with the remaining bytes of the last block, at most seven.
func originEnd(state, rest uint64, length int, secure uint64) uint64 {
	return mix(state^rest^uint64(length)*mixHost, mixEnd)&^1 | 1<<8 | secure
}

// block returns up to eight bytes at a position; bytes past the end of the text are 0.
func block(s string, pos int) uint64 {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	switch {
	case pos+8 <= len(b):
		return binary.LittleEndian.Uint64(b[pos:])
	case len(b) >= 8:
		return binary.LittleEndian.Uint64(b[len(b)-8:]) >> (8 * (pos + 8 - len(b)))
	}
	var w uint64
	for i := len(b) - 1; i >= pos; i-- {
		w = w<<8 | uint64(b[i])
	}
	return w
}

// places appends the positions where rules of a host can end in a link, shortest first, in one pass over the link. pathLen is the
// length of the path, and tail is the link from its path on. The link must not be a code of a service account.
func places(found []place, seed uint64, h *host, tail string, pathLen int) []place {
	lower := atomic.LoadUint64(&h[0])
	paths, asks := atomic.LoadUint64(&h[1]), atomic.LoadUint64(&h[2])&askLengths
	longest := h.longest()
	n := min(len(tail), longest)
	if asks == 0 || pathLen == len(tail) {
		n = min(n, pathLen)
	}
	state := seed
	depth := uint(0)
	from := 0
	for ; from < n; from += 8 {
		w := block(tail, from)
		want := uint64(0) // bit j: a rule can end after byte j of this block
		if left := pathLen - from; left > 0 {
			if paths != 0 {
				x := w ^ 0x2f2f2f2f2f2f2f2f
				slashes := ^((x&lowBits + lowBits) | x | lowBits)
				if left < 8 {
					slashes &= 1<<(8*left) - 1
				}
				for ; slashes != 0; slashes &= slashes - 1 {
					depth++
					j := bits.TrailingZeros64(slashes) >> 3
					want |= paths >> min(depth, 31) & 1 << j
				}
				if left <= 8 && w>>(8*(left-1))&0xff != '/' {
					want |= paths >> (32 + min(depth, 31)) & 1 << (left - 1)
				}
			}
			if left < 8 && asks != 0 {
				want |= asks << left
			}
		} else if q := uint(-left); q < lastAsk {
			want |= asks >> q
			if asks>>lastAsk != 0 {
				want |= ^uint64(0) << (lastAsk - q)
			}
		} else {
			want |= -(asks >> lastAsk)
		}
		want &= 0xff
		if n-from < 8 {
			want &= 1<<(n-from) - 1
		}
		for ; want != 0; want &= want - 1 {
			end := from + bits.TrailingZeros64(want) + 1
			found = append(found, place{prefixHash(state, w, end, lower), end})
		}
		state = mix(state^w, mixBlock)
	}
	if asks&1 != 0 && pathLen == len(tail) && len(tail) < longest {
		// A link without "?" also matches a rule that equals the link plus a final "?".
		if from != len(tail) { // the last block was not full, so hashAsked reads it again
			found = append(found, place{hashAsked(seed, lower, tail), len(tail) + 1})
		} else {
			found = append(found, place{prefixHash(state, '?', len(tail)+1, lower), len(tail) + 1})
		}
	}
	return found
}

// hashAsked returns the hash of a tail followed by "?".
func hashAsked(seed, lower uint64, tail string) uint64 {
	state := seed
	from := 0
	for ; from+8 <= len(tail); from += 8 {
		state = mix(state^block(tail, from), mixBlock)
	}
	w := uint64('?')
	if from < len(tail) {
		w = block(tail, from) | '?'<<(8*(len(tail)-from))
	}
	return prefixHash(state, w, len(tail)+1, lower)
}
