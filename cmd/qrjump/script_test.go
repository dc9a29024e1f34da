package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

var temp = os.TempDir()

func TestMain(m *testing.M) {
	// testscript copies this program for the scripts. It must lie on the disk: a start from a folder in memory has half as many page faults
	// again, a third more of the kernel's time.
	self, _ := os.Executable() // testscript reports the error
	os.Setenv("TMPDIR", filepath.Dir(self))
	// It is the program, but for what a passphrase costs: that is there against guesses, a second and 256 MiB each time.
	testscript.Main(inEnglish{m}, map[string]func(){"qrjump": func() {
		os.Setenv("TMPDIR", temp)
		program(server.TestHooks{PassphraseWork: testscope.Choose(0, 4)})
	}})
}

// inEnglish are tests of a program that speaks English, wherever they run.
type inEnglish struct{ *testing.M }

func (m inEnglish) Run() int {
	os.Setenv("LC_ALL", "C")
	os.Setenv("TMPDIR", temp)
	return m.M.Run()
}

// TestScripts_AllStories plays the stories: the real binary, a real server, nothing else.
func TestScripts_AllStories(t *testing.T) {
	needs(t, "base64", "cat", "cut", "grep", "head", "ls", "mv", "rm", "sed", "sh", "sort", "tail", "tr", "wc")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[runningKey{}] = &running{until: t.Deadline}
			e.Setenv("TZ", "UTC") // times are printed in the machine's zone
			e.Setenv(testscope.Variable, os.Getenv(testscope.Variable))
			e.Setenv("GOGC", os.Getenv("GOGC")) // small heaps, as in scripts/test.sh
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": startServer, "halt": stopServer, "midmonth": midMonth, "fails": fails, "capture": capture, "links": links,
			"many": manyRules},
	})
}

// running is the server of a script.
type running struct {
	server *proctest.Child
	until  func() (time.Time, bool)
}

// scripted is a script as the test of its server.
type scripted struct {
	*testscript.TestScript
	*running
}

func (s scripted) Cleanup(f func())            { s.Defer(f) }
func (s scripted) Deadline() (time.Time, bool) { return s.until() }

type runningKey struct{}

// startServer is the script command "server [flags]": it starts qrjump serve with these flags, waits for the ready line and sets URL,
// QRJUMP_SERVER and ADDR (without its scheme). Without flags it is "server --dev".
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(runningKey{}).(*running)
	if neg || r.server != nil {
		ts.Fatalf("server: one at a time, and it must start")
	}
	if len(args) == 0 {
		args = []string{"--dev"}
	}
	cmd := exec.Command(findQrjump(ts), append([]string{"serve", "--listen", "127.0.0.1:0", "--data", ts.MkAbs("data")}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR"), "QRJUMP_SHUTDOWN_DELAY=" +
		cmp.Or(ts.Getenv("QRJUMP_SHUTDOWN_DELAY"), "0s"), testscope.Variable + "=" + os.Getenv(testscope.Variable),
		"GOGC=" + os.Getenv("GOGC")}
	if coverage := ts.Getenv("GOCOVERDIR"); coverage != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverage)
	}
	server := proctest.Start(scripted{ts, r}, cmd)
	url, ready := server.Ready()
	if !ready {
		ts.Fatalf("server: it ended before it was ready; its log:\n%s", server.Log())
	}
	r.server = server
	ts.Defer(func() {
		if r.server != nil {
			stopServer(ts, false, nil)
		}
	})
	ts.Setenv("URL", url)
	ts.Setenv("QRJUMP_SERVER", url)
	_, address, _ := strings.Cut(url, "://")
	ts.Setenv("ADDR", address)
}

// stopServer is the script command "halt" ("stop" would end the script): SIGTERM, which must end the server
// with 0 and nothing more on standard output.
func stopServer(ts *testscript.TestScript, _ bool, _ []string) {
	r := ts.Value(runningKey{}).(*running)
	server := r.server
	if server == nil {
		ts.Fatalf("halt: no server runs")
	}
	r.server = nil
	rest, err := server.Stop()
	ts.Logf("log of the server:\n%s", server.Log())
	if err != nil || len(rest) > 0 {
		ts.Fatalf("the server ended with %v and printed %q after its ready line", err, rest)
	}
}

// noon is what "midmonth" shows. It is one moment for all servers of a run.
var noon = func() time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()+1, 15, 4, 0, 0, 0, time.UTC)
}()

// midMonth is the script command "midmonth": it moves the emulator's clock to noon in the middle of the next month, for stories whose days
// or months must not end while they are told. A clock that is there already stays.
func midMonth(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: midmonth")
	}
	token, err := os.ReadFile(ts.MkAbs("data/admin-token"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ts.Fatalf("midmonth: %v", err)
	}
	c, err := client.New(ts.Getenv("URL"), client.Options{AdminToken: strings.TrimSpace(string(token))})
	ts.Check(err)
	clock, err := c.Emulator.GetClock(context.Background())
	ts.Check(err)
	if clock.Now.Before(noon) {
		ts.Check(c.Emulator.SetClock(context.Background(), noon))
	}
}

// fails is the script command "fails CODE program [args]": it must end with exactly this exit code.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE program [args]")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want, err := strconv.Atoi(args[0]); err != nil || code != want {
		ts.Fatalf("got exit code %d, want %s", code, args[0])
	}
}

// capture implements the command "capture FILE REGEXP NAME…": it sets variables to the groups of a match in a file or in stdout.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: capture FILE REGEXP NAME...")
	}
	names := args[2:]
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile(args[0]))
	if len(found) != len(names)+1 {
		ts.Fatalf("capture: %d groups found, want %d", len(found)-1, len(names))
	}
	for i, name := range names {
		ts.Setenv(name, found[i+1])
	}
}

// findQrjump is where testscript put the binary.
func findQrjump(ts *testscript.TestScript) string {
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		path := filepath.Join(dir, "qrjump")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("qrjump is not in PATH")
	return ""
}

// links writes so many links of the demo's rule, one a line.
func links(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "https://coffee.example/t/%d\n", i+1)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text.String()), 0o600))
}

// manyRules is the script command "many FILE N": so many rules of the demo's account, as rule import reads them.
func manyRules(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"owner":"wxc0ffee0000000001","prefix":"https://tea.example/many/%d/","path":"pages/%d","published":%v}`+"\n",
			i, i, i%2 == 0)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text.String()), 0o600))
}
