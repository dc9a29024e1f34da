package server_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/qrjump/qrjump/internal/infra/tracing/otlp"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// spanCollector is an OTLP collector that stores the spans that it receives.
type spanCollector struct {
	mu    sync.Mutex
	spans []*trace.Span
}

func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var got collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &got) != nil {
		http.Error(w, "not an export", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range got.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
}

// find returns the first span of a trace with a name and with one of the parents; without parents, any span with the name.
func (c *spanCollector) find(id, name string, parents ...*trace.Span) *trace.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		below := func(p *trace.Span) bool { return p != nil && string(p.SpanId) == string(s.ParentSpanId) }
		if hex.EncodeToString(s.TraceId) == id && s.Name == name && (parents == nil || slices.ContainsFunc(parents, below)) {
			return s
		}
	}
	return nil
}

// TestTracing_CallTransactionMessage verifies that a trace connects a call with its transactions, and a scan with its message in the stream
// and with its aggregation.
func TestTracing_CallTransactionMessage(t *testing.T) {
	t.Parallel()
	spans := &spanCollector{}
	backend := httptest.NewServer(spans)
	t.Cleanup(backend.Close)
	recorder := require.Value(otlp.New(backend.URL, "test"))(t)
	stream := startStream(t)
	s := servertest.Start(t, servertest.Options{Seed: brand, Config: func(c *server.Config) { c.ScanStream, c.Tracing = stream, recorder }})
	const call, scan = "4bf92f3577b34da6a3ce929d0e0e4736", "5bf92f3577b34da6a3ce929d0e0e4737"
	parent := func(id string) string { return "Traceparent: 00-" + id + "-00f067aa0ba902b7-01" }
	s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("shop"), "{}", parent(call)).WantCode(t, 0, "a call")
	s.Admin("GET", "/accounts", "").WantStatus(t, 200, "an operation")
	c := &scanCounter{s, t, ""}
	key := s.NewKey("/scan-keys", `{"name":"app"}`)
	c.RegisterSecret(key)
	c.Send(c.Request("POST", "/scan/v1/resolve", `{"text":"https://nowhere.example/"}`, "Authorization: Bearer "+key, parent(scan))).
		WantStatus(t, 200, "a scan")
	c.wantScans("after a scan", 1)
	s.Stop()

	request := spans.find(call, "POST /cgi-bin/wxopen/qrcodejumpget")
	require.True(t, request != nil, "no span of the call in %v", spans.spans)
	assert.Equal(t, hex.EncodeToString(request.ParentSpanId), "00f067aa0ba902b7", "parent of the call's span")
	assert.True(t, spans.find(call, "read transaction", request) != nil, "no span of the call's transaction in %v", spans.spans)
	resolve := spans.find(scan, "resolve scan")
	publish := spans.find(scan, "publish scan", resolve)
	assert.True(t, spans.find(scan, "count scan", publish) != nil, "no span of the count in %v", spans.spans)
	listed := slices.ContainsFunc(spans.spans, func(s *trace.Span) bool { return s.Name == "listAccounts" })
	assert.True(t, listed, "no span of an operation")
	for _, id := range []string{call, scan} {
		assert.True(t, strings.Contains(s.Log(), " trace_id="+id) == (id == call), "log lines with the trace id %s", id)
	}
}

// TestTracing_CollectorUnreachable verifies that an unreachable collector causes one log line and no failed call.
func TestTracing_CollectorUnreachable(t *testing.T) {
	t.Parallel()
	backend := httptest.NewServer(http.NotFoundHandler())
	backend.Close()
	recorder := require.Value(otlp.New(backend.URL, "test"))(t)
	s := servertest.Start(t, servertest.Options{Seed: brand, Config: func(c *server.Config) { c.Tracing = recorder }})
	s.Admin("GET", "/accounts", "").WantStatus(t, 200, "an operation")
	s.Stop()
	assert.Equal(t, strings.Count(s.Log(), "spans cannot be exported"), 1, "lines about the export")
	for _, endpoint := range []string{"", "127.0.0.1:4318", "ftp://collector", "http://"} {
		assert.Equal(t, assert.ErrorOf(otlp.New(endpoint, "test")), otlp.ErrEndpoint, "New(%q)", endpoint)
	}
}
