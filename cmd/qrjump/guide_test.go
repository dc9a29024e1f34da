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

// codeBlock is a fenced code block of a page.
type codeBlock struct {
	line   int
	info   string
	script string
}

func codeBlocks(text string) (list []codeBlock) {
	open := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```") && open:
			open = false
		case strings.HasPrefix(line, "```"):
			open = true
			list = append(list, codeBlock{line: i + 1, info: strings.TrimPrefix(line, "```")})
		case open:
			list[len(list)-1].script += line + "\n"
		}
	}
	return list
}

// maxSkippedBlocks is the maximum number of blocks with not-run. The page gives the reason under each.
const maxSkippedBlocks = 8

// requirePrograms skips a test if a program that it runs is not installed.
func requirePrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not here: install it, for example by scripts/install-test-deps.sh", program)
		}
	}
}

// freePort returns a free port of the loopback address. The port is below the ephemeral range, so that no connection of another test takes
// it before it is used.
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

// missingPrograms returns the programs that a block requires ("needs=a,b") and that are not installed.
func missingPrograms(mode string) (missing []string) {
	list, ok := strings.CutPrefix(mode, "needs=")
	if !ok {
		return nil
	}
	for tool := range strings.SplitSeq(list, ",") {
		if _, err := exec.LookPath(tool); err != nil || tool == "unshare" && exec.Command("unshare", "-rmn", "true").Run() != nil {
			missing = append(missing, tool)
		}
	}
	return missing
}

// TestGuidePages_CommandBlocksRun runs every command block of the guide, page by page: in one shell, on servers that the page itself
// starts. A page with blocks of "sh production" runs a second time on the server that they start, with separate listeners and without
// --dev. Chinese pages have the same commands, which package guide verifies. The pages of calls share a server.
func TestGuidePages_CommandBlocksRun(t *testing.T) {
	requirePrograms(t, "bash", "curl", "openssl", "grep", "head", "rm", "sed")
	skipped := 0
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
		for _, b := range codeBlocks(string(text)) {
			kind, mode, _ := strings.Cut(b.info, " ")
			reason, skip := strings.CutPrefix(mode, "not-run=")
			switch {
			case kind == "sh" && skip && reason != "":
				skipped++
			case kind == "sh" && (mode == "production" || mode == "dev"):
			case kind == "sh" && (mode == "" || mode == "serve" || strings.HasPrefix(mode, "needs=")):
				run = true
				if missing := missingPrograms(mode); missing != nil {
					t.Logf("%s:%d: not run: %q not installed", name, b.line, missing)
				}
			case kind == "sh" || kind == "bash" || kind == "console" || kind == "":
				t.Errorf("%s:%d: a block of %q, want sh, sh serve, sh dev, sh production, sh needs=PROGRAM or sh not-run=REASON "+
					"for commands, text, json or yaml for output", name, b.line, b.info)
			}
		}
		switch name := strings.TrimSuffix(name, ".md"); {
		case !run:
		case strings.HasPrefix(name, "en/calls/"):
			calls[strings.TrimPrefix(name, "en/calls/")] = string(text)
		default:
			t.Run(name, func(t *testing.T) { t.Parallel(); runPage(t, string(text)) })
			top, _, _ := strings.Cut(string(text), "\n## ")
			switch {
			case strings.Contains(string(text), "\n```sh production\n"):
				if name == "en/how/webhooks" || testscope.IsComplete() { // make test has this page and how/production
					t.Run(name+" in production", func(t *testing.T) { t.Parallel(); runPage(t, productionPage(t, string(text))) })
				}
			case strings.HasPrefix(name, "en/how/") && strings.Contains(string(text), "--dev\n```") &&
				!strings.Contains(top, "servers with `--dev`"):
				t.Errorf("%s has no block of sh production: add one, or state at its start that it is for servers with --dev", name)
			}
		}
		return nil
	}))
	assert.True(t, skipped <= maxSkippedBlocks, "%d blocks are not run, want at most %d", skipped, maxSkippedBlocks)
	t.Run("calls", func(t *testing.T) {
		t.Parallel()
		var combined strings.Builder
		combined.WriteString("```sh serve\nqrjump serve --dev\n```\n")
		const reset = "curl -sf -o reset.json -X POST http://127.0.0.1:8080/admin/v1/emulator/reset"
		for _, name := range slices.Sorted(maps.Keys(calls)) {
			combined.WriteString("```sh\n" + reset + "\necho '== " + name + "'\n```\n" + calls[name])
		}
		output := runPage(t, combined.String())
		for name, page := range calls {
			checkResponseFields(t, name, page, output)
		}
	})
}

// checkResponseFields verifies that the last response of a call in the output has exactly the fields, with their types, that the table
// "Response" of the call's page lists.
func checkResponseFields(t *testing.T, name, page, output string) {
	t.Helper()
	_, rest, found := strings.Cut(output, "== "+name+"\n")
	text, _, _ := strings.Cut(rest, "\n== ")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if found && strings.Contains(page, "curl -s -o code.jpg") {
		return // the response is an image
	}
	response := map[string]any{}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &response); err != nil || !found {
		t.Errorf("%s: the output has no JSON response: %v: %s", name, err, text)
		return
	}
	_, table, _ := strings.Cut(page, "\n## Response\n")
	table, _, _ = strings.Cut(table, "\n## ")
	documented, optional := map[string]string{}, map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|([^|]*)").FindAllStringSubmatch(table, -1) {
		documented[row[1]], optional[row[1]] = row[2], strings.Contains(row[3], "; only if ")
	}
	types := map[string]string{}
	collectTypes("", response, types)
	for field, kind := range types {
		parent, _, _ := strings.Cut(field, ".")
		switch want, ok := documented[field]; {
		case !ok && documented[parent+".*"] == "":
			t.Errorf("%s returns the field %s, which its page lacks", name, field)
		case ok && want != kind && (want == "" || !strings.HasPrefix(want, kind+" of")):
			t.Errorf("%s returns %s as %s, want %s as its page has it", name, field, kind, want)
		}
	}
	for field := range documented {
		if types[field] == "" && !optional[field] && !strings.HasSuffix(field, ".*") {
			t.Errorf("%s returns no field %s, which its page has: %s", name, field, lines[len(lines)-1])
		}
	}
}

// TestReadmes_CommandBlocksRun runs the command blocks of both READMEs except the make commands: the program under test replaces the
// output of make build.
func TestReadmes_CommandBlocksRun(t *testing.T) {
	requirePrograms(t, "bash", "curl", "openssl", "grep", "head", "rm")
	makefile := require.Value(os.ReadFile("../../Makefile"))(t)
	for _, name := range []string{"README.md", "README.zh.md"} {
		text := require.Value(os.ReadFile("../../" + name))(t)
		list := codeBlocks(string(text))
		require.True(t, len(list) == 2 && list[0].info == "sh" && list[1].info == "sh", "%s has %d blocks, want 2 of sh", name, len(list))
		page, other := "", ""
		for line := range strings.Lines(list[0].script + list[1].script) {
			command := strings.TrimSpace(regexp.MustCompile(`\s# .*`).ReplaceAllString(line, ""))
			switch target, isMake := strings.CutPrefix(command, "make "); {
			case isMake && !strings.Contains(string(makefile), "\n"+target+":"):
				t.Errorf("%s: the Makefile has no target %q", name, target)
			case isMake:
			case strings.HasPrefix(command, "bin/qrjump serve"):
				page = "```sh serve\n" + strings.TrimPrefix(command, "bin/") + "\n```\n"
			default:
				other += strings.TrimPrefix(command, "bin/") + "\n"
			}
		}
		output := runPage(t, page+"```sh\n"+other+"```\n")
		assert.True(t, strings.Contains(output, "wxc0ffee0000000001") && strings.Contains(output, `"access_token"`),
			"%s: the output lacks an opened Mini Program or an access token:\n%s", name, output)
	}
}

// collectTypes stores the type of each field of a response in kinds, by its dotted name. The fields of list elements have the prefix of the
// list. The type of an empty list is "array".
func collectTypes(prefix string, value any, kinds map[string]string) string {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			kinds[prefix+name] = collectTypes(prefix+name+".", field, kinds)
		}
		return "object"
	case []any:
		kind := "array"
		for _, element := range value {
			kind = "array of " + collectTypes(prefix, element, kinds)
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

// productionPage returns a page for a production server: blocks of "sh production" replace those for --dev, and the accounts are those of
// the page on production.
func productionPage(t *testing.T, text string) string {
	production := require.Value(fs.ReadFile(docs.Pages, "en/how/production.md"))(t)
	_, accounts, found := strings.Cut(string(production), "```sh\ncat > shop.yaml")
	accounts, _, _ = strings.Cut(accounts, "```\n")
	require.True(t, found, "production.md has no block that writes shop.yaml")
	var page strings.Builder
	page.WriteString("```sh\ncat > shop.yaml" + accounts + "```\n")
	for _, b := range codeBlocks(text) {
		kind, mode, _ := strings.Cut(b.info, " ")
		switch {
		case kind != "sh" || mode == "dev" || mode == "serve" && strings.Contains(b.script, "--dev"):
			continue
		case mode == "production" && strings.HasPrefix(b.script, "qrjump serve "):
			b.info = "sh serve"
		case mode == "production":
			b.info = "sh"
		}
		page.WriteString("```" + b.info + "\n" + b.script + "```\n")
	}
	return page.String()
}

// runPage runs the command blocks of a page in one shell, on free ports instead of the page's ports. It returns the output.
func runPage(t *testing.T, text string) string {
	dir := t.TempDir()
	var pairs []string
	for _, port := range []string{"8080", "8081", "8082", "8090", "8091", "8092", "8093"} {
		free := freePort(t)
		pairs = append(pairs, "127.0.0.1:"+port, "127.0.0.1:"+free, "localhost:"+port, "localhost:"+free,
			"0.0.0.0:"+port, "127.0.0.1:"+free)
	}
	ports := strings.NewReplacer(pairs...)
	var script bytes.Buffer
	script.WriteString("set -eu -o pipefail\nstarted=\ntrap 'kill $started 2>/dev/null || :; wait' EXIT\n")
	for _, b := range codeBlocks(text) {
		kind, mode, _ := strings.Cut(b.info, " ")
		if kind != "sh" || mode == "production" || strings.HasPrefix(mode, "not-run=") || missingPrograms(mode) != nil {
			continue
		}
		// A recorder calls the page's own server instead of the platform.
		commands := ports.Replace(strings.ReplaceAll(b.script, "--upstream https://api.weixin.qq.com", "--upstream http://127.0.0.1:8080"))
		if !testscope.IsComplete() { // draw two of 250 pages of labels
			commands = strings.ReplaceAll(commands, "label 500000001 all", "label 500000001 0-79")
			commands = strings.Replace(commands, "qrjump label labels-",
				"sed -i.all s/all/0-79/ labels-500000001.yaml\nqrjump label labels-", 1)
		}
		if mode != "serve" {
			script.WriteString(commands + "echo\n")
			continue
		}
		// A server without --listen listens on the address that the page calls.
		if !strings.Contains(commands, "--listen") {
			commands = strings.Replace(commands, "qrjump serve", "qrjump serve --listen "+ports.Replace("127.0.0.1:8080"), 1)
		}
		commands = strings.Replace(commands, "qrjump ", "exec qrjump ", 1) // so that kill ends the server, not its shell
		script.WriteString("rm -f ready; {\n" + commands + "} >ready 2>server.log &\nstarted=\"$! $started\"\n" +
			"until grep -q 'ready' ready; do kill -0 ${started%% *} || { cat server.log; exit 1; }; read -t 0.05 <> <(:) || :; done\n")
	}
	ctx := t.Context()
	if end, ok := t.Deadline(); ok { // end the script before the test binary is killed, so that its output is printed
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-20*time.Second))
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "QRJUMP_SHUTDOWN_DELAY=0s",
		testscope.Variable + "=" + os.Getenv(testscope.Variable), "GOGC=" + os.Getenv("GOGC"),
		"QRJUMP_SERVER=" + ports.Replace("http://127.0.0.1:8080"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "config")}
	if coverage := os.Getenv("GOCOVERDIR"); coverage != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+coverage)
	}
	output, err := cmd.CombinedOutput()
	assert.True(t, err == nil, "the page's script: %v:\n%s", err, output)
	// No call may fail, except on a page that shows errcode 40001. Lines with an evidence level are evidence that probe prints.
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, `"evidence_level":"observed"`) {
			continue
		}
		assert.True(t, !strings.Contains(line, `"errcode":`) || strings.Contains(line, `"errcode":0`) || strings.Contains(text, "40001"),
			"a call of the page fails: %s", line)
	}
	return string(output)
}
