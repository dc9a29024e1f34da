package codes_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/domain/codes"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestWithhold_CodeInLink verifies that Redact cuts off a link from the first issued code on, in every spelling of the code.
func TestWithhold_CodeInLink(t *testing.T) {
	t.Parallel()
	p, b := newBatch(t, 0)
	text := p.Text(b, 7)
	prefix, tail := text[:len(text)-codes.TailLength], text[len(text)-codes.TailLength:]
	for before, afters := range map[string][]string{
		"https://" + prefix: {"", "?from=scan", "/", "#a", " ", ".html", "&x", "0", "-",
			strings.Repeat("x", 600)},
		"https://www." + prefix:                               {""},
		"http://u:p@p.url.cn:8080//":                          {""},
		"https://a.example/r?u=" + "HTTPS:":                   {"&x"},
		"https://a.example/AAAA":                              {"AAAA"},
		"https://a.example/" + strings.Repeat("食", 200) + "/": {""},
	} {
		for _, after := range afters {
			for _, spelling := range []string{tail, strings.ToLower(tail), tail[:3] + "%" + mixedCaseHex(tail[3]) + tail[4:],
				"%" + mixedCaseHex(tail[0]) + tail[1:]} {
				assert.Equal(t, p.Redact(before+spelling+after), before, "Redact(%q)", before+spelling+after)
			}
		}
	}
	forged := []byte(tail)
	forged[9] = "AB"[map[bool]int{true: 1}[forged[9] == 'A']]
	for _, link := range []string{"", "https://coffee.example/t/1", "https://" + prefix, "https://" + prefix + string(forged), "https://" +
		prefix + tail[1:] + "?" + tail[:1], "https://a.example/" + strings.Repeat("z", 4000), "%", "%0", strings.Repeat("%3", 60)} {
		assert.Equal(t, p.Redact(link), link, "Redact(%q), which contains no code,", link)
	}
}

// TestWithhold_CandidateLimit verifies that Redact tries a bounded number of positions of a long link and cuts off the rest.
func TestWithhold_CandidateLimit(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	link := "https://a.example/" + strings.Repeat("0", 4000)
	got := p.Redact(link)
	assert.True(t, len(got) <= 100 && strings.HasPrefix(link, got), "Redact kept %d bytes, want a prefix of at most 100", len(got))
}

// countingStore counts read transactions.
type countingStore struct {
	codes.Store
	reads int
}

func (c *countingStore) ViewCodes(ctx context.Context, f func(codes.Tx) error) error {
	c.reads++
	return c.Store.ViewCodes(ctx, f)
}

// TestMay_NoStoreAccess verifies that neither Scan nor Redact reads the store for a text for which MayBeCode returns false. The fast path
// of scans relies on this.
func TestMay_NoStoreAccess(t *testing.T) {
	t.Parallel()
	p := newFixture(t)
	printed := p.Text(p.apply("x", 10_000), 7)
	require.NoError(t, assert.ErrorOf(p.BeginImport(withActor(t, "admin"),
		codes.NewImport{Account: "svc", ISV: "old", Count: 10, Prefix: "OLD.EXAMPLE/"})))
	store := &countingStore{Store: p.Store}
	p.Store = store
	account := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
	r, may, mayNot := rand.New(rand.NewPCG(1, 1)), 0, 0
	pieces := []string{"https://", "http://", "a.example/", "OLD.EXAMPLE/", "old.example/", "old%2Eexample%2F", "OLD.EXAMPLE", "?to=", "%",
		"%4f", "0$00000000000000099", "0%2400000000000000099", printed, printed[:len(printed)-codes.TailLength],
		printed[len(printed)-codes.TailLength:], "ABC123DEF", "t/1", "ſ", "食", "&x=", "#", strings.Repeat("z", 40)}
	for range 30_000 {
		parts := make([]string, 1+r.IntN(5))
		for i := range parts {
			parts[i] = pieces[r.IntN(len(pieces))]
		}
		text := strings.Join(parts, "")
		if p.MayBeCode(text) {
			may++
			continue
		}
		mayNot++
		store.reads = 0
		p.Scan(text, "u", account)
		p.Redact(text)
		require.Equal(t, store.reads, 0, "store reads for %q, which cannot be a code,", text)
	}
	assert.True(t, may >= 1000 && mayNot >= 1000, "%d texts may be codes, %d cannot, want at least 1000 of each", may, mayNot)
}

// mixedCaseHex returns c in hexadecimal with an upper-case first and a lower-case second digit.
func mixedCaseHex(c byte) string {
	return string("0123456789ABCDEF"[c>>4]) + string("0123456789abcdef"[c&15])
}
