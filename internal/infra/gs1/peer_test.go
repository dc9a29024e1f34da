package gs1

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// peerCase is a text with the result of an independent program.
type peerCase struct {
	Kind     string      `json:"kind"` // uri, brackets or elements
	Text     string      `json:"text"`
	OK       bool        `json:"ok"`
	Why      string      `json:"why,omitempty"`
	AIs      []string    `json:"ais,omitempty"`
	Elements [][2]string `json:"elements,omitempty"`
	URI      string      `json:"uri,omitempty"` // canonical
}

// TestGS1_RecordedPeerResults compares Parse with the recorded results of other programs for a thousand random texts of all keys and
// qualifiers, half of them invalid. compat/gs1 runs the programs: GS1_PEER is the command line of one that answers line by line, GS1_CASES
// the number of texts, GS1_SEED the seed, and GS1_RECORD=yes records the results.
func TestGS1_RecordedPeerResults(t *testing.T) {
	t.Parallel()
	seen, total, valid, differences := map[string]bool{}, 0, 0, map[string]int{}
	for c := range readCases(t, "GS1_PEER", "testdata/peers.jsonl") {
		total++
		d, err := Parse(c.Text)
		if err == nil && d.Key.Primary().AI != "" { // an element string may have no key
			seen[d.Key.Primary().AI] = true
		}
		if c.Kind == "elements" {
			dates, _ := d.Value("7007")
			if strings.HasPrefix(c.Why, "invalid AI") {
				differences["an AI that the peer does not know yet"]++
			} else if len(dates) == 12 {
				differences["two dates in AI 7007"]++ // the peer reads one
			} else if countries, _ := d.Value("425"); err == nil && len(countries) > 3 {
				differences["several countries in AI 425"]++ // the peer reads one
			} else if got := aiOrder(c.Text); err == nil && !slices.Equal(got, c.AIs) {
				t.Errorf("AIs of %q = %v, peer has %v %s", c.Text, got, c.AIs, c.Why)
			}
			continue
		}
		if c.OK {
			valid++
		}
		if (err == nil) == c.OK {
			continue
		}
		if reason := knownDifference(c, err); reason != "" {
			differences[reason]++
			continue
		}
		t.Errorf("Parse of %s %q = %v, peer accepts it: %v %s", c.Kind, c.Text, err, c.OK, c.Why)
	}
	assert.True(t, len(seen) == len(PrimaryKeys()) && valid >= total/4,
		"cases have %d primary keys, want %d, and %d of %d valid texts, want a quarter",
		len(seen), len(PrimaryKeys()), valid, total)
	t.Logf("%d texts, %d of them valid for the peer; known differences: %v", total, valid, differences)
}

// aiOrder returns the AIs of an element string in order.
func aiOrder(text string) (list []string) {
	d, err := ParseElementString(text)
	if err != nil {
		return nil
	}
	elements := d.Elements()
	for text = strings.Trim(text, Separator); text != ""; text = strings.TrimPrefix(text, Separator) {
		i := slices.IndexFunc(elements, func(e Element) bool { return strings.HasPrefix(text, e.AI+e.Value) })
		if i < 0 {
			return nil
		}
		list, text = append(list, elements[i].AI), text[len(elements[i].AI+elements[i].Value):]
	}
	return list
}

// TestGS1_BiipPeerValues compares each value and the canonical URI with the results of biip. biip accepts more, so texts that Parse rejects
// are skipped.
func TestGS1_BiipPeerValues(t *testing.T) {
	t.Parallel()
	seen, total, equal, formatted, differences := map[string]bool{}, 0, 0, 0, map[string]int{}
	for c := range readCases(t, "GS1_VALUES", "testdata/values.jsonl") {
		total++
		d, err := Parse(c.Text)
		if err != nil {
			continue
		}
		if !c.OK {
			if reason := biipRejection(c, d); reason != "" {
				differences[reason]++
			} else {
				t.Errorf("peer rejects %s %q: %s", c.Kind, c.Text, c.Why)
			}
			continue
		}
		var peer Data
		for _, e := range c.Elements {
			peer.Attributes = append(peer.Attributes, Element{e[0], e[1]})
		}
		if !slices.Equal(sortedByAI(d), sortedByAI(peer)) {
			t.Errorf("Parse of %s %q = %v, peer has %v", c.Kind, c.Text, d.Elements(), c.Elements)
			continue
		}
		equal++
		d.Rest = nil
		if uri, err := d.URI(canonicalStem); err == nil && c.URI != "" {
			formatted++
			if _, other := d.Value("235"); other && uri != c.URI {
				differences["AI 235 with other qualifiers"]++ // decision 70: the key that uses all elements
			} else if uri != c.URI {
				t.Errorf("URI of %s %q = %s, peer has %s", c.Kind, c.Text, uri, c.URI)
			}
		}
		if ai := d.Key.Primary().AI; ai != "" {
			seen[ai] = true
		}
	}
	t.Logf("%d texts, %d values and %d URIs compared; known differences: %v; %d keys", total, equal, formatted, differences, len(seen))
	assert.True(t, len(seen) == len(PrimaryKeys()) && equal >= total/3 && formatted >= total/4,
		"cases have too few primary keys, values or URIs")
}

func sortedByAI(d Data) []Element {
	return slices.SortedFunc(slices.Values(d.Elements()), func(a, b Element) int { return cmp.Compare(a.AI, b.AI) })
}

// biipRejection returns why biip 5.2 rejects a valid text, "" if unknown; the README.md of compat/gs1 has the list.
func biipRejection(c peerCase, d Data) string {
	part, _ := d.Value("8010")
	_, processed := d.Value("7007")
	switch {
	case part != "" && len(part) < 5:
		return "an AI 8010 of four characters"
	case processed && strings.Contains(c.Why, "date/time"):
		return "two dates in AI 7007"
	case strings.HasSuffix(strings.Split(c.Text, "?")[0], "/"):
		return "a slash at the end"
	case strings.Contains(c.Text, "%") && !strings.Contains(c.Text, "425=") && strings.Contains(c.Why, "with GS1 AI (425)"):
		return "a name in the query with percent-coding" // 4%325
	case c.Kind == "uri" && d.Stem != "https://example.com":
		return "a path segment before the key that looks like a key"
	}
	return ""
}

// readCases returns the cases recorded in a file, or results of the program in an environment variable for random cases.
func readCases(t *testing.T, variable, recorded string) iter.Seq[peerCase] {
	return func(yield func(peerCase) bool) {
		peer := os.Getenv(variable)
		if peer == "" {
			text := require.Value(os.ReadFile(recorded))(t)
			for line := range strings.Lines(string(text)) {
				var c peerCase
				require.NoError(t, json.Unmarshal([]byte(line), &c))
				if !yield(c) {
					return
				}
			}
			return
		}
		n, err := strconv.Atoi(os.Getenv("GS1_CASES"))
		if err != nil {
			n = 1000
		}
		var out bytes.Buffer
		seed, err := strconv.ParseUint(cmp.Or(os.Getenv("GS1_SEED"), "5"), 10, 64)
		require.NoErrorf(t, err, "GS1_SEED")
		r := rand.New(rand.NewPCG(34, seed))
		for ; n > 0; n -= casesPerRun {
			for _, c := range runPeer(t, peer, r, min(n, casesPerRun)) {
				line, _ := json.Marshal(c)
				out.Write(append(line, '\n'))
				if !yield(c) {
					return
				}
			}
			if os.Getenv("GS1_RECORD") == "" {
				out.Reset()
			} else if err := os.WriteFile(recorded, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// casesPerRun limits the texts in one run of a program, because a million do not fit into the memory of a small machine.
const casesPerRun = 50_000

// runPeer runs a program on n random texts and returns them with its results.
func runPeer(t *testing.T, peer string, r *rand.Rand, n int) []peerCase {
	cases := make([]peerCase, n)
	var in bytes.Buffer
	for i := range cases {
		cases[i] = randomCase(r)
		line, _ := json.Marshal(cases[i])
		in.Write(append(line, '\n'))
	}
	args := strings.Fields(peer)
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Stdin, cmd.Stderr = &in, t.Output()
	output := require.Value(cmd.Output())(t)
	results := json.NewDecoder(bytes.NewReader(output))
	for i := range cases {
		require.NoErrorf(t, results.Decode(&cases[i]), "result %d of %d", i+1, n)
	}
	return cases
}

// randomCase returns random valid data as a text; every second URI and bracketed text has one random change.
func randomCase(r *rand.Rand) peerCase {
	d := randomData(r)
	uri, err := d.URI("https://example.com")
	if err != nil || strings.Contains(d.Bracketed(), `\(`) || len(uri) > 200 {
		return randomCase(r)
	}
	c := peerCase{Kind: "uri", Text: uri}
	switch r.IntN(4) {
	case 0:
		return peerCase{Kind: "elements", Text: d.ElementString()}
	case 1:
		c = peerCase{Kind: "brackets", Text: d.Bracketed()}
	}
	if r.IntN(2) == 0 {
		return c
	}
	const letters = "0123456789ABCXYZabcxyz/%&=?.-_"
	begin := strings.IndexAny(c.Text, "0123456789")
	i := begin + r.IntN(len(c.Text)-begin)
	letter := string(letters[r.IntN(len(letters))])
	switch r.IntN(3) {
	case 0:
		c.Text = c.Text[:i] + letter + c.Text[i+1:]
	case 1:
		c.Text = c.Text[:i] + c.Text[i+1:]
	default:
		c.Text = c.Text[:i] + letter + c.Text[i:]
	}
	return c
}

// knownDifference returns why a peer may parse a text differently, "" if unknown; decision 70 has the list.
func knownDifference(c peerCase, err error) string {
	switch {
	case err != nil && strings.HasSuffix(err.Error(), "begins with a GS1 Company Prefix"):
		return "no company prefix, which the peer does not check"
	case err != nil && strings.HasSuffix(err.Error(), "not validly percent-encoded"):
		return "broken percent-coding"
	case err != nil && strings.HasPrefix(err.Error(), "AI (01) has ") && strings.HasSuffix(err.Error(), " want at least 14"):
		return "a GTIN of less than 14 digits in the query"
	case err != nil && strings.HasPrefix(err.Error(), `AI (8011): "0"`):
		return "an AI 8011 of 0"
	case err == nil && strings.Contains(c.Why, "Unknown currency"):
		return "a currency that the peer does not know yet"
	case err == nil && strings.HasSuffix(strings.Split(c.Text, "?")[0], "/"):
		return "a slash at the end"
	case err == nil && (strings.Contains(c.Text, "?=") || strings.Contains(c.Text, "&=")):
		return "a pair of the query without a name"
	}
	return ""
}
