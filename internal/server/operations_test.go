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

// TestOperations_TableComplete verifies that each route has a unique id, a summary, a role and an entry in openapi.json.
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
			t.Errorf("%s %s has the id %q and the summary %q, want a unique id and a summary", o.Method, o.Path, o.ID, o.Summary)
		case !slices.Contains(roles, o.Least):
			t.Errorf("%s has the role %q, want one of %q", o.ID, o.Least, roles)
		case documented.OperationID != o.ID || documented.Summary != o.Summary:
			t.Errorf("%s in openapi.json = %s: %s, want %s", o.ID, documented.OperationID, documented.Summary, o.Summary)
		case o.Method == "DELETE" && documented.Responses["200"].Content["application/json"] == nil:
			t.Errorf("%s has no JSON response, want what remains after the deletion", o.ID)
		}
		seen[o.ID] = true
		delete(document.Paths[o.Spelled()], strings.ToLower(o.Method))
	}
	for path, methods := range document.Paths {
		assert.True(t, !strings.HasPrefix(path, adminroute.Base) || len(methods) == 0, "openapi.json has %s %v, no route", path, methods)
	}
}

// TestOperations_ClientSendsDocumentedFields verifies that openapi.json describes every field that the Go client sends.
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
			ok := f.Anonymous || accepted[name] || accepted["query "+f.Tag.Get("query")]
			assert.True(t, ok, "%s: the client sends %s, which openapi.json lacks", o.ID, f.Name)
		}
	}
}

// TestOperations_CoveredByClient verifies that each operation has either a method of the Go client or a reason in absent.txt.
func TestOperations_CoveredByClient(t *testing.T) {
	called := servertest.NewCalled()
	require.NoError(t, docgen.EachClientCall(t.Context(), called.Note))
	called.Parity(t, servertest.GoClient)
}

// TestOperations_RoleEnforced verifies that each operation rejects every role that does not include the operation's role.
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
		var covered []string
		for _, least := range append(roles, "") {
			if role.AtLeast(least) {
				covered = append(covered, string(least))
			}
		}
		covers = append(covers, fmt.Sprintf("%s%q", role, covered))
	}
	want := `[viewer["viewer"] marketer["viewer" "marketer"] rules-editor["viewer" "rules-editor"] operator["viewer" "marketer" "rules-editor" "operator"] ` +
		`admin["viewer" "marketer" "rules-editor" "operator" "admin"] [] king[]]`
	assert.Equal(t, fmt.Sprint(covers), want, "roles that each role includes")
}
