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

// PlayStartLines runs the lines that the first page of a server shows a browser for an SDK. id is the id of the block on the
// page; program completes the unmodified lines to a minimal program. The program must exit with 0, the server must answer the
// call, a path, with errcode 0, and no call of the program may fail.
func PlayStartLines(t *testing.T, id, call string, program func(lines string) *exec.Cmd) {
	t.Helper()
	s := startForLines(t)
	lines := s.startLines(t, id)
	if n := strings.Count(lines, "\n") + 1; n != 3 {
		t.Errorf("the first page has %d lines for %s, want 3:\n%s", n, id, lines)
	}
	before := s.lastCall(t)

	ctx, cancel := context.WithTimeout(t.Context(), serverTimeout)
	defer cancel()
	command := program(lines)
	cmd := exec.CommandContext(ctx, command.Path, command.Args[1:]...)
	cmd.Dir = t.TempDir() // some libraries store their token there
	cmd.Env = append(append(environ(), command.Env...), "HOME="+cmd.Dir, "NO_PROXY=*", "no_proxy=*")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("program with the lines for %s: %v\n%s\n%s", id, err, out, lines)
	}
	succeeded := false
	for _, c := range s.calls(t, "1000") {
		if c.RID == before {
			break
		}
		path, _, _ := strings.Cut(c.URL, "?")
		succeeded = succeeded || path == call && c.ErrCode == 0
		if c.ErrCode != 0 {
			t.Errorf("lines for %s: errcode of %s = %d, want 0", id, path, c.ErrCode)
		}
	}
	if !succeeded {
		t.Errorf("no successful call of %s from the lines for %s:\n%s\n%s", call, id, out, lines)
	}
}

// startForLines returns a server without a recorder, because its first page contains its own address.
func startForLines(t *testing.T) *Server {
	if os.Getenv("QRJUMP_URL") != "" {
		return Start(t)
	}
	return start(t, t.TempDir())
}

// startLines returns the text of a block of the first page, as a browser displays it.
func (s *Server) startLines(t *testing.T, id string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.directURL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	resp, err := s.httpClient().Do(r)
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
		t.Fatalf("GET / = %s, without lines for %s:\n%s", resp.Status, id, page)
	}
	return html.UnescapeString(string(block[1]))
}
