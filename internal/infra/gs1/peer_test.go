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

// peerCase is a text, and how an independent program reads it.
type peerCase struct {
	Kind     string      `json:"kind"` // uri, brackets or elements
	Text     string      `json:"text"`
	OK       bool        `json:"ok"`
	Why      string      `json:"why,omitempty"`
	AIs      []string    `json:"ais,omitempty"`
	Elements [][2]string `json:"elements,omitempty"`
	URI      string      `json:"uri,omitempty"` // canonical
}

// TestGS1_RecordedPeerResults compares with what other programs made of random texts of all keys and qualifiers, half of them spoilt:
// a thousand that were recorded. compat/gs1 asks the programs themselves: GS1_PEER names one that answers line by line,
// GS1_CASES how many texts, GS1_SEED which, GS1_RECORD=yes writes them down.
func TestGS1_RecordedPeerResults(t *testing.T) {
	t.Parallel()
	seen, all, right, apart := map[string]bool{}, 0, 0, map[string]int{}
	for c := range casesOf(t, "GS1_PEER", "testdata/peers.jsonl") {
		all++
		d, err := Parse(c.Text)
		if err == nil && d.Key.Primary().AI != "" { // an element string may have no key
			seen[d.Key.Primary().AI] = true
		}
		if c.Kind == "elements" {
			dates, _ := d.Value("7007")
			if strings.HasPrefix(c.Why, "invalid AI") {
				apart["an AI that is too new for the other"]++
			} else if len(dates) == 12 {
				apart["two dates in AI 7007"]++ // the other reads one
			} else if countries, _ := d.Value("425"); err == nil && len(countries) > 3 {
				apart["several countries in AI 425"]++ // the other reads one
			} else if got := orderIn(c.Text); err == nil && !slices.Equal(got, c.AIs) {
				t.Errorf("%q is %v, elsewhere %v %s", c.Text, got, c.AIs, c.Why)
			}
			continue
		}
		if c.OK {
			right++
		}
		if (err == nil) == c.OK {
			continue
		}
		if why := knownApart(c, err); why != "" {
			apart[why]++
			continue
		}
		t.Errorf("%s %q: here %v, elsewhere %v %s", c.Kind, c.Text, err, c.OK, c.Why)
	}
	if len(seen) != len(PrimaryKeys()) || right < all/4 {
		t.Errorf("%d primary keys of %d, %d texts that are right of %d: the cases do not try what they should", len(seen),
			len(PrimaryKeys()), right, all)
	}
	t.Logf("%d texts, %d of them right elsewhere too; apart: %v", all, right, apart)
}

// orderIn are the AIs of an element string in their order.
func orderIn(text string) (list []string) {
	d, err := ParseElementString(text)
	if err != nil {
		return nil
	}
	left := d.Elements()
	for text = strings.Trim(text, Separator); text != ""; text = strings.TrimPrefix(text, Separator) {
		i := slices.IndexFunc(left, func(e Element) bool { return strings.HasPrefix(text, e.AI+e.Value) })
		if i < 0 {
			return nil
		}
		list, text = append(list, left[i].AI), text[len(left[i].AI+left[i].Value):]
	}
	return list
}

// TestGS1_BiipPeerValues compares each value, and the canonical URI, with what biip reads and prints of such texts. It
// refuses less, so a text that is refused here says nothing.
func TestGS1_BiipPeerValues(t *testing.T) {
	t.Parallel()
	seen, all, same, printed, apart := map[string]bool{}, 0, 0, 0, map[string]int{}
	for c := range casesOf(t, "GS1_VALUES", "testdata/values.jsonl") {
		all++
		d, err := Parse(c.Text)
		if err != nil {
			continue
		}
		if !c.OK {
			if why := notReadByBiip(c, d); why != "" {
				apart[why]++
			} else {
				t.Errorf("%s %q: elsewhere %s", c.Kind, c.Text, c.Why)
			}
			continue
		}
		var peer Data
		for _, e := range c.Elements {
			peer.Attributes = append(peer.Attributes, Element{e[0], e[1]})
		}
		if !slices.Equal(inOrderOfAI(d), inOrderOfAI(peer)) {
			t.Errorf("%s %q is %v, elsewhere %v", c.Kind, c.Text, d.Elements(), c.Elements)
			continue
		}
		same++
		d.Rest = nil
		if uri, err := d.URI(canonicalStem); err == nil && c.URI != "" {
			printed++
			if _, other := d.Value("235"); other && uri != c.URI {
				apart["AI 235 beside other qualifiers"]++ // decision 70: the key that leaves nothing over
			} else if uri != c.URI {
				t.Errorf("%s %q is printed %s, elsewhere %s", c.Kind, c.Text, uri, c.URI)
			}
		}
		if ai := d.Key.Primary().AI; ai != "" {
			seen[ai] = true
		}
	}
	t.Logf("%d texts, %d read and %d printed the same; not read elsewhere: %v; %d keys", all, same, printed, apart, len(seen))
	assert.True(t, len(seen) == len(PrimaryKeys()) && same >= all/3 && printed >= all/4, "the cases do not try what they should")
}

func inOrderOfAI(d Data) []Element {
	return slices.SortedFunc(slices.Values(d.Elements()), func(a, b Element) int { return cmp.Compare(a.AI, b.AI) })
}

// notReadByBiip says why biip 5.2 does not read a text that is right; the README.md of compat/gs1 has the list.
func notReadByBiip(c peerCase, d Data) string {
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
		return "what looks like a key before the key"
	}
	return ""
}

// casesOf are the cases that were recorded in a file, or those that the program named by a variable answers now.
func casesOf(t *testing.T, variable, recorded string) iter.Seq[peerCase] {
	return func(yield func(peerCase) bool) {
		peer := os.Getenv(variable)
		if peer == "" {
			text, err := os.ReadFile(recorded)
			require.NoError(t, err)
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
		for ; n > 0; n -= casesTogether {
			for _, c := range ask(t, peer, r, min(n, casesTogether)) {
				line, _ := json.Marshal(c) // texts alone
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

// casesTogether is how many texts one run of a program reads: a million at once would not fit into the memory of a small machine.
const casesTogether = 50_000

// ask has a program read random texts, and returns them with its answers.
func ask(t *testing.T, peer string, r *rand.Rand, n int) []peerCase {
	cases := make([]peerCase, n)
	var in bytes.Buffer
	for i := range cases {
		cases[i] = randomCase(r)
		line, _ := json.Marshal(cases[i]) // texts alone
		in.Write(append(line, '\n'))
	}
	words := strings.Fields(peer)
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Stdin, cmd.Stderr = &in, t.Output()
	answers, err := cmd.Output()
	require.NoError(t, err)
	said := json.NewDecoder(bytes.NewReader(answers))
	for i := range cases {
		require.NoErrorf(t, said.Decode(&cases[i]), "fewer answers than questions")
	}
	return cases
}

// randomCase is a text of any right data; of the URIs and of those in brackets each second one is spoilt in one place.
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
	at := begin + r.IntN(len(c.Text)-begin)
	letter := string(letters[r.IntN(len(letters))])
	switch r.IntN(3) {
	case 0:
		c.Text = c.Text[:at] + letter + c.Text[at+1:]
	case 1:
		c.Text = c.Text[:at] + c.Text[at+1:]
	default:
		c.Text = c.Text[:at] + letter + c.Text[at:]
	}
	return c
}

// knownApart says why another program may read a text in another way; decision 70 has the list.
func knownApart(c peerCase, err error) string {
	switch {
	case err != nil && strings.HasSuffix(err.Error(), "begins with a GS1 Company Prefix"):
		return "no company prefix, which the other does not look at"
	case err != nil && strings.HasSuffix(err.Error(), "not validly percent-encoded"):
		return "broken percent-coding"
	case err != nil && strings.HasPrefix(err.Error(), "AI (01) has ") && strings.HasSuffix(err.Error(), " want at least 14"):
		return "a GTIN of less than 14 digits in the query"
	case err != nil && strings.HasPrefix(err.Error(), `AI (8011): "0"`):
		return "an AI 8011 of 0"
	case err == nil && strings.Contains(c.Why, "Unknown currency"):
		return "a currency that is too new for the other"
	case err == nil && strings.HasSuffix(strings.Split(c.Text, "?")[0], "/"):
		return "a slash at the end"
	case err == nil && (strings.Contains(c.Text, "?=") || strings.Contains(c.Text, "&=")):
		return "a pair of the query without a name"
	}
	return ""
}
