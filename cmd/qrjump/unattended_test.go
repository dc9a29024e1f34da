package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"
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
			return "unattended_test.go"
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
	environment(t, nil)
	tried := 0
	for _, verb := range (&session{}).everything().Leaves(true) {
		values := append([]*kong.Value{}, verb.Positional...)
		for _, f := range verb.Flags {
			values = append(values, f.Value)
		}
		for _, v := range values {
			if !wants(v) {
				continue
			}
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
	if tried < 30 {
		t.Errorf("only %d places were tried", tried)
	}
}

// A script that passes an empty variable must not do for all what it meant for one.
func TestEveryCommand_RejectsEmptyNames(t *testing.T) {
	usageErrors(t, "", func(v *kong.Value) bool {
		text := v.Target.Kind() == reflect.String || v.Target.Kind() == reflect.Slice && v.Target.Type().Elem().Kind() == reflect.String
		return text && !v.Passthrough && v.Enum == "" && (v.Flag == nil || v.Flag.Name == "owner" || v.Flag.Name == "account")
	}, map[string]string{"en": " is empty", "zh": " 为空"})
}

func TestEveryCommand_MissingFileIsUsage(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	usageErrors(t, none, func(v *kong.Value) bool {
		kind, _, _ := strings.Cut(v.Tag.Get(fileTag), ",")
		return kind == "in" && !v.Tag.Has(mayLack) && v.Tag.Type == "" && v.Name != "ca-file"
	}, map[string]string{"en": ": no such file: " + none, "zh": "：没有这个文件：" + none})
}

// stoppedWith runs the program until a server was asked, sends it a signal, and returns its exit code and what it said.
func stoppedWith(t *testing.T, one syscall.Signal, asked <-chan string, args ...string) (code int, says string) {
	t.Helper()
	cmd := exec.Command("qrjump", args...)
	cmd.Dir = t.TempDir()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := cmd.Process.Signal(one); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), errs.String()
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
		{syscall.SIGINT, []string{"account", "list", "--lang=zh"}, 130, "qrjump: 已中断：没有任何变更\n"},
		{syscall.SIGTERM, []string{"account", "list"}, 143, "qrjump: terminated: nothing was changed\n"},
		{syscall.SIGINT, []string{"fault", "clear"}, 130, "qrjump: interrupted: whether the server did the last call is not known " +
			"(DELETE /admin/v1/emulator/faults): look before it is done again\n"},
		{syscall.SIGINT, []string{"account", "list", "--json"}, 130, `"kind":"interrupted","exit":130`},
	} {
		code, says := stoppedWith(t, one.signal, asked, append(one.args, "--admin-server="+server.URL)...)
		if code != one.code || !strings.Contains(says, one.says) {
			t.Errorf("%q with %v = %d %q, want %d %q", one.args, one.signal, code, says, one.code, one.says)
		}
	}
}

// A shell that reads what is printed gets the very words.
func TestShellWord_ReadsBack(t *testing.T) {
	needs(t, "bash")
	for _, word := range []string{"P.URL.CN/02V$BQ*J", "=x", "%1", "~root", "a b", "it's", "", "茶", "a\nb\t'\\", "\x1b[31m",
		"!!", "{a,b}", "-x", "a=b"} {
		got, err := exec.Command("bash", "-c", "printf '%s' "+shellWord(word)).Output()
		if err != nil || string(got) != word {
			t.Errorf("a shell reads %s as %q, want %q (%v)", shellWord(word), got, word, err)
		}
		if first := shellWord(word)[0]; strings.ContainsRune("=%~", rune(first)) || plain(shellWord(word)) != shellWord(word) {
			t.Errorf("shellWord(%q) = %s, want it quoted", word, shellWord(word))
		}
	}
}
