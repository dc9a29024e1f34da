package digitallink

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestDigitalLinkMemory_SerialsFree resolves 20,000 serial numbers of a thousand GTINs with templates and verifies that the heap does not
// grow. A map entry per serial number would use ten times the limit of the test.
func TestDigitalLinkMemory_SerialsFree(t *testing.T) {
	const gtins, serials = 1000, 20_000
	entries, keys := map[string]*Entry{}, make([]string, gtins)
	for i := range gtins {
		digits := fmt.Sprintf("0950600%06d", i)
		e := require.Value(Parse(map[string]any{"key": "01/" + digits + string(gs1.CheckDigit(digits)), "links": []any{
			map[string]any{"linktype": "gs1:pip", "href": "https://brand.example/{01}/{21}", "title": "a unit", "default": true}}}))(t)
		entries[e.Key], keys[i] = &e, e.Key
	}
	b := &Service{Hosts: func() []string { return []string{"id.example"} }, Now: time.Now, entries: entries}
	handler := (&Resolver{Service: b, Scheme: func(*http.Request) string { return "https" }, Reserved: func(string) bool { return false },
		Opens: func(string) bool { return false }}).Middleware(http.NotFoundHandler())
	resolve := func(i int) {
		key, serial := keys[i%gtins], fmt.Sprintf("S%d", i)
		w := httptest.NewRecorder()
		q := httptest.NewRequest("GET", "https://id.example/"+key+"/21/"+serial, nil)
		handler.ServeHTTP(w, q)
		if want := "https://brand.example/" + key[len("01/"):] + "/" + serial; w.Code != 307 || w.Header().Get("Location") != want {
			t.Fatalf("%s: %d %q", q.URL, w.Code, w.Header().Get("Location"))
		}
	}
	resolve(0)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	for i := range serials {
		resolve(i)
	}
	// A serial in a map would take at least 100 bytes; the limit leaves room for unrelated growth.
	grown := heap() - before
	assert.True(t, grown <= serials*10, "the heap grew by %d bytes for %d serials, want at most %d", grown, serials, serials*10)
	assert.Equal(t, b.Len(), gtins, "keys")
}
