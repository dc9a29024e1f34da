package api

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestNamedFields_MatchSource compares the fields in endpoints.go with those that the source reads. A field that an endpoint reads but
// does not list would be reported to callers as unknown; a listed field that no endpoint reads would never be validated.
func TestNamedFields_MatchSource(t *testing.T) {
	t.Parallel()
	unread := map[string]string{
		"/cgi-bin/component/api_get_authorizer_list component_appid": "read with the platform's token, before the endpoint",
		"/cgi-bin/component/api_create_preauthcode component_appid":  "the same",
		"/cgi-bin/component/api_query_auth component_appid":          "the same",
		"/cgi-bin/component/api_authorizer_token component_appid":    "the same",
		"/cgi-bin/component/api_get_authorizer_info component_appid": "the same",
		"/cgi-bin/component/clear_quota component_appid":             "the same",
	}
	reads := readFieldsByPath(t)
	require.True(t, len(reads) >= 30, "%d endpoints found in the source, want at least 30", len(reads))
	for _, e := range Describe() {
		path, read := e.Path, reads[e.Path]
		assert.True(t, read != nil, "%s has no function in the source", path)
		var named []string
		for _, f := range e.Fields {
			named = append(named, f.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(read)) {
			assert.True(t, slices.Contains(named, name), "%s reads %q, which its line in endpoints.go does not name", path, name)
		}
		for _, name := range named {
			key := path + " " + name
			assert.True(t, (unread[key] != "") != (read[name] != ""),
				"%s: %q is read by %q and has the reason %q, want one of both", path, name, read[name], unread[key])
			delete(unread, key)
		}
	}
	for key := range unread {
		t.Errorf("%s is not listed in endpoints.go", key)
	}
}

// typeByMethod maps a method of fields to the type that a page shows for the field.
var typeByMethod = map[string]string{"text": "string", "required": "string", "number": "number", "flag": "boolean", "numericFlag": "number",
	"texts": "array of string", "textOrNumber": "string", "object": "object"}

// TestCallPages_FieldTypesMatchSource compares the types of request fields on the pages of calls with the methods that read them.
func TestCallPages_FieldTypesMatchSource(t *testing.T) {
	t.Parallel()
	calls := map[string]guide.Call{}
	for _, c := range guide.Calls() {
		calls[c.Path] = c
	}
	reads, compared := readFieldsByPath(t), 0
	for _, e := range Describe() {
		for _, f := range e.Fields {
			want := typeByMethod[reads[e.Path][f.Name]]
			if want == "" {
				t.Logf("%s: unknown type of %q, which is read by %s", e.Path, f.Name, reads[e.Path][f.Name])
				continue
			}
			compared++
			assert.Equal(t, calls[e.Path].FieldType(f.Name), want, "%s: type of %q on the page", e.Path, f.Name)
		}
	}
	assert.True(t, compared >= 60, "%d fields were compared, want at least 60", compared)
}

// readFieldsByPath returns, by the path of each endpoint, the names of the fields that its function reads, itself or through functions
// that it passes them to, each with the method that reads it.
func readFieldsByPath(t *testing.T) map[string]map[string]string {
	t.Helper()
	files := require.Value(os.ReadDir("."))(t)
	bodies := map[string]*ast.FuncDecl{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed := require.Value(parser.ParseFile(gotoken.NewFileSet(), file.Name(), nil, parser.SkipObjectResolution))(t)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				bodies[f.Name.Name] = f
			}
		}
	}
	reads := map[string]map[string]string{}
	ast.Inspect(bodies["endpoints"], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 4 || isNamed(call.Fun, "append") {
			return true
		}
		path, _ := stringLiteral(call.Args[0])
		reads[path] = map[string]string{}
		ast.Inspect(call.Args[3], func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				collectFields(bodies, id.Name, reads[path], map[string]bool{})
			} else if reader, ok := n.(*ast.CallExpr); ok && isNamed(reader.Fun, "requiring") {
				field, _ := stringLiteral(reader.Args[0])
				reads[path][field] = "required"
			}
			return true
		})
		return true
	})
	return reads
}

// fieldMethods are the methods of fields that read a field by its name.
var fieldMethods = strings.Fields("raw peek isAbsent text required number flag numericFlag texts textOrNumber object")

// collectFields adds to fields what the function with a name reads.
func collectFields(bodies map[string]*ast.FuncDecl, name string, fields map[string]string, seen map[string]bool) {
	body := bodies[name]
	if body == nil || seen[name] {
		return
	}
	seen[name] = true
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		callee, method := "", false
		switch f := call.Fun.(type) {
		case *ast.Ident:
			callee = f.Name
		case *ast.SelectorExpr:
			callee, method = f.Sel.Name, isNamed(f.X, "f")
		}
		passed := slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return isNamed(arg, "f") })
		switch {
		case method && slices.Contains(fieldMethods, callee):
			if field, ok := stringLiteral(call.Args[0]); ok && (fields[field] == "" || typeByMethod[callee] != "") {
				fields[field] = callee
			}
		case method || passed:
			// The name of a field may be an argument, as that of a platform's secret is.
			for _, arg := range call.Args {
				if field, ok := stringLiteral(arg); ok && passed && fields[field] == "" {
					fields[field] = callee
				}
			}
			collectFields(bodies, callee, fields, seen)
		}
		return true
	})
}

func stringLiteral(e ast.Expr) (string, bool) {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == gotoken.STRING {
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	return "", false
}

func isNamed(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
