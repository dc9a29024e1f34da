package codes

import (
	"errors"
	"strings"
	"testing"

	"github.com/boombuler/barcode/qr"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestParseText_EverySpelling(t *testing.T) {
	const canonical = "P.URL.CN/0$-JYJXP3HJI2C98A9O"
	prefixes := []string{"FORMER.EXAMPLE/C/", "P.URL.CN/", "HTTP://CBG.PUB/G/", "P.URL.CN/0"}
	for _, test := range []struct{ name, text, want string }{
		{"as printed", canonical, canonical},
		{"in lower case", strings.ToLower(canonical), canonical},
		{"in mixed case", "p.Url.cN/0$-jyjXP3HJI2C98a9O", canonical},
		{"with http://", "http://" + canonical, canonical},
		{"with https:// in upper case", "HTTPS://" + canonical, canonical},
		{"with a percent-escape", "https://p.url.cn/0%24-JYJXP3HJI2C98A9O", canonical},
		{"with escapes in lower case", "P.URL.CN/0%24%2djyjxp3hji2c98a9o", canonical},
		{"with an escaped letter in lower case", "P.URL.CN/0$-%6aYJXP3HJI2C98A9O", canonical},
		{"with every character escaped", "P.URL.CN/%30%24%2D%4A%59%4A%58%50%33%48%4A%49%32%43%39%38%41%39%4F", canonical},
		{"of a former prefix", "former.example/c/0AAAAAAAAAAAAAAAAAA", "FORMER.EXAMPLE/C/0AAAAAAAAAAAAAAAAAA"},
		{"of a prefix with a scheme", "HTTP://CBG.PUB/G/0AAAAAAAAAAAAAAAAAA", "HTTP://CBG.PUB/G/0AAAAAAAAAAAAAAAAAA"},
		{"of a prefix with another scheme", "https://cbg.pub/g/0AAAAAAAAAAAAAAAAAA", "HTTP://CBG.PUB/G/0AAAAAAAAAAAAAAAAAA"},
		{"of a prefix with a scheme, without it", "CBG.PUB/G/0AAAAAAAAAAAAAAAAAA", "HTTP://CBG.PUB/G/0AAAAAAAAAAAAAAAAAA"},
		{"of the longer of two prefixes", "P.URL.CN/0ZAAAAAAAAAAAAAAAAAA", "P.URL.CN/0ZAAAAAAAAAAAAAAAAAA"},
		{"of another version", "P.URL.CN/-AAAAAAAAAAAAAAAAAA", "P.URL.CN/-AAAAAAAAAAAAAAAAAA"},
	} {
		got, err := ParseText(test.text, prefixes)
		assert.True(t, err == nil && got.String() == test.want, "a text %s: %q is read as %q %v", test.name, test.text, got, err)
	}
}

func TestParseText_Invalid(t *testing.T) {
	prefixes := []string{"P.URL.CN/", "HTTPS://QR.EXAMPLE/"}
	for _, test := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", errNoPrefix},
		{"a scheme", "http://", errNoPrefix},
		{"another host", "HTTP://P.URL.CM/0AAAAAAAAAAAAAAAAAA", errNoPrefix},
		{"two schemes", "http://http://P.URL.CN/0AAAAAAAAAAAAAAAAAA", errNoPrefix},
		{"another scheme", "ftp://P.URL.CN/0AAAAAAAAAAAAAAAAAA", errNoPrefix},
		{"a space before it", " P.URL.CN/0AAAAAAAAAAAAAAAAAA", errNoPrefix},
		{"a letter that only Unicode folds", "P.URL.CN\u017f/0AAAAAAAAAAAAAAAAAA", errNoPrefix},
		{"the prefix alone", "P.URL.CN/", errNoText},
		{"one character less", "P.URL.CN/0AAAAAAAAAAAAAAAAA", errNoText},
		{"one character more", "P.URL.CN/0AAAAAAAAAAAAAAAAAAA", errNoText},
		{"a space after it", "P.URL.CN/0AAAAAAAAAAAAAAAAAA ", errNoText},
		{"a line end after it", "P.URL.CN/0AAAAAAAAAAAAAAAAAA\n", errNoText},
		{"a query", "P.URL.CN/0AAAAAAAAAAAAAAAAAA?x=1", errNoText},
		{"a fragment", "P.URL.CN/0AAAAAAAAAAAAAAAAAA#", errNoText},
		{"/../ in the middle", "P.URL.CN/X/../0AAAAAAAAAAAAAAAAAA", errNoText},
		{"/../ in the right length", "P.URL.CN/0AAAAAAAAAAAAAA/../", errNoText},
		{"/../ escaped", "P.URL.CN/0AAAAAAAAAAAAAA%2F%2E%2E%2F", errNoText},
		{"/./", "P.URL.CN/./0AAAAAAAAAAAAAAAAAA", errNoText},
		{"//", "P.URL.CN//0AAAAAAAAAAAAAAAAAA", errNoText},
		{"an escape of an escape", "P.URL.CN/0%2524AAAAAAAAAAAAAAAAA", errNoText},
		{"half an escape", "P.URL.CN/0AAAAAAAAAAAAAAAAA%2", errNoText},
		{"an escape that is none", "P.URL.CN/0AAAAAAAAAAAAAAAAA%G0", errNoText},
		{"an escaped NUL", "P.URL.CN/0AAAAAAAAAAAAAAAAA%00", errNoText},
		{"a symbol of foreign codes", "P.URL.CN/0U.JYJXP3HJI2C98A9O", errNoText},
		{"the prefix with an escape", "P.URL.CN%2F0AAAAAAAAAAAAAAAAAA", errNoPrefix},
	} {
		got, err := ParseText(test.text, prefixes)
		assert.ErrorIs(t, err, test.want, "%s: %q is read as %q", test.name, test.text, got)
	}
	assert.ErrorIs(t, assert.ErrorOf(ParseText("P.URL.CN/0AAAAAAAAAAAAAAAAAA", nil)), errNoPrefix, "without prefixes")
}

func TestPrintedText_RoundTrip(t *testing.T) {
	_, key := testKeys(t)
	printed := DefaultPrinted()
	for _, c := range someCounters(1000) {
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
	for bad, why := range map[string]string{
		"":                                      "after the host",
		"P.URL.CN":                              "after the host",
		"/":                                     "host",
		"HTTP://":                               "after the host",
		"HTTP:///":                              "host",
		"p.url.cn/":                             "upper case",
		"P.URL.CN/c/":                           "upper case",
		"http://P.URL.CN/":                      "upper case",
		"FTP://P.URL.CN/":                       "host",
		"P URL.CN/":                             "host",
		"P.URL.CN./":                            "host",
		"-P.URL.CN/":                            "host",
		"P..URL.CN/":                            "host",
		"U@P.URL.CN/":                           "host",
		"P.URL.CN:/":                            "host",
		"P.URL.CN/A B/":                         "only",
		"P.URL.CN/%41/":                         "only",
		"P.URL.CN/?C=":                          "only",
		"P.URL.CN/#":                            "only",
		"P.URL.CN/\u00c4/":                      "only",
		"P.URL.CN/\xff":                         "only",
		"P.URL.CN/A\n":                          "only",
		"P.URL.CN//":                            "cleaned",
		"P.URL.CN/A/../":                        "cleaned",
		"P.URL.CN/./":                           "cleaned",
		"A/" + strings.Repeat("B", MaxPrefix-1): "longer",
	} {
		err := CheckPrefix(bad)
		assert.True(t, err != nil && strings.Contains(err.Error(), why), "%q: %v, want a reason with %q", bad, err, why)
	}
	for _, version := range []byte{0, ' ', 'a', '%', '.', 0xff} {
		assert.True(t, (Printed{DefaultPrefix, version}).Check() != nil, "version %q was taken", version)
	}
	assert.NoError(t, DefaultPrinted().Check())
}

// The library chooses the smallest version by itself.
func TestQRVersion_EqualsLibrary(t *testing.T) {
	for n := 2; n <= MaxPrefix; n++ {
		prefix := "A/" + strings.Repeat("B", n-2)
		image, err := qr.Encode(prefix+strings.Repeat("$", TailLength), qr.Q, qr.AlphaNumeric)
		require.NoError(t, err)
		assert.Equal(t, QRVersion(prefix), (image.Bounds().Dx()-17)/4, "a prefix of %d characters", n)
	}
	assert.Equal(t, QRVersion(DefaultPrefix), 2, "the default is printed in version")
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
			require.True(t, errors.Is(err, errNoPrefix) || errors.Is(err, errNoText), "%q is refused with %v", text, err)
			return
		}
		require.NoErrorf(t, got.Check(), "%q is read as %q", text, got)
		printed := got.String()
		require.True(t, len(printed) == len(got.Prefix)+TailLength && len(printed) <= 128,
			"%q is printed as %q, %d characters", text, printed, len(printed))
		again, err := ParseText(printed, prefixes)
		require.True(t, err == nil && again.String() == printed && again.Symbols == got.Symbols && again.Version == got.Version,
			"%q is printed as %q and then read as %q %v", text, printed, again, err)
		again, err = ParseText("https://"+strings.ToLower(cutScheme(printed)), prefixes)
		require.True(t, err == nil && again.Symbols == got.Symbols, "%q in lower case is read as %q %v", printed, again, err)
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
