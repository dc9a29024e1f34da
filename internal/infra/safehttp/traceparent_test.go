package safehttp

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestTraceParent_Validation(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	for header, want := range map[string]string{
		"00-" + id + "-00f067aa0ba902b7-01":                       id,
		"00-" + id + "-00f067aa0ba902b7-00":                       id,
		"01-" + id + "-00f067aa0ba902b7-01-later":                 id,
		"00-" + id + "-00f067aa0ba902b7-01-later":                 "",
		"ff-" + id + "-00f067aa0ba902b7-01":                       "",
		"00-" + id + "-0000000000000000-01":                       "",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01": "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
		"00-" + id + "-00f067aa0ba902b7-01\r\nX-Other: 1":         "",
		"": "",
	} {
		ctx := WithTraceParent(t.Context(), header)
		assert.Equal(t, TraceID(ctx), want, "TraceID of %q", header)
		sent := ""
		if want != "" {
			sent = header
		}
		assert.Equal(t, (&Client{}).header(ctx, Request{}).Get("Traceparent"), sent, "header sent for %q", header)
	}
}
