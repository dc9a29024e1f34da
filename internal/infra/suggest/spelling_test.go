package suggest

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestSuggest_NearestName(t *testing.T) {
	names := []string{"rate_limit", "rule_limit", "marketcode", "/cgi-bin/token"}
	for input, want := range map[string]string{
		"rate_limi": ": did you mean rate_limit?", "RATE-LIMIT": ": did you mean rate_limit?", "rul_limit": ": did you mean rule_limit?",
		"market_code": ": did you mean marketcode?", "marketcodes": ": did you mean marketcode?", "colour": "", "": "", "x": "",
		"cgi-bin/token": ": did you mean /cgi-bin/token?", strings.Repeat("rate_limit", 1000): "",
	} {
		assert.Equal(t, DidYouMean(input, names...), want, "DidYouMean(%.30q)", input)
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"kitten", "sitting", 3}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"ab", "ba", 2}} {
		assert.Equal(t, distance(c.a, c.b), c.want, "distance(%q, %q)", c.a, c.b)
	}
}
