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

// TestPages_CallThroughClient verifies that pages call the admin API through the client, which alone knows its paths. The exceptions are
// functions that pass on a file unchanged; a new one must be added here.
func TestPages_CallThroughClient(t *testing.T) {
	t.Parallel()
	files := require.Value(os.ReadDir("."))(t)
	var calls []string
	for _, f := range files {
		if name := f.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "client.go" {
			calls = append(calls, findDirectCalls(t, name)...)
		}
	}
	slices.Sort(calls)
	want := []string{"bulkFile passes a file", "caseSheet passes a file", "codeList passes a file",
		"download passes a file", "sendPackage passes a file"}
	assert.True(t, slices.Equal(calls, want), "these go past the client: %q; want %q", calls, want)
}

// findDirectCalls returns the functions of a source file that contain a path of an API, create a request or pass on a response.
func findDirectCalls(t *testing.T, name string) (found []string) {
	file := require.Value(parser.ParseFile(token.NewFileSet(), name, nil, 0))(t)
	for _, d := range file.Decls {
		function := name
		if f, ok := d.(*ast.FuncDecl); ok {
			function = f.Name.Name
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				for _, api := range []string{`"/admin/v1`, "`/admin/v1", `"/scan/v1`, "`/scan/v1"} {
					if strings.HasPrefix(n.Value, api) {
						found = append(found, fmt.Sprintf("%s knows the path %s", function, n.Value))
					}
				}
			case *ast.SelectorExpr:
				switch receiver, _ := n.X.(*ast.Ident); {
				case n.Sel.Name == "forward":
					found = append(found, function+" passes a file")
				case receiver != nil && receiver.Name == "adminroute" && n.Sel.Name == "Base", strings.HasPrefix(n.Sel.Name, "NewRequest"),
					n.Sel.Name == "API", n.Sel.Name == "Scan" && receiver == nil:
					found = append(found, function+" uses "+n.Sel.Name)
				}
			}
			return true
		})
	}
	return found
}
