package codes

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var testPackageKey = [16]byte([]byte("0123456789abcdef"))

func testRange(t testing.TB, from, to uint64) PackageRange {
	code, text := testKeys(t)
	return PackageRange{Start: 155_520_000_000, From: from, To: to, Code: code, Text: text, Printed: DefaultPrinted()}
}

func writeRows(t testing.TB, p PackageRange) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, WriteRows(t.Context(), &b, p))
	return b.Bytes()
}

func writePackage(t testing.TB, p PackageRange) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, WritePackage(t.Context(), &b, p, testPackageKey))
	return b.Bytes()
}

// decryptPackage returns the rows of a package, decrypted as a client does it.
func decryptPackage(t testing.TB, text []byte) []byte {
	t.Helper()
	plain := require.Value(base64.StdEncoding.DecodeString(string(text)))(t)
	c, _ := aes.NewCipher(testPackageKey[:])
	cipher.NewCBCDecrypter(c, testPackageKey[:]).CryptBlocks(plain, plain)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > 16 || !bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		t.Fatalf("padding = % x, want PKCS #7", plain[len(plain)-16:])
	}
	return plain[:len(plain)-padding]
}

// Contract: marketcode 4.3.
func TestPackageCipher_SyntheticVectors(t *testing.T) {
	var rows strings.Builder
	for i := range 2 {
		for j := range fieldLength {
			black := (7*j+3)%5 < 2
			if i == 1 {
				black = (11*j+1)%7 < 3
			}
			rows.WriteByte(map[bool]byte{true: '1', false: '0'}[black])
		}
		fmt.Fprintf(&rows, " %09d %d P.URL.CN/0AAAAAAAAAAAAAAAAA%d\n", i+1, i, i)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	encrypt := func(plain string, r func(io.Reader) io.Reader) []byte {
		var b bytes.Buffer
		require.NoError(t, seal(t.Context(), &b, r(strings.NewReader(plain)), testPackageKey))
		return b.Bytes()
	}
	for name, newReader := range map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"halves":   iotest.HalfReader,
		"bytes":    iotest.OneByteReader,
		"data+EOF": iotest.DataErrReader,
	} {
		for plain, want := range map[string]string{
			"":                      "7Uf+4FRcP6fdBw1EuG6Y2Q==",
			strings.Repeat("0", 32): "KCjv4iqssuH5rzNmCuKnRuhCd0nelQmYF0vwKqf3cZnpiHNV2EEDTqSlH1hGW7TW",
			"abc 000000001 0 P.URL.CN/0AAAAAAAAAAAAAAAAA0\n": "2HlO6ldQyQEU6qXM4gXguM6lbKcZgRjMONgYNQXC9V5xM53l1sD6v0qayIPlYhal",
		} {
			got := encrypt(plain, newReader)
			assert.Equal(t, string(got), want, "%s: seal(%q)", name, plain)
		}
		text := encrypt(rows.String(), newReader)
		raw := require.Value(base64.StdEncoding.DecodeString(string(text)))(t)
		if rows.Len() != 806 || sum([]byte(rows.String())) != "ba0fe3e7d51b16655be3205e18a41c8edab9d0f65dda114768a42a1b666701fd" {
			t.Errorf("the two rows have %d bytes, SHA-256 %s", rows.Len(), sum([]byte(rows.String())))
		}
		if len(raw) != 816 || sum(raw) != "21975dacd44bdf74007423a6bf481585ff294f6bcefba5990b0a3f511b1554c9" {
			t.Errorf("%s: encrypted rows have %d bytes, SHA-256 %s", name, len(raw), sum(raw))
		}
		assert.True(t, len(text) == 1088 && bytes.HasPrefix(text, []byte("d7DDYU/xxiCbQJrWENV+s71J")),
			"%s: %d characters, beginning with %.24s", name, len(text), text)
	}
}

func TestPackage_RoundTrip(t *testing.T) {
	for _, p := range []PackageRange{
		testRange(t, 0, 0),
		testRange(t, 0, 9_999),
		testRange(t, 95, 105),
		testRange(t, 49_990, 50_010),
		testRange(t, 7, 7+lanes-1),
		testRange(t, 19_999_999, 19_999_999),
		func() PackageRange { // the last codes of the space
			p := testRange(t, 0, 99)
			p.Start = Space - 100
			return p
		}(),
		func() PackageRange {
			p := testRange(t, 0, 500)
			p.Printed = Printed{"HTTPS://QR.EXAMPLE/" + strings.Repeat("X", MaxPrefix-19), '$'}
			return p
		}(),
	} {
		// The definition of the rows. Contract: marketcode 4.2.
		var b bytes.Buffer
		for i := p.From; i <= p.To; i++ {
			code := p.Code.Code(p.Start + i)
			fmt.Fprintf(&b, "%s %s %d %s\n", Matrix(code), code, i, p.Printed.Text(p.Text, p.Start+i))
		}
		want := b.Bytes()
		require.True(t, bytes.Equal(writeRows(t, p), want), "%d to %d: rows differ from the definition", p.From, p.To)
		require.True(t, bytes.Equal(decryptPackage(t, writePackage(t, p)), want), "%d to %d: decrypted package differs from the rows",
			p.From, p.To)
		for line := range bytes.Lines(want) {
			columns := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
			require.True(t, len(columns) == 4 && len(columns[0]) == 361 && len(columns[1]) == 9 &&
				columns[3][:len(p.Printed.Prefix)] == p.Printed.Prefix, "a row is %q", line)
		}
	}
}

func TestPackageSize_Precomputed(t *testing.T) {
	ranges := [][2]uint64{{0, 0}, {0, 9}, {0, 10}, {9, 9}, {9, 10}, {10, 10}, {99, 100}, {100, 100}, {0, 999}, {5, 1234}, {9_999, 10_000},
		{0, 14_999}, {49_999, 50_000}, {99_990, 100_010}, {19_999_999, 19_999_999}, {9_999_990, 10_000_007}}
	for i := range uint64(60) { // every remainder of the block size and of Base64
		ranges = append(ranges, [2]uint64{i * 7, i*7 + i})
	}
	aligned := false
	for _, r := range ranges {
		for _, prefix := range []string{DefaultPrefix, "A.EXAMPLE/C/", "HTTP://CBG.PUB/G/"} {
			p := testRange(t, r[0], r[1])
			p.Printed.Prefix = prefix
			rows, text := writeRows(t, p), writePackage(t, p)
			aligned = aligned || len(rows)%16 == 0
			assert.True(t, int64(len(rows)) == rowsSize(p),
				"%d to %d under %s: %d bytes of rows, announced %d", p.From, p.To, prefix, len(rows), rowsSize(p))
			assert.True(t, int64(len(text)) == PackageSize(p),
				"%d to %d under %s: %d characters, announced %d", p.From, p.To, prefix, len(text), PackageSize(p))
		}
	}
	assert.True(t, aligned, "no range has a length that is a multiple of the block size, want at least one")
	// Too large to write in a test: the sum over all indexes, 0 to 9, 10 to 99, ...
	p := testRange(t, 0, 19_999_999)
	assert.Equal(t, rowsSize(p), int64(20_000_000*402+10+90*2+900*3+9_000*4+90_000*5+900_000*6+9_000_000*7+
		10_000_000*8), "20 million rows")
}

func TestPackage_PartsEqualSegment(t *testing.T) {
	want := writeRows(t, testRange(t, 9_000, 11_000))
	var parts []byte
	for _, r := range [][2]uint64{{9_000, 9_000}, {9_001, 9_007}, {9_008, 9_999}, {10_000, 10_999}, {11_000, 11_000}} {
		parts = append(parts, decryptPackage(t, writePackage(t, testRange(t, r[0], r[1])))...)
	}
	assert.True(t, bytes.Equal(parts, want), "rows of consecutive packages differ from the rows of one package")
}

func TestPackage_DecryptedByOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	p := testRange(t, 0, 9_999)
	key := hex.EncodeToString(testPackageKey[:])
	decrypt := exec.CommandContext(t.Context(), openssl, "enc", "-d", "-aes-128-cbc", "-base64", "-A", "-K", key, "-iv", key)
	decrypt.Stdin = bytes.NewReader(writePackage(t, p))
	got := require.Value(decrypt.Output())(t)
	assert.True(t, bytes.Equal(got, writeRows(t, p)), "openssl decrypts other rows")
}

// writeRecorder records the sizes of writes. Write number failAt, from 1, fails with errFull, or calls cancel if it is set.
type writeRecorder struct {
	sizes  []int
	failAt int
	cancel func()
}

var errFull = errors.New("the disk is full")

func (p *writeRecorder) Write(b []byte) (int, error) {
	p.sizes = append(p.sizes, len(b))
	if len(p.sizes) == p.failAt {
		if p.cancel == nil {
			return 0, errFull
		}
		p.cancel()
	}
	return len(b), nil
}

func TestPackage_WriteChunkSize(t *testing.T) {
	p := testRange(t, 0, 9_999)
	for name, write := range map[string]func(io.Writer) error{
		"package": func(w io.Writer) error { return WritePackage(t.Context(), w, p, testPackageKey) },
		"rows":    func(w io.Writer) error { return WriteRows(t.Context(), w, p) },
	} {
		var w writeRecorder
		require.NoError(t, write(&w))
		total := 0
		for _, n := range w.sizes {
			total += n
		}
		largest := slices.Max(w.sizes)
		assert.True(t, largest <= 32<<10, "%s: a write of %d bytes, want at most 32 KiB", name, largest)
		assert.True(t, w.sizes[0]*100 <= total, "%s: the first write has %d bytes of %d, want at most 1 %%", name, w.sizes[0], total)
	}
}

func TestPackageDownload_ReaderDisconnects(t *testing.T) {
	before := runtime.NumGoroutine()
	// Too many rows to write: the test ends only if the writers stop early.
	p := testRange(t, 0, 1<<40)
	for _, nth := range []int{1, 2, 7} {
		w := &writeRecorder{failAt: nth}
		err := WritePackage(t.Context(), w, p, testPackageKey)
		assert.True(t, errors.Is(err, errFull) && len(w.sizes) == nth, "write %d fails: %v after %d writes", nth, err, len(w.sizes))
		w = &writeRecorder{failAt: nth}
		err = WriteRows(t.Context(), w, p)
		assert.True(t, errors.Is(err, errFull) && len(w.sizes) == nth, "write %d of rows fails: %v after %d writes", nth, err, len(w.sizes))
		ctx, cancel := context.WithCancel(t.Context())
		w = &writeRecorder{failAt: nth, cancel: cancel}
		if err := WritePackage(ctx, w, p, testPackageKey); !errors.Is(err, context.Canceled) || len(w.sizes) != nth {
			t.Errorf("the context ends at write %d: %v after %d writes", nth, err, len(w.sizes))
		}
	}
	for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() {
		require.True(t, time.Since(start) <= time.Minute, "%d goroutines, want %d as before", runtime.NumGoroutine(), before)
	}
}

func TestPackage_InvalidRange(t *testing.T) {
	good := testRange(t, 3, 4)
	for name, change := range map[string]func(*PackageRange){
		"no code key":             func(p *PackageRange) { p.Code = nil },
		"no text key":             func(p *PackageRange) { p.Text = nil },
		"backwards":               func(p *PackageRange) { p.From = 5 },
		"start outside the space": func(p *PackageRange) { p.Start = Space },
		"end outside the space":   func(p *PackageRange) { p.Start = Space - 4 },
		"an endless range":        func(p *PackageRange) { p.To = math.MaxUint64 },
		"a prefix in lower case":  func(p *PackageRange) { p.Printed.Prefix = "p.url.cn/" },
		"no version":              func(p *PackageRange) { p.Printed.Version = 0 },
	} {
		p := good
		change(&p)
		var w writeRecorder
		err := WritePackage(t.Context(), &w, p, testPackageKey)
		assert.True(t, err != nil && len(w.sizes) == 0, "%s: %v after %d writes", name, err, len(w.sizes))
		err = WriteRows(t.Context(), &w, p)
		assert.True(t, err != nil && len(w.sizes) == 0, "%s: rows: %v after %d writes", name, err, len(w.sizes))
	}
}

func TestPackageBase64_EqualsStdlib(t *testing.T) {
	random := rand.NewChaCha8([32]byte{})
	for n := range 400 {
		src := make([]byte, n)
		random.Read(src)
		got := make([]byte, base64.StdEncoding.EncodedLen(n))
		encode(got, src)
		require.True(t, string(got) == base64.StdEncoding.EncodeToString(src), "%d bytes: %s", n, got)
	}
}

// TestPackageDownload_ConstantMemory verifies that the allocations of a download are independent of the number of rows and below 256 KiB.
func TestPackageDownload_ConstantMemory(t *testing.T) {
	skipUnderRaceDetector(t)
	small, large := testRange(t, 0, 99), testRange(t, 0, 9_999)
	writePackage(t, small) // tables and pools
	write := func(p PackageRange) func() {
		return func() { assert.NoError(t, WritePackage(context.Background(), io.Discard, p, testPackageKey)) }
	}
	few, many := testing.AllocsPerRun(20, write(small)), testing.AllocsPerRun(20, write(large))
	assert.True(t, many <= few+2 && many <= 40, "%v allocations for 100 rows, %v for 10,000", few, many)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	write(large)()
	runtime.ReadMemStats(&after)
	n := after.TotalAlloc - before.TotalAlloc
	assert.True(t, n <= 256<<10, "a download allocates %d bytes, want at most 256 KiB", n)
}

func BenchmarkRow(b *testing.B) {
	p := testRange(b, 0, 49_999)
	for b.Loop() {
		require.NoError(b, WriteRows(b.Context(), io.Discard, p))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/50_000, "ns/row")
}
