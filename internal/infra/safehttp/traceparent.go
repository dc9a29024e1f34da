package safehttp

import (
	"context"
	"regexp"
)

// traceParent is the form of a traceparent header: version, trace id, parent id, flags. https://www.w3.org/TR/trace-context/
var traceParent = regexp.MustCompile(`\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?\z`)

type traceKey struct{}

// WithTraceParent returns a context with the traceparent header of a request. Do sends the header on, unchanged, because this program
// records no spans. An invalid header is ignored.
func WithTraceParent(ctx context.Context, header string) context.Context {
	if len(header) > 256 {
		return ctx
	}
	parts := traceParent.FindStringSubmatch(header)
	const noTrace, noSpan = "00000000000000000000000000000000", "0000000000000000"
	if parts == nil || parts[1] == "ff" || parts[1] == "00" && parts[4] != "" || parts[2] == noTrace || parts[3] == noSpan {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, header)
}

// TraceID returns the trace id of the request that ctx belongs to; "" = none.
func TraceID(ctx context.Context) string {
	header, ok := ctx.Value(traceKey{}).(string)
	if !ok {
		return ""
	}
	return traceParent.FindStringSubmatch(header)[2]
}
