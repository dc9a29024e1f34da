package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/adminapi"
	"github.com/qrjump/qrjump/internal/operations"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

var roles = []operations.Role{operations.Viewer, operations.Marketer, operations.Rules, operations.Operator, operations.Admin}

// TestOperationsAreWhole walks the table: each line has a name, a summary and a
// role, and stands in the document.
func TestOperationsAreWhole(t *testing.T) {
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
		documented := document.Paths[operations.Base+o.Path][strings.ToLower(o.Method)]
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
		delete(document.Paths[operations.Base+o.Path], strings.ToLower(o.Method))
	}
	for path, left := range document.Paths {
		if strings.HasPrefix(path, operations.Base) && len(left) > 0 {
			t.Errorf("%s is in openapi.json and in no table: %v", path, left)
		}
	}
}

// Each operation has a method of the Go client, or it is said why not.
func TestTheClientHasEveryOperation(t *testing.T) {
	clientCalls(t).Parity(t, servertest.GoClient)
}

// recorded notes the calls that a client makes, and answers none.
type recorded struct{ calls []*http.Request }

func (r *recorded) RoundTrip(req *http.Request) (*http.Response, error) {
	r.calls = append(r.calls, req)
	return &http.Response{StatusCode: 500, Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}, Request: req}, nil
}

// clientCalls are the operations that the methods of the Go client call: each is
// called with made-up values.
func clientCalls(t *testing.T) *servertest.Called {
	sent := &recorded{}
	c, err := client.New("http://127.0.0.1:1", client.Options{HTTP: &http.Client{Transport: sent}, AccessToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	found := servertest.NewCalled()
	for method := range reflect.TypeFor[*client.Client]().Methods() {
		kind := method.Func.Type()
		if kind.NumIn() < 2 || kind.Out(0).Kind() == reflect.Func {
			continue
		}
		in := []reflect.Value{reflect.ValueOf(c), reflect.ValueOf(t.Context())}
		for i := 2; i < kind.NumIn(); i++ {
			v := reflect.New(kind.In(i)).Elem()
			switch v.Kind() {
			case reflect.String:
				v.SetString("x")
			case reflect.Int, reflect.Int64:
				v.SetInt(1)
			case reflect.Interface:
				if file := reflect.ValueOf(struct {
					io.Reader
					io.Writer
				}{strings.NewReader(""), io.Discard}); file.Type().Implements(v.Type()) {
					v.Set(file)
				}
			}
			in = append(in, v)
		}
		sent.calls = nil
		method.Func.Call(in)
		for _, call := range sent.calls[:min(1, len(sent.calls))] { // what follows helps the first
			found.Note(call, method.Name)
		}
	}
	return found
}

// The right to call is held by the one function that every operation goes through: no
// call reaches a function whose role the caller's does not cover.
func TestNoRoleMayDoMoreThanTheTableSays(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	operations.Mount(humago.New(mux, huma.DefaultConfig("", "")), "admin", nil, (&adminapi.Admin{}).Problem, operations.Guard{},
		servertest.Operations())
	for _, o := range servertest.Operations() {
		path := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(o.Path, "1")
		for _, role := range append(roles, "", "king") {
			if role.Covers(o.Least) {
				continue
			}
			r := httptest.NewRequest(o.Method, operations.Base+path, strings.NewReader("{}"))
			if role != "" {
				r = r.WithContext(operations.As(r.Context(), operations.Caller{Role: role}))
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
			if role.Covers(least) {
				may = append(may, string(least))
			}
		}
		covers = append(covers, fmt.Sprintf("%s%q", role, may))
	}
	want := `[viewer["viewer"] marketer["viewer" "marketer"] rules["viewer" "rules"] operator["viewer" "marketer" "rules" "operator"] ` +
		`admin["viewer" "marketer" "rules" "operator" "admin"] [] king[]]`
	if got := fmt.Sprint(covers); got != want {
		t.Errorf("got %s", got)
	}
}

// operationsPage is docs/reference/admin.md.
func operationsPage(t *testing.T) string {
	called := clientCalls(t).By()
	var b strings.Builder
	b.WriteString(
		"# The admin API\n\nPrinted from `internal/adminapi/operations.go` and `internal/emulator/control.go` by `make update`; `/openapi.json` has the fields.\n*Who may* is the least role: viewer < marketer, rules < operator < admin. The admin token is an admin. *Go* is the method of package `client`.\n" +
			"What is below `/admin/v1/emulator` is there with `--dev` and `--emulator` only. A refusal is a problem document (RFC 9457).\n\n| method | path below `/admin/v1` | name | who may | Go | does |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, o := range servertest.Operations() {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s |\n", o.Method, o.Path, o.ID, o.Least, strings.Join(called[o.ID], ", "), o.Summary)
	}
	return b.String()
}
