package cassette_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

const (
	shop    = "wx1111222233334444"
	rival   = "wx2222333344445555"
	brand   = "wx3333444455556666"
	isv     = "wx4444555566667777"
	person  = "wx6666777788889999"
	theTown = `
accounts:
  - {appid: wx1111222233334444, kind: mini_program, open_platform: tea, name: Tea and more, secret: a1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
  - {appid: wx2222333344445555, kind: mini_program, secret: b1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
  - {appid: wx3333444455556666, kind: service_account, secret: c1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true,
     features: [marketcode], marketcode_key: 0123456789abcdef, linked: [wx1111222233334444]}
  - {appid: wx6666777788889999, kind: mini_program, subject: personal, secret: d1b2c3d4e5f60718293a4b5c6d7e8f90, certified: true, versions: [release]}
components:
  - {appid: wx4444555566667777, secret: e1b2c3d4e5f60718293a4b5c6d7e8f90, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
rules:
  - {owner: wx1111222233334444, prefix: "https://tea.example/old/", path: pages/old/old, published: true, test_links: ["https://tea.example/old/7?k=1"]}
settings: {verification: trust, rule_rate_limit: null, behaviours: {link.own_token_taken: allow}}
`
)

var secrets = map[string]string{shop: "a1b2c3d4e5f60718293a4b5c6d7e8f90", rival: "b1b2c3d4e5f60718293a4b5c6d7e8f90",
	brand: "c1b2c3d4e5f60718293a4b5c6d7e8f90", person: "d1b2c3d4e5f60718293a4b5c6d7e8f90", isv: "e1b2c3d4e5f60718293a4b5c6d7e8f90"}

// record starts a recorder in front of an upstream.
func record(t *testing.T, upstream string, now func() time.Time) (proxy string, out *testdiag.Buffer) {
	t.Helper()
	u := require.Value(url.Parse(upstream))(t)
	out = &testdiag.Buffer{}
	r := &cassette.Recorder{Upstream: u, Out: out, Log: slog.New(slog.DiscardHandler), Now: now, Timeout: time.Minute}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return s.URL, out
}

// lines parses the text of a cassette.
func lines(t *testing.T, text string) []cassette.Recorded {
	t.Helper()
	name := filepath.Join(t.TempDir(), "cassette.ndjson")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return require.Value(cassette.ReadFile(name))(t)
}

// compare plays a cassette on a new server.
func compare(t *testing.T, text string) cassette.Report {
	t.Helper()
	stage := cassette.NewStage(lines(t, text))
	s := servertest.Start(t, servertest.Options{Seed: string(stage.Seed()), Began: stage.Began(), Undeclared: true})
	reach := func(until time.Time) { s.Clock.Step(max(0, until.Sub(s.Clock.Now()))) }
	report, err := cassette.Compare(t.Context(), stage, cassette.Server{URL: s.URL, Token: servertest.AdminToken, Reach: reach})
	require.NoError(t, err)
	return report
}

// checkEqual compares a recording, and checks that there is no difference and that a number of calls is skipped.
func checkEqual(t *testing.T, text string, skipped int) {
	t.Helper()
	report := compare(t, text)
	for _, d := range report.Differences {
		t.Errorf("%+v\n%s", d, strings.Split(text, "\n")[d.Line-1])
	}
	assert.True(t, len(report.Skipped) == skipped, "skipped = %+v, want %d calls", report.Skipped, skipped)
}

// caller makes calls through a recorder.
type caller struct {
	t    *testing.T
	base string
	s    *servertest.Server
	last string
	done map[string]bool // called paths
}

func (c *caller) do(method, path, body string) string {
	c.t.Helper()
	var send io.Reader
	if body != "" {
		send = strings.NewReader(body)
	}
	req := require.Value(http.NewRequest(method, c.base+path, send))(c.t)
	if c.done == nil {
		c.done = map[string]bool{}
	}
	c.done[req.URL.Path] = true
	req.Header.Set("Content-Type", "application/json")
	resp := require.Value(http.DefaultClient.Do(req))(c.t)
	defer resp.Body.Close()
	answer := require.Value(io.ReadAll(resp.Body))(c.t)
	c.last = string(answer)
	return c.last
}

// field returns the value of a field of the last response.
func (c *caller) field(name string) string {
	c.t.Helper()
	found := regexp.MustCompile(`"` + name + `":"?([^",}]+)`).FindStringSubmatch(c.last)
	require.True(c.t, found != nil, "response = %s, want a field %s", c.last, name)
	return found[1]
}

func (c *caller) token(appid string) string {
	c.do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+secrets[appid], "")
	return c.field("access_token")
}

// callEverything makes the calls of testdata/everything.txt.
func (c *caller) callEverything() {
	text := require.Value(os.ReadFile("testdata/everything.txt"))(c.t)
	c.s.RunStory(string(text), servertest.Commands{
		"do": func(rest string) servertest.Answer {
			part := append(strings.SplitN(rest, " ", 3), "")
			return servertest.Answer{Body: c.do(part[0], part[1], part[2])}
		},
		"rest": func(token string) servertest.Answer {
			for _, e := range api.Describe() { // endpoints that the file does not call yet
				switch {
				case c.done[e.Path]:
				case e.Method == "GET":
					c.do("GET", e.Path+"?access_token="+token, "")
				default:
					c.do("POST", e.Path+"?access_token="+token, "{}")
				}
			}
			return servertest.Answer{}
		}})
}

// recordEverything returns a cassette with calls of all endpoints.
func recordEverything(t *testing.T) string {
	t.Helper()
	s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	(&caller{t: t, base: proxy, s: s}).callEverything()
	return out.String()
}

// TestCassette_WholeWireRoundTrip records calls of all endpoints, and verifies that a comparison with a new server has no difference.
func TestCassette_WholeWireRoundTrip(t *testing.T) {
	t.Parallel()
	text := recordEverything(t)
	report := compare(t, text)
	for _, d := range report.Differences {
		t.Errorf("line %d %s %s %s: platform %s, server %s (%v), want none\n%s", d.Line, d.Endpoint, d.Kind, d.Location, d.Platform,
			d.Server, d.Behaviours, strings.Split(text, "\n")[d.Line-1])
	}
	for _, s := range report.Skipped {
		if s.Endpoint != "/cgi-bin/user/info" {
			t.Errorf("line %d %s is skipped (words missing from docs/contract are masked): %s\n%s", s.Line, s.Endpoint, s.Reason,
				strings.Split(text, "\n")[s.Line-1])
		}
	}
	var called []string
	for _, line := range lines(t, text) {
		called = append(called, line.Path)
	}
	for _, path := range api.Paths() {
		assert.True(t, slices.Contains(called, path), "the run does not call %s: add a call to testdata/everything.txt", path)
	}
}
