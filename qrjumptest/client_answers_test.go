package qrjumptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/docs/docgen"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

type (
	ctx = context.Context
	api = client.Client
)

// everyCall has a function for each method of a Client, which calls it once.
var everyCall = func() map[string]func(ctx, *api) error {
	calls := maps.Collect(docgen.EachClientMethod())
	delete(calls, "Do")
	calls["Scans.List"] = func(ctx ctx, c *api) error {
		for _, err := range c.Scans.List(ctx, "") {
			return err
		}
		return nil
	}
	calls["Alarms.WriteCaseSheet"] = func(ctx ctx, c *api) error { return c.Alarms.WriteCaseSheet(ctx, 1, "pdf", "en", io.Discard) }
	calls["Scans.ResolveStream"] = func(ctx ctx, c *api) error {
		for _, err := range c.Scans.ResolveStream(ctx, slices.Values([]client.ScanRequest{{Text: "x"}})) {
			return err
		}
		return errors.New("no decision and no error")
	}
	return calls
}()

// noCalls are the methods of a Client that make no call, or return the response without reading it.
var noCalls = []string{"URL", "Do"}

// TestClientCalls_RejectForeignResponse verifies that every method returns an error if a different program responds instead of the server.
// A method that returns an iterator requires an entry in everyCall.
func TestClientCalls_RejectForeignResponse(t *testing.T) {
	for _, service := range reflect.VisibleFields(reflect.TypeFor[client.Client]()) {
		for method := range service.Type.Methods() {
			name := service.Name + "." + method.Name
			assert.True(t, !service.IsExported() || everyCall[name] != nil, "%s is not in everyCall", name)
		}
	}
	for method := range reflect.TypeFor[*client.Client]().Methods() {
		name := method.Name
		assert.True(t, everyCall[name] != nil || slices.Contains(noCalls, name), "%s is not in everyCall", name)
	}
	for kind, respond := range map[string]func(http.ResponseWriter){
		"hello": func(w http.ResponseWriter) { io.WriteString(w, `{"hello":1}`) },
		"hello as JSON": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"hello":1}`)
		},
		"an object":  func(w http.ResponseWriter) { io.WriteString(w, `{}`) },
		"a list":     func(w http.ResponseWriter) { io.WriteString(w, `[]`) },
		"null":       func(w http.ResponseWriter) { io.WriteString(w, `null`) },
		"nothing":    func(http.ResponseWriter) {},
		"no content": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"a page":     func(w http.ResponseWriter) { io.WriteString(w, `<html>It works!</html>`) },
		"errcode": func(w http.ResponseWriter) {
			io.WriteString(w, `{"errcode":40066,"errmsg":"invalid url rid: 5f87eb8a-6ee66b1b-75f60c88"}`)
		},
		"not found":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound); io.WriteString(w, `<html>404</html>`) },
		"another place": func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(http.StatusFound) },
	} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			respond(w)
		}))
		c := connect(t, other.URL, client.Options{AccessToken: "t", AdminToken: "a", AppID: "x", Secret: "x"})
		for name, call := range everyCall {
			err := call(t.Context(), c)
			wrongServer, isWrong := errors.AsType[*client.WrongServer](err)
			wireErr, isWire := errors.AsType[*client.WireError](err)
			switch {
			case isWire && kind == "errcode" && wireErr.Code == 40066:
			case kind == "nothing" && isUnreachable(err): // a stream without a response
			case !isWrong || wrongServer.URL != other.URL, !strings.Contains(err.Error(), other.URL), strings.Contains(err.Error(), "\n"):
				t.Errorf("%s: %s = %v, want a WrongServer error with the URL, in one line", kind, name, err)
			}
		}
		other.Close()
	}
	c := connect(t, "http://127.0.0.1:1", client.Options{AccessToken: "t"})
	for name, call := range everyCall {
		err := call(t.Context(), c)
		assert.True(t, isUnreachable(err), "%s without a server = %v, want an Unreachable error", name, err)
	}
}

func isUnreachable(err error) bool {
	_, ok := errors.AsType[*client.Unreachable](err)
	return ok
}

// TestClientCalls_MinimalSchemaResponse verifies that the client requires no field that is optional in the OpenAPI document: the response
// to each call has only the required fields of its schema.
func TestClientCalls_MinimalSchemaResponse(t *testing.T) {
	resp := require.Value(http.Get(start(t) + "/openapi.json"))(t)
	defer resp.Body.Close()
	var doc document
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		kind, body := doc.minimalResponse(r.Method, r.URL.Path)
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	c := connect(t, srv.URL, client.Options{})
	for name, call := range everyCall {
		err := call(t.Context(), c)
		_, isWrong := errors.AsType[*client.WrongServer](err)
		assert.True(t, err == nil || isWrong && strings.Contains(err.Error(), " platform API ("),
			"%s = %v, want success or an error about the platform API", name, err)
	}
}

// document has the responses of an OpenAPI document.
type document struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema schema }
		}
	}
	Components struct{ Schemas map[string]schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       any
	Format     string
	Enum       []any
	Properties map[string]schema
	Required   []string
	Items      *schema
}

// minimalResponse returns a response with the required fields only, and its media type, which is "" if the document has no such path.
func (d document) minimalResponse(method, path string) (kind string, body []byte) {
	switch path {
	case "/admin/v1/settings": // the document has no schema for it
		return "application/json", []byte(`{"verification":"fetch"}`)
	case "/scan/v1/explain": // the schema lacks the fields of the decision
		return "application/json", []byte(`{"action":"show_text","steps":[]}`)
	}
	for template, operations := range d.Paths {
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`)
		operation, ok := operations[strings.ToLower(method)]
		if !ok || !regexp.MustCompile("^"+pattern+"$").MatchString(path) || strings.Contains(template, "{") && d.Paths[path] != nil {
			continue
		}
		for _, kind := range []string{"application/json", "application/gzip", "application/x-ndjson", "text/csv", "application/age",
			"application/pdf"} {
			if content, ok := operation.Responses["200"].Content[kind]; ok {
				text, _ := json.Marshal(d.value(content.Schema))
				return kind, text
			}
		}
	}
	return "", []byte("no such path")
}

func (d document) value(s schema) any {
	if _, name, ok := strings.Cut(s.Ref, "#/components/schemas/"); ok {
		return d.value(d.Components.Schemas[name])
	}
	kind := s.Type
	if list, ok := kind.([]any); ok {
		kind = list[0]
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case kind == "array":
		return []any{d.value(*s.Items)}
	case kind == "object":
		object := map[string]any{}
		for _, name := range s.Required {
			object[name] = d.value(s.Properties[name])
		}
		return object
	case kind == "string" && s.Format == "date-time":
		return "2026-01-15T10:00:00Z"
	case kind == "integer" || kind == "number":
		return 0
	case kind == "boolean":
		return false
	}
	return "csv"
}

// TestClientDecode_NamesMissingField verifies that the error for a missing field has its path.
func TestClientDecode_NamesMissingField(t *testing.T) {
	for body, detail := range map[string]string{
		`{"changes":[{"seq":1}]}`: `(changes[0].occurred_at is missing in {"changes":[{"seq":1}]})`,
		`{"changes":[]}`:          "",
		`{"changes":null}`:        "",
		`{"changes":{}}`:          "(json: cannot unmarshal object into Go struct field RuleChanges.changes of type []client.RuleChange in {",
		`{"changes":[],"errcode":40066,"errmsg":"invalid url"}`: "(errcode 40066 invalid url)",
		`{"changes":[{"seq":1,"occurred_at":"2026-01-15T10:00:00Z","actor":"a","action":"add",` +
			`"rule":{"id":null}}]}`: "(changes[0].rule.id is missing",
		`{"changes":[]`: `(not a JSON object: {"changes":[])`,
	} {
		_, err := connect(t, "http://x", client.Options{HTTP: newFixedResponses(body).client()}).Rules.ListChanges(t.Context(), "p")
		want := "GET /admin/v1/rules/history: the response from http://x is not from the admin API "
		assert.True(t, (detail != "" || err == nil) && (detail == "" || strings.HasPrefix(fmt.Sprint(err), want+detail)),
			"ListChanges with the response %s = %v, want %s%s", body, err, want, detail)
	}
}

// TestClientOptions_AddressPerAPI verifies that each API can have a different address.
func TestClientOptions_AddressPerAPI(t *testing.T) {
	hosts := map[string]string{}
	transport := roundTrip(func(r *http.Request) (*http.Response, error) {
		hosts[r.URL.Path] = r.URL.Host
		return nil, errors.New("no connection")
	})
	c := connect(t, "http://wire", client.Options{AccessToken: "t", AdminURL: "http://admin/", ScanURL: "http://scan",
		HTTP: &http.Client{Transport: transport}})
	for name, url := range map[string]string{"Wire.PublishRule": "http://wire", "Accounts.Get": "http://admin",
		"AuditLog.Verify": "http://admin", "Scans.Resolve": "http://scan", "Scans.ResolveStream": "http://scan",
		"Archive.Export": "http://admin"} {
		u, ok := errors.AsType[*client.Unreachable](everyCall[name](t.Context(), c))
		assert.True(t, ok && u.URL == url, "%s = %v, want an Unreachable error for %s", name, u, url)
	}
	assert.True(t, len(hosts) == 5, "requested paths and hosts = %v, want 5", hosts)
	_, err := client.New("http://wire", client.Options{AdminURL: "admin:8081"})
	assert.True(t, err != nil && strings.HasPrefix(err.Error(), `admin-server "admin:8081"`), "New = %v, want an error", err)
}
