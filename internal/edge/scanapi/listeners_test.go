package scanapi_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

const shopScan = `{"text":"https://shop.example/t/7"}`

// post is a scan with more lines in its head.
func post(body string, lines ...string) string {
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, ""), "\r\n") +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// bare is a scan whose head has only these lines.
func bare(body string, lines ...string) string {
	return "POST /scan/v1/resolve HTTP/1.1\r\n" + strings.Join(append(lines, "", ""), "\r\n") + body
}

// asked are requests of every kind that lets two readers of HTTP disagree, some of them several on one connection.
var asked = map[string]string{
	"a scan":                    post(shopScan),
	"two, pipelined":            post(shopScan) + post(`{"text":"x"}`),
	"two hundred, pipelined":    strings.Repeat(post(shopScan), 200),
	"close":                     post(shopScan, "Connection: close") + post(shopScan),
	"keep-alive":                post(shopScan, "Connection: Keep-Alive") + post(shopScan),
	"another connection header": post(shopScan, "Connection: keep-alive, x") + post(shopScan),
	"names in capitals":         strings.Replace(post(shopScan), "Content-Length", "CONTENT-LENGTH", 1),
	"no length":                 "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"chunks": "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" +
		`{"text":"https:/` + "\r\n12\r\n" + `/shop.example/t/7"` + "\r\n1\r\n}\r\n0\r\n\r\n",
	"chunks and a length":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	"broken chunks":             "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"two lengths":               post(shopScan, "Content-Length: 3"),
	"two equal lengths":         post(shopScan, fmt.Sprintf("Content-Length: %d", len(shopScan))),
	"a signed length":           "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}",
	"a negative length":         "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
	"a length of nothing":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length:\r\n\r\n{}",
	"a length with zeros":       "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 00002\r\n\r\n{}",
	"a length of 0":             "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
	"less than the length":      "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{}",
	"16 KiB":                    post(`{"text":"` + strings.Repeat("x", 16<<10-11) + `"}`),
	"above 16 KiB":              post(`{"text":"` + strings.Repeat("x", 16<<10-10) + `"}`),
	"64 KiB":                    post(`{"text":"https://shop.example/t/` + strings.Repeat("/", 64<<10) + `"}`),
	"thousands of slashes":      post(`{"text":"https://shop.example/t` + strings.Repeat("/", 4000) + `"}`),
	"no host":                   "POST /scan/v1/resolve HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
	"two hosts":                 post(shopScan, "Host: localhost"),
	"a strange host":            "POST /scan/v1/resolve HTTP/1.1\r\nHost: a/b\r\nContent-Length: 2\r\n\r\n{}",
	"a host that is not ours":   "POST /scan/v1/resolve HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}",
	"a host with a port":        "POST /scan/v1/resolve HTTP/1.1\r\nHost: 127.0.0.1:99\r\nContent-Length: 2\r\n\r\n{}",
	"another origin":            post(shopScan, "Origin: https://evil.example"),
	"a browser's other site":    post(shopScan, "Sec-Fetch-Site: cross-site"),
	"a browser's own site":      post(shopScan, "Sec-Fetch-Site: same-origin"),
	"expects a permission":      post(shopScan, "Expect: 100-continue"),
	"expects something else":    post(shopScan, "Expect: a-pony"),
	"an upgrade":                post(shopScan, "Connection: Upgrade", "Upgrade: websocket"),
	"HTTP/1.0":                  strings.Replace(post(shopScan), "HTTP/1.1", "HTTP/1.0", 1),
	"HTTP/2.0":                  strings.Replace(post(shopScan), "HTTP/1.1", "HTTP/2.0", 1),
	"bare newlines":             strings.ReplaceAll(post(shopScan), "\r\n", "\n"),
	"a folded line":             post(shopScan, "X-A: b\r\n c"),
	"a space before the colon":  post(shopScan, "X-A : b"),
	"no colon":                  post(shopScan, "X-A"),
	"a control character":       post(shopScan, "X-A: \x01"),
	"a name with a byte":        post(shopScan, "X-\xff: a"),
	"a value with a byte":       post(shopScan, "X-A: \xff"),
	"a long name":               post(shopScan, strings.Repeat("X", 300)+": a"),
	"a long head":               post(shopScan, "X-A: "+strings.Repeat("a", 20_000)),
	"a head that is too long":   post(shopScan, "X-A: "+strings.Repeat("a", 100_000)),
	"many lines":                post(shopScan, strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 500), "\r\n")),
	"GET":                       "GET /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"OPTIONS *":                 "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"with a query":              strings.Replace(post(shopScan), "resolve", "resolve?a=b", 1),
	"with a slash more":         strings.Replace(post(shopScan), "/scan", "//scan", 1),
	"with dots":                 strings.Replace(post(shopScan), "/v1", "/./v1", 1),
	"an absolute path":          strings.Replace(post(shopScan), "/scan", "http://localhost/scan", 1),
	"another call":              strings.Replace(post(shopScan), "resolve", "resolv", 1),
	"a longer call":             strings.Replace(post(shopScan), "resolve", "resolves", 1),
	"explain, then resolve":     strings.Replace(post(shopScan), "resolve", "explain", 1) + post(shopScan),
	"resolve, then explain":     post(shopScan) + strings.Replace(post(shopScan), "resolve", "explain", 1) + post(shopScan),
	"NDJSON":                    post(shopScan+"\n"+shopScan, "Content-Type: application/x-ndjson"),
	"NDJSON in capitals":        post(shopScan+"\n"+shopScan, "Content-Type: APPLICATION/X-NDJSON;a=b"),
	"another type":              post(shopScan, "Content-Type: text/plain"),
	"two types":                 post(shopScan, "Content-Type: application/json", "Content-Type: application/x-ndjson"),
	"a wrong body":              post(`{"text":7}`) + post(shopScan),
	"no JSON":                   post(`hello`) + post(shopScan),
	"a key although none wants": post(shopScan, "Authorization: Bearer x"),
	"another authorization":     post(shopScan, "Authorization: Basic eDp5"),
	"nothing":                   "",
	"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"garbage":                   "\x00\x00\x00\x00\r\n\r\n",
	"half a line":               "POST /scan",
	"half a head":               "POST /scan/v1/resolve HTTP/1.1\r\nHost: local",
	// Lengths and codings together.
	"chunks, then a length": bare("2\r\n{}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost", "Transfer-Encoding: chunked",
		"Content-Length: 12"),
	"a length that covers a request": bare(post(shopScan), "Host: localhost", fmt.Sprintf("Content-Length: %d", len(post(shopScan)))),
	"a length, a request in the chunks": bare("0\r\n\r\n"+post(shopScan), "Host: localhost", "Content-Length: 5",
		"Transfer-Encoding: chunked"),
	"chunks in capitals": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding: CHUNKED"),
	"chunks with a space before the colon": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding : chunked",
		"Content-Length: 2"),
	"chunks behind a tab":     bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding:\tchunked"),
	"chunks on a folded line": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding:\r\n chunked"),
	"chunks twice": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding: chunked",
		"Transfer-Encoding: chunked"),
	"chunks and identity": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding: chunked",
		"Transfer-Encoding: identity"),
	"chunks in a list":                  bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding: gzip, chunked"),
	"identity and a length":             bare("{}", "Host: localhost", "Transfer-Encoding: identity", "Content-Length: 2"),
	"an unknown coding and a length":    bare("{}", "Host: localhost", "Transfer-Encoding: xchunked", "Content-Length: 2"),
	"an empty coding and a length":      bare("{}", "Host: localhost", "Transfer-Encoding:", "Content-Length: 2"),
	"a coding with a control character": bare("{}", "Host: localhost", "Transfer-Encoding: \x0bchunked", "Content-Length: 2"),
	"a coding's name with a byte":       bare("{}", "Host: localhost", "Transfer\x00-Encoding: chunked", "Content-Length: 2"),
	"chunks with an extension": bare("2;a=b\r\n{}\r\n0;c\r\n\r\n"+post(shopScan), "Host: localhost",
		"Transfer-Encoding: chunked"),
	"chunks with a quoted extension": bare("2;a=\"\r\n{}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost",
		"Transfer-Encoding: chunked"),
	"chunks with bare newlines": bare("2\n{}\n0\n\n"+post(shopScan), "Host: localhost", "Transfer-Encoding: chunked"),
	"chunks with a sign":        bare("+2\r\n{}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost", "Transfer-Encoding: chunked"),
	"chunks with 0x": bare("0x2\r\n{}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost",
		"Transfer-Encoding: chunked"),
	"chunks with zeros": bare("0000000000000002\r\n{}\r\n000\r\n\r\n"+post(shopScan), "Host: localhost",
		"Transfer-Encoding: chunked"),
	"a chunk of 2^64 and 2": bare("10000000000000002\r\n{}\r\n0\r\n\r\n", "Host: localhost",
		"Transfer-Encoding: chunked"),
	"a chunk that is longer": bare("2\r\n{} \r\n0\r\n\r\n", "Host: localhost", "Transfer-Encoding: chunked"),
	"chunks without an end":  bare("2\r\n{}\r\n", "Host: localhost", "Transfer-Encoding: chunked"),
	"chunks with a trailer": bare("2\r\n{}\r\n0\r\nContent-Length: 3\r\n\r\n"+post(shopScan), "Host: localhost",
		"Trailer: Content-Length", "Transfer-Encoding: chunked"),
	"chunks in HTTP/1.0": strings.Replace(bare("2\r\n{}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost",
		"Transfer-Encoding: chunked"), "HTTP/1.1", "HTTP/1.0", 1),
	"two lengths in one line":                bare("{}", "Host: localhost", "Content-Length: 2, 2"),
	"two other lengths in one line":          bare("{}", "Host: localhost", "Content-Length: 2, 3"),
	"equal lengths, spelled otherwise":       bare("{}", "Host: localhost", "Content-Length: 2", "Content-Length: 02"),
	"a length in hexadecimal":                bare("{}", "Host: localhost", "Content-Length: 0x2"),
	"a length with a space in it":            bare("{}", "Host: localhost", "Content-Length: 1 2"),
	"a length with a point":                  bare("{}", "Host: localhost", "Content-Length: 2.0"),
	"a length above 2^63":                    bare("{}", "Host: localhost", "Content-Length: 9223372036854775808"),
	"a length above 2^64":                    bare("{}", "Host: localhost", "Content-Length: 18446744073709551618"),
	"a length of other digits":               bare("{}", "Host: localhost", "Content-Length: \u0662"),
	"a length behind a tab":                  bare("{}", "Host: localhost", "Content-Length:\t2\t"),
	"a length on a folded line":              bare("{}", "Host: localhost", "Content-Length:\r\n 2"),
	"a length with a space before the colon": bare("{}", "Host: localhost", "Content-Length : 2"),
	"a length with an underscore":            bare("{}", "Host: localhost", "Content_Length: 2"),
	"more than the length":                   bare("{}{}", "Host: localhost", "Content-Length: 2"),
	// Line ends and empty lines.
	"an empty line first":              "\r\n" + post(shopScan),
	"an empty line between":            post(shopScan) + "\r\n" + post(shopScan),
	"a newline between":                post(shopScan) + "\n" + post(shopScan),
	"two empty lines between":          post(shopScan) + "\r\n\r\n" + post(shopScan),
	"three empty lines between":        post(shopScan) + "\r\n\r\n\r\n" + post(shopScan),
	"an empty line at the end":         post(shopScan) + "\r\n",
	"empty lines between more":         post(shopScan) + "\r\n" + post(shopScan) + "\r\n\r\n" + post(shopScan) + "\n\n",
	"an empty line, then a GET":        post(shopScan) + "\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"a GET, then an empty line":        "GET /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n" + post(shopScan),
	"a space between":                  post(shopScan) + " " + post(shopScan),
	"two bytes at the end":             post(shopScan) + "PO",
	"four bytes at the end":            post(shopScan) + "POST",
	"a line end and a byte at the end": post(shopScan) + "\r\nP",
	"one bare newline":                 strings.Replace(post(shopScan), "localhost\r\n", "localhost\n", 1),
	"a bare return":                    post(shopScan, "X-A: b\rX-C: d"),
	"two returns":                      post(shopScan, "X-A: b\r"),
	"a folded length":                  post(shopScan, "Content-Length:", " 3"),
	"a folded first line":              strings.Replace(post(shopScan), "\r\nHost", "\r\n Host", 1),
	"a zero byte in a value":           post(shopScan, "X-A: b\x00c"),
	"an empty name":                    post(shopScan, ": b"),
	"a name in brackets":               post(shopScan, "X(A): b"),
	// Request lines.
	"HTTP/0.9":                     "POST /scan/v1/resolve\r\n\r\n",
	"HTTP/1.2":                     strings.Replace(post(shopScan), "HTTP/1.1", "HTTP/1.2", 1),
	"http/1.1":                     strings.Replace(post(shopScan), "HTTP/1.1", "http/1.1", 1),
	"HTTP/1.01":                    strings.Replace(post(shopScan), "HTTP/1.1", "HTTP/1.01", 1),
	"two spaces":                   strings.Replace(post(shopScan), "POST ", "POST  ", 1),
	"a tab":                        strings.Replace(post(shopScan), "POST ", "POST\t", 1),
	"a space at the end":           strings.Replace(post(shopScan), "HTTP/1.1", "HTTP/1.1 ", 1),
	"a method in small":            strings.Replace(post(shopScan), "POST", "post", 1),
	"a method with a byte":         strings.Replace(post(shopScan), "POST", "PO\x01ST", 1),
	"a fragment":                   strings.Replace(post(shopScan), "resolve ", "resolve#a ", 1),
	"an escaped letter":            strings.Replace(post(shopScan), "resolve ", "%72esolve ", 1),
	"a broken escape":              strings.Replace(post(shopScan), "resolve ", "resolve%zz ", 1),
	"a path that is too long":      strings.Replace(post(shopScan), "resolve ", "resolve?"+strings.Repeat("a", 80_000)+" ", 1),
	"another's absolute path":      strings.Replace(post(shopScan), "/scan", "http://evil.example/scan", 1),
	"an absolute path and no host": strings.Replace(bare("{}", "Content-Length: 2"), "/scan", "http://localhost/scan", 1),
	"CONNECT":                      "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(shopScan),
	"the HTTP/2 preface":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	// Heads that change what a request means.
	"HTTP/1.0, kept alive":        strings.Replace(post(shopScan, "Connection: keep-alive"), "HTTP/1.1", "HTTP/1.0", 1) + post(shopScan),
	"HTTP/1.0 without a host":     "POST /scan/v1/resolve HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
	"a length that is hop by hop": post(shopScan, "Connection: Content-Length"),
	"close and keep-alive":        post(shopScan, "Connection: close", "Connection: keep-alive") + post(shopScan),
	"close in a list":             post(shopScan, "Connection: x, close") + post(shopScan),
	"CLOSE":                       post(shopScan, "Connection: CLOSE") + post(shopScan),
	"an empty connection":         post(shopScan, "Connection:") + post(shopScan),
	"an upgrade to HTTP/2": post(shopScan, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
		"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
	"expects in capitals": post(shopScan, "Expect: 100-CONTINUE") + post(shopScan),
	"expects and no body": bare("", "Host: localhost", "Expect: 100-continue", "Content-Length: 0"),
	"expects, in chunks": bare("2\r\n{}\r\n0\r\n\r\n", "Host: localhost", "Expect: 100-continue",
		"Transfer-Encoding: chunked") + post(shopScan),
	"TE":                       post(shopScan, "TE: trailers"),
	"an empty host":            bare("{}", "Host:", "Content-Length: 2"),
	"a host with a space":      bare("{}", "Host: local host", "Content-Length: 2"),
	"a host with a user":       bare("{}", "Host: a@localhost", "Content-Length: 2"),
	"a host in capitals":       bare("{}", "Host: LOCALHOST", "Content-Length: 2"),
	"a host that is forwarded": post(shopScan, "X-Forwarded-Host: evil.example", "X-HTTP-Method-Override: GET"),
	// Streams.
	"NDJSON in chunks": bare("c\r\n{\"text\":\"x\"}\r\n0\r\n\r\n"+post(shopScan), "Host: localhost",
		"Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"),
	"NDJSON that breaks off":         bare(shopScan+"\n{", "Host: localhost", "Content-Type: application/x-ndjson", "Content-Length: 99"),
	"NDJSON that breaks off at once": bare("", "Host: localhost", "Content-Type: application/x-ndjson", "Content-Length: 99"),
	"NDJSON in broken chunks": bare("c\r\n{\"text\":\"x\"}zz0\r\n\r\n"+post(shopScan), "Host: localhost",
		"Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"),
	"NDJSON, then a scan": post(shopScan+"\n", "Content-Type: application/x-ndjson") + post(shopScan),
	"NDJSON of nothing":   post("", "Content-Type: application/x-ndjson") + post(shopScan),
}

// Both listeners answer every request the same.
func TestScanListeners_IdenticalResponses(t *testing.T) {
	t.Parallel()
	shared := servertest.Start(t, servertest.Options{Seed: scanTown})
	own := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	assert.True(t, len(asked) >= 140, "%d requests", len(asked))
	for name, raw := range asked {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, got := told(t, shared, raw), told(t, own, raw)
			if name == "CONNECT" || name == "another's absolute path" { // with --dev the wire's listener is a proxy (decision 66)
				assert.True(t, strings.HasPrefix(want, "403 ") && got != want, "shared %.300s\nown    %.300s", want, got)
				return
			}
			assert.True(t, got == want, "%.200q\nshared %.3000s\nown    %.3000s", raw, want, got)
		})
	}
}

// The same over requests that chance made of them, without and with a scan key: LISTENER_REQUESTS says how many, LISTENER_SEED which. The
// yardstick is a scan listener of net/http alone.
func TestScanListeners_IdenticalResponsesRandomized(t *testing.T) {
	t.Parallel()
	count, seed := 2000, uint64(12)
	if text := os.Getenv("LISTENER_REQUESTS"); text != "" {
		count, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("LISTENER_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	type pair struct{ bare, lane *servertest.Server }
	start := func(guarded bool) (p pair) {
		for _, s := range []**servertest.Server{&p.bare, &p.lane} {
			*s = servertest.Start(t, servertest.Options{Seed: scanTown, Guarded: guarded, ScanListener: true, NoLane: s == &p.bare})
		}
		return p
	}
	open, guarded := start(false), start(true)
	key := func(s *servertest.Server) string {
		return s.NewKey("/scan-keys", `{"name":"app"}`)
	}
	bareKey, laneKey := key(guarded.bare), key(guarded.lane)

	var bases []string
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if len(asked[name]) <= 1<<10 {
			bases = append(bases, asked[name])
		}
	}
	const stands = "THE-KEY"
	for _, raw := range slices.Clone(bases) {
		bases = append(bases, strings.Replace(raw, "\r\n", "\r\nAuthorization: Bearer "+stands+"\r\n", 1))
	}
	var next, wrong atomic.Int64
	var working sync.WaitGroup
	for range 4 {
		working.Go(func() {
			for n := next.Add(1) - 1; n < int64(count) && wrong.Load() < 10; n = next.Add(1) - 1 {
				raw := mutated(rand.New(rand.NewPCG(seed, uint64(n))), bases)
				on, with := open, [2]string{stands, stands}
				if n%2 == 1 {
					on, with = guarded, [2]string{bareKey, laneKey}
				}
				ask := func() (want, got string) {
					return told(t, on.bare, strings.ReplaceAll(raw, stands, with[0])),
						told(t, on.lane, strings.ReplaceAll(raw, stands, with[1]))
				}
				want, got := ask()
				// A connection that is closed with something unread can take an answer with it.
				for again := 0; got != want && again < 2; again++ {
					want, got = ask()
				}
				if got != want {
					wrong.Add(1)
					t.Errorf("request %d of seed %d: %q\nnet/http %.2000s\nthe lane %.2000s", n, seed, raw, want, got)
				}
			}
		})
	}
	working.Wait()
	assert.True(t, counter(t, open.lane, "qrjump_scan_fastpath_requests_total") != "0", "the lane answered none of them")
}

// pieces are what a request is disturbed with.
var pieces = []string{"\r\n", "\n", "\r", " ", "\t", ":", ",", ";", "0", "\x00", "\x7f", "\xff", "{}", "\r\n\r\n", "POST ", " HTTP/1.1",
	" HTTP/1.0", "2\r\n{}\r\n0\r\n\r\n",
	"Content-Length: 2\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
	"Connection: keep-alive\r\n", "Host: localhost\r\n", "Host: evil.example\r\n",
	"Expect: 100-continue\r\n", "Upgrade: h2c\r\n", "Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n",
	"Content-Type: application/x-ndjson\r\n", "Authorization: Bearer x\r\n", "X-A: b\r\n", " folded\r\n"}

// mutated is a request, or two behind each other, with a few disturbances.
func mutated(r *rand.Rand, bases []string) string {
	b := []byte(bases[r.IntN(len(bases))])
	for range 1 + r.IntN(4) {
		at := r.IntN(len(b) + 1)
		if r.IntN(2) == 0 { // at the beginning of a line
			at = max(0, bytes.LastIndexByte(b[:at], '\n')+1)
		}
		upTo := min(len(b), at+1+r.IntN(12))
		switch r.IntN(8) {
		case 0, 1, 2:
			b = slices.Insert(b, at, []byte(pieces[r.IntN(len(pieces))])...)
		case 3:
			b = slices.Delete(b, at, upTo)
		case 4:
			b = slices.Insert(b, at, slices.Clone(b[at:upTo])...)
		case 5:
			if at < len(b) {
				b[at] = byte(r.IntN(256))
			}
		case 6: // a line twice, or elsewhere
			if end := bytes.IndexByte(b[at:], '\n'); end >= 0 {
				line := slices.Clone(b[at : at+end+1])
				b = slices.Insert(b, bytes.LastIndexByte(b[:r.IntN(len(b)+1)], '\n')+1, line...)
			}
		case 7:
			if other := bases[r.IntN(len(bases))]; len(b)+len(other) < 3<<10 {
				b = append(b, other...)
			}
		}
	}
	if r.IntN(10) == 0 {
		b = b[:r.IntN(len(b)+1)]
	}
	return string(b)
}
