package gs1

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// canonicalStem is the stem of the canonical URI, which identifies an object independently of the resolver.
const canonicalStem = "https://id.gs1.org"

type clause struct{ name, uri, want string }

// clauses returns the clauses of URI Syntax 1.6 about Digital Links, each with a URI and its canonical form or error.
func clauses(t testing.TB) (list []clause) {
	for _, row := range testtable.Rows(t, "testdata/clauses.txt", 3) {
		list = append(list, clause{row[0], row[1], row[2]})
	}
	return list
}

// TestGS1_URISyntaxClauses verifies each clause, and that the table in docs/en/how/gs1.md names all clauses and no other.
func TestGS1_URISyntaxClauses(t *testing.T) {
	t.Parallel()
	page := require.Value(os.ReadFile("../../../docs/en/how/gs1.md"))(t)
	_, table, _ := strings.Cut(string(page), "| clause of the URI syntax")
	_, table, _ = strings.Cut(table, "| --- | --- | --- |\n")
	rows := 0
	for line := range strings.Lines(table) {
		columns := strings.Split(strings.Trim(line, "| \n"), " | ")
		if rows++; len(columns) != 3 || strings.HasPrefix(columns[2], "all cases") || columns[1] == "no word" {
			continue
		}
		unknown := columns[2]
		for _, c := range clauses(t) {
			unknown = strings.Replace(unknown, c.name, "", 1)
		}
		assert.Equal(t, strings.Trim(unknown, "; "), "", "cases in docs/en/how/gs1.md that are not in clauses.txt")
	}
	assert.True(t, rows >= 15, "%d rows in the table of docs/en/how/gs1.md, want at least 15", rows)
	for _, c := range clauses(t) {
		t.Run(c.name, func(t *testing.T) {
			assert.True(t, strings.Contains(string(page), c.name), "docs/en/how/gs1.md does not name %q", c.name)
			d, err := Parse(c.uri)
			got := ""
			if err == nil {
				d.Rest = nil
				got, err = d.URI(canonicalStem)
				got = strings.TrimPrefix(got, canonicalStem+"/")
			}
			if err != nil {
				got = err.Error()
			}
			assert.True(t, got == c.want || err != nil && strings.Contains(got, c.want), "URI of %s = %q, want %q", c.uri, got, c.want)
		})
	}
}

func TestGS1Key_Parents(t *testing.T) {
	t.Parallel()
	k, padded, err := ParseKey("01/9506000134352/22/V%2F1/10/L/21/S/")
	require.True(t, err == nil && padded, "ParseKey = %v, %v, %v, want padded", k, padded, err)
	var got []string
	for _, p := range k.Parents() {
		got = append(got, p.String())
	}
	want := []string{"01/09506000134352/22/V%2F1/10/L", "01/09506000134352/22/V%2F1", "01/09506000134352"}
	assert.True(t, slices.Equal(got, want), "Parents() = %q, want %q", got, want)
	if lot, _ := k.Value("10"); k.Root().String() != "01/09506000134352" || k.Primary() != (Element{"01", "09506000134352"}) || lot != "L" {
		t.Errorf("Root() = %v, Primary() = %v, lot %q", k.Root(), k.Primary(), lot)
	}
	var zero Key
	assert.True(t, zero.IsZero() && len(zero.Parents()) == 0 && zero.Root().IsZero() && zero.Primary().AI == "",
		"zero Key has a primary key or parents")
	_, _, err = ParseKey("01/09506000134353")
	parseErr, ok := errors.AsType[*Error](err)
	assert.True(t, ok && parseErr.AI == "01", "ParseKey = %v, want an *Error with AI 01", err)
}

func TestGS1_ElementStrings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"a Data Matrix", "]d2010950600013435210L\x1d21S", "(01)09506000134352(10)L(21)S"},
		{"a QR code", "]Q3010950600013435217271231", "(01)09506000134352(17)271231"},
		{"GS1-128 with a separator before it", "]C1\x1d0109506000134352", "(01)09506000134352"},
		{"without an identifier", "0109506000134352", "(01)09506000134352"},
		{"a separator that is not needed", "0109506000134352\x1d10L\x1d", "(01)09506000134352(10)L"},
		{"the key behind its qualifiers", "21S\x1d10L\x1d0109506000134352", "(01)09506000134352(10)L(21)S"},
		{"data without a primary key", "41095060001343524001", "(410)9506000134352(400)1"},
		{"the same twice", "01095060001343520109506000134352", "(01)09506000134352"},
		{"a missing separator", "0109506000134352103123456789012345678901234567890", "AI (10) has 31 characters"},
		{"an AI that does not exist", "010950600013435205", `no GS1 format begins with "05"`},
		{"two values of one AI", "010950600013435210L\x1d10M", "AI (10) occurs twice with different values"},
		{"too short", "0109506", "AI (01) has 5 characters"},
		{"nothing", "]d2", "not GS1 data"},
		{"brackets", "(01)09506000134352(10)L\\(1)", "(01)09506000134352(10)L\\(1)"},
		{"a bracket that does not close", "(01", `want AIs in brackets`},
		{"an AI in brackets that does not exist", "(1)2", `AI (1) does not exist`},
		{"no value in brackets", "(01)", `AI (01) has no value`},
		{"a text before brackets", "x(01)09506000134352", `no GS1 format begins with "x(01"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Parse(c.text)
			got := d.Bracketed()
			if err != nil {
				got = err.Error()
			}
			assert.True(t, got == c.want || err != nil && strings.Contains(got, c.want), "Parse(%q) = %q, want %q", c.text, got, c.want)
		})
	}
}

// values has valid and invalid values for each check of the dictionary, with an AI that uses the check.
var values = []struct{ ai, valid, invalid string }{
	{"00", "095060001343521236", "095060001343521233"}, {"253", "9506000134352X", "9506000134353X"},
	{"8013", "1987654Ad4X4bL5ttr2310c2K", "1987654Ad4X4bL5ttr2310c2J"}, {"8004", "9506A", "950A"},
	{"422", "156", "157"}, {"4307", "CN", "ZZ"}, {"7030", "999X", "000X"}, {"3910", "1561", "0001"}, {"7241", "80", "11"},
	{"7041", "PX", "ZZZ"}, {"4326", "280229", "270229"}, {"17", "270200", "271300"}, {"7250", "19700101", "19700100"},
	{"8008", "27010123", "27010124"}, {"8008", "2701012359", "2701012360"}, {"8008", "270101235959", "270101235960"},
	{"7003", "2701012359", "2701012400"}, {"4309", "18000000003600000000", "18000000013600000000"},
	{"4309", "00000000000000000000", "18000000003600000001"}, {"8006", "095060001343520102", "095060001343520302"},
	{"7258", "1/3", "3/1"}, {"7258", "3/3", "0/3"}, {"8001", "00010000100119", "00000000100119"},
	{"8003", "09506000134352", "19506000134352"},
	{"8011", "10", "01"}, {"4321", "1", "2"}, {"8001", "00010000100111", "00010000100121"}, {"7252", "9", "3"},
	{"4330", "000001-", "000001+"},
	{"8014", "1987654A" + CheckPair("1987654A"), "198765843"}, {"7040", "1ABC", "1AB."}, {"4300", "A%20B", "A%2"},
	{"4300", "%E4%BD%A0", "%zz"},
	{"8007", "DE89370400440532013000", "DE89370400440532013001"}, {"8007", "GB82WEST12345698765432", "ZZ82WEST12345698765432"},
	{"8110", "106141416543213150110120", "706141416543213150110120"},
	{"8110", "1061414165432131501101203301231", "1061414165432131501101203301331"},
	{"8112", "01106141416543210123456", "21106141416543210123456"}, {"8112", "000000001234560000000", "00000000123456000000"},
	{"8030", "abc-_", "a=c"}, {"8010", "9506#-/A", "9506a"}, {"21", "a!", "a^"},
}

func TestGS1_DictionaryChecks(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, v := range values {
		a := lookup(v.ai)
		for _, p := range a.parts {
			for _, name := range p.checks {
				used[name] = true
			}
		}
		assert.NoErrorf(t, a.check(v.valid), "(%s)%s", v.ai, v.valid)
		assert.True(t, a.check(v.invalid) != nil, "check of (%s)%s succeeds, want an error", v.ai, v.invalid)
	}
	for ai, a := range dictionary() {
		assert.True(t, len(a.parts) != 0, "(%s) has no parts", ai)
		for _, p := range a.parts {
			for _, name := range p.checks {
				if checks[name] == nil {
					t.Errorf("(%s) has the unknown check %s", ai, name)
				} else if !used[name] {
					t.Errorf("values has no value of the check %s", name)
				}
			}
		}
	}
}

// TestGS1_RandomRoundTrip formats random data of all keys in each form and verifies that Parse returns the same data.
func TestGS1_RandomRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(34, 2))
	seen := map[string]bool{}
	for range 2_000 {
		d := randomData(r)
		seen[d.Key.Primary().AI] = true
		uri, err := d.URI("https://example.com/shop")
		require.NoErrorf(t, err, "URI of %s", d.Bracketed())
		for _, text := range []string{uri, d.Bracketed(), d.ElementString(), "]d2" + d.ElementString()} {
			got, err := Parse(text)
			require.NoErrorf(t, err, "Parse(%q)", text)
			equal := len(got.Elements()) == len(d.Elements()) && got.Key.String() == d.Key.String()
			for _, e := range d.Elements() {
				value, ok := got.Value(e.AI)
				equal = equal && ok && value == e.Value
			}
			gotURI, err := got.URI("https://example.com/shop")
			require.True(t, equal && err == nil && gotURI == uri, "Parse(%q) = %s, %v, want %s", text, got.Bracketed(), err, d.Bracketed())
		}
	}
	assert.True(t, len(seen) == len(PrimaryKeys()), "random data with %d primary keys, want all %d", len(seen), len(PrimaryKeys()))
}

// wantRoundTrip verifies that parsing each form of d returns the same data.
func wantRoundTrip(t *testing.T, d Data) {
	uri, err := d.URI("https://example.com")
	for _, text := range []string{uri, d.Bracketed(), d.ElementString()} {
		if text == uri && err != nil { // no key, or data that cannot be in a URI
			continue
		}
		got, err := Parse(text)
		require.NoErrorf(t, err, "Parse(%q)", text)
		for _, e := range d.Elements() {
			value, _ := got.Value(e.AI)
			require.True(t, value == e.Value, "Parse(%q) has (%s)%s, want %s", text, e.AI, value, e.Value)
		}
	}
	if k := d.Key; !k.IsZero() {
		got, padded, err := ParseKey(k.String())
		require.True(t, err == nil && !padded && got.String() == k.String(), "ParseKey(%q) = %q, %v, %v", k, got, padded, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range clauses(f) {
		f.Add(c.uri)
	}
	f.Add("]d2010950600013435210L\x1d21S")
	f.Add("(01)09506000134352(10)L\\(1)")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := Parse(text); err == nil {
			wantRoundTrip(t, d)
		}
	})
}

func FuzzParseURI(f *testing.F) {
	for _, c := range clauses(f) {
		path, query, _ := strings.Cut(strings.TrimPrefix(c.uri, "https://example.com"), "?")
		f.Add(path, query)
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		if d, err := ParseURI(path, query); err == nil {
			wantRoundTrip(t, d)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("01/9506000134352/10/A%2FB")
	f.Add("/8010/950600013435%23/8011/1/")
	f.Fuzz(func(t *testing.T, text string) {
		if k, _, err := ParseKey(text); err == nil {
			wantRoundTrip(t, Data{Key: k})
		}
	})
}

// TestGTIN_CheckDigit verifies ValidGTIN on samples of GS1's pages and every change of one digit. GS1 General Specifications, 7.9.
func TestGTIN_CheckDigit(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"6901234567892", "4006381333931", "5901234123457", "036000291452", "614141000036", "96385074", "73513537",
		"10614141000415", "00012345600012"} {
		assert.True(t, ValidGTIN(good), "ValidGTIN(%s) = false, want true", good)
		for i := range good {
			for d := range 10 {
				changed := good[:i] + fmt.Sprint(d) + good[i+1:]
				assert.True(t, changed == good || !ValidGTIN(changed), "ValidGTIN(%s) = true, want false", changed)
			}
		}
	}
	for _, bad := range []string{"", "test_code", "690123456789", "69012345678920", "6901234567893", "６９０１２３４５６７８９２", "690123456789 ",
		"+901234567892", strings.Repeat("0", 9)} {
		assert.True(t, !ValidGTIN(bad), "ValidGTIN(%q) = true, want false", bad)
	}
}
