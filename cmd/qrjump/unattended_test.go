package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// argumentsFor returns a command line for verb: what it requires, with value for the flag or argument target.
func argumentsFor(verb *kong.Node, target *kong.Value, value string) []string {
	words := strings.Fields(verb.Path())
	fill := func(v *kong.Value) string {
		switch {
		case v == target:
			return value
		case v.Enum != "":
			return strings.Split(strings.Trim(v.Enum, ","), ",")[0]
		case v.Tag.Get(fileTag) != "":
			return "existing.txt"
		}
		return "1"
	}
	groups := map[string]bool{}
	for _, f := range verb.Flags {
		if f.Value == target || f.Required && !(len(f.Xor) > 0 && groups[f.Xor[0]]) {
			if len(f.Xor) > 0 {
				groups[f.Xor[0]] = true
			}
			words = append(words, "--"+f.Name+"="+fill(f.Value))
		}
	}
	words = append(words, "--")
	for i, p := range verb.Positional {
		if p == target || p.Required || slices.Contains(verb.Positional[i:], target) {
			words = append(words, fill(p))
		}
	}
	return words
}

// checkUsageErrors runs every command once for each flag or argument to which the test applies (in make test, for the first of them), with
// the given value and in alternating languages. It wants exit code 2 and the message of messages, by language.
func checkUsageErrors(t *testing.T, value string, applies func(*kong.Value) bool, messages map[string]string) {
	t.Helper()
	dir := t.TempDir()
	setEnvironment(t, map[string]string{"CONTEXTS": filepath.Join(dir, "contexts.yaml")})
	t.Chdir(dir)
	require.NoError(t, errors.Join(os.Mkdir("qrjump-data", 0o700), os.WriteFile("existing.txt", nil, 0o600)))
	tried, nouns := 0, map[string]bool{}
	for _, verb := range (&session{}).fullManual().Leaves(true) {
		for _, v := range valuesOf(verb) {
			noun, _, _ := strings.Cut(verb.Path(), " ")
			shared := v.Name == "data" || v.Name == "ca-file" // in one struct: one command of each noun suffices
			if !applies(v) || shared && nouns[noun+v.Name] || nouns[verb.Path()] && !testscope.IsComplete() {
				continue
			}
			nouns[noun+v.Name], nouns[verb.Path()] = true, true
			tried++
			language := []string{"en", "zh"}[tried%2]
			args := append([]string{"--lang=" + language}, argumentsFor(verb, v, value)...)
			code, _, errs := command(t.Context(), args...)
			if want := flagName(v) + messages[language]; code != exitMisused || !strings.Contains(errs, want) {
				t.Errorf("qrjump %q: exit %d, %s, want exit %d and %q", args, code, errs, exitMisused, want)
			}
		}
	}
	assert.True(t, tried >= 9, "%d flags and arguments were tried, want at least 9", tried)
}

// TestEveryCommand_RejectsEmptyNames verifies that an empty name is a usage error: a script with an unset variable must not act on all
// objects instead of one.
func TestEveryCommand_RejectsEmptyNames(t *testing.T) {
	checkUsageErrors(t, "", func(v *kong.Value) bool {
		text := v.Target.Kind() == reflect.String || v.Target.Kind() == reflect.Slice && v.Target.Type().Elem().Kind() == reflect.String
		return text && !v.Passthrough && v.Enum == "" && (v.Flag == nil || v.Flag.Name == "owner" || v.Flag.Name == "account")
	}, map[string]string{"en": " is empty", "zh": " 为空"})
}

// optionalFiles are flags whose file or folder need not exist, with the reason.
var optionalFiles = map[string]string{
	"--data of serve": "is created", "--data of run": "is created", "--data of import": "is created",
	"--data of context set": "kept for later commands", "--ca-file of context set": "kept for later commands",
	"--key-file of start codes": "is created", "--secret-file of start codes": "is created", "--secret-file of start rules": "is created",
}

// TestEveryCommand_MissingFileIsUsage verifies that a missing file or folder is a usage error, and that each flag and argument for one has
// the tag file.
func TestEveryCommand_MissingFileIsUsage(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	hasTag := func(kinds ...string) func(*kong.Value) bool {
		return func(v *kong.Value) bool {
			kind, _, _ := strings.Cut(v.Tag.Get(fileTag), ",")
			return slices.Contains(kinds, kind) && !v.Tag.Has(absentTag)
		}
	}
	checkUsageErrors(t, none, hasTag("in"), map[string]string{"en": ": no such file: " + none, "zh": "：没有这个文件：" + none})
	folder := map[string]string{"en": ": no such folder: " + none, "zh": "：没有这个目录：" + none}
	checkUsageErrors(t, none, hasTag("dir"), folder)
	checkUsageErrors(t, filepath.Join(none, "x"), hasTag("out", "new"), folder)
	seen := map[string]bool{}
	for _, verb := range (&session{}).fullManual().Leaves(false) {
		for _, v := range valuesOf(verb) {
			isFile := namesFile(v) || v.Name == "dir" || v.Tag.PlaceHolder == "DIR"
			name := flagName(v) + " of " + verb.Path()
			excepted := optionalFiles[name] != "" || unnamedFiles[verb.Path()+" "+flagName(v)] != ""
			seen[name] = true
			assert.True(t, !isFile || excepted || hasTag("in", "dir", "out", "new")(v), "%s names a file or folder: add the tag file", name)
		}
	}
	for name := range optionalFiles {
		assert.True(t, seen[name], "optionalFiles has %s, want a flag of the program", name)
	}
}

// TestInterrupted_SaysWhatIsLeft interrupts a command during a request and verifies its exit code and its message: nothing was changed, or
// it is unknown whether the server executed the call.
func TestInterrupted_SaysWhatIsLeft(t *testing.T) {
	requested, end := make(chan string), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/faults") {
			_, _ = io.WriteString(w, `{"faults":[]}`)
			return
		}
		requested <- r.Method
		<-end
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	for _, test := range []struct {
		signal syscall.Signal
		args   []string
		code   int
		want   string
	}{
		{syscall.SIGINT, []string{"account", "list"}, 130, "qrjump: interrupted: nothing was changed\n"},
		{syscall.SIGINT, []string{"account", "list", "--lang=zh"}, 130, "qrjump: 已中断：未作任何更改\n"},
		{syscall.SIGTERM, []string{"account", "list"}, 143, "qrjump: terminated: nothing was changed\n"},
		{syscall.SIGINT, []string{"fault", "clear"}, 130, "qrjump: interrupted: it is unknown whether the server executed the last call " +
			"(DELETE /admin/v1/emulator/faults): check before you repeat it\n"},
		{syscall.SIGINT, []string{"account", "list", "--output=json"}, 130, `"kind":"interrupted","exit":130`},
	} {
		cmd := exec.Command("qrjump", append(test.args, "--admin-server="+server.URL)...)
		cmd.Dir = t.TempDir()
		var errs bytes.Buffer
		cmd.Stderr = &errs
		require.NoError(t, cmd.Start())
		<-requested
		assert.NoError(t, cmd.Process.Signal(test.signal))
		_ = cmd.Wait()
		code := cmd.ProcessState.ExitCode()
		assert.True(t, code == test.code && strings.Contains(errs.String(), test.want),
			"%q after %v: exit %d, %q, want %d, %q", test.args, test.signal, code, errs.String(), test.code, test.want)
	}
}

// TestInterrupted_LinkedOutputFile verifies that the partial file of an output file that is a symbolic link is named.
func TestInterrupted_LinkedOutputFile(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target.zpl")
	link := target + ".link"
	require.NoError(t, errors.Join(os.WriteFile(target, nil, 0o600), os.Chtimes(target, began, began), os.Symlink(target, link),
		os.WriteFile(target+".part", []byte("label"), 0o600)))
	command := struct {
		Out string `file:"out"`
	}{link}
	parser, err := kong.New(&command)
	require.NoError(t, err)
	left := outputFilesLeft(parser.Model.Node)
	assert.True(t, len(left) == 1 && strings.Contains(left[0], target+".part"), "output files left = %q, want the partial file", left)
}

// TestShellWord_ReadsBack verifies that bash reads the result of shellWord as the original word.
func TestShellWord_ReadsBack(t *testing.T) {
	requirePrograms(t, "bash")
	for _, word := range []string{"P.URL.CN/02V$BQ*J", "=x", "%1", "~root", "a b", "it's", "", "茶", "a\nb\t'\\", "\x1b[31m",
		"!!", "{a,b}", "-x", "a=b"} {
		got, err := exec.Command("bash", "-c", "printf '%s' "+shellWord(word)).Output()
		assert.True(t, err == nil && string(got) == word, "bash reads %s as %q, %v, want %q", shellWord(word), got, err, word)
		assert.True(t, !strings.ContainsRune("=%~", rune(shellWord(word)[0])) && plain(shellWord(word)) == shellWord(word),
			"shellWord(%q) = %s, want it quoted", word, shellWord(word))
	}
}
