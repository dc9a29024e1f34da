package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// newCompleter returns a function that returns the candidates for the last of the words.
func newCompleter(t *testing.T) func(words ...string) []candidate {
	t.Helper()
	s := session{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	model := (&session{}).fullManual().Application
	return func(words ...string) []candidate { return completions(&s, model, words) }
}

// newWordCompleter is newCompleter without the descriptions.
func newWordCompleter(t *testing.T) func(words ...string) []string {
	t.Helper()
	complete := newCompleter(t)
	return func(words ...string) (list []string) {
		for _, c := range complete(words...) {
			list = append(list, c.word)
		}
		return list
	}
}

// TestCompletion_CoversParser verifies that every command, flag and enumerated value that the parser accepts is completed.
func TestCompletion_CoversParser(t *testing.T) {
	setEnvironment(t, map[string]string{"CONTEXTS": filepath.Join(t.TempDir(), "none.yaml")})
	complete := newWordCompleter(t)
	for _, verb := range (&session{}).fullManual().Leaves(true) {
		path := strings.Fields(verb.Path())
		for i, word := range path {
			if got := complete(path[:i+1]...); !slices.Contains(got, word) {
				t.Errorf("candidates of %q = %q, want %s among them", path[:i+1], got, word)
			}
		}
		flags := len(flagsOf(verb)) + len([]string{"--help", "--lang"})
		got := complete(append(path, "--")...)
		assert.True(t, slices.IsSorted(got) && len(got) == flags, "candidates of %s -- = %q, want %d, sorted", verb.Path(), got, flags)
		for _, f := range flagsOf(verb) {
			assert.True(t, slices.Contains(got, "--"+f.Name), "candidates of %s -- = %q, want --%s", verb.Path(), got, f.Name)
			for _, value := range f.EnumSlice() {
				if value == "" {
					continue
				}
				// A boolean flag takes its value only after "=".
				got := complete(append(path, "--"+f.Name, value)...)
				assert.True(t, slices.Contains(got, value) != f.IsBool(), "candidates of %s --%s %s = %q", verb.Path(), f.Name, value, got)
				got, want := complete(append(path, "--"+f.Name+"="+value)...), "--"+f.Name+"="+value
				assert.True(t, slices.Contains(got, want), "candidates of %s %s = %q, want the value", verb.Path(), want, got)
			}
		}
	}
}

func TestCompletion_PartialLine(t *testing.T) {
	dir := t.TempDir()
	contexts := filepath.Join(dir, "contexts.yaml")
	setEnvironment(t, map[string]string{"CONTEXTS": contexts})
	for _, name := range []string{"test", "prod"} {
		s := session{ctx: t.Context(), out: io.Discard, err: io.Discard}
		token := "command:touch " + dir + "/ran"
		require.Equal(t, run(s, []string{"context", "set", name, "--server", "http://127.0.0.1:1", "--admin-token", token}), 0,
			"context set %s", name)
	}
	complete := newWordCompleter(t)
	places := strings.NewReplacer("FILE", anyFile, "FOLDER", anyFolder)
	for _, row := range testtable.Rows(t, "testdata/completed_lines.txt", 2) {
		line, want := row[0], places.Replace(row[1])
		words := strings.Split(line, " ")
		got := strings.Join(complete(words...), " ")
		if line == "rule add --" {
			got = got[:min(len(got), len(want))]
		}
		if line == "nothing " {
			got = "" // the parser rejects this line
		}
		assert.True(t, got == want, "candidates of %q = %q, want %q", line, got, want)
	}
	ran, _ := filepath.Glob(dir + "/ran")
	assert.True(t, len(ran) == 0, "completion ran the token command of a context")
}

// TestCompletion_ServerNames verifies that names of objects on a server are completed, with a description, within the time limit.
func TestCompletion_ServerNames(t *testing.T) {
	limit := patience
	t.Cleanup(func() { patience = limit })
	patience = time.Minute // for a slow machine
	w := newTestServer(t)
	setEnvironment(t, map[string]string{"DATA": filepath.Join(w.dir, "data")})
	var many strings.Builder
	many.WriteString(`{"owner":"shop","prefix":"https://tea.example/t/","path":"pages/t/t"}` + "\n")
	for i := range maxCandidates + 50 {
		fmt.Fprintf(&many, `{"owner":"shop","prefix":"https://many%03d.example/t/","path":"pages/%d"}`+"\n", i, i)
	}
	for _, v := range []verbCase{
		{path: "rule import", words: "-", in: many.String()},
		{path: "batch apply", words: "10000 --appid brand --isv spring --for-approval"},
		{path: "setting set", words: "allow_private_hosts true"},
		{path: "webhook add", words: "$HOOK --alarms"}, {path: "snapshot save", words: "checkout"},
		{path: "component set", words: "isv --secret the-secret-of-the-isv --message-token tok --encoding-aes-key $AESKEY"},
	} {
		code, _, errs := runVerb(t, v, w.vars)
		require.True(t, code == exitDone, "%s %s: exit %d, want %d: %s", v.path, v.words, code, exitDone, errs)
	}
	batches, err := w.operator.Batches.List(t.Context(), client.BatchQuery{})
	require.True(t, err == nil && len(batches) == 1, "batches = %v, %v, want one", batches, err)
	batch := number(batches[0].ID)
	complete := newCompleter(t)
	places := strings.NewReplacer("BATCH", batch, "BAT", batch[:3], "HOOK", w.vars["HOOK"])
	for _, row := range testtable.Rows(t, "testdata/completed_names.txt", 3) {
		line, want := places.Replace(row[0]), candidate{places.Replace(row[1]), places.Replace(row[2])}
		list := complete(strings.Split(line, " ")...)
		i := slices.IndexFunc(list, func(c candidate) bool { return c.word == want.word })
		kind, _, _ := strings.Cut(line, " ")
		described := want.means != "" || kind == "setting" || kind == "behaviour"
		assert.True(t, i >= 0 && (want.means == "" || list[i].means == want.means) && (!described || list[i].means != "") &&
			len(list) <= maxCandidates, "candidates of %q = %q, want %q", line, list, want)
	}
	for _, line := range []string{"batch show 9", "rule delete https://none.example/"} {
		list := complete(strings.Split(line, " ")...)
		assert.True(t, len(list) == 0, "candidates of %q = %q, want none", line, list)
	}
	// Completion gives up on a server that does not respond.
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	patience = time.Millisecond
	setEnvironment(t, map[string]string{"ADMIN_SERVER": silent.URL, "ADMIN_TOKEN": "token"})
	for _, line := range []string{"rule delete h", "batch show ", "webhook test ", "setting list ", "behaviour list ", "account show ",
		"component show "} {
		list := complete(strings.Split(line, " ")...)
		assert.True(t, len(list) == 0, "candidates of %q from a silent server = %q, want none", line, list)
	}
}

// TestCompletion_PowerShellScript verifies that the PowerShell script is well formed and calls qrjump __complete as the other scripts do.
func TestCompletion_PowerShellScript(t *testing.T) {
	setEnvironment(t, map[string]string{"CONTEXTS": filepath.Join(t.TempDir(), "none.yaml")})
	output := func(args ...string) string {
		code, out, errs := command(t.Context(), args...)
		require.True(t, code == exitDone && errs == "", "%q: exit %d, want %d: %s", args, code, exitDone, errs)
		return out
	}
	script := output("completion", "powershell")
	for _, text := range []string{"Register-ArgumentCompleter -Native -CommandName qrjump -ScriptBlock {",
		"& $program __complete -- @words $current 2>$null"} {
		assert.Contains(t, script, text, "the PowerShell script")
	}
	// Brackets are balanced, and each string ends on its line.
	var open []rune
	closes := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for line := range strings.Lines(script) {
		quote := rune(0)
		for _, r := range strings.TrimSuffix(line, "\n") {
			switch {
			case quote != 0 && r == quote:
				quote = 0
			case quote != 0:
			case r == '\'' || r == '"':
				quote = r
			case strings.ContainsRune("([{", r):
				open = append(open, r)
			case closes[r] != 0 && (len(open) == 0 || open[len(open)-1] != closes[r]):
				t.Fatalf("%c without its opening bracket in %s", r, line)
			case closes[r] != 0:
				open = open[:len(open)-1]
			}
			if quote == 0 && r == '#' {
				break
			}
		}
		assert.True(t, quote == 0 || strings.HasPrefix(strings.TrimSpace(line), "#"), "%c is not closed in %s", quote, line)
	}
	assert.True(t, len(open) == 0, "%c is not closed", open)
	// The script splits these lines at the tab, and recognizes the words for files and folders.
	got := output("__complete", "--", "audit", "und")
	assert.True(t, strings.HasPrefix(got, "undo\tUndo "), "__complete -- audit und prints %q, want a description after a tab", got)
	for line, want := range map[string]string{"rule plan ": anyFile, "help --man ": anyFolder} {
		got := output(append([]string{"__complete", "--"}, strings.Split(line, " ")...)...)
		assert.True(t, got == want+"\n" && strings.Contains(script, "'"+want+"'"), "__complete -- %s prints %q, want %q", line, got, want)
	}
}

// TestManPages_CoverEveryCommand verifies that the man pages contain every command and flag, and that mandoc and groff accept them.
func TestManPages_CoverEveryCommand(t *testing.T) {
	model := (&session{}).fullManual()
	pages := model.pages()
	want := len(model.Leaves(true)) + 2
	assert.True(t, len(pages) == want, "%d man pages, want %d", len(pages), want)
	for _, verb := range model.Leaves(true) {
		text := pages[pageName(verb)+".1"]
		for _, f := range flagsOf(verb) {
			assert.True(t, strings.Contains(text, bold("--"+f.Name)) && strings.Contains(text, roff(f.Help)),
				"the page of %s lacks --%s", verb.Path(), f.Name)
			assert.True(t, verb.Path() != "serve" || f.Name == "config" || strings.Contains(pages[configPage+".5"], bold(f.Name)+":"),
				"%s(5) lacks %s", configPage, f.Name)
		}
		assert.True(t, strings.Contains(pages["qrjump.1"], bold("qrjump "+verb.Path())), "qrjump(1) lacks %s", verb.Path())
	}
	dir := t.TempDir()
	require.Equal(t, run(session{ctx: t.Context(), out: io.Discard, err: io.Discard}, []string{"help", "--man", dir}), exitDone,
		"help --man: exit code")
	files, err := filepath.Glob(dir + "/*.[15]")
	require.True(t, err == nil && len(files) == len(pages), "files of help --man = %v, %v, want %d", files, err, len(pages))
	for _, check := range [][]string{{"mandoc", "-Tlint", "-Wwarning"}, {"groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z"}} {
		if _, err := exec.LookPath(check[0]); err != nil {
			t.Logf("%s is not installed", check[0])
			continue
		}
		out, _ := exec.Command(check[0], append(check[1:], files...)...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "missing date") { // a build without a commit has no date
				t.Error(line)
			}
		}
	}
}
