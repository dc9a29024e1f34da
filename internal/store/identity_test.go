package store

import (
	"crypto/rand"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/infra/sealer"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestIdentityCache_StatementsInvalidate verifies that each function of the package that changes a table from which identities or rules are
// cached invalidates the cache entries of the account. Otherwise a revoked identity would stay valid.
func TestIdentityCache_StatementsInvalidate(t *testing.T) {
	changes := regexp.MustCompile(
		`(?i)(INSERT INTO|UPDATE|DELETE FROM) (accounts|access_tokens|grants|components|rules|publishes)\b|\b(account|token|grant|holder|component)Rows\.(add|put)\b`)
	files := token.NewFileSet()
	names := require.Value(filepath.Glob("*.go"))(t)
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file := require.Value(parser.ParseFile(files, name, nil, 0))(t)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			var text strings.Builder
			require.NoError(t, printer.Fprint(&text, files, f))
			if !changes.MatchString(text.String()) {
				continue
			}
			found++
			if f.Name.Name == "storeEdits" { // EditHidden invalidates the entries in the same transaction
				continue
			}
			if !strings.Contains(text.String(), "t.touched.Add(") {
				t.Errorf("%s changes %s and does not call t.touched.Add(appid)", f.Name.Name, changes.FindString(text.String()))
			}
		}
	}
	assert.True(t, found >= 14, "%d functions found, want at least 14", found)
}

// TestPeople_ConcurrentSameName signs in federated users with the same name for the first time, while a local user with the name is added.
// Each becomes a separate person, and no session belongs to another person.
func TestPeople_ConcurrentSameName(t *testing.T) {
	forEachCluster(t, func(t *testing.T, nodes [2]*Store) {
		key := require.Value(sealer.NewKey([]byte("0123456789abcdef0123456789abcdef")))(t)
		var d [2]*iam.Service
		for i, s := range nodes {
			d[i] = &iam.Service{Store: s.People(), Vault: key, Random: rand.Reader, Now: func() time.Time { return t0 }}
		}
		const users = 12
		browser := iam.Browser{IP: netip.MustParseAddr("192.0.2.1")}
		for round := range 10 {
			name, roles, sessions := fmt.Sprint("alice", round), [2]string{"viewer", "admin"}, [users]string{}
			var local iam.Person
			errs := race(users+1, func(i int) (err error) {
				if i == users {
					role := "operator"
					local, _, err = d[0].Add(t.Context(), name, iam.Change{Role: &role})
					return err
				}
				user := iam.FederatedUser{Issuer: "https://login.example", Subject: fmt.Sprint(round, "/", i), Names: []string{name},
					Role: roles[i%2]}
				sessions[i], err = d[i%2].SignInFederated(t.Context(), user, browser, "")
				return err
			})
			require.True(t, errs[users] == nil || errs[users] == iam.ErrExists, "Add() = %v, want nil or %v", errs[users], iam.ErrExists)
			names := map[string]bool{}
			if errs[users] == nil {
				names[local.Name] = true
			}
			for i, session := range sessions {
				require.NoError(t, errs[i])
				c, err := d[0].BySession(t.Context(), session)
				require.NoErrorf(t, err, "round %d: the session of user %d", round, i)
				require.True(t, c.Role == roles[i%2] && !names[c.Name],
					"round %d: user %d signs in as %s with role %s, want a unique name and role %s", round, i, c.Name, c.Role, roles[i%2])
				names[c.Name] = true
			}
		}
	})
}
