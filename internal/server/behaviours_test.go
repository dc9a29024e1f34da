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

// The admin API answers the whole table, and says which evidence is old by the server's clock.
func TestBehaviors_ListEndpoint(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Emulator: true})
	c, err := client.New(s.URL, client.Options{AdminToken: servertest.AdminToken})
	require.NoError(t, err)
	old := func() (ids []string) {
		list, err := c.Behaviours.List(t.Context())
		require.True(t, err == nil && len(list) == len(behaviour.All()), "%d behaviours, %v", len(list), err)
		for i, one := range list {
			want := behaviour.All()[i]
			assert.True(t, one.ID == want.ID && one.EvidenceLevel == string(want.Evidence) && one.English == want.Description().English() &&
				one.Chinese == want.Description().Chinese() && one.Source == want.Source && one.Date == want.Date &&
				one.Until == want.Until && one.Section == want.Section, "got %+v, want %+v", one, want)
			if one.Old {
				ids = append(ids, one.ID)
			}
		}
		return ids
	}
	before := old()
	s.Admin("PUT", "/emulator/clock", `{"now":"2040-01-01T00:00:00Z"}`)
	after := old()
	assert.True(t, len(after) > len(before) && !slices.Contains(before, "wire.method.post") && slices.Contains(after, "wire.method.post"),
		"old in 2026: %q, in 2040: %q", before, after)
}
