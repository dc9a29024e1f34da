package qrjumptest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// recorder is a testing.TB that records failures and cleanup functions.
type recorder struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) { r.failures = append(r.failures, format) }

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

// TestStrict_FailsOnDeviation verifies that Strict fails a test after a deviation that the platform is known to reject (observed), and not
// after one that is only assumed.
func TestStrict_FailsOnDeviation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix string
		mark   string
		fails  int
	}{
		{"https://shop.example/t/", "assumed", 0},
		{"https://shop.example:8443/t/", "observed", 1},
	} {
		r := &recorder{TB: t}
		s := qrjumptest.Start(r, qrjumptest.Strict(), qrjumptest.Seed(`
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release]}
settings: {verification: trust}
`))
		caller := require.Value(client.New(s.URL, client.Options{AppID: "shop", Secret: "secret-shop"}))(t)
		require.NoError(t, caller.Wire.CreateRule(t.Context(), client.RuleDraft{Prefix: c.prefix, Path: "p", OpenVersion: 3}))
		var marks strings.Builder
		for _, d := range s.Deviations() {
			marks.WriteString(d.EvidenceLevel + " ")
			if d.Behaviour == "" || d.Account != "shop" || d.Endpoint != "/cgi-bin/wxopen/qrcodejumpadd" || d.Count != 1 || d.Advice == "" {
				t.Errorf("deviation = %+v, want one of shop with advice", d)
			}
			resp, err := http.Get(s.URL + "/admin/v1/calls/" + d.FirstRID)
			assert.True(t, err == nil && resp.StatusCode == 200 && resp.Body.Close() == nil,
				"first call of %+v = %v, %v, want 200", d, resp, err)
		}
		assert.Contains(t, marks.String(), c.mark, "%s: evidence levels", c.prefix)
		if r.end(); len(r.failures) != c.fails {
			t.Errorf("%s: %d failures %q, want %d", c.prefix, len(r.failures), r.failures, c.fails)
		}
	}
}
