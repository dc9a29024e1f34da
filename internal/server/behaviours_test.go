package server_test

import (
	"slices"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestBehaviors_ListEndpoint verifies that the admin API lists every behaviour and marks evidence as old by the server's clock.
func TestBehaviors_ListEndpoint(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Emulator: true})
	c := require.Value(client.New(s.URL, client.Options{AdminToken: servertest.AdminToken}))(t)
	listOld := func() (ids []string) {
		list, err := c.Behaviours.List(t.Context())
		require.True(t, err == nil && len(list) == len(behaviour.All()), "%d behaviours, %v", len(list), err)
		for i, got := range list {
			want := behaviour.All()[i]
			assert.True(t, got.ID == want.ID && got.EvidenceLevel == string(want.Evidence) && got.English == want.Description().English() &&
				got.Chinese == want.Description().Chinese() && got.Source == want.Source && got.Date == want.Date &&
				got.Until == want.Until && got.Section == want.Section, "got %+v, want %+v", got, want)
			if got.Old {
				ids = append(ids, got.ID)
			}
		}
		return ids
	}
	before := listOld()
	s.Admin("PUT", "/emulator/clock", `{"now":"2040-01-01T00:00:00Z"}`)
	after := listOld()
	assert.True(t, len(after) > len(before) && !slices.Contains(before, "wire.method.post") && slices.Contains(after, "wire.method.post"),
		"old in 2026: %q, in 2040: %q", before, after)
}
