package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/docs"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// block is one of a page's blocks of commands.
type block struct {
	line   int
	info   string
	script string
}

func blocks(text string) (list []block) {
	open := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && open:
			open = false
		case strings.HasPrefix(line, "```"):
			open = true
			list = append(list, block{line: i + 1, info: strings.TrimPrefix(line, "```")})
		case open:
			list[len(list)-1].script += line + "\n"
		}
	}
	return list
}

// notRun are how many blocks may be left out. A page says under the block why.
const notRun = 8

// needs leaves a test out where a program that it runs is not installed.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not here: install it, for example by scripts/install-test-deps.sh", program)
		}
	}
}

// freePort is a port of the loopback address on which nobody listens. It is below those that a system gives to whoever
// asks for any, so that no connection of another test takes it before it is used.
func freePort(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		port := strconv.Itoa(10_000 + rand.IntN(22_000))
		var l net.Listener
		if l, err = net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port: ", err)
	return ""
}

// wants says which programs a block needs that this machine does not have.
func wants(how string) (missing []string) {
	list, needs := strings.CutPrefix(how, "needs=")
	if !needs {
		return nil
	}
	for tool := range strings.SplitSeq(list, ",") {
		if _, err := exec.LookPath(tool); err != nil || tool == "unshare" && exec.Command("unshare", "-rmn", "true").Run() != nil {
			missing = append(missing, tool)
		}
	}
	return missing
}

// TestGuidePages_CommandBlocksRun runs every block of commands of the guide, page by page, as a reader
// would: in one shell, on servers that the page itself starts. A page with blocks of "sh production" is run a second time on
// the server that they start, with split listeners and without --dev. Chinese pages have the same commands, which package
// guide holds. The pages of calls share a server.
func TestGuidePages_CommandBlocksRun(t *testing.T) {
	needs(t, "bash", "curl", "openssl", "grep", "head", "rm", "sed")
	left := 0
	calls := map[string]string{}
	require.NoError(t, fs.WalkDir(docs.Pages, "en", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(docs.Pages, name)
		if err != nil {
			return err
		}
		run := false
		for _, b := range blocks(string(text)) {
			kind, how, _ := strings.Cut(b.info, " ")
			reason, skip := strings.CutPrefix(how, "not-run=")
			switch {
			case kind == "sh" && skip && reason != "":
				left++
			case kind == "sh" && (how == "production" || how == "dev"):
			case kind == "sh" && (how == "" || how == "serve" || strings.HasPrefix(how, "needs=")):
				run = true
				if missing := wants(how); missing != nil {
					t.Logf("%s:%d: not run here, for want of %q", name, b.line, missing)
				}
			case kind == "sh" || kind == "bash" || kind == "console" || kind == "":
				t.Errorf("%s:%d: a block of %q: commands are sh, sh serve, sh dev, sh production, sh needs=PROGRAM or sh not-run=REASON; answers are text, json or yaml",
					name, b.line, b.info)
			}
		}
		switch name := strings.TrimSuffix(name, ".md"); {
		case !run:
		case strings.HasPrefix(name, "en/calls/"):
			calls[strings.TrimPrefix(name, "en/calls/")] = string(text)
		default:
			t.Run(name, func(t *testing.T) { t.Parallel(); playPage(t, string(text)) })
			top, _, _ := strings.Cut(string(text), "\n## ")
			switch {
			case strings.Contains(string(text), "\n```sh production\n"):
				t.Run(name+" in production", func(t *testing.T) { t.Parallel(); playPage(t, inProduction(t, string(text))) })
			case strings.HasPrefix(name, "en/how/") && strings.Contains(string(text), "--dev\n```") &&
				!strings.Contains(top, "servers with `--dev`"):
				t.Errorf("%s has no block of sh production, and its first paragraphs do not say that it is for servers with --dev", name)
			}
		}
		return nil
	}))
	assert.True(t, left <= notRun, "%d blocks are not run, more than %d", left, notRun)
	t.Run("calls", func(t *testing.T) {
		t.Parallel()
		pages := calls
		var all strings.Builder
		all.WriteString("```sh serve\nqrjump serve --dev\n```\n")
		for _, name := range slices.Sorted(maps.Keys(pages)) {
			all.WriteString("```sh\ncurl -sf -o reset.json -X POST http://127.0.0.1:8080/admin/v1/emulator/reset\necho '== " + name + "'\n```\n" + pages[name])
		}
		tr := playPage(t, all.String())
		for name, page := range pages {
			_, rest, found := strings.Cut(tr, "== "+name+"\n")
			answer, _, _ := strings.Cut(rest, "\n== ")
			lines := strings.Split(strings.TrimSpace(answer), "\n")
			answered := map[string]any{}
			_, saved, _ := strings.Cut(page, "curl -s -o code.jpg")
			if saved != "" && found {
				continue // a picture
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &answered); err != nil || !found {
				t.Errorf("%s: %v: %s", name, err, answer)
				continue
			}
			_, table, _ := strings.Cut(page, "\n## Response\n")
			table, _, _ = strings.Cut(table, "\n## ")
			tr, sometimes := map[string]string{}, map[string]bool{}
			for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|([^|]*)").FindAllStringSubmatch(table, -1) {
				tr[row[1]], sometimes[row[1]] = row[2], strings.Contains(row[3], "; only if ")
			}
			came := map[string]string{}
			typesOf("", answered, came)
			for field, kind := range came {
				before, _, _ := strings.Cut(field, ".")
				switch want, there := tr[field]; {
				case !there && tr[before+".*"] == "":
					t.Errorf("%s answers %s, which its page does not have", name, field)
				case there && want != kind && (want == "" || !strings.HasPrefix(want, kind+" of")):
					t.Errorf("%s answers %s as %s, and its page says %s", name, field, kind, want)
				}
			}
			for field := range tr {
				if came[field] == "" && !sometimes[field] && !strings.HasSuffix(field, ".*") {
					t.Errorf("the page of %s has the field %s, which was not answered: %s", name, field, lines[len(lines)-1])
				}
			}
		}
	})
}

// TestReadmes_CommandBlocksRun runs the blocks of both READMEs, but for what make does: the program under test is what `make build` makes.
func TestReadmes_CommandBlocksRun(t *testing.T) {
	needs(t, "bash", "curl", "openssl", "grep", "head", "rm")
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	for _, name := range []string{"README.md", "README.zh.md"} {
		text, err := os.ReadFile("../../" + name)
		require.NoError(t, err)
		list := blocks(string(text))
		require.True(t, len(list) == 2 && list[0].info == "sh" && list[1].info == "sh", "%s has %d blocks", name, len(list))
		page, other := "", ""
		for line := range strings.Lines(list[0].script + list[1].script) {
			command := strings.TrimSpace(regexp.MustCompile(`\s# .*`).ReplaceAllString(line, ""))
			switch target, is := strings.CutPrefix(command, "make "); {
			case is && !strings.Contains(string(makefile), "\n"+target+":"):
				t.Errorf("%s: make has no target %q", name, target)
			case is:
			case strings.HasPrefix(command, "bin/qrjump serve"):
				page = "```sh serve\n" + strings.TrimPrefix(command, "bin/") + "\n```\n"
			default:
				other += strings.TrimPrefix(command, "bin/") + "\n"
			}
		}
		tr := playPage(t, page+"```sh\n"+other+"```\n")
		assert.True(t, strings.Contains(tr, "wxc0ffee0000000001") && strings.Contains(tr, `"access_token"`),
			"%s: no Mini Program opens, or there is no token:\n%s", name, tr)
	}
}

// typesOf puts the type of each field of an answer into kinds, by its name; those of a list's members stand below the list's name.
// A list without members is "array", of which nobody sees more.
func typesOf(above string, value any, kinds map[string]string) string {
	switch value := value.(type) {
	case map[string]any:
		for name, one := range value {
			kinds[above+name] = typesOf(above+name+".", one, kinds)
		}
		return "object"
	case []any:
		kind := "array"
		for _, one := range value {
			kind = "array of " + typesOf(above, one, kinds)
		}
		return kind
	case float64:
		return "number"
	case bool:
		return "boolean"
	case string:
		return "string"
	}
	return "null"
}

// inProduction is a page as it is played in production: its blocks of "sh production" take the place of those that are for --dev, and the
// accounts are those of the page on production.
func inProduction(t *testing.T, text string) string {
	production, err := fs.ReadFile(docs.Pages, "en/how/production.md")
	require.NoError(t, err)
	_, accounts, found := strings.Cut(string(production), "```sh\ncat > shop.yaml")
	accounts, _, _ = strings.Cut(accounts, "```\n")
	require.True(t, found, "the page on production has no shop.yaml")
	var page strings.Builder
	page.WriteString("```sh\ncat > shop.yaml" + accounts + "```\n")
	for _, b := range blocks(text) {
		kind, how, _ := strings.Cut(b.info, " ")
		switch {
		case kind != "sh" || how == "dev" || how == "serve" && strings.Contains(b.script, "--dev"):
			continue
		case how == "production" && strings.HasPrefix(b.script, "qrjump serve "):
			b.info = "sh serve"
		case how == "production":
			b.info = "sh"
		}
		page.WriteString("```" + b.info + "\n" + b.script + "```\n")
	}
	return page.String()
}

// playPage runs the blocks of a page in one shell. The addresses of the page are ports that were free.
func playPage(t *testing.T, text string) string {
	dir := t.TempDir()
	places := []string{}
	for _, port := range []string{"8080", "8081", "8082", "8090", "8091", "8092", "8093"} {
		free := freePort(t)
		places = append(places, "127.0.0.1:"+port, "127.0.0.1:"+free, "localhost:"+port, "localhost:"+free,
			"0.0.0.0:"+port, "127.0.0.1:"+free)
	}
	here := strings.NewReplacer(places...)
	var script bytes.Buffer
	script.WriteString("set -eu -o pipefail\nstarted=\ntrap 'kill $started 2>/dev/null || :; wait' EXIT\n")
	for _, b := range blocks(text) {
		kind, how, _ := strings.Cut(b.info, " ")
		if kind != "sh" || how == "production" || strings.HasPrefix(how, "not-run=") || wants(how) != nil {
			continue
		}
		// The page's own server is the platform that a recorder asks.
		commands := here.Replace(strings.ReplaceAll(b.script, "--upstream https://api.weixin.qq.com", "--upstream http://127.0.0.1:8080"))
		if !testscope.Run() { // two of 250 pages of labels
			commands = strings.ReplaceAll(commands, "label 500000001 all", "label 500000001 0-79")
			commands = strings.Replace(commands, "qrjump label labels-", "sed -i.all s/all/0-79/ labels-500000001.yaml\nqrjump label labels-", 1)
		}
		if how != "serve" {
			script.WriteString(commands + "echo\n")
			continue
		}
		// A server that says no --listen is where the page calls it.
		if !strings.Contains(commands, "--listen") {
			commands = strings.Replace(commands, "qrjump serve", "qrjump serve --listen "+here.Replace("127.0.0.1:8080"), 1)
		}
		commands = strings.Replace(commands, "qrjump ", "exec qrjump ", 1) // so that what is ended is the server
		script.WriteString("rm -f ready; {\n" + commands + "} >ready 2>server.log &\nstarted=\"$! $started\"\n" +
			"until grep -q 'ready' ready; do kill -0 ${started%% *} || { cat server.log; exit 1; }; read -t 0.05 <> <(:) || :; done\n")
	}
	ctx := t.Context()
	if end, is := t.Deadline(); is { // shortly before it, so that what was said until then is shown
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "QRJUMP_SHUTDOWN_DELAY=0s",
		testscope.Variable + "=" + os.Getenv(testscope.Variable), "GOGC=" + os.Getenv("GOGC"),
		"QRJUMP_SERVER=" + here.Replace("http://127.0.0.1:8080"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "config")}
	if coverage := os.Getenv("GOCOVERDIR"); coverage != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverage)
	}
	tr, err := cmd.CombinedOutput()
	assert.True(t, err == nil, "%v:\n%s", err, tr)
	// A call that was refused is a fault of the page, unless it shows just that. Lines with a mark are evidence that probe prints.
	for line := range strings.Lines(string(tr)) {
		if strings.Contains(line, `"evidence_level":"observed"`) {
			continue
		}
		assert.True(t, !strings.Contains(line, `"errcode":`) || strings.Contains(line, `"errcode":0`) || strings.Contains(text, "40001"),
			"a call of the page fails: %s", line)
	}
	return string(tr)
}
