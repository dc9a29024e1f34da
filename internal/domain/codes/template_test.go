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

// filledTemplates are templates as an application stores them.
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

func templateKeys(t testing.TB) Keys {
	code, text := testKeys(t)
	return Keys{Code: code, Text: map[byte]*TextKey{FirstVersion: text, '$': text}, Current: FirstVersion}
}

func TestTemplateDigits_EqualReference(t *testing.T) {
	_, key := testKeys(t)
	for n := minDigits; n <= maxDigits; n++ {
		reference := ff1Reference{key: testSecret(0x20), tweak: []byte{'7'}, radix: 10}
		digitsKey := key.digitsKey(n)
		for _, c := range sampleCounters(40) {
			x := make([]uint16, n)
			for i, digit := range fmt.Sprintf("%0*d", n, c) {
				x[i] = uint16(digit - '0')
			}
			var want strings.Builder
			for _, digit := range reference.encrypt(x) {
				fmt.Fprint(&want, digit)
			}
			a, b := digitsKey.permute(c, '7')
			got := string(digitPair{a, b}.append(nil, n))
			require.Equal(t, got, want.String(), "%d digits of %d", n, c)
			pair, ok := readDigits(got)
			back, found := digitsKey.counter(pair.a, pair.b, '7')
			require.True(t, ok && found && back == c, "counter of %s = %d, %t, want %d", got, back, found, c)
		}
	}
}

// TestTemplateText_Golden verifies that the texts of an application never change. Lines of the file may be added, not changed.
func TestTemplateText_Golden(t *testing.T) {
	want := require.Value(os.ReadFile("testdata/templates.txt"))(t)
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
				fmt.Fprintf(&got, "%q %d %c %q\n", template, c, version,
					require.Value(ParseTemplate(template))(t).render(keys, version, c, c%1000))
			}
		}
	}
	assert.Equal(t, got.String(), string(want), "texts by template")
}

func TestTemplateText_RoundTrip(t *testing.T) {
	keys := templateKeys(t)
	for _, template := range filledTemplates {
		parsed := require.Value(ParseTemplate(template))(t)
		shape := parsed.shape(FirstVersion)
		for _, c := range sampleCounters(500) {
			text := parsed.render(keys, FirstVersion, c, c%1000)
			bare := cutScheme(text)
			require.True(t, len(text) == parsed.size && parsed.matchesLiterals(bare),
				"%q has %d bytes, want %d, or does not match its template", text, len(text), parsed.size)
			for _, spelling := range []string{bare, strings.ToLower(bare)} {
				back, ok := shape.counter(spelling, keys)
				require.True(t, ok && back == c, "counter of %q = %d, %t, want %d", spelling, back, ok, c)
			}
		}
	}
}

// TestTemplateDigits_ForgedRejected verifies that made-up digits are rejected: one in 10^N / 36^9 numbers of N digits has a counter.
func TestTemplateDigits_ForgedRejected(t *testing.T) {
	keys := templateKeys(t)
	shape := require.Value(ParseTemplate("{digits:36}"))(t).shape(FirstVersion)
	number := new(big.Int)
	for i := range 100_000 {
		number.Exp(big.NewInt(int64(i)+3), big.NewInt(22), nil)
		text := fmt.Sprintf("%036s", number.Text(10))
		text = text[len(text)-36:]
		c, ok := shape.counter(text, keys)
		require.True(t, !ok, "counter of the forged %s = %d, want none", text, c)
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
		assert.True(t, err == nil && filled == want && bits == c[5], "FillTemplate(%q) = %q, %v with %s bits, want %q with %s", text,
			filled,
			err, bits, want, c[5])
	}
}

func TestTemplateText_ValidGS1(t *testing.T) {
	keys := templateKeys(t)
	for _, template := range filledTemplates[:2] {
		for _, c := range sampleCounters(100) {
			text := require.Value(ParseTemplate(template))(t).render(keys, FirstVersion, c, c%1000)
			data, err := gs1.Parse(text)
			require.NoErrorf(t, err, "%s", text)
			code := keys.Code.Code(c)
			serial, _ := data.Value("21")
			assert.Equal(t, serial, string(code[:]), "serial of %s", text)
		}
	}
}

func FuzzParseTemplate(f *testing.F) {
	for _, template := range filledTemplates {
		f.Add(template, uint64(7))
	}
	f.Add("{", uint64(0))
	f.Fuzz(func(t *testing.T, template string, c uint64) {
		parsed, err := ParseTemplate(template)
		if err != nil {
			return
		}
		keys := templateKeys(t)
		c %= Space
		text := parsed.render(keys, FirstVersion, c, 0)
		require.True(t, len(text) == parsed.size && utf8.ValidString(text), "%q renders as %q, want %d bytes", template, text, parsed.size)
		back, ok := parsed.shape(FirstVersion).counter(cutScheme(text), keys)
		require.True(t, ok && back == c && parsed.matchesLiterals(cutScheme(text)),
			"counter of %q by %q = %d, %t, want %d", text, template, back, ok, c)
	})
}

func FuzzReadTextByTemplate(f *testing.F) {
	keys := templateKeys(f)
	var templates []Template
	for _, template := range filledTemplates {
		templates = append(templates, require.Value(ParseTemplate(template))(f))
		f.Add(templates[len(templates)-1].render(keys, FirstVersion, 7, 7))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, template := range templates {
			c, ok := template.shape(FirstVersion).counter(cutScheme(text), keys)
			if printed := template.render(keys, FirstVersion, c%Space, 0); ok && len(cutScheme(printed)) != len(cutScheme(text)) {
				t.Fatalf("%q was read as %d of %q, which prints %q", text, c, template, printed)
			}
			template.matchesLiterals(cutScheme(text))
		}
	})
}

// TestTemplate_LinkPattern verifies that links with different GTINs have one pattern, because files of app links hold a few thousand lines.
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
		p := require.Value(ParseTemplate(text))(t)
		got, ok := p.link()
		assert.True(t, got == want && ok == (want != Link{}), "link of %q = %+v, %t, want %+v", text, got, ok, want)
	}
}

// TestTemplate_CustomSerialNumbers verifies that custom serial numbers are consecutive from the number of the first code on, and that an
// application with more codes than numbers is rejected.
func TestTemplate_CustomSerialNumbers(t *testing.T) {
	t.Parallel()
	p := newImportService(t)
	counts := map[string]int64{"{number:089999}{secret}": 10_001, "{number:999999}{digits:20}": 2, "{number:0}{secret}": 11}
	for text, count := range counts {
		_, err := p.FillTemplate(TemplateOrder{Text: text, Count: count})
		assert.True(t, err != nil == (text != "{number:089999}{secret}"), "FillTemplate(%q) for %d codes: %v", text, count, err)
		filled, err := p.FillTemplate(TemplateOrder{Text: text, Count: 1})
		assert.True(t, err == nil && filled == text, "FillTemplate(%q) for one code = %q, %v", text, filled, err)
	}
	text := require.Value(ParseTemplate("{number:089999}{secret}"))(t).render(templateKeys(t), FirstVersion, 7, 10_000)
	assert.True(t, strings.HasPrefix(text, "099999"), "text of index 10000 = %q, want the number 099999", text)
}

// FuzzReading verifies that PrintedForm is idempotent, and that the index finds a text if and only if one of its templates matches it.
func FuzzReading(f *testing.F) {
	keys := templateKeys(f)
	var templates []Template
	var index templateIndex
	for i, template := range filledTemplates {
		parsed := require.Value(ParseTemplate(template))(f)
		templates = append(templates, parsed)
		index = index.add(Batch{Template: template, Version: FirstVersion, Imported: i%2 == 0})
		text := parsed.render(keys, FirstVersion, 7, 7)
		f.Add(text)
		f.Add("http://" + strings.ToLower(rowEscaper.Replace(cutScheme(text))))
		if data, err := gs1.Parse(text); err == nil && !data.Key.IsZero() {
			f.Add("]Q3" + data.ElementString())
			f.Add(data.Bracketed())
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, template := range templates {
			printed, ok := template.PrintedForm(text)
			if repeated, repeatedOK := template.PrintedForm(printed); ok &&
				(!repeatedOK || repeated != printed || len(printed) != template.size) {
				t.Fatalf("%q is read as %q, which is read as %q", text, printed, repeated)
			}
			suffix, ok := template.TrimRead(text)
			require.True(t, !ok || len(suffix) == template.bareSize(), "TrimRead(%q) = %q, want %d bytes", text, suffix,
				template.bareSize())
		}
		bare := cutScheme(text)
		matches := slices.ContainsFunc(templates, func(template Template) bool { return template.matchesLiterals(bare) })
		found := slices.ContainsFunc(index.groups, func(group *templateGroup) bool {
			template, ok := group.find(bare)
			require.True(t, !ok || template.matchesLiterals(bare), "%q is found by the template %q, which does not match", bare, template)
			return ok
		})
		require.Equal(t, found, matches, "index finds %q", bare)
	})
}
