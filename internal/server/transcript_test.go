package server_test

import (
	"flag"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/calls")

func TestServerTranscripts_Replay(t *testing.T) {
	t.Parallel()
	servertest.Transcripts{Folder: "testdata/calls", Update: *update}.Replay(t)
}
