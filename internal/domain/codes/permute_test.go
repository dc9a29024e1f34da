package codes

import (
	"bufio"
	"bytes"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// testSecret returns KeySize ascending bytes from first on: 00 01 02 ... or 20 21 22 ...
func testSecret(first byte) []byte {
	secret := make([]byte, KeySize)
	for i := range secret {
		secret[i] = first + byte(i)
	}
	return secret
}

func testKeys(t testing.TB) (*CodeKey, *TextKey) {
	t.Helper()
	code := require.Value(NewCodeKey(testSecret(0)))(t)
	text := require.Value(NewTextKey(testSecret(0x20)))(t)
	return code, text
}

// sampleCounters returns n counters: the limits of the space and values between them, the same in every run.
func sampleCounters(n int) []uint64 {
	cs := []uint64{0, 1, pow36x5 - 1, pow36x5, pow36x5 + 1, Space / 2, Space - 2, Space - 1}
	random := rand.New(rand.NewPCG(1, 2))
	for len(cs) < n {
		cs = append(cs, random.Uint64N(Space))
	}
	return cs
}

func TestPermute_EqualsReference(t *testing.T) {
	t.Parallel()
	n := testscope.Select(100_000, 10_000)
	if testing.Short() {
		n = 5_000
	}
	code, text := testKeys(t)
	codes := ff1Reference{key: testSecret(0), radix: 36}
	for i, c := range sampleCounters(n) {
		want := printNumerals(Alphabet, codes.encrypt(codes.numerals(new(big.Int).SetUint64(c), 9)))
		got := code.Code(c)
		require.True(t, string(got[:]) == want, "the code of %d is %s, want %s", c, got, want)
		back, ok := code.Counter([9]byte([]byte(want)))
		require.True(t, ok && back == c, "%s is the code of %d, not of %d %v", want, c, back, ok)
		version := Alphabet[i%len(Alphabet)]
		texts := ff1Reference{key: testSecret(0x20), tweak: []byte{version}, radix: 38}
		// A counter is below 38⁹: in 18 symbols it begins with nine zeros.
		want = printNumerals(Alphabet, texts.encrypt(texts.numerals(new(big.Int).SetUint64(c), 18)))
		symbols := text.Text(c, version)
		require.True(t, string(symbols[:]) == want, "the text of %d, version %c, is %s, want %s", c, version, symbols, want)
		back, ok = text.Counter(symbols, version)
		require.True(t, ok && back == c, "%s is the text of %d, not of %d %v", want, c, back, ok)
	}
}

// TestCodeKeyCounter_EqualsReference verifies that Counter decodes codes as the reference does, issued or not.
func TestCodeKeyCounter_EqualsReference(t *testing.T) {
	code, _ := testKeys(t)
	reference := ff1Reference{key: testSecret(0), radix: 36}
	for _, c := range sampleCounters(2_000) {
		x := reference.numerals(new(big.Int).SetUint64(c), 9)
		want := reference.number(reference.decrypt(x)).Uint64()
		got, ok := code.Counter([9]byte([]byte(printNumerals(Alphabet, x))))
		require.True(t, ok && got == want, "%s is the code of %d, want %d", printNumerals(Alphabet, x), got, want)
	}
}

func TestPermuteBurst_EqualsSingleCalls(t *testing.T) {
	code, text := testKeys(t)
	s := new(burst)
	for i, c := range sampleCounters(2_000) {
		n := int(min(uint64(i%lanes+1), Space-c))
		version := Alphabet[i%len(Alphabet)]
		s.run(code, text, version, c, n)
		for j := range n {
			gotCode, gotText := s.lane(j)
			if wantCode, wantText := code.Code(c+uint64(j)), text.Text(c+uint64(j), version); gotCode != wantCode || gotText != wantText {
				t.Fatalf("%d + %d in a burst of %d: %s %s, want %s %s", c, j, n, gotCode, gotText, wantCode, wantText)
			}
		}
	}
}

// TestPermute_GoldenCodes verifies codes and texts that may be printed on products. Lines of the file may be added, never changed; for this
// reason there is no -update flag.
func TestPermute_GoldenCodes(t *testing.T) {
	file := require.Value(os.Open("testdata/golden.txt"))(t)
	defer file.Close()
	code, text := testKeys(t)
	lines := 0
	for scan := bufio.NewScanner(file); scan.Scan(); {
		if strings.HasPrefix(scan.Text(), "#") {
			continue
		}
		var c uint64
		var want [4]string
		require.NoErrorf(t, assert.ErrorOf(fmt.Sscan(scan.Text(), &c, &want[0], &want[1], &want[2], &want[3])), "%q", scan.Text())
		lines++
		nine := code.Code(c)
		field := Matrix(nine)
		// The symbol without its border, four modules per hexadecimal digit.
		var dots strings.Builder
		for row := 1; row <= 16; row++ {
			bits, _ := new(big.Int).SetString(string(field[row*19+1:row*19+17]), 2)
			fmt.Fprintf(&dots, "%04x", bits)
		}
		zero, dollar := text.Text(c, '0'), text.Text(c, '$')
		got := [4]string{string(nine[:]), string(zero[:]), string(dollar[:]), dots.String()}
		assert.True(t, got == want, "counter %d is printed as\n%v, want\n%v", c, got, want)
		back, ok := code.Counter([9]byte([]byte(want[0])))
		assert.True(t, ok && back == c, "%s is read as %d", want[0], back)
	}
	assert.True(t, lines >= 16, "%d golden lines", lines)
}

// TestPermute_ConsecutiveCodesUnique verifies that consecutive counters have different codes, each of which decodes to its counter.
func TestPermute_ConsecutiveCodesUnique(t *testing.T) {
	t.Parallel()
	window := testscope.Select[uint64](1<<24, 1<<20)
	if testing.Short() {
		window = 1 << 18
	}
	code, text := testKeys(t)
	// The first counter of a server that is set up in the middle of 2026.
	const from = 10_000 * 86_400 * 180
	seen := make([]uint64, window/64)
	s := new(burst)
	for c := uint64(from); c < from+window; c += lanes {
		s.run(code, text, '0', c, lanes)
		for j := range uint64(lanes) {
			nine, _ := s.lane(int(j))
			back, ok := code.Counter(nine)
			require.True(t, ok && back == c+j, "the code %s of %d is read as %d", nine, c+j, back)
			i := back - from
			require.True(t, seen[i/64]>>(i%64)&1 != 1, "the code %s of %d is also the code of another counter", nine, c+j)
			seen[i/64] |= 1 << (i % 64)
		}
	}
	if i := slices.IndexFunc(seen, func(w uint64) bool { return w != ^uint64(0) }); i >= 0 {
		t.Errorf("word %d of the window is %x", i, seen[i])
	}
}

func TestCodeText_SingleCharacterChange(t *testing.T) {
	t.Parallel()
	n := testscope.Select(10_000, 1_000)
	if testing.Short() {
		n = 200
	}
	_, text := testKeys(t)
	for _, c := range sampleCounters(n) {
		symbols := text.Text(c, '0')
		for pos, symbol := range symbols {
			for i := range len(Alphabet) {
				if Alphabet[i] == symbol {
					continue
				}
				symbols[pos] = Alphabet[i]
				counter, ok := text.Counter(symbols, '0')
				require.True(t, !ok, "%s, which differs in one character from the text of %d, is the text of %d", symbols, c, counter)
			}
			symbols[pos] = symbol
		}
		_, ok := text.Counter(symbols, '1')
		require.True(t, !ok, "%s of version 0 is also a text of version 1", symbols)
	}
}

func TestCodeKeyCounter_InvalidSymbols(t *testing.T) {
	code, text := testKeys(t)
	for _, s := range []string{"00000000a", "00000000$", "-00000000", "0000 0000", "0000\x000000", "é0000000"} {
		_, ok := code.Counter([9]byte([]byte(s)))
		assert.True(t, !ok, "%q has a counter, want none", s)
	}
	for i := range 256 {
		symbols := text.Text(7, '0')
		char := byte(i)
		symbols[17] = char
		_, ok := text.Counter(symbols, '0')
		want := symbols == text.Text(7, '0')
		assert.Equal(t, ok, want, "with the last symbol %q", char)
	}
}

func TestCodeKey_CounterOutOfRange(t *testing.T) {
	code, text := testKeys(t)
	for name, call := range map[string]func(){
		"Code": func() { code.Code(Space) },
		"Text": func() { text.Text(1<<63, '0') },
	} {
		func() {
			defer func() {
				assert.True(t, recover() != nil, "%s of a counter outside the space returned, want a panic", name)
			}()
			call()
		}()
	}
}

func TestCodeKey_LengthAndRedaction(t *testing.T) {
	for _, n := range []int{0, 16, 24, 31, 33} {
		assert.True(t, assert.ErrorOf(NewCodeKey(make([]byte, n))) != nil, "NewCodeKey of %d bytes succeeded, want an error", n)
		assert.True(t, assert.ErrorOf(NewTextKey(make([]byte, n))) != nil, "NewTextKey of %d bytes succeeded, want an error", n)
	}
	code, text := testKeys(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, fmt.Sprintf(verb+" "+verb, code, *text), "[secret] [secret]", "keys formatted with %s", verb)
	}
}

// skipUnderRaceDetector skips a test of allocations under the race detector, which allocates itself and drops items from pools at random.
func skipUnderRaceDetector(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	if info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector allocates")
	}
}

func TestPermute_NoAllocation(t *testing.T) {
	skipUnderRaceDetector(t)
	code, text := testKeys(t)
	nine, symbols := code.Code(5), text.Text(5, '0')
	Matrix(code.Code(0)) // the tables
	assert.Equal(t, testing.AllocsPerRun(1000, func() {
		code.Code(5)
		code.Counter(nine)
		text.Text(5, '0')
		text.Counter(symbols, '0')
		Matrix(nine)
	}), 0, "allocations")
}

func FuzzCounterRoundTrip(f *testing.F) {
	f.Add(uint64(0), byte('0'), bytes.Repeat([]byte{0}, 2*KeySize))
	f.Add(uint64(Space-1), byte('-'), append(testSecret(0), testSecret(0x20)...))
	f.Fuzz(func(t *testing.T, c uint64, version byte, secrets []byte) {
		if len(secrets) != 2*KeySize {
			return
		}
		c %= Space
		code, _ := NewCodeKey(secrets[:KeySize])
		text, _ := NewTextKey(secrets[KeySize:])
		nine, symbols := code.Code(c), text.Text(c, version)
		back, ok := code.Counter(nine)
		assert.True(t, ok && back == c, "the code %s of %d is read as %d %v", nine, c, back, ok)
		back, ok = text.Counter(symbols, version)
		assert.True(t, ok && back == c, "the text %s of %d is read as %d %v", symbols, c, back, ok)
		x := parseNumerals(Alphabet, string(symbols[:]))
		reference := ff1Reference{key: secrets[KeySize:], tweak: []byte{version}, radix: 38}
		want := reference.number(reference.decrypt(x))
		assert.True(t, want.IsUint64() && want.Uint64() == c, "the reference reads the text %s of %d as %v", symbols, c, want)
	})
}

func BenchmarkCode(b *testing.B) {
	code, text := testKeys(b)
	nine := code.Code(7)
	symbols := text.Text(7, '0')
	c := uint64(0)
	b.Run("code", func(b *testing.B) {
		for b.Loop() {
			code.Code(c)
			c++
		}
	})
	b.Run("code back", func(b *testing.B) {
		for b.Loop() {
			code.Counter(nine)
		}
	})
	b.Run("text", func(b *testing.B) {
		for b.Loop() {
			text.Text(c, '0')
			c++
		}
	})
	b.Run("text back", func(b *testing.B) {
		for b.Loop() {
			text.Counter(symbols, '0')
		}
	})
	b.Run("burst of both", func(b *testing.B) {
		s := new(burst)
		for b.Loop() {
			s.run(code, text, '0', c, lanes)
			c += lanes
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lanes, "ns/code")
	})
}
