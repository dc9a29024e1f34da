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
)

type clause struct{ name, uri, want string }

// canonicalStem is the stem of the canonical URI, which identifies an object independently of the resolver.
const canonicalStem = "https://id.gs1.org"

// clauses returns what URI Syntax 1.6 says of a Digital Link, each with a URI and what becomes of it: docs/en/how/gs1.md shows them.
func clauses(t testing.TB) (list []clause) {
	text, err := os.ReadFile("testdata/clauses.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		list = append(list, clause{columns[0], columns[1], columns[2]})
	}
	return list
}

func TestGS1_URISyntaxClauses(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/en/how/gs1.md")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(page), "| clause of the URI syntax")
	_, table, _ = strings.Cut(table, "| --- | --- | --- |\n")
	rows := 0
	for line := range strings.Lines(table) {
		columns := strings.Split(strings.Trim(line, "| \n"), " | ")
		if rows++; len(columns) != 3 || strings.HasPrefix(columns[2], "all cases") || columns[1] == "no word" {
			continue
		}
		left := columns[2]
		for _, c := range clauses(t) {
			left = strings.Replace(left, c.name, "", 1)
		}
		assert.True(t, strings.Trim(left, "; ") == "", "docs/en/how/gs1.md names what is no case: %q", left)
	}
	assert.True(t, rows >= 15, "%d rows of the table are found", rows)
	for _, c := range clauses(t) {
		t.Run(c.name, func(t *testing.T) {
			assert.True(t, strings.Contains(string(page), c.name), "no row of docs/en/how/gs1.md names it")
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
			assert.True(t, got == c.want || err != nil && strings.Contains(got, c.want), "%s is %q, want %q", c.uri, got, c.want)
		})
	}
}

func TestGS1Key_Parents(t *testing.T) {
	t.Parallel()
	k, padded, err := ParseKey("01/9506000134352/22/V%2F1/10/L/21/S/")
	require.True(t, err == nil && padded, "%v %v %v", k, padded, err)
	var got []string
	for _, p := range k.Parents() {
		got = append(got, p.String())
	}
	want := []string{"01/09506000134352/22/V%2F1/10/L", "01/09506000134352/22/V%2F1", "01/09506000134352"}
	assert.True(t, slices.Equal(got, want), "above it stand %q, want %q", got, want)
	if lot, _ := k.Value("10"); k.Root().String() != "01/09506000134352" || k.Primary() != (Element{"01", "09506000134352"}) || lot != "L" {
		t.Error(k.Root(), k.Primary(), lot)
	}
	var zero Key
	assert.True(t, zero.IsZero() && len(zero.Parents()) == 0 && zero.Root().IsZero() && zero.Primary().AI == "", "the zero key is one")
	_, _, err = ParseKey("01/09506000134353")
	var fault *Error
	assert.True(t, errors.As(err, &fault) && fault.AI == "01", "the error %v does not name its AI", err)
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
			assert.True(t, got == c.want || err != nil && strings.Contains(got, c.want), "%q is %q, want %q", c.text, got, c.want)
		})
	}
}

// values are right and wrong ones for each check of the dictionary, by an AI that names it.
var values = []struct{ ai, right, wrong string }{
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
		assert.NoErrorf(t, a.check(v.right), "(%s)%s", v.ai, v.right)
		assert.True(t, a.check(v.wrong) != nil, "(%s)%s is taken", v.ai, v.wrong)
	}
	for ai, a := range dictionary() {
		assert.True(t, len(a.parts) != 0, "(%s) has no parts", ai)
		for _, p := range a.parts {
			for _, name := range p.checks {
				if checks[name] == nil {
					t.Errorf("(%s) wants the check %s", ai, name)
				} else if !used[name] {
					t.Errorf("no value is tried of the check %s", name)
				}
			}
		}
	}
}

// TestGS1_RandomRoundTrip is of random data of all keys: print it in each way, read it, and it is the same.
func TestGS1_RandomRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(34, 2))
	seen := map[string]bool{}
	for range 2_000 {
		d := randomData(r)
		seen[d.Key.Primary().AI] = true
		uri, err := d.URI("https://example.com/shop")
		require.NoErrorf(t, err, "%s", d.Bracketed())
		for _, text := range []string{uri, d.Bracketed(), d.ElementString(), "]d2" + d.ElementString()} {
			again, err := Parse(text)
			require.NoErrorf(t, err, "%q", text)
			same := len(again.Elements()) == len(d.Elements()) && again.Key.String() == d.Key.String()
			for _, e := range d.Elements() {
				value, is := again.Value(e.AI)
				same = same && is && value == e.Value
			}
			back, err := again.URI("https://example.com/shop")
			require.True(t, same && err == nil && back == uri, "%q is read as %s, not %s: %v", text, again.Bracketed(), d.Bracketed(), err)
		}
	}
	assert.True(t, len(seen) == len(PrimaryKeys()), "only %d of %d primary keys were tried", len(seen), len(PrimaryKeys()))
}

// What is read is printed, and read again as the same.
func again(t *testing.T, d Data) {
	uri, err := d.URI("https://example.com")
	for _, text := range []string{uri, d.Bracketed(), d.ElementString()} {
		if text == uri && err != nil { // no key, or data that has no place in a URI
			continue
		}
		back, err := Parse(text)
		require.NoErrorf(t, err, "%q is not read again", text)
		for _, e := range d.Elements() {
			value, _ := back.Value(e.AI)
			require.True(t, value == e.Value, "%q lost (%s)%s", text, e.AI, e.Value)
		}
	}
	if k := d.Key; !k.IsZero() {
		same, padded, err := ParseKey(k.String())
		require.True(t, err == nil && !padded && same.String() == k.String(), "the key %q is %q, %v", k, same, err)
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
			again(t, d)
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
			again(t, d)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("01/9506000134352/10/A%2FB")
	f.Add("/8010/950600013435%23/8011/1/")
	f.Fuzz(func(t *testing.T, text string) {
		if k, _, err := ParseKey(text); err == nil {
			again(t, Data{Key: k})
		}
	})
}

// GS1 General Specifications, 7.9: the samples are from GS1's own pages.
func TestGTIN_CheckDigit(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"6901234567892", "4006381333931", "5901234123457", "036000291452", "614141000036", "96385074", "73513537",
		"10614141000415", "00012345600012"} {
		assert.True(t, ValidGTIN(good), "%s is refused", good)
		for i := range good {
			for d := range 10 {
				changed := good[:i] + fmt.Sprint(d) + good[i+1:]
				assert.True(t, changed == good || !ValidGTIN(changed), "%s is accepted beside %s", changed, good)
			}
		}
	}
	for _, bad := range []string{"", "test_code", "690123456789", "69012345678920", "6901234567893", "６９０１２３４５６７８９２", "690123456789 ",
		"+901234567892", strings.Repeat("0", 9)} {
		assert.True(t, !ValidGTIN(bad), "%q is accepted", bad)
	}
}
