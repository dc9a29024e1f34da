package fastpath

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// FuzzHead verifies that net/http parses every accepted head in the same way, and that no prefix of a head is accepted as complete.
func FuzzHead(f *testing.F) {
	const plain = "POST /scan/v1/resolve HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\nAuthorization: Bearer qrs_x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 12\r\n\r\n"
	f.Add([]byte(plain))
	for _, line := range []string{"Content-Length: 12\r\n", "Transfer-Encoding: chunked\r\n", "Host: b\r\n", "Expect: 100-continue\r\n",
		" folded\r\n", "X : a\r\n", "Authorization: Bearer y\r\n", "Connection: upgrade\r\n", "x\n", "Content-Length:\t5\r\n",
		"Content-Type: a/NDJSON\r\n", "Origin: x\r\n"} {
		f.Add([]byte(strings.Replace(plain, "User-Agent: x\r\n", line, 1)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &Listener{MaxBody: 16 << 10, Streams: "ndjson", requestLine: "POST /scan/v1/resolve HTTP/1.1\r\n"}
		h, ok := l.readHead(b)
		if !ok || h.size == 0 {
			return
		}
		got := h.size
		require.True(t, got > 0 && got <= len(b) && bytes.HasSuffix(b[:got], []byte("\r\n\r\n")),
			"%q: head of %d bytes, want one that ends with an empty line", b, got)
		for _, cut := range []int{h.size - 1, h.size / 2, 1} {
			part, ok := l.readHead(b[:cut])
			require.True(t, ok && part.size <= 0, "readHead of the first %[2]d bytes of %[1]q = %[3]v, %[4]t, want incomplete", b, cut,
				part, ok)
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		require.NoErrorf(t, err, "http.ReadRequest(%q)", b)
		key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		require.True(t, r.Method == "POST" && r.RequestURI == "/scan/v1/resolve" && r.ProtoMajor == 1 && r.ProtoMinor == 1 &&
			r.Host == string(h.host) && r.ContentLength == int64(h.length) && len(r.TransferEncoding) <= 0 && len(r.Trailer) <= 0 &&
			r.Close == h.last && key == string(h.key) && len(r.Header["Authorization"]) <= 1 && len(r.Header["Content-Length"]) <= 1 &&
			r.Header.Get("Expect")+r.Header.Get("Origin")+r.Header.Get("Sec-Fetch-Site")+r.Header.Get("Upgrade") == "",
			"readHead(%q)\ngot  %+v\nwant %+v", b, h, r)
	})
}
