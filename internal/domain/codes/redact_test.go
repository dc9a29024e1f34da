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

// The text of a link in the ledger holds no code that was made.
func TestWithhold_CodeInLink(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	b := p.apply("x", 10_000)
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
			for _, spelled := range []string{tail, strings.ToLower(tail), tail[:3] + "%" + hexOf(tail[3]) + tail[4:], "%" + hexOf(tail[0]) +
				tail[1:]} {
				assert.Equal(t, p.Redact(before+spelled+after), before, "of %q", before+spelled+after)
			}
		}
	}
	forged := []byte(tail)
	forged[9] = "AB"[map[bool]int{true: 1}[forged[9] == 'A']]
	for _, link := range []string{"", "https://coffee.example/t/1", "https://" + prefix, "https://" + prefix + string(forged), "https://" +
		prefix + tail[1:] + "?" + tail[:1], "https://a.example/" + strings.Repeat("z", 4000), "%", "%0", strings.Repeat("%3", 60)} {
		got := p.Redact(link)
		assert.True(t, got == link, "of %q %q: there is no code in it", link, got)
	}
}

// However long a link is, only so many places of it are tried.
func TestWithhold_CandidateLimit(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	link := "https://a.example/" + strings.Repeat("0", 4000)
	got := p.Redact(link)
	assert.True(t, len(got) <= 100 && strings.HasPrefix(link, got), "%d bytes are left", len(got))
}

// counted counts how often the store is asked.
type counted struct {
	codes.Store
	asked int
}

func (c *counted) ViewCodes(ctx context.Context, f func(codes.Tx) error) error {
	c.asked++
	return c.Store.ViewCodes(ctx, f)
}

// If May returns false, neither Scan nor Withhold reads the store for any text; the fast path of scans relies on this.
func TestMay_NoStoreAccess(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	ours := p.Text(p.apply("x", 10_000), 7)
	by := accounts.WithActor(t.Context(), accounts.Actor{ActorID: "admin"})
	require.NoError(t, assert.ErrorOf(p.BeginImport(by, codes.NewImport{Account: "svc", ISV: "old", Count: 10, Prefix: "OLD.EXAMPLE/"})))
	store := &counted{Store: p.Store}
	p.Store = store
	account := func(string) (accounts.Account, bool) { return accounts.Account{}, false }
	r, may, mayNot := rand.New(rand.NewPCG(1, 1)), 0, 0
	pieces := []string{"https://", "http://", "a.example/", "OLD.EXAMPLE/", "old.example/", "old%2Eexample%2F", "OLD.EXAMPLE", "?to=", "%",
		"%4f", "0$00000000000000099", "0%2400000000000000099", ours, ours[:len(ours)-codes.TailLength],
		ours[len(ours)-codes.TailLength:], "ABC123DEF", "t/1", "ſ", "食", "&x=", "#", strings.Repeat("z", 40)}
	for range 30_000 {
		some := make([]string, 1+r.IntN(5))
		for i := range some {
			some[i] = pieces[r.IntN(len(pieces))]
		}
		text := strings.Join(some, "")
		if p.MayBeCode(text) {
			may++
			continue
		}
		mayNot++
		store.asked = 0
		p.Scan(text, "u", account)
		p.Redact(text)
		require.True(t, store.asked == 0, "%q asked the store %d times", text, store.asked)
	}
	assert.True(t, may >= 1000 && mayNot >= 1000, "%d texts may be codes, %d may not", may, mayNot)
}

func hexOf(c byte) string { return string("0123456789ABCDEF"[c>>4]) + string("0123456789abcdef"[c&15]) }
