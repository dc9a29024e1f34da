package gs1

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// peerCase is a text, and how an independent program reads it.
type peerCase struct {
	Kind string   `json:"kind"` // uri, brackets or elements
	Text string   `json:"text"`
	OK   bool     `json:"ok"`
	Why  string   `json:"why,omitempty"`
	AIs  []string `json:"ais,omitempty"`
}

const recorded = "testdata/peers.jsonl"

// TestPeersReadTheSame compares with what other programs made of random texts of all keys and qualifiers, half of them spoilt:
// a thousand that were recorded. compat/gs1 asks the programs themselves: GS1_PEER names one that answers line by line,
// GS1_CASES how many texts, GS1_RECORD=yes writes them down.
func TestPeersReadTheSame(t *testing.T) {
	t.Parallel()
	list := casesOf(t)
	seen, right, apart := map[string]bool{}, 0, map[string]int{}
	for _, c := range list {
		d, err := Parse(c.Text)
		if err == nil && d.Key.Primary().AI != "" { // an element string may have no key
			seen[d.Key.Primary().AI] = true
		}
		if c.Kind == "elements" {
			if strings.HasPrefix(c.Why, "invalid AI") {
				apart["an AI that is too new for the other"]++
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
	if len(seen) != len(PrimaryKeys()) || right < len(list)/4 {
		t.Errorf("%d primary keys of %d, %d texts that are right of %d: the cases do not try what they should", len(seen),
			len(PrimaryKeys()), right, len(list))
	}
	t.Logf("%d texts, %d of them right elsewhere too; apart: %v", len(list), right, apart)
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

func casesOf(t *testing.T) (list []peerCase) {
	text, err := os.ReadFile(recorded)
	if peer := os.Getenv("GS1_PEER"); peer != "" {
		text, err = ask(t, peer)
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c peerCase
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		list = append(list, c)
	}
	return list
}

// ask has a program read random texts, and returns them with its answers.
func ask(t *testing.T, peer string) ([]byte, error) {
	n, err := strconv.Atoi(os.Getenv("GS1_CASES"))
	if err != nil {
		n = 1000
	}
	r := rand.New(rand.NewPCG(34, 5))
	cases := make([]peerCase, n)
	var in, out strings.Builder
	for i := range cases {
		cases[i] = randomCase(r)
		line, _ := json.Marshal(cases[i]) // texts alone
		in.Write(append(line, '\n'))
	}
	words := strings.Fields(peer)
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(in.String()), t.Output()
	answers, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	said := bufio.NewScanner(strings.NewReader(string(answers)))
	for _, c := range cases {
		if !said.Scan() {
			t.Fatal("fewer answers than questions")
		}
		if err := json.Unmarshal(said.Bytes(), &c); err != nil {
			return nil, err
		}
		line, _ := json.Marshal(c)
		out.Write(append(line, '\n'))
	}
	if os.Getenv("GS1_RECORD") != "" {
		err = os.WriteFile(recorded, []byte(out.String()), 0o644)
	}
	return []byte(out.String()), err
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
	case err != nil && strings.HasSuffix(err.Error(), "no right percent-coding"):
		return "broken percent-coding"
	case err == nil && strings.HasSuffix(strings.Split(c.Text, "?")[0], "/"):
		return "a slash at the end"
	}
	return ""
}
