package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// lastWriteRecorder is an http.ResponseWriter that keeps only the last write.
type lastWriteRecorder struct {
	header http.Header
	body   []byte
}

func (s *lastWriteRecorder) Header() http.Header             { return s.header }
func (s *lastWriteRecorder) WriteHeader(int)                 {}
func (s *lastWriteRecorder) SetReadDeadline(time.Time) error { return nil }

func (s *lastWriteRecorder) SetWriteDeadline(time.Time) error { return nil }

func (s *lastWriteRecorder) Write(b []byte) (int, error) {
	s.body = append(s.body[:0], b...)
	return len(b), nil
}

// wireCalls returns frequent wire calls, by path: each function makes the call once, in the process.
func wireCalls(t testing.TB, dev bool) map[string]func() {
	seed := strings.ReplaceAll(brewery, "rule_rate_limit: null", `rule_rate_limit: null, default_rate_limit: null, daily_limits: {
    /intp/marketcode/tickettocode: 1000000000, /intp/marketcode/codeactivequery: 1000000000, /cgi-bin/wxopen/qrcodejumpget: 1000000000}`)
	w := brandServer{servertest.Start(t, servertest.Options{Seed: seed, Guarded: !dev,
		Config: func(c *server.Config) { c.CodePrefix = "B.EXAMPLE/" }}), t}
	key := w.NewKey("/scan-keys", `{"name":"app","namespace":"phones"}`)
	handler := server.WireHandler(w.Server.Server)
	id := w.apply("one", 10_000)
	w.activate(id, 0, 9999)
	ticket := w.callScan("resolve", "ann", w.code(id, 7).CodeURL, "Authorization: Bearer "+key).ticket()
	w.RegisterSecret(ticket)
	namespace := "phones"
	if dev {
		namespace = ""
	}
	calls := map[string]func(){}
	for _, c := range []struct{ account, path, body string }{
		{"brand", "/intp/marketcode/tickettocode",
			fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, w.openid(namespace, "shop", "ann"), ticket)},
		{"brand", "/intp/marketcode/codeactivequery", fmt.Sprintf(`{"application_id":%d,"code_index":7}`, id)},
		{"shop", "/cgi-bin/wxopen/qrcodejumpget", `{"get_type":0}`},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+c.path+"?access_token="+w.Token(c.account), nil)
		r.ContentLength, r.RemoteAddr = int64(len(c.body)), "127.0.0.1:1" // an address that the accounts allow
		answer := &lastWriteRecorder{header: http.Header{}}
		calls[c.path] = func() {
			request := *r
			request.Body = io.NopCloser(strings.NewReader(c.body))
			handler.ServeHTTP(answer, &request)
			require.True(t, strings.HasPrefix(string(answer.body), `{"errcode":0,`), "%s: %s", c.path, answer.body)
		}
	}
	return calls
}

// TestWire_AllocsPerCall verifies that a frequent wire call makes at most 60 allocations.
func TestWire_AllocsPerCall(t *testing.T) {
	for _, dev := range []bool{false, true} {
		for path, call := range wireCalls(t, dev) {
			for range 10 {
				call()
			}
			n := testing.AllocsPerRun(2000, call)
			for tries := 0; n > 60 && tries < 5; tries++ { // other goroutines of the process allocate too
				n = min(n, testing.AllocsPerRun(2000, call))
			}
			assert.True(t, n <= 60, "%s with --dev %t makes %.0f allocations, want at most 60", path, dev, n)
		}
	}
}
