// Package sealer knows how secrets are kept: what is only compared becomes a
// keyed hash, what must be used again is sealed. It knows nothing of what the
// secrets are for, nor where the results are stored.
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
	"io"
)

// KeySize is the length of every key in bytes.
const KeySize = 32

// ErrSealed is returned by Open for a text that this key did not seal, or
// sealed for another place.
var ErrSealed = errors.New("vault: not sealed by this key for this place")

// Key seals and hashes. The zero value is not usable; make one with NewKey.
type Key struct {
	aead cipher.AEAD
	mac  []byte
}

// NewKey takes KeySize random bytes and derives one key for sealing and one
// for hashing from them (HKDF-SHA-256, RFC 5869), so that no bytes serve two
// constructions.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("vault: a key has %d bytes, not %d", KeySize, len(secret))
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
	// AES-256-GCM with a random 96-bit nonce before each sealed text (NIST SP
	// 800-38D): safe for 2^32 texts a key, far above what one server seals.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Key{aead: aead, mac: hashing}, nil
}

// NewSecret draws the bytes of a new key.
func NewSecret(random io.Reader) ([]byte, error) {
	secret := make([]byte, KeySize)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, fmt.Errorf("vault: drawing a key: %w", err)
	}
	return secret, nil
}

// Hash returns the keyed hash (HMAC-SHA-256, 64 hexadecimal digits) of a
// secret under a purpose, so that equal secrets of two purposes differ.
func (k *Key) Hash(purpose, secret string) string {
	m := hmac.New(sha256.New, k.mac)
	// The length keeps ("ab", "c") and ("a", "bc") apart.
	fmt.Fprintf(m, "%d:%s", len(purpose), purpose)
	io.WriteString(m, secret)
	return hex.EncodeToString(m.Sum(nil))
}

// SealingWith returns a key that hashes as k does and seals as other does: the
// one can stay when the otherKey is replaced.
func (k *Key) SealingWith(otherKey *Key) *Key { return &Key{aead: otherKey.aead, mac: k.mac} }

// Matches compares a secret with a stored hash in constant time.
func (k *Key) Matches(purpose, secret, hash string) bool {
	return hmac.Equal([]byte(k.Hash(purpose, secret)), []byte(hash))
}

// Strict: each sealed text has one spelling.
var encoding = base64.RawStdEncoding.Strict()

// Seal encrypts a secret for the place it is stored at (table, row, column):
// moved to another row it does not open.
func (k *Key) Seal(place string, secret []byte) string {
	return encoding.EncodeToString(k.aead.Seal(nil, nil, secret, []byte(place)))
}

// Open returns what Seal was given. ErrSealed if the key, the place or the
// text is another.
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
