// Package otlp exports spans by the OpenTelemetry protocol over HTTP.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/qrjump/qrjump/internal/infra/tracing"
)

// Recorder implements tracing.Recorder with the OpenTelemetry SDK. The SDK reads its standard environment variables, such as
// OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_HEADERS.
type Recorder struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	exporter *loggedExporter
}

// loggedExporter logs the first of consecutive failed exports, and the first successful export after them.
type loggedExporter struct {
	sdktrace.SpanExporter
	log     atomic.Pointer[slog.Logger]
	failing atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter. A failure is not returned, because the SDK would log it once more.
func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if log := e.log.Load(); e.failing.Swap(err != nil) != (err != nil) && log != nil {
		if err != nil {
			log.WarnContext(ctx, "spans cannot be exported and are dropped; check --otlp-endpoint", "error", err)
		} else {
			log.InfoContext(ctx, "spans are exported again")
		}
	}
	return nil
}

// ErrEndpoint is returned for an endpoint that is not an http or https URL.
var ErrEndpoint = errors.New("want an http or https address of a collector, such as http://127.0.0.1:4318")

// New returns a Recorder that exports to an http or https URL. If the URL has no path, the Recorder adds /v1/traces. New does not
// connect: a failed export is logged.
func New(endpoint, version string) (*Recorder, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ErrEndpoint
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter := &loggedExporter{SpanExporter: otlptrace.NewUnstarted(otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(u.String())))}
	about, err := resource.Merge(resource.NewSchemaless(attribute.String("service.name", "qrjump"),
		attribute.String("service.version", version)), resource.Environment())
	if err != nil {
		return nil, fmt.Errorf("reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Recorder{provider, provider.Tracer("github.com/qrjump/qrjump"), exporter}, nil
}

// Close implements tracing.Recorder.
func (r *Recorder) Close(ctx context.Context) error { return r.provider.Shutdown(ctx) }

// SetLogger implements tracing.Recorder.
func (r *Recorder) SetLogger(log *slog.Logger) {
	r.exporter.log.Store(log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("OpenTelemetry error", "error", err) }))
}

// Handler implements tracing.Recorder.
func (r *Recorder) Handler(next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "request", otelhttp.WithTracerProvider(r.provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(_ string, req *http.Request) string { return req.Method }))
}

// Describe implements tracing.Recorder.
func (r *Recorder) Describe(ctx context.Context, name string, attrs ...slog.Attr) {
	span := trace.SpanFromContext(ctx)
	span.SetName(name)
	span.SetAttributes(attributes(attrs)...)
}

// attributes returns the OpenTelemetry attributes for attrs, with values as text.
func attributes(attrs []slog.Attr) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		list = append(list, attribute.String(a.Key, a.Value.String()))
	}
	return list
}

// Start implements tracing.Recorder.
func (r *Recorder) Start(ctx context.Context, kind tracing.Kind, name string, attrs ...slog.Attr) (context.Context, func(error)) {
	kinds := [...]trace.SpanKind{tracing.Client: trace.SpanKindClient, tracing.Producer: trace.SpanKindProducer,
		tracing.Consumer: trace.SpanKindConsumer}
	ctx, span := r.tracer.Start(ctx, name, trace.WithSpanKind(kinds[kind]), trace.WithAttributes(attributes(attrs)...))
	return ctx, func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Header implements tracing.Recorder.
func (r *Recorder) Header(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

// Continue implements tracing.Recorder.
func (r *Recorder) Continue(ctx context.Context, header string) context.Context {
	return tracing.WithRecorder(propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": header}), r)
}
