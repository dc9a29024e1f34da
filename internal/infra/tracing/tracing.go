// Package tracing carries the trace context of a request, and begins spans if the program exports them.
package tracing

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// Kind is the relation of a span to other processes, as OpenTelemetry defines it.
type Kind int

// Kinds of spans: the client of a database, and the producer and the consumer of a message.
const (
	Client Kind = iota
	Producer
	Consumer
)

// Recorder records spans. The methods of a Recorder are safe for concurrent use.
type Recorder interface {
	// Handler returns a handler that records a span for each request to next. The span continues the trace of the header traceparent.
	Handler(next http.Handler) http.Handler
	// Describe sets the name and the attributes of the span in ctx.
	Describe(ctx context.Context, name string, attrs ...slog.Attr)
	// Start begins a child span of the span in ctx. Start returns a context with the new span, and a function that ends the new span and
	// records the error of its operation.
	Start(ctx context.Context, kind Kind, name string, attrs ...slog.Attr) (context.Context, func(error))
	// Header returns the traceparent header of the span in ctx; "" = none.
	Header(ctx context.Context) string
	// Continue returns a context in which Start begins spans below the span of a valid traceparent header.
	Continue(ctx context.Context, header string) context.Context
	// SetLogger sets the logger for failures of the export.
	SetLogger(log *slog.Logger)
	// Close exports the remaining spans, until ctx ends.
	Close(ctx context.Context) error
}

// traceParent is the form of a traceparent header: version, trace id, parent id, flags. https://www.w3.org/TR/trace-context/
var traceParent = regexp.MustCompile(`\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?\z`)

// headerKey is the context key of the traceparent header of a request, and recorderKey is the context key of the Recorder.
type (
	headerKey   struct{}
	recorderKey struct{}
)

// WithParent returns a context with the traceparent header of a request, for a program that records no spans. An invalid header is
// ignored.
func WithParent(ctx context.Context, header string) context.Context {
	if traceID(header) == "" {
		return ctx
	}
	return context.WithValue(ctx, headerKey{}, header)
}

// WithRecorder returns a context in which Start records spans.
func WithRecorder(ctx context.Context, r Recorder) context.Context {
	return context.WithValue(ctx, recorderKey{}, r)
}

// recorder returns the Recorder in ctx; nil = none.
func recorder(ctx context.Context) Recorder {
	r, _ := ctx.Value(recorderKey{}).(Recorder)
	return r
}

// Start begins a span with the Recorder in ctx. Without a Recorder, Start returns ctx and a function without effect.
func Start(ctx context.Context, kind Kind, name string, attrs ...slog.Attr) (context.Context, func(error)) {
	if r := recorder(ctx); r != nil {
		return r.Start(ctx, kind, name, attrs...)
	}
	return ctx, func(error) {}
}

// Describe sets the name and the attributes of the request's span. All requests of one API operation have the same span name.
func Describe(ctx context.Context, name string, attrs ...slog.Attr) {
	if r := recorder(ctx); r != nil {
		r.Describe(ctx, name, attrs...)
	}
}

// Header returns the traceparent header for requests and messages that ctx causes; "" = none.
func Header(ctx context.Context) string {
	if r := recorder(ctx); r != nil {
		return r.Header(ctx)
	}
	header, _ := ctx.Value(headerKey{}).(string)
	return header
}

// ID returns the trace id of the request that ctx belongs to; "" = none.
func ID(ctx context.Context) string { return traceID(Header(ctx)) }

// traceID returns the trace id in a traceparent header; "" = the header is not valid.
func traceID(header string) string {
	if header == "" || len(header) > 256 {
		return ""
	}
	parts := traceParent.FindStringSubmatch(header)
	const noTrace, noSpan = "00000000000000000000000000000000", "0000000000000000"
	if parts == nil || parts[1] == "ff" || parts[1] == "00" && parts[4] != "" || parts[2] == noTrace || parts[3] == noSpan {
		return ""
	}
	return parts[2]
}

// maxMessages is the maximum number of messages whose trace context waits in Messages.
const maxMessages = 4096

// Messages maps messages that wait in a log on disk to the trace contexts of the requests that caused them. Messages exists only in
// memory: after a restart, waiting messages are published without trace context. The zero value is ready for use, a nil *Messages
// stays empty, and the methods are safe for concurrent use.
type Messages[K comparable] struct {
	mu      sync.Mutex
	headers map[K]string
}

// Keep stores the trace context of ctx for a message, if the trace is sampled and fewer than maxMessages wait.
func (m *Messages[K]) Keep(ctx context.Context, id K) {
	if m == nil {
		return
	}
	header := Header(ctx)
	if !strings.HasSuffix(header, "-01") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.headers == nil {
		m.headers = map[K]string{}
	}
	if len(m.headers) < maxMessages {
		m.headers[id] = header
	}
}

// Take removes and returns the trace context of a message; "" = none.
func (m *Messages[K]) Take(id K) string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	header := m.headers[id]
	delete(m.headers, id)
	return header
}
