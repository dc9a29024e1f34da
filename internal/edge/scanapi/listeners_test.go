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
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

const shopScan = `{"text":"https://shop.example/t/7"}`

// resolveRequest returns a scan request with additional header lines.
func resolveRequest(body string, lines ...string) string {
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, ""), "\r\n") +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// listRequests returns by name requests on which two HTTP parsers may disagree, some of them pipelined: those of testdata/requests.txt and
// long ones.
func listRequests(t *testing.T) map[string]string {
	requests := testtable.Map(t, "testdata/requests.txt")
	maps.Copy(requests, map[string]string{
		"two hundred, pipelined":  strings.Repeat(resolveRequest(shopScan), 200),
		"16 KiB":                  resolveRequest(`{"text":"` + strings.Repeat("x", 16<<10-11) + `"}`),
		"above 16 KiB":            resolveRequest(`{"text":"` + strings.Repeat("x", 16<<10-10) + `"}`),
		"64 KiB":                  resolveRequest(`{"text":"https://shop.example/t/` + strings.Repeat("/", 64<<10) + `"}`),
		"thousands of slashes":    resolveRequest(`{"text":"https://shop.example/t` + strings.Repeat("/", 4000) + `"}`),
		"a long head":             resolveRequest(shopScan, "X-A: "+strings.Repeat("a", 20_000)),
		"a head that is too long": resolveRequest(shopScan, "X-A: "+strings.Repeat("a", 100_000)),
		"many lines":              resolveRequest(shopScan, strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 500), "\r\n")),
		"a path that is too long": strings.Replace(resolveRequest(shopScan), "resolve ", "resolve?"+strings.Repeat("a", 80_000)+" ", 1),
	})
	return requests
}

// TestScanListeners_IdenticalResponses verifies that both listeners answer every request in the same way.
func TestScanListeners_IdenticalResponses(t *testing.T) {
	t.Parallel()
	shared := servertest.Start(t, servertest.Options{Seed: townSeed})
	dedicated := servertest.Start(t, servertest.Options{Seed: townSeed, ScanListener: true})
	requests := listRequests(t)
	assert.True(t, len(requests) >= 140, "%d requests, want at least 140", len(requests))
	for name, raw := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, got := exchange(t, shared, raw), exchange(t, dedicated, raw)
			if name == "CONNECT" || name == "another's absolute path" { // with --dev the shared listener is a proxy (decision 66)
				assert.True(t, strings.HasPrefix(want, "403 ") && got != want, "want %.300s\ngot  %.300s", want, got)
				return
			}
			assert.True(t, got == want, "%.200q\nwant %.3000s\ngot  %.3000s", raw, want, got)
		})
	}
}

// TestScanListeners_IdenticalResponsesRandomized compares the fast path with a scan listener of net/http on mutated requests, without and
// with a scan key. LISTENER_REQUESTS sets their number, LISTENER_SEED the seed.
func TestScanListeners_IdenticalResponsesRandomized(t *testing.T) {
	t.Parallel()
	count, seed := 2000, uint64(12)
	if text := os.Getenv("LISTENER_REQUESTS"); text != "" {
		count, _ = strconv.Atoi(text)
	}
	if text := os.Getenv("LISTENER_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	const keyPlaceholder = "THE-KEY"
	type endpoint struct {
		*servertest.Server
		key string
	}
	start := func(guarded, netHTTP bool) endpoint {
		s := servertest.Start(t, servertest.Options{Seed: townSeed, Guarded: guarded, ScanListener: true, NoFastPath: netHTTP})
		if guarded {
			return endpoint{s, s.NewKey("/scan-keys", `{"name":"app"}`)}
		}
		return endpoint{s, keyPlaceholder}
	}
	netHTTP, fastPath := []endpoint{start(false, true), start(true, true)}, []endpoint{start(false, false), start(true, false)}

	var bases []string
	requests := listRequests(t)
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if len(requests[name]) <= 1<<10 {
			bases = append(bases, requests[name])
		}
	}
	for _, raw := range slices.Clone(bases) {
		bases = append(bases, strings.Replace(raw, "\r\n", "\r\nAuthorization: Bearer "+keyPlaceholder+"\r\n", 1))
	}
	var next, failures atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(count) && failures.Load() < 10; n = next.Add(1) - 1 {
				raw := mutate(rand.New(rand.NewPCG(seed, uint64(n))), bases)
				send := func(e endpoint) string {
					return exchange(t, e.Server, strings.ReplaceAll(raw, keyPlaceholder, e.key))
				}
				want, got := send(netHTTP[n%2]), send(fastPath[n%2])
				// A response can be lost when the server closes a connection with unread bytes.
				for retry := 0; got != want && retry < 2; retry++ {
					want, got = send(netHTTP[n%2]), send(fastPath[n%2])
				}
				if got != want {
					failures.Add(1)
					t.Errorf("request %d of seed %d: %q\nwant (net/http)  %.2000s\ngot  (fast path) %.2000s", n, seed, raw, want, got)
				}
			}
		})
	}
	workers.Wait()
	served := readCounter(t, fastPath[0].Server, "qrjump_scan_fastpath_requests_total")
	assert.True(t, served != "0", "the fast path served no request")
}

// fragments are inserted by mutate.
var fragments = []string{"\r\n", "\n", "\r", " ", "\t", ":", ",", ";", "0", "\x00", "\x7f", "\xff", "{}", "\r\n\r\n", "POST ", " HTTP/1.1",
	" HTTP/1.0", "2\r\n{}\r\n0\r\n\r\n",
	"Content-Length: 2\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
	"Connection: keep-alive\r\n", "Host: localhost\r\n", "Host: evil.example\r\n",
	"Expect: 100-continue\r\n", "Upgrade: h2c\r\n", "Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n",
	"Content-Type: application/x-ndjson\r\n", "Authorization: Bearer x\r\n", "X-A: b\r\n", " folded\r\n"}

// mutate returns a random base, or two in a row, with a few random changes.
func mutate(r *rand.Rand, bases []string) string {
	b := []byte(bases[r.IntN(len(bases))])
	for range 1 + r.IntN(4) {
		from := r.IntN(len(b) + 1)
		if r.IntN(2) == 0 { // at the beginning of a line
			from = max(0, bytes.LastIndexByte(b[:from], '\n')+1)
		}
		to := min(len(b), from+1+r.IntN(12))
		switch r.IntN(8) {
		case 0, 1, 2:
			b = slices.Insert(b, from, []byte(fragments[r.IntN(len(fragments))])...)
		case 3:
			b = slices.Delete(b, from, to)
		case 4:
			b = slices.Insert(b, from, slices.Clone(b[from:to])...)
		case 5:
			if from < len(b) {
				b[from] = byte(r.IntN(256))
			}
		case 6: // copies a line
			if end := bytes.IndexByte(b[from:], '\n'); end >= 0 {
				line := slices.Clone(b[from : from+end+1])
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
