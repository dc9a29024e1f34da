package api_test

import (
	_ "embed"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
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

// A transcript is blocks with an empty line between them. A line of a block is
//
//	# …             a comment
//	seed NAME       in the first line: the server's seed is testdata/seeds/NAME.yaml, and not town
//	reset           the emulator returns to the seed
//	clock TIME      the server's clock is set (RFC 3339)
//	log TEXT        the server's log has the text
//	deviations …    what callers deviated in: row, account, endpoint, number of calls
//	METHOD PATH [as=APPID]
//	Name: value     a header of the request
//	{…}             its body; \n at the end is a line feed
//	body TEXT       its body that does not begin with {
//	-> STATUS CONTENT-TYPE
//	{…}             the answer, to the byte
//
// and each line of a story that has no answer of its own (servertest.Server.Tell).
//
// Chance is seeded and the clock stands still, so tokens and request ids are
// the same in every run.
// Behaviour(wire.answer.type) Behaviour(wire.answer.bare) Behaviour(wire.answer.hint)
// Behaviour(wire.answer.rid_time) Behaviour(wire.answer.plain).
func TestWireTranscripts_Replay(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txt")
	require.NoError(t, err)
	var played []string
	ran := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			ran++
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			seed := []byte(town)
			if name, named := strings.CutPrefix(strings.SplitN(string(want), "\n", 2)[0], "seed "); named {
				seed, err = os.ReadFile("testdata/seeds/" + name + ".yaml")
				require.NoError(t, err)
			}
			p := &player{t: t, s: servertest.Start(t, servertest.Options{Seed: string(seed)}), taken: map[string]string{}}
			p.s.Reseed()
			got := p.play(string(want))
			played = append(played, p.paths...)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range gotLines {
				if i >= len(wantLines) || gotLines[i] != wantLines[i] {
					t.Fatalf("%s:%d\ngot  %s\nwant %s", file, i+1, gotLines[i], wantLines[min(i, len(wantLines)-1)])
				}
			}
		})
	}
	if ran < len(files) {
		return // -run asked for some of them
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

type player struct {
	t     *testing.T
	s     *servertest.Server
	paths []string
	last  servertest.Answer
	taken map[string]string
}

var requestLine = regexp.MustCompile(`^[A-Z]+ /`)

// play sends what a transcript says and returns it with the answers that came.
func (p *player) play(text string) string {
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var kept, header []string
		var request, body string
	lines:
		for line := range strings.SplitSeq(block, "\n") {
			switch {
			case request == "" && strings.HasPrefix(line, "#"):
			case request == "" && requestLine.MatchString(line):
				request = line
			case request == "":
				line = p.say(line)
			case strings.HasPrefix(line, "->"):
				break lines
			case strings.HasPrefix(line, "{"):
				body = line
				if cut, ended := strings.CutSuffix(body, `\n`); ended {
					body = cut + "\n"
				}
			case strings.HasPrefix(line, "body "):
				body = strings.TrimPrefix(line, "body ")
			default:
				header = append(header, line)
			}
			kept = append(kept, line)
		}
		if request != "" {
			p.send(servertest.Fill(request, p.taken), servertest.Fill(body, p.taken), header)
			kept = append(kept, fmt.Sprintf("-> %d %s", p.last.Status, p.last.Header.Get("Content-Type")))
			if answer := p.steady(strings.TrimSuffix(p.last.Body, "\n")); answer != "" {
				kept = append(kept, answer)
			}
		}
		blocks = append(blocks, strings.Join(kept, "\n"))
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

// drawn are the parts of an answer that a scan draws, and of the answers after it, which the log of scans draws beside.
var (
	drawn      = regexp.MustCompile(`("scan_id":"|code_ticket=)[0-9a-f]{32}`)
	drawnAfter = regexp.MustCompile(`( rid: [0-9a-f]{8}-)[0-9a-f]{8}-[0-9a-f]{8}|( hint: \[)[0-9A-Za-z]+`)
)

// steady returns an answer without what differs from run to run.
func (p *player) steady(answer string) string {
	if !slices.Contains(p.paths, "/scan/v1/resolve") {
		return answer
	}
	return drawnAfter.ReplaceAllString(drawn.ReplaceAllString(answer, "$1…"), "$1$2…")
}

// say does what a line without an answer says, and returns the line as it is so.
func (p *player) say(line string) string {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "seed":
	case "reset":
		p.s.Renew(p.t)
	case "clock":
		p.s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, rest))
	case "log":
		assert.True(p.t, strings.Contains(p.s.Log(), rest), "the log does not have %q", rest)
	case "deviations":
		line = word
		for _, d := range reported(p.t, p.s) {
			line += fmt.Sprintf(" [%s %s %s %d]", d.Behaviour, d.Account, d.Endpoint, d.Count)
		}
	default:
		p.last = p.s.TellLine(line, p.last, p.taken, nil)
	}
	return line
}

func (p *player) send(request, body string, header []string) {
	part := strings.Fields(request)
	path := part[1]
	platform := !strings.HasPrefix(path, "/admin/") && !strings.HasPrefix(path, "/scan/")
	p.paths = append(p.paths, "/"+strings.TrimLeft(strings.SplitN(path, "?", 2)[0], "/"))
	if len(part) == 3 {
		appid, _ := strings.CutPrefix(part[2], "as=")
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "access_token=" + p.s.Token(appid)
	}
	r := p.s.Request(part[0], servertest.Unfold(path), servertest.Unfold(body), header...)
	if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "User-Agent:") }) {
		r.Header.Set("User-Agent", "")
	}
	p.last = p.s.Send(r)
	assert.True(p.t, p.last.Status == http.StatusOK || !platform, "%s answers %d, want 200", request, p.last.Status)
	if strings.HasPrefix(p.last.Header.Get("Content-Type"), "image/") {
		p.last.Body = "{a picture}"
	}
}
