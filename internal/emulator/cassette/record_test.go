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
)

// rude is an upstream that answers each connection with what it is told, to the byte.
func rude(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				// All of the request: what is left unread would reset the connection.
				if in, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.Copy(io.Discard, in.Body)
					answer(c)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// Issue 15, bad input: what an upstream does wrong is said to the caller and in the cassette, and the next call is recorded as ever.
func TestCassetteRecord_UpstreamErrors(t *testing.T) {
	t.Parallel()
	writes := func(text string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, text) } }
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		answer  func(net.Conn)
		timeout time.Duration
		status  int    // that the caller gets; 0 = none, or not all
		says    string // to the caller
		line    string // in the cassette
	}{
		"it hangs": {func(net.Conn) { <-ended }, 50 * time.Millisecond, 504, "qrjump cassette record: the upstream did not answer within 50ms\n",
			`"error":"the upstream did not answer within 50ms"`},
		"it resets the connection": {func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, time.Minute, 502,
			"qrjump cassette record: the upstream closed the connection without an answer\n",
			`"error":"the upstream closed the connection without an answer"`},
		"it announces more than it sends": {writes(answer + "Content-Length: 20\r\n\r\n{\"errcode\":0}"), time.Minute, 0, `{"errcode":0}`,
			`"error":"the upstream broke off after 13 of the 20 bytes that it had announced"`},
		"it announces less than it sends": {writes(answer + "Content-Length: 13\r\n\r\n{\"errcode\":0}secret-tail"), time.Minute, 200,
			`{"errcode":0}`,
			`"response":{"errcode":0}`},
		"a chunk is missing": {writes(answer + "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"errcode\":0}\r\n"), time.Minute, 0,
			`{"errcode":0}`,
			`"error":"the upstream broke off after 13 bytes of its answer"`},
		"it speaks no HTTP": {writes("220 secret-greeting SMTP\r\n"), time.Minute, 502,
			"qrjump cassette record: the upstream sent no HTTP answer, or its certificate is not good\n",
			`"error":"the upstream sent no HTTP answer, or its certificate is not good"`},
		"it answers a page": {writes(
			"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>secret</html>\n"),
			time.Minute, 502, "<html>secret</html>\n", `"status":502,"headers":{"Content-Type":"text/html"},"response":"{html:1:20}"`},
		"it says nothing": {writes("HTTP/1.1 204 No Content\r\n\r\n"), time.Minute, 204, "", `"status":204}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, err := url.Parse(rude(t, test.answer))
			require.NoError(t, err)
			out := &file{}
			r := &cassette.Recorder{Upstream: at, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: test.timeout}
			proxy := httptest.NewServer(r)
			defer proxy.Close()
			for n := range 2 {
				resp, err := http.Post(proxy.URL+"/cgi-bin/token", "application/json", strings.NewReader("{}"))
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(body) != test.says || (err == nil) != (test.status != 0) || err == nil && resp.StatusCode != test.status {
					t.Errorf("the caller got %d %q, %v; want %d %q", resp.StatusCode, body, err, test.status, test.says)
				}
				text := out.String()
				lines := strings.Count(text, "\n")
				assert.True(t, lines == n+1 && strings.Contains(text, test.line) && !strings.Contains(text, "secret"),
					"the cassette is %s, want %s in %d lines", text, test.line, n+1)
			}
			report := compare(t, out.String())
			faults := strings.Contains(test.line, "fault")
			assert.True(t, len(report.Skipped) == 2 || !faults, "compared without an answer: %+v", report)
		})
	}
}

// half is an answer of which only the beginning comes.
type half struct {
	left  string
	ended <-chan struct{}
}

func (h *half) Read(b []byte) (int, error) {
	if n := copy(b, h.left); n > 0 {
		h.left = h.left[n:]
		return n, nil
	}
	<-h.ended
	return 0, context.DeadlineExceeded
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestCassetteRecord_UpstreamStallsMidResponse(t *testing.T) {
	t.Parallel()
	at, _ := url.Parse("http://upstream.example")
	out := &file{}
	r := &cassette.Recorder{Upstream: at, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: 20 * time.Millisecond,
		Transport: transport(func(in *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: 20, Header: http.Header{"Content-Length": {"20"}},
				Body: io.NopCloser(&half{`{"err`, in.Context().Done()})}, nil
		})}
	proxy := httptest.NewServer(r)
	t.Cleanup(proxy.Close)
	resp, err := http.Get(proxy.URL + "/cgi-bin/token")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	assert.True(t, err != nil && string(body) == `{"err` && resp.StatusCode == 200, "the caller got %d %q, %v", resp.StatusCode, body, err)
	assert.Contains(t, out.String(), `"error":"the upstream hung after 5 bytes of its answer, for more than 20ms in all"`, "the cassette")
}

func TestCassetteRecord_UpstreamUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	proxy, _, out := record(t, "http://"+l.Addr().String(), time.Now)
	resp, err := http.Get(proxy + "/cgi-bin/token")
	require.NoError(t, err)
	resp.Body.Close()
	assert.True(t, resp.StatusCode == 502 && strings.Contains(out.String(), `"error":"the upstream cannot be reached"`),
		"got %d and %s", resp.StatusCode, out.String())
}

// A call reaches the upstream once, as the caller sent it, and the caller gets the answer to the byte.
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
	proxy, _, _ := record(t, upstream.URL, time.Now)
	req, err := http.NewRequest("PUT", proxy+"/a%2Fb/%E8%8C%B6?x=1&x=%20&y", strings.NewReader(" {}\n"))
	require.NoError(t, err)
	req.Header.Set("User-Agent", "")
	req.Header.Set("X-Mine", "yes")
	req.Header.Set("Accept-Encoding", "br")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && string(body) == "{ \"a\" : 1.0e0 }\n" && resp.StatusCode == 302 &&
		resp.Header.Get("Location") == "/elsewhere" && len(resp.Header["X-Two"]) == 2 && resp.Header["Content-Type"] == nil,
		"the caller got %d %q %v, %v", resp.StatusCode, body, resp.Header, err)
	at, _ := url.Parse(upstream.URL)
	r := got.Load()
	assert.True(t, r.Method == "PUT" && r.RequestURI == "/a%2Fb/%E8%8C%B6?x=1&x=%20&y" && *sent.Load() == " {}\n" && r.Host == at.Host &&
		r.UserAgent() == "" && r.Header.Get("X-Mine") == "yes" && r.Header.Get("Accept-Encoding") == "br" &&
		r.Header.Get("X-Forwarded-For") == "", "the upstream got %s %s %q %v", r.Method, r.RequestURI, *sent.Load(), r.Header)
	assert.Equal(t, calls.Load(), 1, "calls")
}

// A caller that leaves loses its answer; the call and its answer are recorded.
func TestCassetteRecord_CallerDisconnects(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-left
		io.WriteString(w, `{"errcode":0}`)
	}))
	t.Cleanup(upstream.Close)
	at, _ := url.Parse(upstream.URL)
	out := &file{}
	done := make(chan struct{})
	r := &cassette.Recorder{Upstream: at, Out: out, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: time.Minute}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		defer close(done)
		r.ServeHTTP(w, in)
	}))
	t.Cleanup(proxy.Close)
	c, err := net.Dial("tcp", proxy.Listener.Addr().String())
	require.NoError(t, err)
	io.WriteString(c, "GET /cgi-bin/token HTTP/1.1\r\nHost: x\r\n\r\n")
	<-arrived
	c.Close()
	close(left)
	<-done
	assert.Contains(t, out.String(), `"response":{"errcode":0}`, "the cassette")
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// A disk that is full stops no call, and is said at the end.
func TestCassetteRecord_DiskFull(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	t.Cleanup(upstream.Close)
	at, _ := url.Parse(upstream.URL)
	r := &cassette.Recorder{Upstream: at, Out: fullDisk{}, Log: slog.New(slog.DiscardHandler), Now: time.Now, Timeout: time.Minute}
	proxy := httptest.NewServer(r)
	t.Cleanup(proxy.Close)
	resp, err := http.Get(proxy.URL)
	require.True(t, err == nil && resp.StatusCode == 200, "%v %v", resp, err)
	resp.Body.Close()
	if n, err := r.Lines(); n != 1 || err == nil || err.Error() != "writing line 1 of the cassette: no space left on device" {
		t.Errorf("%d lines, %v", n, err)
	}
}

// Issue 15, bad input: a cassette that was cut or edited by hand is one clear line with its number.
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
		"a query that is a text": {strings.Replace(good, `"status"`, `"query":"a=b","status"`, 1), ":1: query: want an object"},
		"an answer that is one": {strings.Replace(good, `{"errcode":0}`, `"hello"`, 1),
			":1: answer: want an object, a list, or a placeholder"},
		"a wrong stand-in": {good + "\n" + strings.Replace(good, `0}}`, `0,"access_token":"{token:x}"}}`, 1),
			`:2: answer: "{token:x}" is not a valid placeholder`},
		"a header that is unkept": {strings.Replace(good, `"response"`, `"headers":{"Server":"x"},"response"`, 1),
			`:1: the header "Server": want one of Cache-Control,`},
		"a behaviour that is none": {good + "\n\n" + strings.Replace(good, `"status"`, `"accepted":["wire.answer.typ"],"status"`, 1),
			`:3: unknown behaviour "wire.answer.typ": did you mean wire.answer.type?`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "calls.ndjson")
			require.NoError(t, os.WriteFile(name, []byte(test.text), 0o600))
			_, err := cassette.ReadFile(name)
			assert.True(t, err != nil && strings.HasPrefix(err.Error(), name+test.want) && !strings.Contains(err.Error(), "\n"),
				"got %v\nwant %s%s", err, name, test.want)
		})
	}
	assert.True(t, len(lines(t, good+"\n"+good)) == 2 && fmt.Sprint(lines(t, good)[0].Number) == "1",
		"a last line without its line feed is a line")
}
