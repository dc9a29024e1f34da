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

// TestNamedFields_MatchSource holds the list of fields that pages name against the source: a field that an endpoint reads and the list
// lacks would be reported to callers as unknown, and one that no endpoint reads says nothing when it is wrong.
func TestNamedFields_MatchSource(t *testing.T) {
	t.Parallel()
	unread := map[string]string{
		"/cgi-bin/component/api_get_authorizer_list component_appid": "read with the platform's token, before the endpoint",
		"/cgi-bin/component/api_create_preauthcode component_appid":  "the same",
		"/cgi-bin/component/api_query_auth component_appid":          "the same",
		"/cgi-bin/component/api_authorizer_token component_appid":    "the same",
		"/cgi-bin/component/api_get_authorizer_info component_appid": "the same",

		"/cgi-bin/component/clear_quota component_appid": "the same",
	}
	reads := fieldsRead(t)
	require.True(t, len(reads) >= 30, "%d endpoints found in the source", len(reads))
	for _, e := range Describe() {
		path, read := e.Path, reads[e.Path]
		assert.True(t, read != nil, "%s is not found in the source", path)
		var named []string
		for _, f := range e.Fields {
			named = append(named, f.Name)
		}
		for _, name := range slices.Sorted(maps.Keys(read)) {
			assert.True(t, slices.Contains(named, name), "%s reads %q, which its line in endpoints.go does not name", path, name)
		}
		for _, name := range named {
			key := path + " " + name
			reason := unread[key]
			assert.True(t, (reason != "") != (read[name] != ""), "%s: %q is read by %q, with the reason %q", path, name, read[name], reason)
			delete(unread, key)
		}
	}
	for key := range unread {
		t.Errorf("%s is not named", key)
	}
}

// typeRead is what a page says of a field that is read so.
var typeRead = map[string]string{"text": "string", "required": "string", "number": "number", "flag": "boolean", "numericFlag": "number",
	"texts": "array of string", "textOrNumber": "string", "object": "object"}

// TestCallPages_FieldTypesMatchSource holds the types of requests' fields on the pages of calls against how the source reads them.
func TestCallPages_FieldTypesMatchSource(t *testing.T) {
	t.Parallel()
	calls := map[string]guide.Call{}
	for _, c := range guide.Calls() {
		calls[c.Path] = c
	}
	reads, held := fieldsRead(t), 0
	for _, e := range Describe() {
		for _, f := range e.Fields {
			said := calls[e.Path].FieldType(f.Name)
			read := typeRead[reads[e.Path][f.Name]]
			if read == "" {
				t.Logf("%s: how %q is read is not seen: %s", e.Path, f.Name, reads[e.Path][f.Name])
				continue
			}
			held++
			assert.True(t, said == read, "%s: the page says that %q is %q, the source reads a %s", e.Path, f.Name, said, read)
		}
	}
	assert.True(t, held >= 60, "only %d fields were held", held)
}

// fieldsRead are the names that each endpoint's function looks up in the fields of a
// call, itself or through functions that it hands them to, each with what reads it.
func fieldsRead(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	bodies := map[string]*ast.FuncDecl{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file.Name(), nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				bodies[f.Name.Name] = f
			}
		}
	}
	reads := map[string]map[string]string{}
	ast.Inspect(bodies["endpoints"], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		path, is := literal(call.Args[0])
		if !is || !strings.HasPrefix(path, "/") {
			return true
		}
		for _, arg := range call.Args[1:] {
			if serve, ok := arg.(*ast.SelectorExpr); ok && isNamed(serve.X, "a") {
				reads[path] = map[string]string{}
				collect(bodies, serve.Sel.Name, reads[path], map[string]bool{})
			}
		}
		return true
	})
	return reads
}

// lookUps are the methods of fields that read one by its name.
var lookUps = []string{"raw", "peek", "isAbsent", "text", "required", "number", "flag", "numericFlag", "texts", "textOrNumber", "object"}

func collect(bodies map[string]*ast.FuncDecl, name string, into map[string]string, seen map[string]bool) {
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
		given := slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return isNamed(arg, "f") })
		switch {
		case method && slices.Contains(lookUps, callee):
			if field, ok := literal(call.Args[0]); ok && (into[field] == "" || typeRead[callee] != "") {
				into[field] = callee
			}
		case method || given:
			// The name of a field may be handed on, as that of a platform's secret is.
			for _, arg := range call.Args {
				if field, ok := literal(arg); ok && given && into[field] == "" {
					into[field] = callee
				}
			}
			collect(bodies, callee, into, seen)
		}
		return true
	})
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != gotoken.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

func isNamed(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}
