package api_test

import (
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

// A transcript is blocks with an empty line between them. A line of a block is
//
//	# …             a comment
//	clock TIME      the server's clock is set (RFC 3339)
//	admin METHOD PATH [BODY]
//	take NAME PATTERN   what the pattern's group finds in the answer before
//	                    stands for <NAME> in paths and bodies from here on
//	METHOD PATH [as=APPID]
//	Name: value     a header of the request
//	{…}             its body; \n at the end is a line feed
//	-> STATUS CONTENT-TYPE
//	{…}             the answer, to the byte
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
			seed := town
			if strings.HasPrefix(filepath.Base(file), "component_") {
				seed = agency
			}
			p := &player{t: t, s: servertest.Start(t, servertest.Options{Seed: seed})}
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
	last  string            // the answer before
	taken map[string]string // by <NAME>
}

// fill puts what was taken into a path or a body.
func (p *player) fill(text string) string {
	for name, value := range p.taken {
		text = strings.ReplaceAll(text, name, value)
	}
	return text
}

func (p *player) take(name, pattern string) {
	found := regexp.MustCompile(pattern).FindStringSubmatch(p.last)
	require.True(p.t, found != nil, "no %s in %s", pattern, p.last)
	if p.taken == nil {
		p.taken = map[string]string{}
	}
	p.taken["<"+name+">"] = found[1]
}

// play sends what a transcript says and returns it with the answers that came.
func (p *player) play(text string) string {
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		var kept, header []string
		var request, body string
		for line := range strings.SplitSeq(block, "\n") {
			word, rest, _ := strings.Cut(line, " ")
			switch {
			case request == "" && strings.HasPrefix(line, "#"):
			case request == "" && word == "clock":
				p.s.Admin("PUT", "/emulator/clock", fmt.Sprintf(`{"now":%q}`, rest))
			case request == "" && word == "admin":
				part := append(strings.SplitN(p.fill(rest), " ", 3), "")
				p.last = p.s.Admin(part[0], part[1], part[2]).Body
			case request == "" && word == "take":
				name, pattern, _ := strings.Cut(rest, " ")
				p.take(name, pattern)
			case request == "" && (word == "GET" || word == "POST" || word == "PUT"):
				request = line
			case strings.HasPrefix(line, "->"):
				goto answered
			case strings.HasPrefix(line, "{"):
				body = line
				if cut, ended := strings.CutSuffix(body, `\n`); ended {
					body = cut + "\n"
				}
			case request != "" && strings.HasSuffix(word, ":"):
				header = append(header, line)
			default:
				p.t.Fatalf("what is %q?", line)
			}
			kept = append(kept, line)
		}
	answered:
		if request != "" {
			a := p.send(p.fill(request), p.fill(body), header)
			p.last = a.Body
			assert.Equal(p.t, a.Status, http.StatusOK, "%s", request)
			if strings.HasPrefix(a.Header.Get("Content-Type"), "image/") {
				a.Body = "{a picture}"
			}
			kept = append(kept, fmt.Sprintf("-> %d %s", a.Status, a.Header.Get("Content-Type")), strings.TrimSuffix(a.Body, "\n"))
		}
		blocks = append(blocks, strings.Join(kept, "\n"))
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

func (p *player) send(request, body string, header []string) servertest.Answer {
	part := strings.Fields(request)
	path := part[1]
	p.paths = append(p.paths, "/"+strings.TrimLeft(strings.SplitN(path, "?", 2)[0], "/"))
	if len(part) == 3 {
		appid, _ := strings.CutPrefix(part[2], "as=")
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		path += join + "access_token=" + p.s.Token(appid)
	}
	r := p.s.Request(part[0], path, body, header...)
	if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(h, "User-Agent:") }) {
		r.Header.Set("User-Agent", "")
	}
	return p.s.Send(r)
}
