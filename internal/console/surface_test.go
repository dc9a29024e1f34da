package console_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// Each operation of the admin API is asked by a page or a form of the console, or it is said why not: pages have no other way to
// the data. The calls are read from the source, with something in the place of what a visitor says.
func TestEachOperationIsInTheConsole(t *testing.T) {
	t.Parallel()
	called, fileSet := servertest.NewCalled(), token.NewFileSet()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	note := func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || name.Sel.Name != "ask" && name.Sel.Name != "through" {
			return true
		}
		at := 0
		if name.Sel.Name == "through" {
			at = 1 // after the handler
		}
		method, path := spelled(call.Args[at]), strings.TrimPrefix(spelled(call.Args[at+1]), operations.Base)
		if u, err := url.Parse(path); err == nil && strings.HasPrefix(path, "/") {
			called.Note(&http.Request{Method: method, URL: &url.URL{Path: operations.Base + u.Path}},
				fileSet.Position(call.Pos()).String())
		}
		return true
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fileSet, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, note)
	}
	called.Parity(t, servertest.Console)
}

var places = regexp.MustCompile(`%[a-z]`)

// spelled is the text that an expression comes to, with 1 for what is not written in it.
func spelled(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return text
		}
	case *ast.SelectorExpr:
		if method, is := strings.CutPrefix(e.Sel.Name, "Method"); is {
			return strings.ToUpper(method) // of net/http
		}
	case *ast.BinaryExpr:
		left, right := spelled(e.X), spelled(e.Y)
		if right == "1" && !strings.HasSuffix(left, "/") && !strings.Contains(left, "?") {
			right = "?" + right // what follows a whole word of a path is a query
		}
		return left + right
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" {
			return places.ReplaceAllString(spelled(e.Args[0]), "1")
		}
	}
	return "1"
}

// What a person does in the console and a program by the admin API leaves the same line in the log of changes, with another name, and
// is refused to the same roles.
func TestTheConsoleLeavesTheLineOfTheAPI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "boss", operations.Admin)
	person(s, "op", operations.Operator)
	boss, op := visit(t, s), visit(t, s)
	boss.signIn("boss", password, "")
	op.signIn("op", password, "")
	keys := map[operations.Role]string{}
	for _, role := range []operations.Role{operations.Admin, operations.Operator} {
		var made struct{ Key string }
		s.Admin("POST", "/admin-keys", fmt.Sprintf(`{"name":"ci","role":%q}`, role)).JSON(t, &made)
		s.Hide(made.Key)
		keys[role] = made.Key
	}
	type line struct {
		Kind, Key, Did, Actor string
		Detail                json.RawMessage
	}
	newest := func() line {
		var list struct{ Changes []line }
		s.Admin("GET", "/changes?newest=true&limit=1", "").JSON(t, &list)
		return list.Changes[0]
	}
	form := url.Values{"did": {"add"}, "name": {"alice"}, "role": {"rules"}, "accounts": {"shop"}, "password": {password}}
	body := fmt.Sprintf(`{"name":"alice","role":"rules","accounts":["shop"],"password":%q}`, password)
	api := func(role operations.Role, method, path, body string) int {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+keys[role], "Content-Type: application/json").Status
	}
	for name, refused := range map[string]int{"console": op.post("/console/people", form).Status,
		"API": api(operations.Operator, "POST", "/people", body)} {
		if refused != http.StatusForbidden {
			t.Errorf("an operator makes a person by the %s: %d", name, refused)
		}
	}
	for _, c := range []struct {
		form   url.Values
		method string
		path   string
		body   string
	}{{form, "POST", "/people", body},
		{url.Values{"did": {"delete"}, "name": {"alice"}}, "DELETE", "/people/alice", ""}} {
		if p := boss.post("/console/people", c.form); p.Status != http.StatusSeeOther {
			t.Fatalf("%s by the console: %d %s", c.form.Get("did"), p.Status, p.Body)
		}
		console := newest()
		// The other way round, so that the same can be done again.
		if c.method == "POST" {
			s.Admin("DELETE", "/people/alice", "")
		} else {
			s.Admin("POST", "/people", body)
		}
		if status := api(operations.Admin, c.method, c.path, c.body); status/100 != 2 {
			t.Fatalf("%s by the API: %d", c.form.Get("did"), status)
		}
		program := newest()
		if console.Actor != "person:boss" || program.Actor != "key:ci" {
			t.Errorf("%s: by %s and by %s", c.form.Get("did"), console.Actor, program.Actor)
		}
		console.Actor, program.Actor = "", ""
		if fmt.Sprintf("%s", console) != fmt.Sprintf("%s", program) {
			t.Errorf("%s: %s by the console, %s by the API", c.form.Get("did"), console, program)
		}
	}
}
