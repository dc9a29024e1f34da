package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// FuzzParsePrefix holds the parser to what everything else relies on.
func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"https://coffee.example/t/", "HTTPS://H.Example", "https://h.example?x=1", "https://h.example#x",
		"https://h.example#/x", "http://weixin.qq.com/q/02AA",
		"https://1.2.3.4/", "https://[::1]:80/a", "https://u@h.example/", "https://h.example:443/", "https://h.example./",
		"ftp://h.example/", "https://a_b.example/*"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, private bool) {
		for _, kind := range []rules.Kind{rules.Ordinary, rules.KindService} {
			p, err := rules.ParsePrefix(text, kind, private)
			if err != nil {
				code, detail := errcode.FromError(err)
				require.True(t, code == errcode.IllegalPrefix && detail != "", "%q: refused with %v, want 85066 and a reason", text, err)
				continue
			}
			switch {
			case len(text) > rules.MaxPrefix:
				t.Fatalf("%q has %d bytes and was taken", text, len(text))
			case p.Text != text:
				t.Fatalf("%q became %q", text, p.Text)
			case !p.Matches(p.Link):
				t.Fatalf("%q does not match itself", text)
			case !slices.Contains(p.Ends(), p.Key):
				t.Fatalf("%q: a look-up would not find its key %q among %q", text, p.Key, p.Ends())
			case kind == rules.Ordinary == p.IsService():
				t.Fatalf("%q was taken as a %s", text, kind)
			case p.Origin() != strings.ToLower(p.Origin()):
				t.Fatalf("%q: origin %q", text, p.Origin())
			}
			again, ok := rules.ParseLink(p.Key)
			require.True(t, ok && again.Key == p.Key, "the key %q of %q is not its own key", p.Key, text)
			require.True(t, private || kind != rules.Ordinary || !strings.ContainsAny(p.Host, ":[]@*"),
				"%q: host %q was taken", text, p.Host)
			address := p.ConfirmAddress("FILE.txt")
			require.True(t, strings.HasPrefix(address, p.Origin()+"/") && !strings.ContainsAny(address, "?#") &&
				strings.HasSuffix(address, "/FILE.txt"), "%q: the verification file would be asked at %q", text, address)
		}
	})
}
