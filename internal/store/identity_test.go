package store

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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
