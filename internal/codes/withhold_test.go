package codes_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/codes"
)

// The text of a link in the ledger holds no code that was made.
func TestACodeIsWithheldFromALink(t *testing.T) {
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
				if got := p.Withhold(before + spelled + after); got != before {
					t.Errorf("of %q %q", before+spelled+after, got)
				}
			}
		}
	}
	forged := []byte(tail)
	forged[9] = "AB"[map[bool]int{true: 1}[forged[9] == 'A']]
	for _, link := range []string{"", "https://coffee.example/t/1", "https://" + prefix, "https://" + prefix + string(forged), "https://" +
		prefix + tail[1:] + "?" + tail[:1], "https://a.example/" + strings.Repeat("z", 4000), "%", "%0", strings.Repeat("%3", 60)} {
		if got := p.Withhold(link); got != link {
			t.Errorf("of %q %q: there is no code in it", link, got)
		}
	}
}

// However long a link is, only so many places of it are tried.
func TestALinkFullOfWhatMayBeCodesIsCut(t *testing.T) {
	t.Parallel()
	p := newPlant(t)
	link := "https://a.example/" + strings.Repeat("0", 4000)
	if got := p.Withhold(link); len(got) > 100 || !strings.HasPrefix(link, got) {
		t.Errorf("%d bytes are left", len(got))
	}
}

func hexOf(c byte) string { return string("0123456789ABCDEF"[c>>4]) + string("0123456789abcdef"[c&15]) }
