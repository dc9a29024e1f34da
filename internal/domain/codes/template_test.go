package codes

import (
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// filledTemplates are templates as an application keeps them.
var filledTemplates = []string{
	"https://id.brand.example/01/09506000134352/21/{serial}?98={secret}",
	"(01)09506000134352(21){serial}(98){secret}",
	"12345678901{digits:21}",
	"81234{digits:15}",
	"{digits:36}",
	"HTTP://Q.EXAMPLE/{secret}",
	"品种：郑单958\n生产：示例种业\n单元识别代码：{digits:20}\nhttps://t.example/{serial}",
	"https://id.brand.example/01/09506000134352/21/{number:0000042000}?98={secret}",
}

func parsed(t testing.TB, text string) Template {
	t.Helper()
	one, err := ParseTemplate(text)
	require.NoError(t, err)
	return one
}

func templateKeys(t testing.TB) Keys {
	code, text := testKeys(t)
	return Keys{Code: code, Text: map[byte]*TextKey{FirstVersion: text, '$': text}, Current: FirstVersion}
}

func TestTemplateDigits_EqualReference(t *testing.T) {
	_, key := testKeys(t)
	for n := minDigits; n <= maxDigits; n++ {
		slow := ff1Reference{key: testSecret(0x20), tweak: []byte{'7'}, radix: 10}
		fast := key.digitsKey(n)
		for _, c := range someCounters(40) {
			x := make([]uint16, n)
			for i, digit := range fmt.Sprintf("%0*d", n, c) {
				x[i] = uint16(digit - '0')
			}
			var want strings.Builder
			for _, digit := range slow.encrypt(x) {
				fmt.Fprint(&want, digit)
			}
			a, b := fast.permute(c, '7')
			got := string(digitPair{a, b}.append(nil, n))
			require.Equal(t, got, want.String(), "%d digits of %d", n, c)
			pair, ok := readDigits(got)
			back, found := fast.counter(pair.a, pair.b, '7')
			require.True(t, ok && found && back == c, "%s reads back as %d, %t, not %d", got, back, found, c)
		}
	}
}

// The texts of an application stay for ever: lines may be added, never changed.
func TestTemplateText_Golden(t *testing.T) {
	want, err := os.ReadFile("testdata/templates.txt")
	require.NoError(t, err)
	keys := templateKeys(t)
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, "#") {
			got.WriteString(line)
		}
	}
	for _, template := range filledTemplates {
		for _, c := range []uint64{0, 1, 155_520_000_000, Space - 1} {
			for _, version := range []byte{FirstVersion, '$'} {
				fmt.Fprintf(&got, "%q %d %c %q\n", template, c, version, parsed(t, template).render(keys, version, c, c%1000))
			}
		}
	}
	assert.Equal(t, got.String(), string(want), "texts changed; they")
}

func TestTemplateText_RoundTrip(t *testing.T) {
	keys := templateKeys(t)
	for _, template := range filledTemplates {
		one := parsed(t, template)
		shape := one.shape(FirstVersion)
		for _, c := range someCounters(500) {
			text := one.render(keys, FirstVersion, c, c%1000)
			bare := cutScheme(text)
			require.True(t, len(text) == one.size && one.matchesLiterals(bare),
				"%q has %d bytes of %d, or is not like its template", text, len(text), one.size)
			back, ok := shape.counter(bare, keys)
			require.True(t, ok && back == c, "%q reads back as %d, %t, not %d", text, back, ok, c)
			back, ok = shape.counter(strings.ToLower(bare), keys)
			require.True(t, ok && back == c, "%q in lower case reads back as %d, %t, not %d", text, back, ok, c)
		}
	}
}

// Of the numbers of N digits only one in 10^N / 36^9 has a counter.
func TestTemplateDigits_ForgedRejected(t *testing.T) {
	keys := templateKeys(t)
	one := parsed(t, "{digits:36}")
	shape := one.shape(FirstVersion)
	number := new(big.Int)
	for i := range 100_000 {
		number.Exp(big.NewInt(int64(i)+3), big.NewInt(22), nil)
		text := fmt.Sprintf("%036s", number.Text(10))
		text = text[len(text)-36:]
		c, ok := shape.counter(text, keys)
		require.True(t, !ok, "the made-up %s has the counter %d", text, c)
	}
}

func TestTemplate_FillPlaceholders(t *testing.T) {
	long := []string{"{secret}" + strings.Repeat("x", MaxText), "", "", "", "more than 512", "0"}
	for _, c := range append(testtable.Rows(t, "testdata/template_fills.txt", 6), long) {
		text, want, fault := c[0], c[3], c[4]
		filled, err := FillTemplate(text, TemplateValues{Prefix: "HTTPS://Q.EXAMPLE/", GTIN: c[1], Digits: c[2]})
		if fault != "" {
			assert.True(t, err != nil && strings.Contains(err.Error(), fault), "%q: %v, want %q", text, err, fault)
			continue
		}
		bits := fmt.Sprint(TextBits(filled, 10_000))
		assert.True(t, err == nil && filled == want && bits == c[5], "%q becomes %q (%v), %s bits, not %q, %s", text, filled, err, bits,
			want, c[5])
	}
}

func TestTemplateText_ValidGS1(t *testing.T) {
	keys := templateKeys(t)
	for _, template := range filledTemplates[:2] {
		for _, c := range someCounters(100) {
			text := parsed(t, template).render(keys, FirstVersion, c, c%1000)
			data, err := gs1.Parse(text)
			require.NoErrorf(t, err, "%s", text)
			code := keys.Code.Code(c)
			serial, _ := data.Value("21")
			assert.Equal(t, serial, string(code[:]), "%s has the serial", text)
		}
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, template := range filledTemplates {
		f.Add(template, uint64(7))
	}
	f.Add("{", uint64(0))
	f.Fuzz(func(t *testing.T, template string, c uint64) {
		one, err := ParseTemplate(template)
		if err != nil {
			return
		}
		keys := templateKeys(t)
		c %= Space
		text := one.render(keys, FirstVersion, c, 0)
		require.True(t, len(text) == one.size && utf8.ValidString(text), "%q gives %q, %d bytes", template, text, one.size)
		if back, ok := one.shape(FirstVersion).counter(cutScheme(text), keys); !ok || back != c || !one.matchesLiterals(cutScheme(text)) {
			t.Fatalf("%q of %q reads back as %d, %t, not %d", text, template, back, ok, c)
		}
	})
}

func FuzzReadTextByTemplate(f *testing.F) {
	keys := templateKeys(f)
	var templates []Template
	for _, template := range filledTemplates {
		templates = append(templates, parsed(f, template))
		f.Add(templates[len(templates)-1].render(keys, FirstVersion, 7, 7))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, one := range templates {
			c, ok := one.shape(FirstVersion).counter(cutScheme(text), keys)
			if made := one.render(keys, FirstVersion, c%Space, 0); ok && len(cutScheme(made)) != len(cutScheme(text)) {
				t.Fatalf("%q was read as %d of %q, whose text is %q", text, c, one, made)
			}
			one.matchesLiterals(cutScheme(text))
		}
	})
}

// Links of many GTINs are one: the files of app links have room for some thousand lines.
func TestTemplate_LinkPattern(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Link{
		"https://ID.brand.example/01/09506000134352/21/{serial}?98={secret}": {Host: "id.brand.example",
			Path: "/01/??????????????/21/?????????", Query: "98=???????????????????"},
		"C.EXAMPLE/{serial}{secret}":                    {Host: "c.example", Path: "/" + strings.Repeat("?", 28)},
		"https://t.example:8443/12345678901{digits:21}": {Host: "t.example:8443", Path: "/" + strings.Repeat("?", 32)},
		"http://t.example/a*b?x={digits:15}&y=1":        {Host: "t.example", Path: "/a?b", Query: "x=???????????????&y=1"},
		"12345678901{digits:21}":                        {},
		"12345/{digits:21}":                             {},
		"https://t.example#{secret}":                    {},
		"https://t.example/#{secret}":                   {},
		"Code:\nhttps://t.example/{secret}":             {},
		"https://t.example/a b/{secret}":                {},
		"https://{secret}.example/":                     {},
	} {
		p, err := ParseTemplate(text)
		require.NoError(t, err)
		got, ok := p.link()
		assert.True(t, got == want && ok == (want != Link{}), "%q is %+v, %t", text, got, ok)
	}
}

// Serial numbers of the brand's own run from that of the first code on; an application that has more codes than numbers is refused.
func TestTemplate_CustomSerialNumbers(t *testing.T) {
	t.Parallel()
	p := importPress(t)
	tried := map[string]int64{"{number:089999}{secret}": 10_001, "{number:999999}{digits:20}": 2, "{number:0}{secret}": 11}
	for text, count := range tried {
		_, err := p.FillTemplate(TemplateOrder{Text: text, Count: count})
		assert.True(t, err != nil == (text != "{number:089999}{secret}"), "%q for %d codes: %v", text, count, err)
		filled, err := p.FillTemplate(TemplateOrder{Text: text, Count: 1})
		assert.True(t, err == nil && filled == text, "%q for one code: %q, %v", text, filled, err)
	}
	one := parsed(t, "{number:089999}{secret}")
	text := one.render(templateKeys(t), FirstVersion, 7, 10_000)
	assert.True(t, strings.HasPrefix(text, "099999"), "the number of index 10000 stands in %q", text)
}

// What a camera reads is a text as it is printed, or none: read once more it is the same. The index finds a text where one of its
// templates does.
func FuzzReading(f *testing.F) {
	keys := templateKeys(f)
	var templates []Template
	var index templateIndex
	for i, template := range filledTemplates {
		one := parsed(f, template)
		templates = append(templates, one)
		index = index.add(Batch{Template: template, Version: FirstVersion, Imported: i%2 == 0})
		text := one.render(keys, FirstVersion, 7, 7)
		f.Add(text)
		f.Add("http://" + strings.ToLower(rowEscaper.Replace(cutScheme(text))))
		if data, err := gs1.Parse(text); err == nil && !data.Key.IsZero() {
			f.Add("]Q3" + data.ElementString())
			f.Add(data.Bracketed())
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, one := range templates {
			printed, ok := one.PrintedForm(text)
			if again, same := one.PrintedForm(printed); ok && (!same || again != printed || len(printed) != one.size) {
				t.Fatalf("%q is read as %q, which is read as %q", text, printed, again)
			}
			end, is := one.TrimRead(text)
			require.True(t, !is || len(end) == one.bareSize(), "%q ends with %q", text, end)
		}
		bare := cutScheme(text)
		like := slices.ContainsFunc(templates, func(one Template) bool { return one.matchesLiterals(bare) })
		found := slices.ContainsFunc(index.groups, func(w *templateGroup) bool {
			one, is := w.find(bare)
			require.True(t, !is || one.matchesLiterals(bare), "%q is found as one of %q", bare, one)
			return is
		})
		require.True(t, like == found, "%q is like a template: %t, and found: %t", bare, like, found)
	})
}
