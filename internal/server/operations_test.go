package server_test

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

var roles = []adminroute.Role{adminroute.Viewer, adminroute.Marketer, adminroute.RulesEditor, adminroute.Operator, adminroute.Admin}

// TestOperations_TableComplete walks the table: each line has a name, a summary and a role, and stands in the document.
func TestOperations_TableComplete(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Emulator: true})
	var document struct {
		Paths map[string]map[string]struct {
			OperationID, Summary string
			Responses            map[string]struct{ Content map[string]any }
		}
	}
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	seen := map[string]bool{}
	for _, o := range servertest.Operations() {
		documented := document.Paths[o.Spelled()][strings.ToLower(o.Method)]
		switch {
		case o.ID == "" || o.Summary == "" || seen[o.ID]:
			t.Errorf("%s %s has the name %q, which must be its own, and the summary %q", o.Method, o.Path, o.ID, o.Summary)
		case !slices.Contains(roles, o.Least):
			t.Errorf("%s says %q of who may call it", o.ID, o.Least)
		case documented.OperationID != o.ID || documented.Summary != o.Summary:
			t.Errorf("%s stands in openapi.json as %s: %s", o.ID, documented.OperationID, documented.Summary)
		case o.Method == "DELETE" && documented.Responses["200"].Content["application/json"] == nil:
			t.Errorf("%s answers no JSON: what is deleted is answered by what is left", o.ID)
		}
		seen[o.ID] = true
		delete(document.Paths[o.Spelled()], strings.ToLower(o.Method))
	}
	for path, left := range document.Paths {
		assert.True(t, !strings.HasPrefix(path, adminroute.Base) || len(left) == 0, "%s is in openapi.json and in no table: %v", path, left)
	}
}

// TestOperations_ClientSendsDocumentedFields compares the input of the client's calls with the document.
func TestOperations_ClientSendsDocumentedFields(t *testing.T) {
	t.Parallel()
	document := huma.DefaultConfig("", "").OpenAPI
	adminroute.Table{Routes: servertest.Operations()}.Describe(document)
	for _, o := range servertest.Operations() {
		item := document.Paths[o.Spelled()]
		documented := map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch,
			"DELETE": item.Delete}[o.Method]
		accepted := map[string]bool{"-": true, "query filter": true} // each entry of a filter is a parameter
		for _, p := range documented.Parameters {
			accepted[p.In+" "+p.Name] = true
		}
		if body := documented.RequestBody; body != nil && body.Content["application/json"] != nil {
			schema := body.Content["application/json"].Schema
			for name := range cmp.Or(document.Components.Schemas.SchemaFromRef(schema.Ref), schema).Properties {
				accepted[name] = true
			}
		}
		if o.Input.Kind() == reflect.Map {
			continue // its fields depend on the server
		}
		for _, f := range reflect.VisibleFields(o.Input) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			known := f.Anonymous || accepted[name] || accepted["query "+f.Tag.Get("query")]
			assert.True(t, known, "%s: the client sends %s", o.ID, f.Name)
		}
	}
}

// Each operation has a method of the Go client, or it is said why not.
func TestOperations_CoveredByClient(t *testing.T) {
	found := servertest.NewCalled()
	require.NoError(t, docgen.EachClientCall(t.Context(), found.Note))
	found.Parity(t, servertest.GoClient)
}

// The right to call is held by the one function that every operation goes through: no
// call reaches a function whose role the caller's does not cover.
func TestOperations_RoleEnforced(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	adminroute.Table{Routes: servertest.Operations(), Problem: (&adminapi.Admin{}).Problem}.Mount(mux)
	for _, o := range servertest.Operations() {
		path := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(o.Path, "1")
		for _, role := range append(roles, "", "king") {
			if role.AtLeast(o.Least) {
				continue
			}
			r := httptest.NewRequest(o.Method, adminroute.Base+path, strings.NewReader("{}"))
			if role != "" {
				r = r.WithContext(adminroute.WithCaller(r.Context(), adminroute.Caller{Role: role}))
			}
			w := httptest.NewRecorder()
			if mux.ServeHTTP(w, r); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), string(o.Least)) {
				t.Errorf("%s as %q: %d %s", o.ID, role, w.Code, w.Body)
			}
		}
	}
	var covers []string
	for _, role := range append(roles, "", "king") {
		var may []string
		for _, least := range append(roles, "") {
			if role.AtLeast(least) {
				may = append(may, string(least))
			}
		}
		covers = append(covers, fmt.Sprintf("%s%q", role, may))
	}
	want := `[viewer["viewer"] marketer["viewer" "marketer"] rules-editor["viewer" "rules-editor"] operator["viewer" "marketer" "rules-editor" "operator"] ` +
		`admin["viewer" "marketer" "rules-editor" "operator" "admin"] [] king[]]`
	assert.Equal(t, fmt.Sprint(covers), want, "fmt.Sprint")
}
