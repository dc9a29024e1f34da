package cassette_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testdiag"
)

// startRawServer starts a server that reads a request and lets answer write to the connection. It returns its URL.
func startRawServer(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				// Read the complete request: unread data would reset the connection.
				if in, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.Copy(io.Discard, in.Body)
					answer(c)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestCassetteRecord_UpstreamErrors verifies that a faulty response of the upstream is reported to the caller and in the cassette, and that
// the next call is recorded.
func TestCassetteRecord_UpstreamErrors(t *testing.T) {
	t.Parallel()
	writes := func(text string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, text) } }
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		answer  func(net.Conn)
		timeout time.Duration
		status  int    // for the caller; 0 = no complete response
		body    string // for the caller
		line    string // text in the cassette
	}{
		"timeout": {func(net.Conn) { <-ended }, 50 * time.Millisecond, 504,
			"qrjump cassette record: the upstream did not answer within 50ms\n",
			`"error":"the upstream did not answer within 50ms"`},
		"connection reset": {func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, time.Minute, 502,
			"qrjump cassette record: the upstream closed the connection without an answer\n",
			`"error":"the upstream closed the connection without an answer"`},
		"Content-Length too large": {writes(answer + "Content-Length: 20\r\n\r\n{\"errcode\":0}"), time.Minute, 0, `{"errcode":0}`,
			`"error":"the upstream broke off after 13 of the 20 bytes that it had announced"`},
		"Content-Length too small": {writes(answer + "Content-Length: 13\r\n\r\n{\"errcode\":0}secret-tail"), time.Minute, 200,
			`{"errcode":0}`,
			`"response":{"errcode":0}`},
		"last chunk missing": {writes(answer + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"errcode\":0}\r\n"), time.Minute, 0,
			`{"errcode":0}`,
			`"error":"the upstream broke off after 13 bytes of its answer"`},
		"other protocol": {writes("220 secret-greeting SMTP\r\n"), time.Minute, 502,
			"qrjump cassette record: the upstream sent no HTTP answer, or its certificate is not good\n",
			`"error":"the upstream sent no HTTP answer, or its certificate is not good"`},
		"HTML page": {writes(
			"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>secret</html>\n"),
			time.Minute, 502, "<html>secret</html>\n", `"status":502,"headers":{"Content-Type":"text/html"},"response":"{html:1:20}"`},
		"no content": {writes("HTTP/1.1 204 No Content\r\n\r\n"), time.Minute, 204, "", `"status":204}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := require.Value(url.Parse(startRawServer(t, test.answer)))(t)
			out := &testdiag.Buffer{}
			r := &cassette.Recorder{Upstream: upstream, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: test.timeout}
			proxy := httptest.NewServer(r)
			defer proxy.Close()
			for n := range 2 {
				resp := require.Value(http.Post(proxy.URL+"/cgi-bin/token", "application/json", strings.NewReader("{}")))(t)
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				assert.True(t, string(body) == test.body && (err == nil) == (test.status != 0) &&
					(err != nil || resp.StatusCode == test.status),
					"response = %d %q, %v, want %d %q", resp.StatusCode, body, err, test.status, test.body)
				text := out.String()
				lines := strings.Count(text, "\n")
				assert.True(t, lines == n+1 && strings.Contains(text, test.line) && !strings.Contains(text, "secret"),
					"cassette = %s, want %s in %d lines", text, test.line, n+1)
			}
			report := compare(t, out.String())
			failed := strings.Contains(test.line, `"error":`)
			assert.True(t, len(report.Skipped) == 2 || !failed, "report = %+v, want calls without a response skipped", report)
		})
	}
}

// stallingReader yields a text, and then blocks until done is closed.
type stallingReader struct {
	text string
	done <-chan struct{}
}

func (r *stallingReader) Read(b []byte) (int, error) {
	if n := copy(b, r.text); n > 0 {
		r.text = r.text[n:]
		return n, nil
	}
	<-r.done
	return 0, context.DeadlineExceeded
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestCassetteRecord_UpstreamStallsMidResponse(t *testing.T) {
	t.Parallel()
	target, _ := url.Parse("http://upstream.example")
	out := &testdiag.Buffer{}
	r := &cassette.Recorder{Upstream: target, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: 20 * time.Millisecond,
		Transport: transport(func(in *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: 20, Header: http.Header{"Content-Length": {"20"}},
				Body: io.NopCloser(&stallingReader{`{"err`, in.Context().Done()})}, nil
		})}
	proxy := httptest.NewServer(r)
	t.Cleanup(proxy.Close)
	resp := require.Value(http.Get(proxy.URL + "/cgi-bin/token"))(t)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	assert.True(t, err != nil && string(body) == `{"err` && resp.StatusCode == 200,
		"response = %d %q, %v, want the first 5 bytes and an error", resp.StatusCode, body, err)
	assert.Contains(t, out.String(), `"error":"the upstream hung after 5 bytes of its answer, for more than 20ms in all"`, "cassette")
}

func TestCassetteRecord_UpstreamUnreachable(t *testing.T) {
	t.Parallel()
	l := require.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	proxy, out := record(t, "http://"+l.Addr().String(), time.Now)
	resp := require.Value(http.Get(proxy + "/cgi-bin/token"))(t)
	resp.Body.Close()
	assert.True(t, resp.StatusCode == 502 && strings.Contains(out.String(), `"error":"the upstream cannot be reached"`),
		"status = %d, cassette = %s, want 502 and the error", resp.StatusCode, out.String())
}

// TestCassetteRecord_PassThrough verifies that a call reaches the upstream once and unchanged, and that its response reaches the caller
// unchanged.
func TestCassetteRecord_PassThrough(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	var got atomic.Pointer[http.Request]
	var sent atomic.Pointer[string]
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		text := string(body)
		got.Store(r)
		sent.Store(&text)
		w.Header()["Content-Type"] = nil
		w.Header()["Date"] = nil
		w.Header().Set("Location", "/elsewhere")
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(302)
		io.WriteString(w, "{ \"a\" : 1.0e0 }\n")
	}))
	t.Cleanup(upstream.Close)
	proxy, _ := record(t, upstream.URL, time.Now)
	req := require.Value(http.NewRequest("PUT", proxy+"/a%2Fb/%E8%8C%B6?x=1&x=%20&y", strings.NewReader(" {}\n")))(t)
	req.Header.Set("User-Agent", "")
	req.Header.Set("X-Mine", "yes")
	req.Header.Set("Accept-Encoding", "br")
	resp := require.Value((&http.Transport{DisableKeepAlives: true}).RoundTrip(req))(t)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && string(body) == "{ \"a\" : 1.0e0 }\n" && resp.StatusCode == 302 &&
		resp.Header.Get("Location") == "/elsewhere" && len(resp.Header["X-Two"]) == 2 && resp.Header["Content-Type"] == nil,
		"response = %d %q %v, %v, want that of the upstream", resp.StatusCode, body, resp.Header, err)
	base, _ := url.Parse(upstream.URL)
	r := got.Load()
	assert.True(t, r.Method == "PUT" && r.RequestURI == "/a%2Fb/%E8%8C%B6?x=1&x=%20&y" && *sent.Load() == " {}\n" && r.Host == base.Host &&
		r.UserAgent() == "" && r.Header.Get("X-Mine") == "yes" && r.Header.Get("Accept-Encoding") == "br" &&
		r.Header.Get("X-Forwarded-For") == "",
		"request = %s %s %q %v, want that of the caller", r.Method, r.RequestURI, *sent.Load(), r.Header)
	assert.Equal(t, calls.Load(), 1, "calls of the upstream")
}

// TestCassetteRecord_CallerDisconnects verifies that a call is recorded with its response although the caller disconnects.
func TestCassetteRecord_CallerDisconnects(t *testing.T) {
	t.Parallel()
	arrived, disconnected := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-disconnected
		io.WriteString(w, `{"errcode":0}`)
	}))
	t.Cleanup(upstream.Close)
	target, _ := url.Parse(upstream.URL)
	out := &testdiag.Buffer{}
	done := make(chan struct{})
	r := &cassette.Recorder{Upstream: target, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: time.Minute}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		defer close(done)
		r.ServeHTTP(w, in)
	}))
	t.Cleanup(proxy.Close)
	c := require.Value(net.Dial("tcp", proxy.Listener.Addr().String()))(t)
	io.WriteString(c, "GET /cgi-bin/token HTTP/1.1\r\nHost: x\r\n\r\n")
	<-arrived
	c.Close()
	close(disconnected)
	<-done
	assert.Contains(t, out.String(), `"response":{"errcode":0}`, "cassette")
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestCassetteRecord_DiskFull verifies that calls succeed with a full disk, and that Lines reports the error.
func TestCassetteRecord_DiskFull(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	t.Cleanup(upstream.Close)
	target, _ := url.Parse(upstream.URL)
	r := &cassette.Recorder{Upstream: target, Out: fullDisk{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: time.Minute}
	proxy := httptest.NewServer(r)
	t.Cleanup(proxy.Close)
	resp, err := http.Get(proxy.URL)
	require.True(t, err == nil && resp.StatusCode == 200, "response = %v, %v, want 200", resp, err)
	resp.Body.Close()
	n, err := r.Lines()
	assert.True(t, n == 1 && err != nil && err.Error() == "writing line 1 of the cassette: no space left on device",
		"Lines() = %d, %v, want 1 and the error of the disk", n, err)
}

// TestCassetteRead_InvalidLineNumber verifies that the error for a truncated or edited cassette is one line that names the file and line.
func TestCassetteRead_InvalidLineNumber(t *testing.T) {
	t.Parallel()
	const good = `{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/token","status":200,"response":{"errcode":0}}`
	for name, test := range map[string]struct{ text, want string }{
		"cut in the middle": {good + "\n" + good[:60],
			":2: not a complete JSON object: the line is truncated or was edited (unexpected EOF)"},
		"an empty file":       {"\n\n", ": the file contains no calls"},
		"no JSON":             {"hello\n", ":1: not a complete JSON object: the line is truncated or was edited"},
		"two calls in a line": {good + good, ":1: unexpected data after the call"},
		"another object":      {`{"errcode":0}`, `:1: not a call of a cassette: json: unknown field "errcode"`},
		"no time": {`{"method":"GET","path":"/x","status":200}`,
			":1: not a call of a cassette: want occurred_at, method and path"},
		"no status": {`{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/x"}`,
			":1: not a call of a cassette: want status, or error"},
		"string as query": {strings.Replace(good, `"status"`, `"query":"a=b","status"`, 1), ":1: query: want an object"},
		"string as response": {strings.Replace(good, `{"errcode":0}`, `"hello"`, 1),
			":1: answer: want an object, a list, or a placeholder"},
		"invalid placeholder": {good + "\n" + strings.Replace(good, `0}}`, `0,"access_token":"{token:x}"}}`, 1),
			`:2: answer: "{token:x}" is not a valid placeholder`},
		"unsupported header": {strings.Replace(good, `"response"`, `"headers":{"Server":"x"},"response"`, 1),
			`:1: the header "Server": want one of Cache-Control,`},
		"unknown behaviour": {good + "\n\n" + strings.Replace(good, `"status"`, `"accepted":["wire.answer.typ"],"status"`, 1),
			`:3: unknown behaviour "wire.answer.typ": did you mean wire.answer.type?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "calls.ndjson")
			require.NoError(t, os.WriteFile(name, []byte(test.text), 0o600))
			_, err := cassette.ReadFile(name)
			assert.True(t, err != nil && strings.HasPrefix(err.Error(), name+test.want) && !strings.Contains(err.Error(), "\n"),
				"ReadFile() = %v\nwant %s%s", err, name, test.want)
		})
	}
	assert.True(t, len(lines(t, good+"\n"+good)) == 2 && fmt.Sprint(lines(t, good)[0].Number) == "1",
		"lines without a final line feed, want two and the number 1")
}
