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

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// commandModel is the table of commands as the program parses it.
func commandModel(t *testing.T) *kong.Application {
	t.Helper()
	return (&session{}).fullManual().Application
}

// completing returns what says which words a shell would show.
func completing(t *testing.T) func(words ...string) []string {
	t.Helper()
	s := session{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	model := commandModel(t)
	return func(words ...string) (list []string) {
		for _, one := range completions(&s, model, words) {
			list = append(list, one.word)
		}
		return list
	}
}

// Issue 16, 8: every command, flag and value that the parser takes is completed.
func TestCompletion_CoversParser(t *testing.T) {
	environment(t, map[string]string{"CONTEXTS": filepath.Join(t.TempDir(), "none.yaml")})
	completed := completing(t)
	for _, verb := range commandModel(t).Leaves(true) {
		path := strings.Fields(verb.Path())
		for i, word := range path {
			if got := completed(path[:i+1]...); !slices.Contains(got, word) {
				t.Errorf("%q offers %q", path[:i+1], got)
			}
		}
		of := len(flagsOf(verb)) + len([]string{"--help", "--lang"})
		got := completed(append(path, "--")...)
		assert.True(t, slices.IsSorted(got) && len(got) == of, "%s offers %q", verb.Path(), got)
		for _, f := range flagsOf(verb) {
			got := completed(append(path, "--"+f.Name)...)
			assert.True(t, slices.Contains(got, "--"+f.Name), "%s --%s is not offered: %q", verb.Path(), f.Name, got)
			for _, one := range f.EnumSlice() {
				if one == "" {
					continue
				}
				// A switch takes its word only behind "=".
				got := completed(append(path, "--"+f.Name, one)...)
				assert.True(t, slices.Contains(got, one) != f.IsBool(), "%s --%s %s: offered %q", verb.Path(), f.Name, one, got)
				got, want := completed(append(path, "--"+f.Name+"="+one)...), "--"+f.Name+"="+one
				assert.True(t, slices.Contains(got, want), "%s %s is not offered: %q", verb.Path(), want, got)
			}
		}
	}
}

func TestCompletion_PartialLine(t *testing.T) {
	dir := t.TempDir()
	contexts := filepath.Join(dir, "contexts.yaml")
	environment(t, map[string]string{"CONTEXTS": contexts})
	for _, name := range []string{"test", "prod"} {
		s := session{ctx: t.Context(), out: io.Discard, err: io.Discard}
		token := "command:touch " + dir + "/ran"
		require.Equal(t, run(s, []string{"context", "set", name, "--server", "http://127.0.0.1:1", "--admin-token", token}), 0,
			"no context")
	}
	completed := completing(t)
	places := strings.NewReplacer("FILE", anyFile, "FOLDER", anyFolder)
	for _, row := range testtable.Rows(t, "testdata/completed_lines.txt", 2) {
		line, want := row[0], places.Replace(row[1])
		words := strings.Split(line, " ")
		got := strings.Join(completed(words...), " ")
		if line == "rule add --" {
			got = got[:min(len(got), len(want))]
		}
		if line == "nothing " {
			got = "" // what the parser will refuse
		}
		assert.True(t, got == want, "%q offers %q, want %q", line, got, want)
	}
	left, _ := filepath.Glob(dir + "/ran")
	assert.True(t, len(left) == 0, "a key ran the program that knows the token")
}

// Issue 33, 3: things on a server are completed by their names, each with a few words.
func TestCompletion_ServerNames(t *testing.T) {
	waits := patience
	t.Cleanup(func() { patience = waits })
	patience = time.Minute // a machine may be slow
	w := newWorld(t)
	environment(t, map[string]string{"DATA": filepath.Join(w.dir, "data")})
	var many strings.Builder
	for i := range maxCandidates + 50 {
		fmt.Fprintf(&many, `{"owner":"shop","prefix":"https://many%03d.example/t/","path":"pages/%d"}`+"\n", i, i)
	}
	for _, v := range []verb{
		{path: "rule import", words: "-", in: `{"owner":"shop","prefix":"https://tea.example/t/","path":"pages/t/t"}` + "\n" + many.String()},
		{path: "batch apply", words: "10000 --appid brand --isv spring --for-approval"},
		{path: "setting set", words: "allow_private_hosts true"},
		{path: "webhook add", words: "$HOOK --alarms"}, {path: "snapshot save", words: "checkout"},
		{path: "component set", words: "isv --secret the-secret-of-the-isv --message-token tok --encoding-aes-key $AESKEY"},
	} {
		code, _, errs := play(t, v, w.found)
		require.True(t, code == exitDone, "%v %v", v, errs)
	}
	batches, err := w.operator.Batches.List(t.Context(), client.BatchQuery{})
	require.True(t, err == nil && len(batches) == 1, "%v %v", batches, err)
	batch := number(batches[0].ID)
	s := session{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: io.Discard}
	model := commandModel(t)
	completed := func(line string) []candidate { return completions(&s, model, strings.Split(line, " ")) }
	places := strings.NewReplacer("BATCH", batch, "BAT", batch[:3], "HOOK", w.found["HOOK"])
	for _, row := range testtable.Rows(t, "testdata/completed_names.txt", 3) {
		line, want := places.Replace(row[0]), candidate{places.Replace(row[1]), places.Replace(row[2])}
		list := completed(line)
		i := slices.IndexFunc(list, func(c candidate) bool { return c.word == want.word })
		kind, _, _ := strings.Cut(line, " ")
		described := want.means != "" || kind == "setting" || kind == "behaviour"
		assert.True(t, i >= 0 && (want.means == "" || list[i].means == want.means) && (!described || list[i].means != "") &&
			len(list) <= maxCandidates, "%q offers %q, want %q", line, list, want)
	}
	for _, line := range []string{"batch show 9", "rule delete https://none.example/"} {
		list := completed(line)
		assert.True(t, len(list) == 0, "%q offers %q", line, list)
	}
	// A server that never answers is given up.
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer silent.Close()
	patience = time.Millisecond
	environment(t, map[string]string{"ADMIN_SERVER": silent.URL, "ADMIN_TOKEN": "token"})
	for _, line := range []string{"rule delete h", "batch show ", "webhook test ", "setting list ", "behaviour list ", "account show ",
		"component show "} {
		list := completed(line)
		assert.True(t, len(list) == 0, "%q of nobody offers %q", line, list)
	}
}

// Issue 33, 3: PowerShell's script is whole, and asks as the others do.
func TestCompletion_PowerShellScript(t *testing.T) {
	environment(t, map[string]string{"CONTEXTS": filepath.Join(t.TempDir(), "none.yaml")})
	answer := func(args ...string) string {
		var out, errs strings.Builder
		s := session{ctx: t.Context(), in: strings.NewReader(""), out: &out, err: &errs}
		code := run(s, args)
		require.True(t, code == exitDone && errs.Len() <= 0, "%v %v %v", args, code, errs.String())
		return out.String()
	}
	script := answer("completion", "powershell")
	assert.True(t, strings.Contains(script, "Register-ArgumentCompleter -Native -CommandName qrjump -ScriptBlock {"),
		"it registers nothing for qrjump")
	assert.True(t, strings.Contains(script, "& $program __complete -- @words $current 2>$null"), "it asks nobody")
	// Brackets close in their order, and strings on their line.
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
				t.Fatalf("%c closes nothing in %s", r, line)
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
	// What it splits at a tab, and the words that it looks for.
	got := answer("__complete", "--", "audit", "und")
	assert.True(t, strings.HasPrefix(got, "undo\tUndo "), "got %q", got)
	for _, one := range []struct{ name, verb string }{{anyFile, "rule plan "}, {anyFolder, "help --man "}} {
		got := answer(append([]string{"__complete", "--"}, strings.Split(one.verb, " ")...)...)
		assert.True(t, got == one.name+"\n" && strings.Contains(script, "'"+one.name+"'"), "%s answers %q", one.verb, got)
	}
}

// Issue 16, 8: help, man page and completion agree with the code.
func TestManPages_CoverEveryCommand(t *testing.T) {
	model := (&session{}).fullManual()
	pages := model.pages()
	want := len(model.Leaves(true)) + 2
	assert.True(t, len(pages) == want, "%d pages, want %d", len(pages), want)
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
		"no pages were written")
	files, err := filepath.Glob(dir + "/*.[15]")
	require.True(t, err == nil && len(files) == len(pages), "%v %v", files, err)
	for _, check := range [][]string{{"mandoc", "-Tlint", "-Wwarning"}, {"groff", "-man", "-Kutf8", "-Tutf8", "-ww", "-z"}} {
		if _, err := exec.LookPath(check[0]); err != nil {
			t.Logf("%s is not here to read them", check[0])
			continue
		}
		out, _ := exec.Command(check[0], append(check[1:], files...)...).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "missing date") { // a build without a commit has none
				t.Error(line)
			}
		}
	}
}
