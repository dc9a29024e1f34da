package adminapi_test

import (
	"flag"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/calls")

// TestAdminTranscripts_Replay replays the transcripts of testdata/calls.
func TestAdminTranscripts_Replay(t *testing.T) {
	t.Parallel()
	servertest.Transcripts{Folder: "testdata/calls", Update: *update}.Replay(t)
}
