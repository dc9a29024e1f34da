package scanapi_test

import (
	_ "embed"
	"flag"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

//go:embed testdata/seeds/town.yaml
var scanTown string

var update = flag.Bool("update", false, "rewrite the answers in testdata/calls")

// Both listeners answer alike.
func TestScanTranscripts_Replay(t *testing.T) {
	onBoth(t, func(t *testing.T, own bool) {
		servertest.Transcripts{Folder: "testdata/calls", Update: *update && !own, ScanListener: own}.Replay(t)
	})
}

// onBoth runs a test on the listener that everything shares, which is net/http, and on one for scans alone, which is the lane.
func onBoth(t *testing.T, test func(t *testing.T, own bool)) {
	t.Parallel()
	t.Run("shared", func(t *testing.T) { t.Parallel(); test(t, false) })
	t.Run("own", func(t *testing.T) { t.Parallel(); test(t, true) })
}
