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

// Every statement that changes what an identity, or a list of rules, is read from says whose, or a caller would be remembered who is none
// any more. What runs while no server does, and so cannot be remembered, is named here.
func TestIdentityCache_StatementsInvalidate(t *testing.T) {
	changes := regexp.MustCompile(
		`(?i)(INSERT INTO|UPDATE|DELETE FROM) (accounts|access_tokens|grants|components|rules|publishes)\b|\b(account|token|grant|holder|component)Rows\.(add|put)\b`)
	files := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, 0)
		require.NoError(t, err)
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
			if f.Name.Name == "storeEdits" { // of the rules that EditHidden was given in the same transaction, and said whose
				continue
			}
			if !strings.Contains(text.String(), "t.touched.Add(") {
				t.Errorf("%s changes %s and does not say whose: t.touched.Add(appid)", f.Name.Name, changes.FindString(text.String()))
			}
		}
	}
	assert.True(t, found >= 14, "only %d functions were found: the test looks for something else than there is", found)
}

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
