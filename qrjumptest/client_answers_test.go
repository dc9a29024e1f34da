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

// everyCall makes each call of a Client once.
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
		return errors.New("no answer and no error")
	}
	return calls
}()

// noCalls are the methods of a Client that make no call, or return the answer unread.
var noCalls = []string{"URL", "Do"}

// Issue 11, 4: no call takes another program's answer for its own. A method that gives an iterator and has no line above fails this test.
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
	for what, answer := range map[string]func(http.ResponseWriter){
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
		stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			answer(w)
		}))
		c := connect(t, stranger.URL, client.Options{AccessToken: "t", AdminToken: "a", AppID: "x", Secret: "x"})
		for name, call := range everyCall {
			err := call(t.Context(), c)
			wrong, isWrong := errors.AsType[*client.WrongServer](err)
			refusal, isWire := errors.AsType[*client.WireError](err)
			switch {
			case isWire && what == "errcode" && refusal.Code == 40066:
			case what == "nothing" && unreachable(err): // a stream that ends before it began
			case !isWrong || wrong.URL != stranger.URL, !strings.Contains(err.Error(), stranger.URL), strings.Contains(err.Error(), "\n"):
				t.Errorf("%s: %s gave %v", what, name, err)
			}
		}
		stranger.Close()
	}
	c := connect(t, "http://127.0.0.1:1", client.Options{AccessToken: "t"})
	for name, call := range everyCall {
		err := call(t.Context(), c)
		assert.True(t, unreachable(err), "nobody there: %s gave %v", name, err)
	}
}

func unreachable(err error) bool {
	_, ok := errors.AsType[*client.Unreachable](err)
	return ok
}

// The client demands no field that the document of the APIs lets a server leave
// out: each call is answered with as little as its schema allows.
func TestClientCalls_MinimalSchemaResponse(t *testing.T) {
	resp, err := http.Get(start(t) + "/openapi.json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var doc document
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	least := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		kind, body := doc.least(r.Method, r.URL.Path)
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body)
	}))
	defer least.Close()
	c := connect(t, least.URL, client.Options{})
	for name, call := range everyCall {
		err := call(t.Context(), c)
		_, notOurs := errors.AsType[*client.WrongServer](err)
		assert.True(t, err == nil || notOurs && strings.Contains(err.Error(), " platform API ("), "%s: %v", name, err)
	}
}

// document is the part of an OpenAPI document that says what is answered.
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

// least is the least that a path may answer; "" = it has no such path.
func (d document) least(method, path string) (kind string, body []byte) {
	switch path {
	case "/admin/v1/settings": // the document says nothing of it
		return "application/json", []byte(`{"verification":"fetch"}`)
	case "/scan/v1/explain": // nor of the decision in it
		return "application/json", []byte(`{"action":"show_text","steps":[]}`)
	}
	for pattern, operations := range d.Paths {
		form := regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(pattern), `[^/]+`) + "$")
		one, ok := operations[strings.ToLower(method)]
		if !ok || !form.MatchString(path) || strings.Contains(pattern, "{") && d.Paths[path] != nil {
			continue
		}
		for _, kind := range []string{"application/json", "application/gzip", "application/x-ndjson", "text/csv", "application/age",
			"application/pdf"} {
			if content, ok := one.Responses["200"].Content[kind]; ok {
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
	return "csv" // as everyCall names everything
}

// A field that is missing is named, wherever it stands.
func TestClientDecode_NamesMissingField(t *testing.T) {
	for answer, flaw := range map[string]string{
		`{"changes":[{"seq":1}]}`: `(changes[0].occurred_at is missing in {"changes":[{"seq":1}]})`,
		`{"changes":[]}`:          "",
		`{"changes":null}`:        "",
		`{"changes":{}}`:          "(json: cannot unmarshal object into Go struct field RuleChanges.changes of type []client.RuleChange in {",
		`{"changes":[],"errcode":40066,"errmsg":"invalid url"}`: "(errcode 40066 invalid url)",
		`{"changes":[{"seq":1,"occurred_at":"2026-01-15T10:00:00Z","actor":"a","action":"add",` +
			`"rule":{"id":null}}]}`: "(changes[0].rule.id is missing",
		`{"changes":[]`: `(not a JSON object: {"changes":[])`,
	} {
		s := &stub{answers: []func(*http.Request) (int, string){says(200, answer)}}
		_, err := connect(t, "http://x", client.Options{HTTP: &http.Client{Transport: s}}).Rules.ListChanges(t.Context(), "p")
		want := "GET /admin/v1/rules/history: the response from http://x is not from the admin API "
		assert.True(t, (flaw != "" || err == nil) && (flaw == "" || strings.HasPrefix(fmt.Sprint(err), want+flaw)),
			"%s: got %v, want %s%s", answer, err, want, flaw)
	}
}

// Each API may have an address of its own.
func TestClientOptions_AddressPerAPI(t *testing.T) {
	asked := map[string]string{}
	echo := roundTrip(func(r *http.Request) (*http.Response, error) {
		asked[r.URL.Path] = r.URL.Host
		return nil, errors.New("asked")
	})
	c := connect(t, "http://wire", client.Options{AccessToken: "t", AdminURL: "http://admin/", ScanURL: "http://scan",
		HTTP: &http.Client{Transport: echo}})
	for name, url := range map[string]string{"Wire.PublishRule": "http://wire", "Accounts.Get": "http://admin",
		"AuditLog.Verify": "http://admin", "Scans.Resolve": "http://scan", "Scans.ResolveStream": "http://scan",
		"Archive.Export": "http://admin"} {
		u, ok := errors.AsType[*client.Unreachable](everyCall[name](t.Context(), c))
		assert.True(t, ok && u.URL == url, "%s: got %v, want nobody at %s", name, u, url)
	}
	assert.True(t, len(asked) == 5, "asked %v", asked)
	_, err := client.New("http://wire", client.Options{AdminURL: "admin:8081"})
	assert.True(t, err != nil && strings.HasPrefix(err.Error(), `admin-server "admin:8081"`), "got %v", err)
}
