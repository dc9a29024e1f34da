package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// sampleCassette is a recorded call to which a new server returns the recorded response.
const sampleCassette = `{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","status":200,` +
	`"headers":{"Cache-Control":"no-store","Content-Type":"application/json; encoding=utf-8"},` +
	`"response":{"errcode":41002,"errmsg":"appid missing rid: {rid:1:26}"}}` + "\n"

// command runs a command line in this process. It returns the exit code, standard output and standard error.
func command(ctx context.Context, args ...string) (code int, out, errs string) {
	return commandWithInput(ctx, "", args...)
}

// commandWithInput is command with standard input.
func commandWithInput(ctx context.Context, input string, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(session{ctx: ctx, in: strings.NewReader(input), out: &stdout, err: &stderr}, args)
	return code, stdout.String(), stderr.String()
}

// startServing starts a command that serves until stop is called. It returns the command's URL, and its standard output after the ready
// line. stop returns the exit code and standard error.
func startServing(t *testing.T, args ...string) (url string, out *bufio.Reader, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	read, write := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(session{ctx: ctx, in: strings.NewReader(""), out: write, err: &stderr}, args)
		write.Close()
	}()
	out = bufio.NewReader(read)
	line, err := out.ReadString('\n')
	url, ready := strings.CutPrefix(strings.TrimSpace(line), "qrjump ready ")
	if err != nil || !ready {
		cancel(signalError{syscall.SIGTERM})
		t.Fatalf("%q: first line %q, %v, exit %d, want the ready line: %s", args, line, err, <-ended, stderr.String())
	}
	return url, out, func() (int, string) {
		cancel(signalError{syscall.SIGTERM})
		code := <-ended
		return code, stderr.String()
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp := require.Value(http.Get(url))(t)
	defer resp.Body.Close()
	body := require.Value(io.ReadAll(resp.Body))(t)
	return string(body)
}

// TestCassette_RecordCompareReplay records a cassette, compares it with a new server and replays it.
func TestCassette_RecordCompareReplay(t *testing.T) {
	t.Chdir(t.TempDir())
	tempDir := t.TempDir()
	t.Setenv("TMPDIR", tempDir)
	answer := `{"errcode":41002,"errmsg":"appid missing rid: 5f87eb8a-6ee66b1b-75f60c88"}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; encoding=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, answer)
	}))
	t.Cleanup(upstream.Close)
	record := func(file string) {
		t.Helper()
		url, _, stop := startServing(t, "cassette", "record", "--upstream", upstream.URL, "--listen", "127.0.0.1:0", "--out", file)
		assert.Equal(t, get(t, url+"/cgi-bin/token"), answer, "through the recorder")
		code, errs := stop()
		want := "1 call recorded in " + file + "; review it before you share it\n"
		assert.True(t, code == 0 && errs == want, "record: exit %d, %s, want 0 and %s", code, errs, want)
	}
	record("same.ndjson")
	info, err := os.Stat("same.ndjson")
	assert.True(t, err == nil && info.Mode().Perm() == 0o600, "Stat(same.ndjson) = %v, %v, want mode 0600", info, err)
	code, out, errs := command(t.Context(), "cassette", "compare", "same.ndjson")
	assert.True(t, code == 0 && out == "1 of 1 call compared: 0 differences\n" && errs == "", "compare: exit %d\n%s%s", code, out, errs)
	url, _, stop := startServing(t, "cassette", "replay", "same.ndjson", "--listen", "127.0.0.1:0")
	got := get(t, url+"/cgi-bin/token")
	assert.True(t, strings.HasPrefix(got, `{"errcode":41002,"errmsg":"appid missing rid: `), "replayed: %s", got)
	code, errs = stop()
	assert.True(t, code == 0 && errs == "", "replay: exit %d, %s", code, errs)
	url, _, stop = startServing(t, "cassette", "replay", "same.ndjson", "--listen", "127.0.0.1:0")
	get(t, url+"/cgi-bin/other")
	code, errs = stop()
	assert.True(t, code == 1 && errs == "the client did not request 1 line of the cassette\n"+
		"qrjump: replay same.ndjson: 1 call not in the cassette, first GET /cgi-bin/other: "+
		"line 1 of the cassette is GET /cgi-bin/token, got GET /cgi-bin/other\n",
		"replay of a call that is not recorded: exit %d, %s", code, errs)

	answer = `{"errcode":41099,"errmsg":"appid missing"}`
	record("other.ndjson")
	want := "line 1: /cgi-bin/token\n  number errcode: platform 41099 appid missing, qrjump 41002 appid missing rid: "
	code, out, errs = command(t.Context(), "cassette", "compare", "other.ndjson")
	assert.True(t, code == exitDifferent && errs == "qrjump: compare other.ndjson: 1 difference\n" && strings.HasPrefix(out, want) &&
		strings.HasSuffix(out, "\n  token.appid.missing, evidence level observed\n1 of 1 call compared: 1 difference\n"),
		"compare: exit %d\n%s%s", code, out, errs)
	code, out, _ = command(t.Context(), "cassette", "compare", "other.ndjson", "--output=json")
	assert.True(t, code == exitDifferent && strings.Contains(out, `"kind": "number"`), "compare --output json: exit %d\n%s", code, out)
	code, out, _ = command(t.Context(), "cassette", "compare", "other.ndjson", "--behaviour", "wire.fault")
	assert.True(t, code == 0 && out == "1 of 1 call compared: 0 differences\n", "compare --behaviour: exit %d\n%s", code, out)
	require.NoError(t, os.WriteFile("answers.ndjson", nil, 0o600))
	require.NoError(t, os.WriteFile("differences.ndjson", nil, 0o600))
	code, _, errs = command(t.Context(), "cassette", "compare", "other.ndjson", "--keep", ".")
	assert.True(t, code == exitDifferent && strings.HasPrefix(errs, "1 answer added to .\n"), "compare --keep: exit %d\n%s", code, errs)
	// The response has a rule from before the recording that no qrjump server accepts.
	const shown = `{"occurred_at":"2026-01-15T02:00:00Z","method":"POST","path":"/cgi-bin/wxopen/qrcodejumpget",` +
		`"query":{"access_token":"{token:1:132}"},"request":{},"status":200,` +
		`"headers":{"Cache-Control":"no-store","Content-Type":"application/json; encoding=utf-8"},` +
		`"response":{"errcode":0,"errmsg":"ok","rule_list":[{"prefix":"gopher://{word:2:3}/","path":"p","state":1,"permit_sub_rule":1,` +
		`"open_version":3,"debug_url":[]}],"qrcodejump_open":1,"list_size":1,"qrcodejump_pub_quota":100,"total_count":1}}` + "\n"
	require.NoError(t, os.WriteFile("shown.ndjson", []byte(shown), 0o600))
	code, out, errs = command(t.Context(), "cassette", "compare", "shown.ndjson")
	assert.True(t, code == exitDifferent && strings.Contains(out, "value rule_list: ") &&
		strings.HasPrefix(errs, "rules from before the recording are ignored: seed "),
		"compare with an impossible rule: exit %d, want %d\n%s%s", code, exitDifferent, out, errs)
	folders, err := os.ReadDir(tempDir)
	assert.True(t, err == nil && len(folders) == 0, "temporary folders after compare = %v, %v, want none", folders, err)
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"record --upstream " + upstream.URL + " --out same.ndjson", "--out same.ndjson: the file exists", 2},
		{"record --upstream api.weixin.qq.com --out x.ndjson", "--upstream: expected a scheme and a host", 2},
		{"record --upstream " + upstream.URL + "/cgi-bin --out x.ndjson", "--upstream: expected a scheme and a host", 2},
		{"record --upstream " + upstream.URL + " --out y.ndjson --listen nowhere:x", "--listen: ", 2},
		{"record --upstream " + upstream.URL + " --out y.ndjson --timeout 0s", "--timeout: must be greater than 0s", 2},
		{"compare none.ndjson", "FILE: no such file: none.ndjson", 2},
		{"compare answers.ndjson", "answers.ndjson:1: not a call of a cassette: ", 1},
		{"compare differences.ndjson --behaviour wire.falt", `--behaviour: unknown behaviour "wire.falt": did you mean wire.fault?`, 2},
		{"compare same.ndjson --keep nowhere", "--keep: no such folder: nowhere", 2},
		{"replay none.ndjson", "FILE: no such file: none.ndjson", 2},
	} {
		code, out, errs := command(t.Context(), append([]string{"cassette"}, strings.Fields(test.args)...)...)
		assert.True(t, code == test.code && out == "" && strings.HasPrefix(errs, "qrjump: "+test.want) &&
			strings.Count(errs, "\n") == 1, "%s: exit %d, want %d\n%s%s", test.args, code, test.code, out, errs)
	}
	assert.True(t, assert.ErrorOf(os.Stat("y.ndjson")) != nil, "y.ndjson exists after a recorder that failed to start")
}
