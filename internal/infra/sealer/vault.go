// Package sealer protects stored secrets: secrets that are only compared are stored as keyed hashes, and secrets that are used
// again are encrypted. The package is independent of the meaning of the secrets and of their storage.
package sealer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// KeySize is the length of every key in bytes.
const KeySize = 32

// ErrSealed is returned by Open for a text that was sealed with another key or for another storage place.
var ErrSealed = errors.New("sealer: not encrypted with this key for this location")

// Key encrypts and hashes secrets. The zero value is invalid; use NewKey.
type Key struct {
	aead cipher.AEAD
	mac  []byte
}

// NewKey derives an encryption key and a hash key from KeySize random bytes (HKDF-SHA-256, RFC 5869), so that each construction has
// its own key.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("sealer: a key has %d bytes, not %d", KeySize, len(secret))
	}
	sealing, err := hkdf.Key(sha256.New, secret, nil, "qrjump seal v1", KeySize)
	if err != nil {
		return nil, err
	}
	hashing, err := hkdf.Key(sha256.New, secret, nil, "qrjump hash v1", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, err
	}
	// AES-256-GCM with a random 96-bit nonce before each sealed text (NIST SP 800-38D): safe for 2^32 texts per key, far more than
	// one server seals.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{aead: aead, mac: hashing}, nil
}

// NewSecret generates the bytes of a new key.
func NewSecret(random io.Reader) ([]byte, error) {
	secret := make([]byte, KeySize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, fmt.Errorf("sealer: generating a key: %w", err)
	}
	return secret, nil
}

// Hash returns the keyed hash (HMAC-SHA-256, 64 hexadecimal digits) of a secret for a purpose, so that equal secrets have different
// hashes for different purposes.
func (k *Key) Hash(purpose, secret string) string {
	m := hmac.New(sha256.New, k.mac)
	// The length in front of the purpose distinguishes the purpose and secret ("ab", "c") from ("a", "bc").
	fmt.Fprintf(m, "%d:%s", len(purpose), purpose)
	io.WriteString(m, secret)
	return hex.EncodeToString(m.Sum(nil))
}

// SealingWith returns a key that hashes like k and seals like key, so that the sealing key can be replaced while hashes stay valid.
func (k *Key) SealingWith(key *Key) *Key { return &Key{aead: key.aead, mac: k.mac} }

// Matches compares a secret with a stored hash in constant time.
func (k *Key) Matches(purpose, secret, hash string) bool {
	return hmac.Equal([]byte(k.Hash(purpose, secret)), []byte(hash))
}

// Strict rejects alternative encodings, so that each sealed text has exactly one form.
var encoding = base64.RawStdEncoding.Strict()

// Seal encrypts a secret for its storage place (table, row, column): a sealed text moved to another row cannot be opened.
func (k *Key) Seal(place string, secret []byte) string {
	return encoding.EncodeToString(k.aead.Seal(nil, nil, secret, []byte(place)))
}

// Open decrypts a secret that Seal has encrypted. Open returns ErrSealed if the key, the place or the text differs.
func (k *Key) Open(place, sealed string) ([]byte, error) {
	raw, err := encoding.DecodeString(sealed)
	if err != nil {
		return nil, ErrSealed
	}
	secret, err := k.aead.Open(nil, nil, raw, []byte(place))
	if err != nil {
		return nil, ErrSealed
	}
	return secret, nil
}

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
