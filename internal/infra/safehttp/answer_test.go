package safehttp_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/qrjump/qrjump/internal/infra/safehttp"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestSafeHTTP_BodyLimit(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
		reason  safehttp.Reason
		errText string
	}{
		{name: "empty", size: 0},
		{name: "one byte less", size: 63},
		{name: "exactly the bound", size: 64},
		{name: "exactly the bound, in chunks", size: 64, chunked: true},
		{name: "one byte more", size: 65, reason: safehttp.BodyTooLong, errText: "65 bytes announced, at most 64 are read"},
		{name: "one byte more, in chunks", size: 65, chunked: true, reason: safehttp.BodyTooLong, errText: "longer than 64 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := startServer(t, func(rw http.ResponseWriter, _ *http.Request) {
				if c.chunked {
					rw.(http.Flusher).Flush()
				}
				rw.Write(bytes.Repeat([]byte("x"), c.size))
			})
			answer, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/", MaxBody: 64})
			if c.reason != "" {
				wantFailure(t, steps, err, c.reason, c.errText)
				assert.True(t, answer.Body == nil, "Body = %q, want none with an error", answer.Body)
				return
			}
			assert.True(t, err == nil && len(answer.Body) == c.size, "body of %d bytes, %v, want %d", len(answer.Body), err, c.size)
		})
	}

	t.Run("64 KiB unless the request says otherwise", func(t *testing.T) {
		size := 64 << 10
		client, _ := startServer(t, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(make([]byte, size)) })
		_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		assert.NoError(t, err)
		size++
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.BodyTooLong, "65536")
	})
}

func TestSafeHTTP_EndlessBody(t *testing.T) {
	stopped := make(chan struct{})
	client, _ := startServer(t, func(rw http.ResponseWriter, _ *http.Request) {
		defer close(stopped)
		for {
			if _, err := rw.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/", MaxBody: 100})
	wantFailure(t, steps, err, safehttp.BodyTooLong, "longer than 100 bytes")
	<-stopped // the connection is closed, not drained
}

func TestSafeHTTP_HugeHeaders(t *testing.T) {
	for name, head := range map[string]string{
		"a hundred headers of 1 MB": strings.Repeat("X-Big: "+strings.Repeat("a", 1<<20)+"\r\n", 100),
		"many small headers":        strings.Repeat("A: b\r\n", 10_000),
		"one line without end":      strings.Repeat("a", 1<<20),
		"interim answers":           "\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			client := newRawClient(t, "HTTP/1.1 100 Continue\r\n"+head+"\r\nHTTP/1.1 200 OK\r\n\r\n")
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
			wantFailure(t, steps, err, safehttp.HeaderTooLong, "longer than 16384 bytes")
		})
	}
	t.Run("large but within the bound", func(t *testing.T) {
		client := newRawClient(t, "HTTP/1.1 200 OK\r\nX-Big: "+strings.Repeat("a", 16_000)+"\r\n\r\n"+strings.Repeat("b", 20_000))
		answer, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		assert.True(t, err == nil && len(answer.Body) == 20_000, "body of %d bytes, %v, want 20000", len(answer.Body), err)
	})
}

func TestSafeHTTP_RejectsEncodedBody(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 10<<20))
	z.Close()

	for _, encoding := range []string{"gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip"} {
		t.Run(encoding, func(t *testing.T) {
			client, _ := startServer(t, func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Content-Encoding", encoding)
				rw.Write(bomb.Bytes())
			})
			_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/", MaxBody: 1 << 20})
			wantFailure(t, steps, err, safehttp.Encoded, encoding)
		})
	}
	t.Run("the second of two headers", func(t *testing.T) {
		client := newRawClient(t, "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n\r\nx")
		_, steps, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		wantFailure(t, steps, err, safehttp.Encoded, "gzip")
	})
	t.Run("identity is none", func(t *testing.T) {
		client := newRawClient(t, "HTTP/1.1 200 OK\r\nContent-Encoding: Identity\r\n\r\nx")
		_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		assert.NoError(t, err)
	})
	t.Run("gzip bytes without the header stay as they are", func(t *testing.T) {
		client, _ := startServer(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/gzip")
			rw.Write(bomb.Bytes())
		})
		answer, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
		assert.True(t, err == nil && bytes.Equal(answer.Body, bomb.Bytes()),
			"body of %d bytes, %v, want %d", len(answer.Body), err, bomb.Len())
	})
}

func TestSafeHTTP_MalformedResponses(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		reason       safehttp.Reason
		errText      string
	}{
		{name: "nothing", answer: "", reason: safehttp.ReadFailed, errText: "closed before the end of the header"},
		{name: "half a header", answer: "HTTP/1.1 200 OK\r\nA:", reason: safehttp.ReadFailed,
			errText: "closed before the end of the header"},
		{name: "another protocol", answer: "SSH-2.0-OpenSSH_9.6\r\n", reason: safehttp.ReadFailed, errText: "malformed HTTP"},
		{name: "a status that is no number", answer: "HTTP/1.1 abc OK\r\n\r\n", reason: safehttp.ReadFailed, errText: "malformed"},
		{name: "an unasked change of protocol", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
			reason: safehttp.ReadFailed, errText: "status 101"},
		{name: "a body shorter than announced", answer: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", reason: safehttp.ReadFailed,
			errText: "unexpected EOF"},
		{name: "a length below zero", answer: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc", reason: safehttp.ReadFailed,
			errText: "Content-Length"},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", reason: safehttp.ReadFailed,
			errText: "Content-Length"},
		{name: "an unknown transfer encoding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", reason: safehttp.ReadFailed,
			errText: "transfer encoding"},
		{name: "a broken chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", reason: safehttp.ReadFailed,
			errText: "chunk"},
		{name: "a chunk of all memory", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nabc",
			reason: safehttp.ReadFailed, errText: "unexpected EOF"},
		{name: "an early hint before the answer", answer: "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabc"},
		{name: "HTTP/1.0 without a length", answer: "HTTP/1.0 200 OK\r\n\r\nabc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, steps, err := do(t, newRawClient(t, c.answer), safehttp.Request{URL: "http://h.example/"})
			if c.reason != "" {
				wantFailure(t, steps, err, c.reason, c.errText)
				return
			}
			assert.True(t, err == nil && answer.Status == 200 && string(answer.Body) == "abc",
				"response %d %q, %v, want 200 abc", answer.Status, answer.Body, err)
		})
	}
}

func TestSafeHTTP_ErrorTextSingleLine(t *testing.T) {
	for name, answer := range map[string]string{
		"status line": "HTTP/1.1 \x1b[31mred\u202e\x00 " + strings.Repeat("é", 5000) + "\r\n\r\n",
		"encoding":    "HTTP/1.1 200 OK\r\nContent-Encoding: \u202e" + strings.Repeat("é", 5000) + "\r\n\r\n",
		"location":    "HTTP/1.1 302 Found\r\nLocation: //" + strings.Repeat("é\u2028", 2000) + "/\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, steps, err := do(t, newRawClient(t, answer), safehttp.Request{URL: "http://h.example/"})
			require.True(t, err != nil, "Do succeeds, want an error")
			for _, step := range steps {
				assert.True(t, !strings.ContainsAny(step.Detail, "\n\r\x1b\x00\u202e\u2028") && utf8.RuneCountInString(step.Detail) <= 310,
					"step %q, want one printable line of at most 310 characters", step.Detail)
			}
		})
	}
}

func TestSafeHTTP_ErrorUnwrap(t *testing.T) {
	client, w := startServer(t, func(http.ResponseWriter, *http.Request) {})
	cause := errors.New("unplugged")
	client.Dial = nil
	client.Resolver = failingResolver{fmt.Errorf("lookup: %w", cause)}
	_, _, err := do(t, client, safehttp.Request{URL: "http://h.example/"})
	assert.ErrorIs(t, err, cause, "Do")
	assert.True(t, len(w.dialed) == 0, "dialed %v, want none", w.dialed)
}
