package api_test

import (
	_ "embed"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata/wire")

// Seeds of testdata/seeds.
var (
	//go:embed testdata/seeds/town.yaml
	town string
	//go:embed testdata/seeds/agency.yaml
	agency string
	//go:embed testdata/seeds/factory.yaml
	factory string
)

// TestWireTranscripts_Replay replays the transcripts of testdata/wire, which must call every endpoint.
// Behaviour(wire.answer.type) Behaviour(wire.answer.bare) Behaviour(wire.answer.hint)
// Behaviour(wire.answer.rid_time) Behaviour(wire.answer.plain).
func TestWireTranscripts_Replay(t *testing.T) {
	t.Parallel()
	paths := servertest.Transcripts{Folder: "testdata/wire", Update: *update, Seed: "town", Wire: true,
		Lines: map[string]func(*testing.T, *servertest.Server) string{"deviations": func(t *testing.T, s *servertest.Server) (line string) {
			for _, d := range listDeviations(t, s) {
				line += fmt.Sprintf(" [%s %s %s %d]", d.Behaviour, d.Account, d.Endpoint, d.Count)
			}
			return strings.TrimLeft(line, " ")
		}}}.Replay(t)
	if paths == nil {
		return
	}
	for _, path := range api.Paths() {
		assert.True(t, slices.Contains(paths, path),
			"no transcript calls %s: add its calls to a file of testdata/wire and run this test with -update", path)
	}
}
