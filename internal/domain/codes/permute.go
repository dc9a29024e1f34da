package codes

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// Alphabet lists the 38 symbols of a code text in the order of their values. The first 36 symbols are the alphabet of original
// codes. Fixed for ever.
const Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ$-"

const (
	// Space is the number of counters, and therefore of original codes: 36⁹. Every counter is less than Space.
	Space = pow36x4 * pow36x5
	// KeySize is the length of a key's secret in bytes: AES-256.
	KeySize = 32
	// CodeLength is the length of an original code in characters.
	CodeLength = 9
	// symbolsLength is the number of characters of a code text after its version character.
	symbolsLength = 18

	pow36x4 = 36 * 36 * 36 * 36
	pow36x5 = pow36x4 * 36
	pow38x9 = 38 * 38 * 38 * 38 * 38 * 38 * 38 * 38 * 38

	// rounds is the number of rounds of FF1, for every radix and length.
	rounds = 10
)

// values maps a byte to the value of its symbol; other bytes map to the marker "absent".
var values = positionsIn(Alphabet)

const absent = 0xff

// positionsIn maps each byte to its position in symbols; other bytes map to the marker "absent".
func positionsIn(symbols string) (v [256]byte) {
	for i := range v {
		v[i] = absent
	}
	for i := range len(symbols) {
		v[symbols[i]] = byte(i)
	}
	return v
}

// ff1 converts counters to numbers and back by FF1 (NIST SP 800-38G), with one key, radix, length and length of the tweak. It caches what
// depends only on these: the cipher, and the encryption of the first block of the PRF. For the lengths in this package the PRF has only one
// further block, which contains the tweak, the round number and, in 4 to 8 bytes, one half of the number to convert.
type ff1 struct {
	aes    cipher.Block
	hi, lo uint64
	a, b   uint64 // radix to the power of the length of each half
	shift  uint   // bits of a half in the second block
}

func newFF1(secret []byte, radix, length, tweak byte) (ff1, error) {
	if len(secret) != KeySize {
		return ff1{}, fmt.Errorf("codes: a key has %d bytes, not %d", KeySize, len(secret))
	}
	c, err := aes.NewCipher(secret)
	if err != nil {
		return ff1{}, err
	}
	return ff1{aes: c}.derive(radix, length, tweak), nil
}

// derive returns an ff1 with the same key for another radix, length or tweak length.
func (f ff1) derive(radix, length, tweak byte) ff1 {
	// The block P of SP 800-38G, algorithm 7, step 5.
	p := [16]byte{1, 2, 1, 0, 0, radix, rounds, length / 2, 0, 0, 0, length, 0, 0, 0, tweak}
	f.aes.Encrypt(p[:], p[:])
	f.hi, f.lo = binary.BigEndian.Uint64(p[:8]), binary.BigEndian.Uint64(p[8:])
	f.a, f.b = power(uint64(radix), length/2), power(uint64(radix), length-length/2)
	f.shift = uint(bits.Len64(f.b-1)+7) / 8 * 8
	return f
}

func power(base uint64, n byte) uint64 {
	p := uint64(1)
	for range n {
		p *= base
	}
	return p
}

// Format prints every key as [secret].
func (ff1) Format(s fmt.State, _ rune) { io.WriteString(s, "[secret]") }

// fill writes the unencrypted second block of the PRF: the tweak (0 = none), the round number, and the half.
func (f *ff1) fill(q *block, tweak byte, round int, half uint64) {
	binary.BigEndian.PutUint64(q[:8], f.hi^(uint64(tweak)<<56|uint64(round)>>(64-f.shift)))
	binary.BigEndian.PutUint64(q[8:], f.lo^(uint64(round)<<f.shift|half))
}

// round returns the result of a round, modulo the size of a half: of the first 8 bytes of the block if a half has at most 4 bytes,
// otherwise of the first 12 bytes.
func (f *ff1) round(q *block, tweak byte, i int, half, mod uint64) uint64 {
	f.fill(q, tweak, i, half)
	f.aes.Encrypt(q[:], q[:])
	hi, lo := binary.BigEndian.Uint64(q[:8]), binary.BigEndian.Uint64(q[8:])
	if f.shift <= 32 {
		return hi % mod
	}
	return bits.Rem64(hi>>32, hi<<32|lo>>32, mod)
}

// permute returns the halves of the number of counter c. It panics if c is not below Space, because the result would be another counter's.
func (f *ff1) permute(c uint64, tweak byte) (a, b uint64) {
	if c >= Space {
		panic(errCounter)
	}
	q := blocks.Get().(*block)
	a, b = c/f.b, c%f.b
	for i := 0; i < rounds; i += 2 {
		a = (a + f.round(q, tweak, i, b, f.a)) % f.a
		b = (b + f.round(q, tweak, i+1, a, f.b)) % f.b
	}
	blocks.Put(q)
	return a, b
}

// counter is the inverse of permute; ok is false if no counter has this number.
func (f *ff1) counter(a, b uint64, tweak byte) (c uint64, ok bool) {
	q := blocks.Get().(*block)
	for i := rounds - 2; i >= 0; i -= 2 {
		b = (b + f.b - f.round(q, tweak, i+1, a, f.b)) % f.b
		a = (a + f.a - f.round(q, tweak, i, b, f.a)) % f.a
	}
	blocks.Put(q)
	hi, lo := bits.Mul64(a, f.b)
	c, carry := bits.Add64(lo, b, 0)
	return c, hi == 0 && carry == 0 && c < Space
}

// block is one AES block. A call through the interface cipher.Block makes a block escape to the heap, so functions for a single code take a
// block from a pool.
type block [16]byte

var blocks = sync.Pool{New: func() any { return new(block) }}

// CodeKey converts counters to original codes and back: FF1 with radix 36, length 9 and no tweak. There is one CodeKey for all codes, for
// ever: two keys would produce collisions. A CodeKey prints as [secret] and is safe for concurrent use. Contract: marketcode §5.1.
type CodeKey struct{ ff1 }

// NewCodeKey returns a CodeKey made from KeySize random bytes. NewCodeKey returns an error if the length of the secret is not KeySize.
func NewCodeKey(secret []byte) (*CodeKey, error) {
	f, err := newFF1(secret, 36, CodeLength, 0)
	if err != nil {
		return nil, err
	}
	return &CodeKey{f}, nil
}

// even and odd return the result of a round of a CodeKey, with a constant modulus, for bursts.
func (b *block) even() uint64 { return binary.BigEndian.Uint64(b[:8]) % pow36x4 }
func (b *block) odd() uint64  { return binary.BigEndian.Uint64(b[:8]) % pow36x5 }

// Code returns the original code of counter c. Code panics if c is not below Space.
func (k *CodeKey) Code(c uint64) (code [CodeLength]byte) {
	a, b := k.permute(c, 0)
	writeCode(&code, a, b)
	return code
}

// Counter returns the counter of an original code; ok is false if the code contains characters outside the alphabet. Counter does
// not check whether a batch contains the counter: every text of nine valid characters has a counter.
func (k *CodeKey) Counter(code [CodeLength]byte) (c uint64, ok bool) {
	a, b, ok := readCode(&code)
	if !ok {
		return 0, false
	}
	return k.counter(a, b, 0)
}

// TextKey converts counters to the 18 symbols of a code text and back: FF1 with radix 38, length 18 and the version character as
// tweak, applied to nine zero symbols followed by the counter in nine symbols. Each version character identifies one TextKey. A
// TextKey prints as [secret] and is safe for concurrent use. Contract: marketcode §5.4; design 9.
type TextKey struct{ ff1 }

// NewTextKey returns a TextKey made from KeySize random bytes, which must differ from those of a CodeKey. NewTextKey returns an error
// if the length of the secret is not KeySize.
func NewTextKey(secret []byte) (*TextKey, error) {
	f, err := newFF1(secret, 38, symbolsLength, 1)
	if err != nil {
		return nil, err
	}
	return &TextKey{f}, nil
}

// wide returns the result of a round of a TextKey, with a constant modulus, for bursts.
func (b *block) wide() uint64 {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return bits.Rem64(hi>>32, hi<<32|lo>>32, pow38x9)
}

// Text returns the 18 symbols of counter c for a version character. Text panics if c is not below Space.
func (k *TextKey) Text(c uint64, version byte) (symbols [symbolsLength]byte) {
	a, b := k.permute(c, version)
	writeSymbols(&symbols, a, b)
	return symbols
}

// Counter returns the counter of 18 symbols for a version character; ok is false for symbols that this key cannot have produced: an
// invented text passes with probability 38⁻⁹, about 2⁻⁴⁷. Counter does not check whether a batch contains the counter.
func (k *TextKey) Counter(symbols [symbolsLength]byte, version byte) (c uint64, ok bool) {
	a, b, ok := readSymbols(&symbols)
	if !ok {
		return 0, false
	}
	return k.counter(a, b, version)
}

var errCounter = errors.New("codes: a counter is not below 36^9")

// lanes is the number of counters that a burst processes at once. The processor needs about 50 cycles for an AES block but can start one
// every few cycles. With 16 independent blocks at once (two per lane), a code and its text take a third of the time of two calls.
const lanes = 8

// burst computes the original codes and the symbols of consecutive counters, round by round for all counters at once. A burst
// returns the same results as Code and Text, but faster.
type burst struct {
	codes, texts                   [lanes]block
	codeA, codeB, symbolA, symbolB [lanes]uint64
}

// run computes codes and symbols for n ≤ lanes counters, starting at c, all below Space.
func (s *burst) run(code *CodeKey, text *TextKey, version byte, c uint64, n int) {
	for j := range n {
		s.codeA[j], s.codeB[j] = (c+uint64(j))/pow36x5, (c+uint64(j))%pow36x5
		s.symbolA[j], s.symbolB[j] = 0, c+uint64(j)
	}
	for i := 0; i < rounds; i += 2 {
		s.encrypt(code, text, version, i, &s.codeB, &s.symbolB, n)
		for j := range n {
			s.codeA[j] = (s.codeA[j] + s.codes[j].even()) % pow36x4
			s.symbolA[j] = (s.symbolA[j] + s.texts[j].wide()) % pow38x9
		}
		s.encrypt(code, text, version, i+1, &s.codeA, &s.symbolA, n)
		for j := range n {
			s.codeB[j] = (s.codeB[j] + s.codes[j].odd()) % pow36x5
			s.symbolB[j] = (s.symbolB[j] + s.texts[j].wide()) % pow38x9
		}
	}
}

// encrypt runs both ciphers on one half of every lane. All blocks are written before the first is read, because the CPU cannot
// forward two separate 8-byte stores to the cipher's 16-byte load.
func (s *burst) encrypt(code *CodeKey, text *TextKey, version byte, round int, c, t *[lanes]uint64, n int) {
	for j := range n {
		code.fill(&s.codes[j], 0, round, c[j])
		text.fill(&s.texts[j], version, round, t[j])
	}
	for j := range n {
		code.aes.Encrypt(s.codes[j][:], s.codes[j][:])
		text.aes.Encrypt(s.texts[j][:], s.texts[j][:])
	}
}

// lane returns the results of run for counter c + j.
func (s *burst) lane(j int) (code [CodeLength]byte, symbols [symbolsLength]byte) {
	writeCode(&code, s.codeA[j], s.codeB[j])
	writeSymbols(&symbols, s.symbolA[j], s.symbolB[j])
	return code, symbols
}

// writeCode writes the two halves of a code as four and five characters.
func writeCode(code *[CodeLength]byte, a, b uint64) {
	for i := 3; i >= 0; i-- {
		code[i], a = Alphabet[a%36], a/36
	}
	for i := 8; i >= 4; i-- {
		code[i], b = Alphabet[b%36], b/36
	}
}

func readCode(code *[CodeLength]byte) (a, b uint64, ok bool) {
	worst := uint8(0)
	for _, char := range code[:4] {
		v := values[char]
		a, worst = a*36+uint64(v), max(worst, v)
	}
	for _, char := range code[4:] {
		v := values[char]
		b, worst = b*36+uint64(v), max(worst, v)
	}
	return a, b, worst < 36
}

// writeSymbols writes the two halves of a code text as nine characters each.
func writeSymbols(symbols *[symbolsLength]byte, a, b uint64) {
	for i := 8; i >= 0; i-- {
		symbols[i], a = Alphabet[a%38], a/38
		symbols[i+9], b = Alphabet[b%38], b/38
	}
}

func readSymbols(symbols *[symbolsLength]byte) (a, b uint64, ok bool) {
	worst := uint8(0)
	for i := range 9 {
		u, v := values[symbols[i]], values[symbols[i+9]]
		a, b, worst = a*38+uint64(u), b*38+uint64(v), max(worst, u, v)
	}
	return a, b, worst < 38
}

// Keys are the permanent keys for codes: one key for all original codes, and one key per version for texts. Two keys for the same
// space of original codes would produce collisions, so the key for original codes is never replaced.
type Keys struct {
	Code    *CodeKey
	Text    map[byte]*TextKey // by version character
	Current byte              // version used for new batches
}

// FirstVersion is the version character of the first text key.
const FirstVersion = '0'
