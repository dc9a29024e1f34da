package codes

import (
	"crypto/aes"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// ff1Reference implements FF1 of NIST SP 800-38G (algorithms 7 and 8) step by step with big integers for every radix up to 65536. Tests
// compare the fast implementation with it, and it with NIST's samples.
type ff1Reference struct {
	key, tweak []byte
	radix      int
}

func (f ff1Reference) encrypt(x []uint16) []uint16 {
	u := len(x) / 2
	a, b := x[:u], x[u:]
	for i := range 10 {
		y := f.round(len(x), i, b)
		c := y.Add(y, f.number(a))
		a, b = b, f.numerals(c, len(a))
	}
	return append(append([]uint16{}, a...), b...)
}

func (f ff1Reference) decrypt(x []uint16) []uint16 {
	u := len(x) / 2
	a, b := x[:u], x[u:]
	for i := 9; i >= 0; i-- {
		y := f.round(len(x), i, a)
		c := y.Sub(f.number(b), y)
		a, b = f.numerals(c, len(b)), a
	}
	return append(append([]uint16{}, a...), b...)
}

// round returns y of round i over n numerals for the half that the round keeps.
func (f ff1Reference) round(n, i int, half []uint16) *big.Int {
	u := n / 2
	maxHalf := new(big.Int).Exp(big.NewInt(int64(f.radix)), big.NewInt(int64(n-u)), nil)
	b := (maxHalf.Sub(maxHalf, big.NewInt(1)).BitLen() + 7) / 8
	d := 4*((b+3)/4) + 4
	t := len(f.tweak)
	p := []byte{1, 2, 1, byte(f.radix >> 16), byte(f.radix >> 8), byte(f.radix), 10, byte(u),
		byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), byte(t >> 24), byte(t >> 16), byte(t >> 8), byte(t)}
	q := append(p, f.tweak...)
	for (len(q)+1+b)%16 != 0 {
		q = append(q, 0)
	}
	q = append(q, byte(i))
	q = append(q, f.number(half).FillBytes(make([]byte, b))...)

	c, err := aes.NewCipher(f.key)
	if err != nil {
		panic(err)
	}
	var r [16]byte
	for ; len(q) > 0; q = q[16:] {
		for j := range r {
			r[j] ^= q[j]
		}
		c.Encrypt(r[:], r[:])
	}
	s := append([]byte{}, r[:]...)
	for j := byte(1); len(s) < d; j++ {
		next := r
		next[15] ^= j
		c.Encrypt(next[:], next[:])
		s = append(s, next[:]...)
	}
	return new(big.Int).SetBytes(s[:d])
}

func (f ff1Reference) number(x []uint16) *big.Int {
	n := new(big.Int)
	for _, v := range x {
		n.Mul(n, big.NewInt(int64(f.radix)))
		n.Add(n, big.NewInt(int64(v)))
	}
	return n
}

// numerals returns n modulo radix^m as m numerals.
func (f ff1Reference) numerals(n *big.Int, m int) []uint16 {
	x := make([]uint16, m)
	n, radix := new(big.Int).Set(n), big.NewInt(int64(f.radix))
	for i := m - 1; i >= 0; i-- {
		v := new(big.Int)
		n.DivMod(n, radix, v)
		x[i] = uint16(v.Int64())
	}
	return x
}

func parseNumerals(alphabet, s string) []uint16 {
	x := make([]uint16, len(s))
	for i := range s {
		x[i] = uint16(strings.IndexByte(alphabet, s[i]))
	}
	return x
}

func printNumerals(alphabet string, x []uint16) string {
	s := make([]byte, len(x))
	for i, v := range x {
		s[i] = alphabet[v]
	}
	return string(s)
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	return require.Value(hex.DecodeString(s))(t)
}

// TestReferenceFF1_NISTSamples verifies ff1Reference with the nine FF1 samples that NIST publishes with SP 800-38G.
func TestReferenceFF1_NISTSamples(t *testing.T) {
	const (
		key128 = "2B7E151628AED2A6ABF7158809CF4F3C"
		key192 = key128 + "EF4359D8D580AA4F"
		key256 = key192 + "7F036D6F04FC6A94"
		tweak1 = "39383736353433323130"
		tweak2 = "3737373770717273373737"
		digits = "0123456789"
		base36 = digits + "abcdefghijklmnopqrstuvwxyz"
	)
	for _, test := range []struct{ name, key, tweak, alphabet, plain, cipher string }{
		{"1", key128, "", digits, "0123456789", "2433477484"},
		{"2", key128, tweak1, digits, "0123456789", "6124200773"},
		{"3", key128, tweak2, base36, "0123456789abcdefghi", "a9tv40mll9kdu509eum"},
		{"4", key192, "", digits, "0123456789", "2830668132"},
		{"5", key192, tweak1, digits, "0123456789", "2496655549"},
		{"6", key192, tweak2, base36, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"},
		{"7", key256, "", digits, "0123456789", "6657667009"},
		{"8", key256, tweak1, digits, "0123456789", "1001623463"},
		{"9", key256, tweak2, base36, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"},
	} {
		f := ff1Reference{key: fromHex(t, test.key), tweak: fromHex(t, test.tweak), radix: len(test.alphabet)}
		got := printNumerals(test.alphabet, f.encrypt(parseNumerals(test.alphabet, test.plain)))
		assert.Equal(t, got, test.cipher, "sample %s: encrypt(%s)", test.name, test.plain)
		got = printNumerals(test.alphabet, f.decrypt(parseNumerals(test.alphabet, test.cipher)))
		assert.Equal(t, got, test.plain, "sample %s: decrypt(%s)", test.name, test.cipher)
	}
}

func TestReferenceFF1_PermutesSmallSpaces(t *testing.T) {
	for _, space := range []struct{ radix, length, texts int }{{2, 11, 1 << 11}, {4, 5, 1 << 10}, {6, 4, 1296}, {65536, 2, 0}, {26, 7, 0},
		{64, 13, 0}} {
		f := ff1Reference{key: make([]byte, 32), tweak: []byte("0"), radix: space.radix}
		seen := make(map[string]bool)
		for i := range max(space.texts, 300) {
			x := f.numerals(big.NewInt(int64(i)), space.length)
			y := f.encrypt(x)
			require.Equal(t, f.number(f.decrypt(y)).Int64(), int64(i), "radix %d, length %d: decryption of %d", space.radix, space.length,
				i)
			seen[f.number(y).String()] = true
		}
		assert.Equal(t, len(seen), max(space.texts, 300), "radix %d, length %d: different texts", space.radix, space.length)
	}
}

// TestReferenceText_ToySpaceExhaustive verifies the construction of code texts exhaustively in a small space: radix 4, four zero symbols
// and a counter below 3⁴ in four symbols (make test: three symbols and a counter below 3³). Exactly the encrypted counters must decode.
func TestReferenceText_ToySpaceExhaustive(t *testing.T) {
	t.Parallel()
	const radix = 4
	half, counters := testscope.Select(4, 3), testscope.Select[int64](81, 27)
	for _, tweak := range []string{"0", "$"} {
		f := ff1Reference{key: []byte("0123456789abcdef0123456789abcdef"), tweak: []byte(tweak), radix: radix}
		encrypted := make(map[string]int64)
		for c := range counters {
			encrypted[f.number(f.encrypt(f.numerals(big.NewInt(c), 2*half))).String()] = c
		}
		decoded := int64(0)
		for text := range int64(1 << (4 * half)) { // 4⁸, or 4⁶
			y := f.number(f.decrypt(f.numerals(big.NewInt(text), 2*half))).Int64()
			if y >= counters { // not a counter
				continue
			}
			decoded++
			c, ok := encrypted[big.NewInt(text).String()]
			require.True(t, ok && c == y, "tweak %s: text %d decodes to %d but is not its encryption", tweak, text, y)
		}
		assert.Equal(t, decoded, counters, "tweak %s: texts that decode", tweak)
	}
}
