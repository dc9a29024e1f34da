package safeyaml

import (
	"reflect"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func TestMarshal_TextsStayTexts(t *testing.T) {
	for _, text := range []string{"", "? a", "?", ".inf", "-.INF", "+.inf", ".nan", ".NaN", "~", "null", "yes", "1", "0x1f", "1_000",
		"2026-01-31", "- a", "a: b", "a #b", "#", "*a", "&a", "!a", "<<", "=", "%a", "---", "...", "a\tb", "\t", "a\nb", "a\n\nb\n", " a",
		"a\r\nb", "\n", "\ta\nb", "a\n \n", "a\n  b", "a ", "\"a\"", "'", "\\", "<&>", "\u2028", "中文"} {
		value := map[string]any{"key": text, "list": []any{text, map[string]any{"key": text}}}
		written := require.Value(Marshal(value))(t)
		var read any
		require.NoError(t, yaml.Unmarshal(written, &read))
		assert.True(t, reflect.DeepEqual(read, any(value)), "Marshal(%q) = %s, which reads as %q, want the texts", value, written, read)
	}
}
