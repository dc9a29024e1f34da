package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/rules"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// FuzzParsePrefix verifies the invariants of parsed prefixes that the other packages rely on.
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
				require.True(t, code == errcode.IllegalPrefix && detail != "", "%q: error %v, want 85066 and a reason", text, err)
				continue
			}
			switch {
			case len(text) > rules.MaxPrefix:
				t.Fatalf("%q with %d bytes was accepted, want an error", text, len(text))
			case p.Text != text:
				t.Fatalf("Text of %q = %q", text, p.Text)
			case !p.Matches(p.Link):
				t.Fatalf("%q does not match itself", text)
			case !slices.Contains(p.Ends(), p.Key):
				t.Fatalf("%q: the key %q is missing in Ends %q", text, p.Key, p.Ends())
			case kind == rules.Ordinary == p.IsService():
				t.Fatalf("%q was accepted as %s", text, kind)
			case p.Origin() != strings.ToLower(p.Origin()):
				t.Fatalf("%q: origin %q, want lower case", text, p.Origin())
			}
			link, ok := rules.ParseLink(p.Key)
			require.True(t, ok && link.Key == p.Key, "key of the key %q of %q = %q", p.Key, text, link.Key)
			require.True(t, private || kind != rules.Ordinary || !strings.ContainsAny(p.Host, ":[]@*"),
				"%q: private host %q was accepted", text, p.Host)
			address := p.ConfirmAddress("FILE.txt")
			require.True(t, strings.HasPrefix(address, p.Origin()+"/") && !strings.ContainsAny(address, "?#") &&
				strings.HasSuffix(address, "/FILE.txt"), "%q: URL of the verification file = %q", text, address)
		}
	})
}
