package server_test

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

//go:embed testdata/seeds/platform_and_accounts.yaml
var roundTripSeed string

// Each call runs at least minRuns times, and up to maxRuns times until its count is within the limit, because background jobs of the server
// and the preparation of statements on another connection add round trips.
const minRuns, maxRuns = 3, 500

// TestCalls_RoundTrips verifies that each call of testdata/round_trips.txt takes at most the given number of round trips to PostgreSQL,
// counted on the connection while the call runs. Calls of the rule API have a rate limit, which is counted in the database.
func TestCalls_RoundTrips(t *testing.T) {
	p := newPostgres(t)
	direct := p.database
	wire := dbtest.NewWire(t, p.database, nil)
	p.database = wire.URL
	s := p.start(t, servertest.Options{Seed: roundTripSeed, Config: func(c *server.Config) { c.Emulator = true }})
	key := s.NewKey("/scan-keys", `{"name":"app"}`)
	commands := servertest.Commands{
		"scan": func(rest string) servertest.Answer {
			call, body, _ := strings.Cut(rest, " ")
			return s.Send(s.Request("POST", "/scan/v1/"+call, body, "Authorization: Bearer "+key, "Content-Type: application/json"))
		},
		"cleared": func(table string) servertest.Answer {
			dbtest.Exec(t, direct, `DELETE FROM `+cmp.Or(table, "counters")) // the limit is ten a month
			return servertest.Answer{}
		},
	}
	vars := s.RunStoryFile("testdata/round_trips_before.txt")
	batch := require.Value(strconv.ParseInt(vars["batch"], 10, 64))(t)
	vars["text"] = s.CodeText(batch, 7)
	var table strings.Builder
	defer func() { t.Log("\n| call | round trips |\n| --- | --: |\n" + table.String()) }()
	text := require.Value(os.ReadFile("testdata/round_trips.txt"))(t)
	measured := map[string]bool{}
	for _, story := range strings.Split(string(text), "\n## ")[1:] {
		head, story, _ := strings.Cut(story, "\n")
		name, number, _ := strings.Cut(head, " ")
		limit, err := strconv.Atoi(number)
		require.NoErrorf(t, err, "%s", head)
		measured[name] = true
		minimum := -1
		for n := 1; n <= minRuns || n <= maxRuns && minimum > limit; n++ {
			numbers := strings.NewReplacer("%n", fmt.Sprint(n), "%5", fmt.Sprint(n%5), "%2", fmt.Sprint(n%2))
			lines := strings.Split(strings.TrimSpace(numbers.Replace(story)), "\n")
			var a servertest.Answer
			for _, line := range lines[:len(lines)-1] {
				a = s.RunStoryLine(line, a, vars, commands)
			}
			trips := wire.Count(func() { a = s.RunStoryLine(lines[len(lines)-1], a, vars, commands) })
			require.True(t, a.Status == 200 && (!strings.HasPrefix(name, "/") || strings.HasPrefix(a.Header.Get("Content-Type"),
				"image/") || a.Code(t) == 0), "%s: %d %s", name, a.Status, a.Body)
			if minimum < 0 || trips < minimum {
				minimum = trips
			}
		}
		fmt.Fprintf(&table, "| %s | %d |\n", name, minimum)
		assert.True(t, minimum <= limit, "%s: %d round trips, want at most %d", name, minimum, limit)
	}
	for _, path := range api.Paths() {
		assert.True(t, measured[path], "testdata/round_trips.txt lacks %s", path)
	}
}
