package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestOpenAPI_DescribesAllFields verifies that the API document has every field of real requests and responses, including those of embedded
// structs, so that generated clients have them.
func TestOpenAPI_DescribesAllFields(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	type schema struct {
		Ref        string `json:"$ref"`
		Properties map[string]any
	}
	type body struct {
		Content map[string]struct{ Schema schema }
	}
	var document struct {
		Paths map[string]map[string]struct {
			RequestBody body
			Responses   map[string]body
		}
		Components struct{ Schemas map[string]schema }
	}
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	fieldsOf := func(b body) map[string]any {
		s := b.Content["application/json"].Schema
		if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
			return document.Components.Schemas[name].Properties
		}
		return s.Properties
	}
	for _, c := range []struct{ method, path, url, body string }{
		{"POST", "/scan/v1/resolve", "/scan/v1/resolve",
			`{"text":"https://shop.example/t/7","user":"alice","source":"scan","client":"app","ip":"192.0.2.1"}`},
		{"POST", "/scan/v1/explain", "/scan/v1/explain",
			`{"text":"https://shop.example/t/7","user":"alice","assume_published":true,"assume":[]}`},
		{"GET", "/admin/v1/accounts", "/admin/v1/accounts", ""},
		{"GET", "/admin/v1/accounts/{appid}", "/admin/v1/accounts/shop", ""},
		{"GET", "/admin/v1/settings", "/admin/v1/settings", ""},
	} {
		operation := document.Paths[c.path][strings.ToLower(c.method)]
		answer := s.Do(c.method, c.url, c.body)
		require.True(t, answer.Status == 200, "%s: %d %s", c.path, answer.Status, answer.Body)
		for text, described := range map[string]map[string]any{c.body: fieldsOf(operation.RequestBody),
			answer.Body: fieldsOf(operation.Responses["200"])} {
			var fields map[string]any
			err := json.Unmarshal([]byte(text), &fields)
			require.True(t, text == "" || err == nil && len(fields) != 0, "%v %v", text, err)
			for name := range fields {
				assert.True(t, described[name] != nil, "the document of %s %s lacks the field %s of %s", c.method, c.path, name, text)
			}
		}
	}
	for _, c := range [][3]string{{"ScanRequest", "text", "type:string"}, {"CallRecord", "behaviours", "items:map[type:string]"},
		{"ScanMatch", "kind", "enum:[rule test_link service_rule code gs1]"}, {"ExplanationStep", "verdict", "enum:[opens "}} {
		got := fmt.Sprint(document.Components.Schemas[c[0]].Properties[c[1]])
		assert.True(t, strings.Contains(got, c[2]), "%s.%s is %s, want %s", c[0], c[1], got, c[2])
	}
}

// TestDocument_SchemaNames verifies that no schema name collides with generated code or is clear only with its package.
func TestDocument_SchemaNames(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	for _, path := range []string{"/openapi.json", "/openapi-wire.json"} {
		var document struct {
			Components struct{ Schemas map[string]any }
		}
		s.Do("GET", path, "").JSON(t, &document)
		for name := range strings.FieldsSeq("Request Response Record Error Event Notification Object Map Set Date Entry Item Fault Found Hit Step Why") {
			assert.True(t, document.Components.Schemas[name] == nil, "GET %s has a schema %s, want a more specific name", path, name)
		}
		assert.True(t, path != "/openapi-wire.json" || document.Components.Schemas["ErrorEnvelope"] != nil,
			"GET %s has no schema ErrorEnvelope", path)
	}
}
