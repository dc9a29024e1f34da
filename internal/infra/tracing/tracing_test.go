package tracing

import (
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

func TestHeader_Validation(t *testing.T) {
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
		ctx := WithParent(t.Context(), header)
		assert.Equal(t, ID(ctx), want, "ID of %q", header)
		sent := ""
		if want != "" {
			sent = header
		}
		assert.Equal(t, Header(ctx), sent, "Header for %q", header)
	}
}
