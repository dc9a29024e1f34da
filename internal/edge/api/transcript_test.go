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

// The seeds of testdata/seeds.
var (
	//go:embed testdata/seeds/town.yaml
	town string
	//go:embed testdata/seeds/agency.yaml
	agency string
	//go:embed testdata/seeds/factory.yaml
	factory string
)

// Behaviour(wire.answer.type) Behaviour(wire.answer.bare) Behaviour(wire.answer.hint)
// Behaviour(wire.answer.rid_time) Behaviour(wire.answer.plain).
func TestWireTranscripts_Replay(t *testing.T) {
	t.Parallel()
	played := servertest.Transcripts{Folder: "testdata/wire", Update: *update, Seed: "town", Wire: true,
		Lines: map[string]func(*testing.T, *servertest.Server) string{"deviations": func(t *testing.T, s *servertest.Server) (line string) {
			for _, d := range reported(t, s) {
				line += fmt.Sprintf(" [%s %s %s %d]", d.Behaviour, d.Account, d.Endpoint, d.Count)
			}
			return strings.TrimLeft(line, " ")
		}}}.Replay(t)
	if played == nil {
		return
	}
	for _, path := range api.Paths() {
		family, _, _ := strings.Cut(path[1:], "/")
		assert.True(t, slices.Contains(played, path) || pending[family] != "",
			"no transcript calls %s: write its calls into a file of testdata/wire, and run this test with -update for the answers", path)
	}
}

// pending are families whose transcripts are not written yet.
var pending = map[string]string{
	"intp": "one item, one code: with the tests of that family",
	"sns":  "the login trade: with the tests of that family",
}
