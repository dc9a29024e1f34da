package scanapi_test

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/qrjumptest"
)

// vector is a case of docs/contract/match-vectors.json.
type vector struct {
	Rules []struct {
		Prefix string
		State  int
		Owner  string
	}
	Link string
	Want *string
	Why  string
}

// TestScanAPI_MatchVectors scans the link of each vector of the contract against the rules of the vector.
// Behaviour(scan.match.path) Behaviour(scan.match.below) Behaviour(scan.match.query)
// Behaviour(scan.match.origin) Behaviour(scan.match.service) Behaviour(scan.order).
func TestScanAPI_MatchVectors(t *testing.T) {
	raw := require.Value(os.ReadFile("../../../docs/contract/match-vectors.json"))(t)
	var file struct{ Vectors []vector }
	require.NoError(t, json.Unmarshal(raw, &file))
	require.True(t, len(file.Vectors) >= 25, "%d vectors, want at least 25", len(file.Vectors))
	srv := qrjumptest.Start(t, qrjumptest.Seed(`
accounts:
  - {appid: A, kind: mini_program, secret: a, certified: true, versions: [release]}
  - {appid: B, kind: mini_program, secret: b, certified: true, versions: [release]}
  - {appid: service, kind: service_account, secret: s, certified: true, linked: [A]}
`))
	for _, v := range file.Vectors {
		t.Run(v.Why, func(t *testing.T) {
			var seed strings.Builder
			seed.WriteString("rules:\n")
			for _, r := range v.Rules {
				fmt.Fprintf(&seed, "  - {owner: %s, prefix: %q, path: pages/p, published: %v", r.Owner, r.Prefix, r.State == 2)
				if r.Owner == "service" {
					seed.WriteString(", appid: A")
				}
				seed.WriteString("}\n")
			}
			srv.Reset()
			seeded, err := srv.Operator().Emulator.Seed(t.Context(), seed.String())
			require.True(t, err == nil && seeded.Applied, "Seed: applied %v, %v\n%s", seeded.Applied, err, &seed)
			d := srv.Scan(v.Link)
			switch {
			case v.Want == nil && (d.Action != "open_url" || d.URL != v.Link):
				t.Errorf("scan of %s = %+v, want the web page", v.Link, d)
			case v.Want != nil && (d.Action != "open_mini_program" || d.Matched.Prefix != *v.Want):
				t.Errorf("scan of %s = %+v, want the rule %s", v.Link, d, *v.Want)
			}
		})
	}
}

//go:embed testdata/seeds/town.yaml
var townSeed string

var update = flag.Bool("update", false, "rewrite the answers in testdata/calls")

// TestScanTranscripts_Replay replays the transcripts of testdata/calls on both listeners.
func TestScanTranscripts_Replay(t *testing.T) {
	onBothListeners(t, func(t *testing.T, dedicated bool) {
		servertest.Transcripts{Folder: "testdata/calls", Update: *update && !dedicated, ScanListener: dedicated}.Replay(t)
	})
}

// onBothListeners runs a test on the shared listener, which is net/http, and on the listener for scans, which is the fast path.
func onBothListeners(t *testing.T, test func(t *testing.T, dedicated bool)) {
	t.Parallel()
	t.Run("shared", func(t *testing.T) { t.Parallel(); test(t, false) })
	t.Run("own", func(t *testing.T) { t.Parallel(); test(t, true) })
}
