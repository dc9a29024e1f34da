package chaos_test

import (
	"cmp"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otel "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// span is an exported span, and the name of the node that exported it.
type span struct {
	*otel.Span
	node string
}

// spanCollector collects exported spans by their trace ids.
type spanCollector struct {
	mu     sync.Mutex
	traces map[string][]span
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
		node := ""
		for _, a := range resource.Resource.Attributes {
			if a.Key == "service.instance.id" {
				node = a.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				id := hex.EncodeToString(s.TraceId)
				c.traces[id] = append(c.traces[id], span{s, node})
			}
		}
	}
}

// TestTracing_ScanAcrossNodes verifies that one trace connects the scan of a code on a node with its transactions, with the message in the
// stream, and with the count on the other node. make pictures writes the trace as an SVG file for the documents to PICTURES_DIR.
func TestTracing_ScanAcrossNodes(t *testing.T) {
	spans := &spanCollector{traces: map[string][]span{}}
	backend := httptest.NewServer(spans)
	t.Cleanup(backend.Close)
	s := newStream(t)
	s.start()
	c := newCluster(t, newDatabase(t), spaceSeed, 2)
	c.otlpEndpoint, c.scanStream = backend.URL, fmt.Sprintf("nats://%s?flush=vouched", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	c.start()
	c.waitUntilReady()
	admin := c.nodes[0].admin()
	key := admin.scanKey("app")
	brand := admin.stableToken("brand")
	batch := admin.apply(brand, "tea", 10_000)
	admin.activate(brand, batch, 10_000, "shop")
	scan := func(n *node, index int, traceParent string) {
		t.Helper()
		body := fmt.Sprintf(`{"text":%q,"user":"u-1"}`, admin.codeText(batch, int64(index)))
		waitFor(t, "the node to know the scan key and the code", func() bool {
			address := n.serverURL() + "/scan/v1/resolve"
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Traceparent", traceParent)
			resp, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			return resp.StatusCode == http.StatusOK && strings.Contains(string(text), `"open_mini_program"`)
		})
	}
	id := func(index int) string { return fmt.Sprintf("4bf92f3577b34da6a3ce929d%08x", index+1) }
	counter := c.nodes[1].admin() // statistics wait for the counts, so this node counts, too
	const scans = 12
	for index := range scans {
		scan(c.nodes[0], index, "00-"+id(index)+"-00f067aa0ba902b7-01")
		var counted map[string]any
		counter.get("/admin/v1/statistics?wait=true", &counted)
	}
	c.stop() // exports the remaining spans

	// The picture shows the shortest trace: in the others, the nodes waited longer before the next read of the stream.
	trace := spans.traces[id(0)]
	for index := range scans {
		if other := spans.traces[id(index)]; countNodes(other) == 2 && (countNodes(trace) < 2 || duration(other) < duration(trace)) {
			trace = other
		}
	}
	find := func(name, node string, kind otel.Span_SpanKind, parent *span) *span {
		t.Helper()
		for _, s := range trace {
			if s.Name == name && s.node == node && s.Kind == kind && (parent == nil || string(s.ParentSpanId) == string(parent.SpanId)) {
				return &s
			}
		}
		t.Fatalf("the trace has no span %q of %s: %v", name, node, trace)
		return nil
	}
	request := find("resolve scan", "node1", otel.Span_SPAN_KIND_SERVER, nil)
	find("store code scan", "node1", otel.Span_SPAN_KIND_CLIENT, request)
	publish := find("publish scan", "node1", otel.Span_SPAN_KIND_PRODUCER, request)
	find("count scan", "node2", otel.Span_SPAN_KIND_CONSUMER, publish)
	picture := waterfall(trace)
	var document struct{}
	require.NoError(t, xml.Unmarshal(picture, &document))
	assert.True(t, len(picture) <= 150<<10, "the picture has %d bytes, want at most 150 KB", len(picture))
	if folder := os.Getenv("PICTURES_DIR"); folder != "" {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "trace.svg"), picture, 0o644))
	}
}

// countNodes returns the number of nodes that have spans in a trace.
func countNodes(trace []span) int {
	names := map[string]bool{}
	for _, s := range trace {
		names[s.node] = true
	}
	return len(names)
}

// duration returns the nanoseconds from the start of the first span to the end of the last span.
func duration(trace []span) uint64 {
	begin, end := uint64(math.MaxUint64), uint64(0)
	for _, s := range trace {
		begin, end = min(begin, s.StartTimeUnixNano), max(end, s.EndTimeUnixNano)
	}
	return end - begin
}

// systems names the other side of a span by its kind.
var systems = map[otel.Span_SpanKind]string{otel.Span_SPAN_KIND_SERVER: "HTTP", otel.Span_SPAN_KIND_CLIENT: "PostgreSQL",
	otel.Span_SPAN_KIND_PRODUCER: "NATS", otel.Span_SPAN_KIND_CONSUMER: "NATS"}

// waterfall draws the spans of a trace as an SVG picture with a row for each span, a child below its parent.
func waterfall(trace []span) []byte {
	const (
		width, top, rowHeight    = 900, 40, 30
		nodeLeft, systemLeft     = 210, 275
		left, right              = 380, 800 // start and end of the trace
		tick, indent, barMinimum = 5, 18, 2
	)
	slices.SortFunc(trace, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano), cmp.Compare(a.node, b.node))
	})
	type row struct {
		span
		depth int
	}
	var rows []row
	known := map[string]bool{}
	for _, s := range trace {
		known[string(s.SpanId)] = true
	}
	var add func(parent string, depth int)
	add = func(parent string, depth int) {
		for _, s := range trace {
			if string(s.ParentSpanId) == parent || depth == 0 && !known[string(s.ParentSpanId)] {
				rows = append(rows, row{s, depth})
				add(string(s.SpanId), depth+1)
			}
		}
	}
	add("none", 0)
	begin := trace[0].StartTimeUnixNano
	end := begin + duration(trace)
	step := uint64(math.Pow(10, math.Floor(math.Log10(float64(end-begin)/2))))
	for (end-begin)/step > tick {
		step *= 2
	}
	x := func(moment uint64) float64 { return left + float64(moment-begin)/float64(end-begin)*(right-left) }
	milliseconds := func(n uint64) string { return strconv.FormatFloat(math.Round(float64(n)/1e3)/1e3, 'f', -1, 64) + " ms" }
	height := top + len(rows)*rowHeight + 14
	var b strings.Builder
	// Attributes have the light colours, and the style the dark ones. The background keeps the text readable on any page.
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="sans-serif" font-size="13">
<title>%s</title>
<style>@media (prefers-color-scheme: dark) { .page { fill: #16191d } .text { fill: #e8eaed } .line { stroke: #3a4048 }
.node1 { fill: #4aa8e0 } .node2 { fill: #f0924a } }</style>
<rect class="page" width="%d" height="%d" rx="6" fill="#ffffff"/>
`, width, height, width, height, html.EscapeString(rows[0].Name), width, height)
	for moment := begin; moment <= end; moment += step {
		fmt.Fprintf(&b, `<path class="line" d="M%.1f %dV%d" stroke="#d5d9de"/><text class="text" x="%.1f" y="%d" text-anchor="middle" fill="#1c1f23">%s</text>
`, x(moment), top-8, height-10, x(moment), top-16, milliseconds(moment-begin))
	}
	for i, r := range rows {
		y := top + i*rowHeight
		from, to := x(r.StartTimeUnixNano), x(r.EndTimeUnixNano)
		fmt.Fprintf(&b, `<text class="text" y="%d" fill="#1c1f23"><tspan x="%d">%s</tspan><tspan x="%d">%s</tspan><tspan x="%d">%s</tspan><tspan x="%.1f">%s</tspan></text>
<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d" rx="1" fill="%s"/>
`, y+19, 16+r.depth*indent, html.EscapeString(r.Name), nodeLeft, html.EscapeString(r.node), systemLeft, systems[r.Kind],
			max(to, from+barMinimum)+6, milliseconds(r.EndTimeUnixNano-r.StartTimeUnixNano), html.EscapeString(r.node), from, y+6,
			max(to-from, barMinimum), rowHeight-12, map[string]string{"node1": "#0072b2", "node2": "#c14f00"}[r.node])
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}
