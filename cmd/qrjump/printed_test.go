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

// copyist is a shell of a person who copies what is printed, in a folder of their own with a server for developers.
type copyist struct {
	t    *testing.T
	dir  string
	env  []string
	lang string
	// operator is a client of the server.
	operator *client.Client
	printedTables
	found map[string]string // what stands for something that only this run has
}

// newCopyist starts the server.
func newCopyist(t *testing.T, language string) *copyist {
	t.Helper()
	c := &copyist{t: t, dir: t.TempDir(), lang: language}
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
	require.True(t, ready, "%v", server.Log())
	t.Cleanup(func() { _, _ = server.Stop() })
	c.env = append(c.env, "QRJUMP_SERVER="+url)
	var err error
	c.operator, err = client.New(url, client.Options{})
	require.NoError(t, err)
	return c
}

// types runs a line in a shell.
func (c *copyist) types(line string, env ...string) (code int, out, says string) {
	c.t.Helper()
	cmd := exec.Command("bash", "-c", line)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdin = c.dir, append(slices.Clone(c.env), env...), strings.NewReader("correct-Horse-7-stapler\n")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		_, ended := errors.AsType[*exec.ExitError](err)
		require.True(c.t, ended, "%v", err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// works types a line that has to work.
func (c *copyist) works(line string, env ...string) (out string) {
	c.t.Helper()
	code, out, says := c.types(line, env...)
	assert.True(c.t, code == 0, "in %s, %s = %d %s, want 0", c.lang, line, code, says)
	return out
}

// writes makes a file in the folder.
func (c *copyist) writes(name, text string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600))
}

// printedCommand is a command in a text; words in capitals at its end stand for something.
var printedCommand = regexp.MustCompile(`qrjump [a-z][^：（；。\n]*`)

// What is printed first, by start and as the next step of errors, is typed as it stands, placeholders filled.
func TestPrintedCommands_Work(t *testing.T) {
	needs(t, "bash")
	for _, language := range testscope.Choose([]string{"en", "zh"}, []string{"en"}) {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			c := newCopyist(t, language)
			// What is printed first; its server runs.
			first, _ := catalog.In(reader(language).language()).Say("start.first")
			typed := 0
			for line := range strings.Lines(first) {
				if command := strings.TrimSpace(line); strings.HasPrefix(command, "qrjump ") && strings.HasPrefix(line, "     ") &&
					command != "qrjump serve --dev" {
					typed++
					c.works(command)
				}
			}
			assert.True(t, typed == 3, "%d commands were typed of %s", typed, first)
			// What start runs, and what it says next, where it made the keys and where they were there before.
			fill := strings.NewReplacer("PREFIX", "https://tour.example/more/", "PAGE", "pages/more/more", "KEYFILE", "wxbrand.key",
				"SECRETFILE", "wxbrand.secret")
			for _, start := range []string{"qrjump start rules wxshop --prefix https://tour.example/t/",
				"qrjump start codes wxbrand --target wxmini --title Beans --product-code 6901234567892",
				"mv wxbrand.key kept.key; mv wxbrand.secret kept.secret; qrjump start codes wxbrand --title Beans --product-code 6901234567892"} {
				out := c.works(start)
				c.types("test -e kept.key && { mv kept.key wxbrand.key; mv kept.secret wxbrand.secret; }")
				_, next, _ := strings.Cut(out, "proof.svg")
				found := printedCommand.FindAllString(next[strings.LastIndex(next, "proof.svg")+1:], -1)
				assert.True(t, len(found) != 0, "%s says nothing next: %s", start, out)
				for _, command := range found {
					command, _, _ = strings.Cut(fill.Replace(command), " (")
					c.works(strings.Replace(command, "qrjump label", "qrjump label --dry-run", 1))
				}
			}
			// The next step of an error, and of a rule that is not published yet.
			for _, wrong := range []string{"qrjump scan https://none.tour.example/", "qrjump account show none",
				"qrjump webhook delete 99 --yes",
				"qrjump setting list none", "qrjump person delete none --yes", "qrjump admin-key delete none --yes",
				"qrjump scan-key delete none --yes", "qrjump snapshot load none --yes", "qrjump component show none",
				"qrjump api deleteDomain host=none.example --yes", "qrjump context set none --current",
				"qrjump batch show 99 --appid wxbrand --secret SECRET",
				"qrjump behaviour list none", "qrjump api deleteScanNode node=none --yes", "qrjump rule add",
				"qrjump rule delete https://none.tour.example/ --yes --appid wxshop --secret SECRET",
				"qrjump rule add https://tour.example/new/ p/p --appid wxshop --secret SECRET",
				"qrjump rule qr https://none.tour.example/ --out x.svg --appid wxshop --secret SECRET"} {
				secret := "wxshop.secret"
				if strings.Contains(wrong, "wxbrand") {
					secret = "wxbrand.secret"
				}
				filled := strings.NewReplacer("SECRET", `"$(cat `+secret+`)"`)
				_, out, says := c.types(filled.Replace(wrong))
				found := printedCommand.FindAllString(out+says, -1)
				if len(found) == 0 {
					t.Errorf("%s names no next step: %s%s", wrong, out, says)
					continue
				}
				c.works(filled.Replace(strings.TrimRight(found[len(found)-1], ") ")), "QRJUMP_APPID=wxshop",
					"QRJUMP_SECRET="+c.read("wxshop.secret"))
			}
		})
	}
}

// The welcome of a server at a terminal is in its reader's language, and its lines can be pasted.
func TestWelcome_CanBePasted(t *testing.T) {
	needs(t, "bash", "curl", "script")
	for language, heading := range map[string]string{"en": "  console    http", "zh": "  控制台     http"} {
		c := &copyist{t: t, dir: t.TempDir(), lang: language, env: append(os.Environ(), "QRJUMP_LANG="+language)}
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
		typed := 0
		for line := range strings.Lines(welcome.String()) {
			if command := strings.TrimSpace(line); strings.HasPrefix(command, "curl ") {
				typed++
				if answer := c.works(command); !strings.Contains(answer, `"errcode":0`) && !strings.Contains(answer, `"action":`) {
					t.Errorf("%s answers %s", command, answer)
				}
			}
		}
		assert.True(t, typed == 5 && strings.Contains(welcome.String(), heading),
			"the welcome in %s has %d lines to paste: %s", language, typed, welcome.String())
		assert.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
}

func (c *copyist) read(name string) string {
	text, err := os.ReadFile(filepath.Join(c.dir, name))
	require.NoError(c.t, err)
	return strings.TrimSpace(string(text))
}
