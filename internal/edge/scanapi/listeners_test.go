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

// post is a scan with more lines in its head.
func post(body string, lines ...string) string {
	return "POST /scan/v1/resolve HTTP/1.1\r\nHost: localhost\r\n" + strings.Join(append(lines, ""), "\r\n") +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// asked returns requests of every kind that lets two readers of HTTP disagree, some of them several on one connection: those of
// testdata/requests.txt, by their names, and long ones.
func asked(t *testing.T) map[string]string {
	requests := testtable.Map(t, "testdata/requests.txt")
	maps.Copy(requests, map[string]string{
		"two hundred, pipelined":  strings.Repeat(post(shopScan), 200),
		"16 KiB":                  post(`{"text":"` + strings.Repeat("x", 16<<10-11) + `"}`),
		"above 16 KiB":            post(`{"text":"` + strings.Repeat("x", 16<<10-10) + `"}`),
		"64 KiB":                  post(`{"text":"https://shop.example/t/` + strings.Repeat("/", 64<<10) + `"}`),
		"thousands of slashes":    post(`{"text":"https://shop.example/t` + strings.Repeat("/", 4000) + `"}`),
		"a long head":             post(shopScan, "X-A: "+strings.Repeat("a", 20_000)),
		"a head that is too long": post(shopScan, "X-A: "+strings.Repeat("a", 100_000)),
		"many lines":              post(shopScan, strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 500), "\r\n")),
		"a path that is too long": strings.Replace(post(shopScan), "resolve ", "resolve?"+strings.Repeat("a", 80_000)+" ", 1),
	})
	return requests
}

// Both listeners answer every request the same.
func TestScanListeners_IdenticalResponses(t *testing.T) {
	t.Parallel()
	shared := servertest.Start(t, servertest.Options{Seed: scanTown})
	own := servertest.Start(t, servertest.Options{Seed: scanTown, ScanListener: true})
	requests := asked(t)
	assert.True(t, len(requests) >= 140, "%d requests", len(requests))
	for name, raw := range requests {
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
	requests := asked(t)
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if len(requests[name]) <= 1<<10 {
			bases = append(bases, requests[name])
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
