package console_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 30, Build 1: pages call the admin API by the client, which knows its paths. Past it go files alone, which are answered as
// they come; a new one is a new line here.
func TestPages_CallThroughClient(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	var past []string
	for _, f := range files {
		if name := f.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "client.go" {
			past = append(past, pastTheClient(t, name)...)
		}
	}
	slices.Sort(past)
	want := []string{"bulkFile passes a file", "caseSheet passes a file", "codeList passes a file",
		"download passes a file", "sendPackage passes a file"}
	assert.True(t, slices.Equal(past, want), "these go past the client: %q; want %q", past, want)
}

// pastTheClient are the places of a file that know a path of an API, make a request or pass an answer on, by their functions.
func pastTheClient(t *testing.T, name string) (found []string) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	require.NoError(t, err)
	for _, d := range file.Decls {
		in := name
		if f, is := d.(*ast.FuncDecl); is {
			in = f.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				for _, api := range []string{`"/admin/v1`, "`/admin/v1", `"/scan/v1`, "`/scan/v1"} {
					if strings.HasPrefix(n.Value, api) {
						found = append(found, fmt.Sprintf("%s knows the path %s", in, n.Value))
					}
				}
			case *ast.SelectorExpr:
				switch of, _ := n.X.(*ast.Ident); {
				case n.Sel.Name == "forward":
					found = append(found, in+" passes a file")
				case of != nil && of.Name == "operations" && n.Sel.Name == "Base", strings.HasPrefix(n.Sel.Name, "NewRequest"),
					n.Sel.Name == "API", n.Sel.Name == "Scan" && of == nil:
					found = append(found, in+" uses "+n.Sel.Name)
				}
			}
			return true
		})
	}
	return found
}
