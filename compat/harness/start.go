package harness

import (
	"context"
	"html"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// PlayStartLines takes the lines that the first page of a server shows a browser for an SDK, to the letter, and runs a
// program of them: id is the block's on the page, program puts the least around the lines that makes them a program. It
// must end well, and the server must have answered the call, a path, with 0, and nothing else that the program asked.
func PlayStartLines(t *testing.T, id, call string, program func(lines string) *exec.Cmd) {
	t.Helper()
	s := startForLines(t)
	lines := s.startLines(t, id)
	if n := strings.Count(lines, "\n") + 1; n != 3 {
		t.Errorf("the first page shows %d lines for %s, want three:\n%s", n, id, lines)
	}
	before := s.lastCall(t)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	made := program(lines)
	play := exec.CommandContext(ctx, made.Path, made.Args[1:]...)
	play.Dir = t.TempDir() // where some libraries keep their token
	play.Env = append(append(foreignEnviron(), made.Env...), "HOME="+play.Dir, "NO_PROXY=*", "no_proxy=*")
	out, err := play.CombinedOutput()
	if err != nil {
		t.Errorf("a program of the lines for %s ends with %v:\n%s\n%s", id, err, out, lines)
	}
	answered := false
	for _, made := range s.calls(t, "1000") {
		if made.RID == before {
			break
		}
		path, _, _ := strings.Cut(made.URL, "?")
		answered = answered || path == call && made.ErrCode == 0
		if made.ErrCode != 0 {
			t.Errorf("the server answered %s, which the lines for %s call, with %d", path, id, made.ErrCode)
		}
	}
	if !answered {
		t.Errorf("no call of %s that the server answered with 0 came from the lines for %s:\n%s\n%s", call, id, out, lines)
	}
}

// startForLines is the server of the lines. No recorder is before it: its first page names its own address.
func startForLines(t *testing.T) *Server {
	if os.Getenv("QRJUMP_URL") != "" {
		return Start(t)
	}
	return start(t, t.TempDir())
}

// startLines is the text of a block of the first page, as a browser shows it.
func (s *Server) startLines(t *testing.T, id string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.own+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	resp, err := s.caller().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?s) id="` + regexp.QuoteMeta(id) + `">(.*?)</code>`).FindSubmatch(page)
	if block == nil {
		t.Fatalf("GET / answers %s, and its page has no lines for %s:\n%s", resp.Status, id, page)
	}
	return html.UnescapeString(string(block[1]))
}
