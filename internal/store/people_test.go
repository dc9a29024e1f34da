package store

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Users to whom a provider gives the same name sign in for the first time at once, while a local user is added by this name: each becomes a
// separate person, and no session belongs to another person.
func TestPeople_ConcurrentSameName(t *testing.T) {
	eachCluster(t, func(t *testing.T, nodes [2]*Store) {
		key, err := sealer.NewKey([]byte("0123456789abcdef0123456789abcdef"))
		require.NoError(t, err)
		var d [2]*iam.Service
		for i, s := range nodes {
			d[i] = &iam.Service{Store: s.People(), Vault: key, Random: rand.Reader, Now: func() time.Time { return at }}
		}
		const many = 12
		from := iam.Browser{IP: netip.MustParseAddr("192.0.2.1")}
		for round := range 10 {
			name, roles, sessions := fmt.Sprint("alice", round), [2]string{"viewer", "admin"}, [many]string{}
			var local iam.Person
			errs := race(many+1, func(i int) (err error) {
				if i == many {
					role := "operator"
					local, _, err = d[0].Add(t.Context(), name, iam.Change{Role: &role})
					return err
				}
				who := iam.FederatedUser{Issuer: "https://login.example", Subject: fmt.Sprint(round, "/", i), Names: []string{name},
					Role: roles[i%2]}
				sessions[i], err = d[i%2].SignInFederated(t.Context(), who, from, "")
				return err
			})
			require.True(t, errs[many] == nil || errs[many] == iam.ErrExists, "%v", errs[many])
			names := map[string]bool{}
			if errs[many] == nil {
				names[local.Name] = true
			}
			for i, text := range sessions {
				require.NoError(t, errs[i])
				c, err := d[0].BySession(t.Context(), text)
				require.NoErrorf(t, err, "round %d: the session of %d", round, i)
				require.True(t, c.Role == roles[i%2] && !names[c.Name],
					"round %d: %d signed in as %s, %s, want a name of its own and %s", round, i, c.Name, c.Role, roles[i%2])
				names[c.Name] = true
			}
		}
	})
}
