package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/proctest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// shell runs printed commands like a user: in bash, in a separate folder, with a development server.
type shell struct {
	t    *testing.T
	dir  string
	env  []string
	lang string
	// operator is a client of the server.
	operator *client.Client
	printedTables
	vars map[string]string // placeholders with values of this run
}

// newShell starts a development server and returns a shell for it.
func newShell(t *testing.T, language string) *shell {
	t.Helper()
	c := &shell{t: t, dir: t.TempDir(), lang: language}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "QRJUMP_") {
			c.env = append(c.env, entry)
		}
	}
	c.env = append(c.env, "LC_ALL=C", "QRJUMP_LANG="+language, "QRJUMP_CONTEXTS="+filepath.Join(c.dir, "contexts.yaml"))
	cmd := exec.Command("qrjump", "serve", "--dev", "--listen", "127.0.0.1:0")
	cmd.Dir, cmd.Env = c.dir, c.env
	server := proctest.Start(t, cmd)
	url, ready := server.Ready()
	require.True(t, ready, "the server is not ready: %s", server.Log())
	t.Cleanup(func() { _, _ = server.Stop() })
	c.env = append(c.env, "QRJUMP_SERVER="+url)
	c.operator = require.Value(client.New(url, client.Options{}))(t)
	return c
}

// run runs a line in bash.
func (c *shell) run(line string, env ...string) (code int, out, errs string) {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", line)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin = c.dir, append(slices.Clone(c.env), env...), strings.NewReader("correct-Horse-7-stapler\n")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		_, ok := errors.AsType[*exec.ExitError](err)
		require.True(c.t, ok, "bash -c %q: %v", line, err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// mustRun runs a line that must end with 0, and returns its standard output.
func (c *shell) mustRun(line string, env ...string) string {
	c.t.Helper()
	code, out, errs := c.run(line, env...)
	assert.True(c.t, code == 0, "in %s, %s: exit %d, want 0: %s", c.lang, line, code, errs)
	return out
}

// writeFile writes a file of the folder.
func (c *shell) writeFile(name, text string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600))
}

// printedCommand matches a command in a text. Words in capitals are placeholders.
var printedCommand = regexp.MustCompile(`qrjump [a-z][^：（；。\n]*`)

// TestPrintedCommands_Work runs the commands that errors name as the next step, with the values that the error fills in.
func TestPrintedCommands_Work(t *testing.T) {
	requirePrograms(t, "bash")
	for _, language := range testscope.Select([]string{"en", "zh"}, []string{"en"}) {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			c := newShell(t, language)
			c.mustRun("qrjump start rules wxshop --prefix https://tour.example/t/")
			c.mustRun("qrjump start codes wxbrand --target wxmini --title Beans --product-code 6901234567892")
			// The next step of an error, and of an unpublished rule.
			for _, failing := range []string{"qrjump scan https://none.tour.example/", "qrjump account show none",
				"qrjump webhook delete 99 --yes", "qrjump setting list none", "qrjump person delete none --yes",
				"qrjump admin-key delete none --yes", "qrjump scan-key delete none --yes", "qrjump snapshot load none --yes",
				"qrjump component show none",
				"qrjump api deleteDomain host=none.example --yes", "qrjump context set none --current",
				"qrjump batch show 99 --appid wxbrand --secret SECRET", "qrjump behaviour list none",
				"qrjump api deleteScanNode node=none --yes", "qrjump rule add",
				"qrjump rule delete https://none.tour.example/ --yes --appid wxshop --secret SECRET",
				"qrjump rule add https://tour.example/new/ p/p --appid wxshop --secret SECRET",
				"qrjump rule qr https://none.tour.example/ --out x.svg --appid wxshop --secret SECRET"} {
				secret := "wxshop.secret"
				if strings.Contains(failing, "wxbrand") {
					secret = "wxbrand.secret"
				}
				fill := strings.NewReplacer("SECRET", `"$(cat `+secret+`)"`)
				_, out, errs := c.run(fill.Replace(failing))
				found := printedCommand.FindAllString(out+errs, -1)
				if len(found) == 0 {
					t.Errorf("%s prints no next command: %s%s", failing, out, errs)
					continue
				}
				c.mustRun(fill.Replace(strings.TrimRight(found[len(found)-1], ") ")), "QRJUMP_APPID=wxshop",
					"QRJUMP_SECRET="+c.readFile("wxshop.secret"))
			}
		})
	}
}

// TestWelcome_CanBePasted verifies that the welcome text of a server on a terminal is in the user's language, and that its curl commands
// work.
func TestWelcome_CanBePasted(t *testing.T) {
	requirePrograms(t, "bash", "curl", "script")
	for language, heading := range map[string]string{"en": "  console    http", "zh": "  控制台     http"} {
		c := &shell{t: t, dir: t.TempDir(), lang: language, env: append(os.Environ(), "QRJUMP_LANG="+language)}
		cmd := exec.Command("script", "-qefc", "exec qrjump serve --dev --listen 127.0.0.1:0", "/dev/null")
		cmd.Dir, cmd.Env = c.dir, c.env
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		require.NoError(t, err)
		var welcome strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "qrjump ready ") {
			welcome.WriteString(strings.TrimRight(lines.Text(), "\r") + "\n")
		}
		n := 0
		for line := range strings.Lines(welcome.String()) {
			if command := strings.TrimSpace(line); strings.HasPrefix(command, "curl ") {
				n++
				if response := c.mustRun(command); !strings.Contains(response, `"errcode":0`) && !strings.Contains(response, `"action":`) {
					t.Errorf("%s returns %s, want errcode 0 or an action", command, response)
				}
			}
		}
		assert.True(t, n == 5 && strings.Contains(welcome.String(), heading),
			"the welcome text in %s has %d curl commands, want 5 and %q: %s", language, n, heading, welcome.String())
		assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
}

func (c *shell) readFile(name string) string {
	text := require.Value(os.ReadFile(filepath.Join(c.dir, name)))(c.t)
	return strings.TrimSpace(string(text))
}
