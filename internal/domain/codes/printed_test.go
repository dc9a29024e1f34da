package codes

import (
	"errors"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

func TestParseText_EverySpelling(t *testing.T) {
	prefixes := []string{"FORMER.EXAMPLE/C/", "P.URL.CN/", "HTTP://CBG.PUB/G/", "P.URL.CN/0"}
	for _, c := range testtable.Rows(t, "testdata/spellings.txt", 3) {
		got, err := ParseText(c[1], prefixes)
		assert.True(t, err == nil && got.String() == c[2], "%s: ParseText(%q) = %q, %v, want %q", c[0], c[1], got, err, c[2])
	}
}

func TestParseText_Invalid(t *testing.T) {
	prefixes := []string{"P.URL.CN/", "HTTPS://QR.EXAMPLE/"}
	faults := map[string]error{"prefix": errNoPrefix, "text": errNoText}
	for _, c := range testtable.Rows(t, "testdata/no_codes.txt", 3) {
		got, err := ParseText(c[1], prefixes)
		require.True(t, faults[c[2]] != nil, "unknown error %s in the table", c[2])
		assert.ErrorIs(t, err, faults[c[2]], "%s: ParseText(%q) = %q, error", c[0], c[1], got)
	}
	assert.ErrorIs(t, assert.ErrorOf(ParseText("P.URL.CN/0AAAAAAAAAAAAAAAAAA", nil)), errNoPrefix, "without prefixes")
}

func TestPrintedText_RoundTrip(t *testing.T) {
	_, key := testKeys(t)
	printed := DefaultPrinted()
	for _, c := range sampleCounters(1000) {
		text := printed.Text(key, c)
		require.True(t, len(text) == 28, "%q has %d characters", text, len(text))
		got, err := ParseText("http://"+strings.ToLower(text), []string{printed.Prefix})
		require.True(t, err == nil && got.Printed == printed, "%q is read as %+v %v", text, got, err)
		back, ok := key.Counter(got.Symbols, got.Version)
		require.True(t, ok && back == c, "%q is the text of %d, not of %d %v", text, c, back, ok)
	}
}

// Behaviour(codes.text).
func TestTextPrefix_Validation(t *testing.T) {
	for _, good := range []string{DefaultPrefix, "A/", "HTTP://CBG.PUB/G/", "HTTPS://QR.EXAMPLE/C-", "QR.EXAMPLE/A.B/", "127.0.0.1:8080/",
		"LOCALHOST/$*+:/",
		"A/" + strings.Repeat("B", MaxPrefix-2)} {
		assert.NoErrorf(t, CheckPrefix(good), "%q", good)
	}
	for _, c := range append(testtable.Rows(t, "testdata/prefixes.txt", 2), []string{"A/" + strings.Repeat("B", MaxPrefix-1), "longer"}) {
		bad, reason := c[0], c[1]
		err := CheckPrefix(bad)
		assert.True(t, err != nil && strings.Contains(err.Error(), reason), "%q: %v, want a reason with %q", bad, err, reason)
	}
	for _, version := range []byte{0, ' ', 'a', '%', '.', 0xff} {
		assert.True(t, (Printed{DefaultPrefix, version}).Check() != nil, "Check of version %q = nil, want an error", version)
	}
	assert.NoError(t, DefaultPrinted().Check())
}

// TestQRVersion_EqualsLibrary compares QRVersion with the smallest version, which the library chooses.
func TestQRVersion_EqualsLibrary(t *testing.T) {
	for n := 2; n <= MaxPrefix; n++ {
		prefix := "A/" + strings.Repeat("B", n-2)
		image := require.Value(qr.Encode(prefix+strings.Repeat("$", TailLength), qr.Q, qr.AlphaNumeric))(t)
		assert.Equal(t, QRVersion(prefix), (image.Bounds().Dx()-17)/4, "a prefix of %d characters", n)
	}
	assert.Equal(t, QRVersion(DefaultPrefix), 2, "version of the default prefix")
	assert.Equal(t, QRVersion(strings.Repeat("A", 300)), 0, "300 characters")
}

func TestParseCode_NineCharacters(t *testing.T) {
	for _, text := range []string{"000000000", "ZZZZZZZZZ", "044GZ0J10", "123456789"} {
		code, ok := ParseCode(text)
		assert.True(t, ok && string(code[:]) == text, "%q is read as %s %v", text, code, ok)
	}
	for _, text := range []string{"", "00000000", "0000000000", "00000000a", "044GZ*J10", "$00000000", "00000000-", "0000 0000",
		"0000\n0000", "\u00e40000000"} {
		code, ok := ParseCode(text)
		assert.True(t, !ok, "%q is read as %s", text, code)
	}
}

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"P.URL.CN/0$-JYJXP3HJI2C98A9O", "https://p.url.cn/0%24-jyjxp3hji2c98a9o",
		"HTTP://CBG.PUB/G/0AAAAAAAAAAAAAAAAAA", "P.URL.CN/0AAAAAAAAAAAAAA/../",
		"P.URL.CN/%", "http://", "P.URL.CN/0%2524AAAAAAAAAAAAAAAAA", "p.url.cn/%30%30%30%30%30%30%30%30%30%30%30%30%30%30%30%30%30%30%30"} {
		f.Add(s, "P.URL.CN/")
		f.Add(s, "HTTP://CBG.PUB/G/")
	}
	f.Fuzz(func(t *testing.T, text, prefix string) {
		if CheckPrefix(prefix) != nil {
			prefix = DefaultPrefix
		}
		prefixes := []string{DefaultPrefix, prefix}
		got, err := ParseText(text, prefixes)
		if err != nil {
			require.True(t, errors.Is(err, errNoPrefix) || errors.Is(err, errNoText), "ParseText(%q): %v", text, err)
			return
		}
		require.NoErrorf(t, got.Check(), "%q is read as %q", text, got)
		printed := got.String()
		require.True(t, len(printed) == len(got.Prefix)+TailLength && len(printed) <= 128,
			"%q is printed as %q, %d characters", text, printed, len(printed))
		back, err := ParseText(printed, prefixes)
		require.True(t, err == nil && back.String() == printed && back.Symbols == got.Symbols && back.Version == got.Version,
			"%q is printed as %q and then read as %q %v", text, printed, back, err)
		back, err = ParseText("https://"+strings.ToLower(cutScheme(printed)), prefixes)
		require.True(t, err == nil && back.Symbols == got.Symbols, "%q in lower case is read as %q %v", printed, back, err)
	})
}

func BenchmarkParseText(b *testing.B) {
	prefixes := []string{DefaultPrefix, "QR.BRAND.EXAMPLE/", "HTTP://CBG.PUB/G/"}
	for name, text := range map[string]string{"a code": "http://P.URL.CN/0$-JYJXP3HJI2C98A9O",
		"a link": "https://coffee.example/t/7?from=door"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ParseText(text, prefixes)
			}
		})
	}
}
