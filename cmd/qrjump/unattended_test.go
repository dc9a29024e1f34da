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
)

// typedFor are arguments with which a verb is parsed: what it requires, and one value that the test is about.
func typedFor(verb *kong.Node, about *kong.Value, value string) []string {
	words := strings.Fields(verb.Path())
	fill := func(v *kong.Value) string {
		switch {
		case v == about:
			return value
		case v.Enum != "":
			return strings.Split(strings.Trim(v.Enum, ","), ",")[0]
		case v.Tag.Get(fileTag) != "":
			return "there.txt"
		}
		return "1"
	}
	groups := map[string]bool{}
	for _, f := range verb.Flags {
		if f.Value == about || f.Required && !(len(f.Xor) > 0 && groups[f.Xor[0]]) {
			if len(f.Xor) > 0 {
				groups[f.Xor[0]] = true
			}
			words = append(words, "--"+f.Name+"="+fill(f.Value))
		}
	}
	words = append(words, "--")
	for i, p := range verb.Positional {
		if p == about || p.Required || slices.Contains(verb.Positional[i:], about) {
			words = append(words, fill(p))
		}
	}
	return words
}

// usageErrors runs each verb with a value in each place that takes such a one, in either language, and wants exit 2 and what is said.
func usageErrors(t *testing.T, value string, wants func(*kong.Value) bool, says map[string]string) {
	t.Helper()
	dir := t.TempDir()
	environment(t, map[string]string{"CONTEXTS": filepath.Join(dir, "contexts.yaml")})
	t.Chdir(dir)
	require.NoError(t, errors.Join(os.Mkdir("qrjump-data", 0o700), os.WriteFile("there.txt", nil, 0o600)))
	tried, nouns := 0, map[string]bool{}
	for _, verb := range (&session{}).fullManual().Leaves(true) {
		values := append([]*kong.Value{}, verb.Positional...)
		for _, f := range verb.Flags {
			values = append(values, f.Value)
		}
		for _, v := range values {
			noun, _, _ := strings.Cut(verb.Path(), " ")
			shared := v.Name == "data" || v.Name == "ca-file" // of one struct: one verb of a noun does for the others
			if !wants(v) || shared && nouns[noun+v.Name] {
				continue
			}
			nouns[noun+v.Name] = true
			tried++
			language := []string{"en", "zh"}[tried%2]
			var errs bytes.Buffer
			args := append([]string{"--lang=" + language}, typedFor(verb, v, value)...)
			code := run(session{ctx: t.Context(), in: strings.NewReader(""), out: io.Discard, err: &errs}, args)
			if want := flagName(v) + says[language]; code != exitMisused || !strings.Contains(errs.String(), want) {
				t.Errorf("qrjump %q = %d %s, want 2 and %q", args, code, errs.String(), want)
			}
		}
	}
	assert.True(t, tried >= 9, "only %d places were tried", tried)
}

// A script that passes an empty variable must not do for all what it meant for one.
func TestEveryCommand_RejectsEmptyNames(t *testing.T) {
	usageErrors(t, "", func(v *kong.Value) bool {
		text := v.Target.Kind() == reflect.String || v.Target.Kind() == reflect.Slice && v.Target.Type().Elem().Kind() == reflect.String
		return text && !v.Passthrough && v.Enum == "" && (v.Flag == nil || v.Flag.Name == "owner" || v.Flag.Name == "account")
	}, map[string]string{"en": " is empty", "zh": " 为空"})
}

// mayBeMissing are flags that name a file or a folder which need not be there, with the reason.
var mayBeMissing = map[string]string{
	"--data of serve": "is made", "--data of run": "is made", "--data of import": "is made",
	"--data of context set": "kept for later commands", "--ca-file of context set": "kept for later commands",
	"--key-file of start codes": "is made", "--secret-file of start codes": "is made", "--secret-file of start rules": "is made",
}

// A file or a folder that is not there is an error of usage for each flag and argument that names one. A new one has to have the tag.
func TestEveryCommand_MissingFileIsUsage(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none")
	of := func(kinds ...string) func(*kong.Value) bool {
		return func(v *kong.Value) bool {
			kind, _, _ := strings.Cut(v.Tag.Get(fileTag), ",")
			return slices.Contains(kinds, kind) && !v.Tag.Has(absentTag)
		}
	}
	usageErrors(t, none, of("in"), map[string]string{"en": ": no such file: " + none, "zh": "：没有这个文件：" + none})
	folder := map[string]string{"en": ": no such folder: " + none, "zh": "：没有这个目录：" + none}
	usageErrors(t, none, of("dir"), folder)
	usageErrors(t, filepath.Join(none, "x"), of("out", "new"), folder)
	met := map[string]bool{}
	for _, verb := range (&session{}).fullManual().Leaves(false) {
		values := append([]*kong.Value{}, verb.Positional...)
		for _, f := range verb.Flags {
			values = append(values, f.Value)
		}
		for _, v := range values {
			names := namesFile(v) || v.Name == "dir" || v.Tag.PlaceHolder == "DIR"
			at := flagName(v) + " of " + verb.Path()
			other := mayBeMissing[at] != "" || nameless[verb.Path()+" "+flagName(v)] != ""
			met[at] = true
			assert.True(t, !names || other || of("in", "dir", "out", "new")(v), "%s names a file or a folder and has not the tag file", at)
		}
	}
	for at := range mayBeMissing {
		assert.True(t, met[at], "there is no %s", at)
	}
}

func TestInterrupted_SaysWhatIsLeft(t *testing.T) {
	asked, end := make(chan string), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/faults") {
			_, _ = io.WriteString(w, `{"faults":[]}`)
			return
		}
		asked <- r.Method
		<-end
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	for _, one := range []struct {
		signal syscall.Signal
		args   []string
		code   int
		says   string
	}{
		{syscall.SIGINT, []string{"account", "list"}, 130, "qrjump: interrupted: nothing was changed\n"},
		{syscall.SIGINT, []string{"account", "list", "--lang=zh"}, 130, "qrjump: 已中断：未作任何更改\n"},
		{syscall.SIGTERM, []string{"account", "list"}, 143, "qrjump: terminated: nothing was changed\n"},
		{syscall.SIGINT, []string{"fault", "clear"}, 130, "qrjump: interrupted: it is unknown whether the server executed the last call " +
			"(DELETE /admin/v1/emulator/faults): check before you repeat it\n"},
		{syscall.SIGINT, []string{"account", "list", "--output=json"}, 130, `"kind":"interrupted","exit":130`},
	} {
		cmd := exec.Command("qrjump", append(one.args, "--admin-server="+server.URL)...)
		cmd.Dir = t.TempDir()
		var errs bytes.Buffer
		cmd.Stderr = &errs
		require.NoError(t, cmd.Start())
		<-asked
		assert.NoError(t, cmd.Process.Signal(one.signal))
		_ = cmd.Wait()
		code, says := cmd.ProcessState.ExitCode(), errs.String()
		assert.True(t, code == one.code && strings.Contains(says, one.says),
			"%q with %v = %d %q, want %d %q", one.args, one.signal, code, says, one.code, one.says)
	}
}

// A shell that reads what is printed gets the very words.
func TestShellWord_ReadsBack(t *testing.T) {
	needs(t, "bash")
	for _, word := range []string{"P.URL.CN/02V$BQ*J", "=x", "%1", "~root", "a b", "it's", "", "茶", "a\nb\t'\\", "\x1b[31m",
		"!!", "{a,b}", "-x", "a=b"} {
		got, err := exec.Command("bash", "-c", "printf '%s' "+shellWord(word)).Output()
		assert.True(t, err == nil && string(got) == word, "a shell reads %s as %q, want %q (%v)", shellWord(word), got, word, err)
		assert.True(t, !strings.ContainsRune("=%~", rune(shellWord(word)[0])) && plain(shellWord(word)) == shellWord(word),
			"shellWord(%q) = %s, want it quoted", word, shellWord(word))
	}
}
