package stats_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/domain/stats"
	"github.com/qrjump/qrjump/internal/eventlog/scanlog"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// A place has no name and no password of who was there.
func TestPlace_HostAndFirstSegment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://A.example/B/c?d":           "a.example/B",
		"https://a.example":                 "a.example",
		"https://a.example?b":               "a.example",
		"https://user:password@a.example":   "a.example",
		"https://user:password@a.example/b": "a.example/b",
		"https://user:password@a.example?b": "a.example",
		"a text":                            "(no link)",
	} {
		got, ok := stats.PlaceOf(&scanlog.Event{Text: text})
		assert.True(t, ok && got == want, "of %q %q %v, want %q", text, got, ok, want)
	}
}
