package sealer

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"
)

// Hasher computes keyed hashes for one purpose, and is efficient for large numbers of hashes. Hasher is safe for concurrent use.
type Hasher struct {
	prefix string
	states sync.Pool
}

type hashState struct {
	mac hash.Hash
	in  []byte
	out [sha256.Size]byte
}

// Hasher returns the Hasher for a purpose.
func (k *Key) Hasher(purpose string) *Hasher {
	return &Hasher{
		prefix: fmt.Sprintf("%d:%s", len(purpose), purpose),
		states: sync.Pool{New: func() any { return &hashState{mac: hmac.New(sha256.New, k.mac)} }},
	}
}

// Sum returns, as bytes, the hash that Hash returns in hexadecimal for the concatenated parts.
func (h *Hasher) Sum(parts ...string) (sum [sha256.Size]byte) {
	s := h.states.Get().(*hashState)
	defer h.states.Put(s)
	s.mac.Reset()
	s.in = append(s.in[:0], h.prefix...)
	for _, part := range parts {
		s.in = append(s.in, part...)
	}
	s.mac.Write(s.in)
	clear(s.in)
	copy(sum[:], s.mac.Sum(s.out[:0]))
	return sum
}
