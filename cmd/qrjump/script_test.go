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
	// testscript copies this program for the scripts. The copy must be on disk: a start from a folder in memory has 50 % more page faults
	// and takes a third more kernel time.
	self, _ := os.Executable() // testscript reports the error
	os.Setenv("TMPDIR", filepath.Dir(self))
	// The only difference to the program is the cost of a passphrase, which protects against guessing: a second and 256 MiB each.
	testscript.Main(englishTests{m}, map[string]func(){"qrjump": func() {
		os.Setenv("TMPDIR", temp)
		program(server.TestHooks{PassphraseWork: testscope.Select(0, 4)})
	}})
}

// englishTests runs tests with English output, independent of the machine's locale.
type englishTests struct{ *testing.M }

func (m englishTests) Run() int {
	os.Setenv("LC_ALL", "C")
	os.Setenv("TMPDIR", temp)
	return m.M.Run()
}

// TestScripts_AllStories runs the scripts of testdata/script with the real binary and real servers.
func TestScripts_AllStories(t *testing.T) {
	requirePrograms(t, "base64", "cat", "cut", "grep", "head", "ls", "mv", "rm", "sed", "sh", "sort", "tail", "tr", "wc")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[serverStateKey{}] = &serverState{until: t.Deadline}
			e.Setenv("TZ", "UTC") // the program prints times in the local time zone
			e.Setenv(testscope.Variable, os.Getenv(testscope.Variable))
			e.Setenv("GOGC", os.Getenv("GOGC")) // small heaps, as in scripts/test.sh
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": startServer, "halt": stopServer, "midmonth": midMonth, "fails": checkExitCode, "capture": captureVariables,
			"links": writeLines(linkLine), "many": writeLines(ruleLine)},
	})
}

// serverState is the running server of a script, nil if there is none, and the deadline of the test.
type serverState struct {
	server *proctest.Child
	until  func() (time.Time, bool)
}

// scriptT implements proctest.T for a script.
type scriptT struct {
	*testscript.TestScript
	*serverState
}

func (s scriptT) Cleanup(f func())            { s.Defer(f) }
func (s scriptT) Deadline() (time.Time, bool) { return s.until() }

type serverStateKey struct{}

// startServer implements the script command "server [flags]", by default "server --dev". It starts qrjump serve with the flags, waits for
// the ready line, and sets URL, QRJUMP_SERVER and ADDR (URL without its scheme).
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(serverStateKey{}).(*serverState)
	if neg || r.server != nil {
		ts.Fatalf("server: a server runs already, or the command is negated")
	}
	if len(args) == 0 {
		args = []string{"--dev"}
	}
	cmd := exec.Command(findBinary(ts), append([]string{"serve", "--listen", "127.0.0.1:0", "--data", ts.MkAbs("data")}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR"), "QRJUMP_SHUTDOWN_DELAY=" +
		cmp.Or(ts.Getenv("QRJUMP_SHUTDOWN_DELAY"), "0s"), testscope.Variable + "=" + os.Getenv(testscope.Variable),
		"GOGC=" + os.Getenv("GOGC")}
	if coverage := ts.Getenv("GOCOVERDIR"); coverage != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverage)
	}
	server := proctest.Start(scriptT{ts, r}, cmd)
	url, ready := server.Ready()
	if !ready {
		ts.Fatalf("server: the process ended before it was ready; its log:\n%s", server.Log())
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

// stopServer implements the script command "halt" ("stop" would end the script). It sends SIGTERM. The server must end with exit code 0 and
// without further output.
func stopServer(ts *testscript.TestScript, _ bool, _ []string) {
	r := ts.Value(serverStateKey{}).(*serverState)
	server := r.server
	if server == nil {
		ts.Fatalf("halt: no server runs")
	}
	r.server = nil
	rest, err := server.Stop()
	ts.Logf("log of the server:\n%s", server.Log())
	if err != nil || len(rest) > 0 {
		ts.Fatalf("the server ended with %v and printed %q after its ready line, want neither", err, rest)
	}
}

// noon is the time that "midmonth" sets, the same for all servers of a test run.
var noon = func() time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()+1, 15, 4, 0, 0, 0, time.UTC)
}()

// midMonth implements the script command "midmonth". It sets the emulator's clock to noon in the middle of the next month, so that neither
// the day nor the month ends during a script. It does not set the clock back.
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

// checkExitCode implements the script command "fails CODE program [args]": the program must end with this exit code.
func checkExitCode(ts *testscript.TestScript, neg bool, args []string) {
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

// captureVariables implements the script command "capture FILE REGEXP NAME…": it sets variables to the groups of a match in FILE.
func captureVariables(ts *testscript.TestScript, neg bool, args []string) {
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

// findBinary returns the path of the program that testscript installed.
func findBinary(ts *testscript.TestScript) string {
	for dir := range strings.SplitSeq(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		path := filepath.Join(dir, "qrjump")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("qrjump is not in PATH")
	return ""
}

// writeLines returns a script command "NAME FILE N" that writes a file with line(0) to line(N-1).
func writeLines(line func(i int) string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		var text strings.Builder
		for i := range n {
			text.WriteString(line(i) + "\n")
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text.String()), 0o600))
	}
}

// linkLine returns a link below the demo's rule.
func linkLine(i int) string { return fmt.Sprintf("https://coffee.example/t/%d", i+1) }

// ruleLine returns a rule of the demo's account in the format of rule import.
func ruleLine(i int) string {
	const format = `{"owner":"wxc0ffee0000000001","prefix":"https://tea.example/many/%d/","path":"pages/%d","published":%v}`
	return fmt.Sprintf(format, i, i, i%2 == 0)
}
