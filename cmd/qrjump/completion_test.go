package main

import (
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commandModel is the table of commands as the program parses it.
func commandModel(t *testing.T) *kong.Application {
	t.Helper()
	return (&session{}).everything().Application
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
func TestCompletionKnowsWhatTheParserTakes(t *testing.T) {
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
		if got := completed(append(path, "--")...); !slices.IsSorted(got) || len(got) != of {
			t.Errorf("%s offers %q", verb.Path(), got)
		}
		for _, f := range flagsOf(verb) {
			if got := completed(append(path, "--"+f.Name)...); !slices.Contains(got, "--"+f.Name) {
				t.Errorf("%s --%s is not offered: %q", verb.Path(), f.Name, got)
			}
			for _, one := range f.EnumSlice() {
				if one == "" {
					continue
				}
				// A switch takes its word only behind "=".
				if got := completed(append(path, "--"+f.Name, one)...); slices.Contains(got, one) == f.IsBool() {
					t.Errorf("%s --%s %s: offered %q", verb.Path(), f.Name, one, got)
				}
				if got, want := completed(append(path, "--"+f.Name+"="+one)...), "--"+f.Name+"="+one; !slices.Contains(got, want) {
					t.Errorf("%s %s is not offered: %q", verb.Path(), want, got)
				}
			}
		}
	}
}

func TestCompletionFollowsTheLine(t *testing.T) {
	dir := t.TempDir()
	contexts := filepath.Join(dir, "contexts.yaml")
	environment(t, map[string]string{"CONTEXTS": contexts})
	for _, name := range []string{"test", "prod"} {
		s := session{ctx: t.Context(), out: io.Discard, err: io.Discard}
		token := "command:touch " + dir + "/ran"
		if run(s, []string{"context", "set", name, "--server", "http://127.0.0.1:1", "--admin-token", token}) != 0 {
			t.Fatal("no context")
		}
	}
	completed := completing(t)
	for line, want := range map[string]string{
		"rule hist":                            "history",
		"--server http://x rule hist":          "history",
		"--json rule hist":                     "history",
		"rule add --":                          "--access-token --admin", // begins with
		"rule plan":                            "plan",
		"rule plan ":                           anyFile,
		"export a --passphrase-file ":          anyFile,
		"serve --data ":                        anyFolder,
		"serve --data=":                        anyFolder,
		"man ":                                 anyFolder,
		"account jump shop ":                   "on off",
		"account jump shop on ":                "",
		"account release shop release tr":      "trial",
		"account jump -- shop ":                "on off",
		"account jump -- shop --":              "",
		"help rule pl":                         "plan",
		"help rule plan":                       "plan",
		"completion ":                          "bash zsh fish powershell",
		"rule list --context ":                 "prod test",
		"rule list --context p":                "prod",
		"--context=t":                          "--context=test",
		"context use ":                         "prod test",
		"stats mis":                            "misses",
		"stats --by ":                          "hour day week month",
		"nothing ":                             "",
		"rule list --no-such-flag=":            "",
		"rule list --appid ":                   "", // the operator's token would have to be asked for
		"account show --server http://127.1:1": "",
	} {
		words := strings.Split(line, " ")
		got := strings.Join(completed(words...), " ")
		if line == "rule add --" {
			got = got[:min(len(got), len(want))]
		}
		if line == "nothing " {
			got = "" // what the parser will refuse
		}
		if got != want {
			t.Errorf("%q offers %q, want %q", line, got, want)
		}
	}
	if left, _ := filepath.Glob(dir + "/ran"); len(left) > 0 {
		t.Error("a key ran the program that knows the token")
	}
}

// Issue 16, 8: help, man page and completion agree with the code.
func TestEveryCommandHasItsManPage(t *testing.T) {
	model := (&session{}).everything()
	pages := model.pages()
	if want := len(model.Leaves(true)) + 2; len(pages) != want {
		t.Errorf("%d pages, want %d", len(pages), want)
	}
	for _, verb := range model.Leaves(true) {
		text := pages[pageName(verb)+".1"]
		for _, f := range flagsOf(verb) {
			if !strings.Contains(text, bold("--"+f.Name)) || !strings.Contains(text, roff(f.Help)) {
				t.Errorf("the page of %s lacks --%s", verb.Path(), f.Name)
			}
			if verb.Path() == "serve" && f.Name != "config" && !strings.Contains(pages[configPage+".5"], bold(f.Name)+":") {
				t.Errorf("%s(5) lacks %s", configPage, f.Name)
			}
		}
		if !strings.Contains(pages["qrjump.1"], bold("qrjump "+verb.Path())) {
			t.Errorf("qrjump(1) lacks %s", verb.Path())
		}
	}
	dir := t.TempDir()
	if code := run(session{ctx: t.Context(), out: io.Discard, err: io.Discard}, []string{"man", dir}); code != exitDone {
		t.Fatal("no pages were written")
	}
	files, err := filepath.Glob(dir + "/*.[15]")
	if err != nil || len(files) != len(pages) {
		t.Fatal(files, err)
	}
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
