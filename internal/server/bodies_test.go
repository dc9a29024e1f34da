package server_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
)

// schema is a JSON schema of the API document.
type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Properties           map[string]schema
	Items                *schema
	Enum                 []any
	Minimum              float64
	AdditionalProperties any
}

type bodyDocument struct {
	Paths map[string]map[string]struct {
		RequestBody *struct {
			Content map[string]struct{ Schema schema }
		}
		Parameters []struct {
			Name, In string
			Schema   schema
		}
	}
	Components struct{ Schemas map[string]schema }
}

// bodyGenerator generates hostile bodies of about n bytes for a schema.
type bodyGenerator struct {
	document *bodyDocument
	n        int
}

func (h bodyGenerator) schemaOf(s schema) schema {
	for s.Ref != "" {
		s = h.document.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

func (s schema) kind() string {
	if list, ok := s.Type.([]any); ok {
		return fmt.Sprint(list[0])
	}
	return fmt.Sprint(s.Type)
}

// value returns a value of a schema with strings of text bytes and lists of items elements, nested up to depth levels.
func (h bodyGenerator) value(s schema, text, items, depth int) any {
	s = h.schemaOf(s)
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.kind() == "string":
		return strings.Repeat("7", text)
	case s.kind() == "integer", s.kind() == "number":
		return max(10_000, s.Minimum)
	case s.kind() == "boolean":
		return true
	case s.kind() == "array" && depth > 0:
		list := make([]any, items)
		for i := range list {
			list[i] = h.value(*s.Items, 1+text/(items+1), 1, depth-1)
		}
		return list
	case s.kind() == "object" && depth > 0:
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = h.value(property, text, items, depth-1)
		}
		return object
	}
	return nil
}

// bodies returns hostile bodies for a schema, by the name of their fault.
func (h bodyGenerator) bodies(t *testing.T, s schema) map[string]string {
	t.Helper()
	toJSON := func(v any) string {
		text := require.Value(json.Marshal(v))(t)
		return string(text)
	}
	fewKeys, manyKeys := map[string]any{}, map[string]any{}
	for i := range h.n / 12 {
		manyKeys[fmt.Sprintf("k%07d", i)] = i % 10
		if i < 990 {
			fewKeys[fmt.Sprintf("k%07d", i)] = strings.Repeat("x", h.n/990)
		}
	}
	properties := len(h.schemaOf(s).Properties)
	list := func(item any) string {
		object := map[string]any{}
		for name := range h.schemaOf(s).Properties {
			object[name] = slices.Repeat([]any{item}, h.n/8/(properties+1))
		}
		return toJSON(object)
	}
	return map[string]string{
		"unknown keys":        toJSON(manyKeys),
		"fewer unknown keys":  toJSON(fewKeys),
		"objects of one key":  list(map[string]any{"a": 1}),
		"lists":               list([]any{}),
		"texts in lists":      list("a"),
		"numbers":             list(1),
		"long texts":          toJSON(h.value(s, h.n/(properties+1), 1, 4)),
		"long lists":          toJSON(h.value(s, 8, h.n/100, 4)),
		"depth":               strings.Repeat(`{"a":`, h.n/6) + "1" + strings.Repeat("}", h.n/6),
		"list of lists":       strings.Repeat(`[`, h.n/2) + strings.Repeat("]", h.n/2),
		"no JSON":             strings.Repeat("x", h.n),
		"a long key":          toJSON(map[string]any{strings.Repeat("k", h.n): 1}),
		"a password and junk": `{"password":"correct horse battery","secret":"correct horse battery","junk":1}`,
	}
}

// bodyCall is an operation with a request body. Its path names an existing object.
type bodyCall struct {
	name, method, path string
	schema             schema
	header             []string
	raw                bool // the body is lines or a file instead of JSON
}

// rawBodies returns hostile bodies of about n bytes for operations that take lines or a file, by the name of their fault.
func (h bodyGenerator) rawBodies() map[string]string {
	lines := func(line string) string { return strings.Repeat(line+"\n", h.n/(len(line)+1)) }
	return map[string]string{
		"empty lines":            lines(""),
		"empty objects":          lines("{}"),
		"objects of one key":     lines(`{"a":1}`),
		"a password in lines":    lines(`{"secret":"correct horse battery","junk":1}`),
		"rules":                  lines(`{"owner":"shop","prefix":"https://shop.example/a/","path":"p","published":true}`),
		"no JSON":                lines("xxxxxxxx"),
		"one long line":          strings.Repeat("x", h.n),
		"a long text in a line":  `{"owner":"` + strings.Repeat("x", h.n) + `"}`,
		"many keys in a line":    `{` + strings.TrimSuffix(strings.Repeat(`"k":1,`, h.n/6), ",") + `}`,
		"depth in a line":        strings.Repeat(`{"a":`, h.n/6) + "1" + strings.Repeat("}", h.n/6),
		"a list of lists":        strings.Repeat(`[`, h.n/2) + strings.Repeat("]", h.n/2),
		"zeros":                  strings.Repeat("\x00", h.n),
		"lines of a code import": lines(strings.Repeat("0", 361) + " OLD000001 1 OLD.EXAMPLE/0$00000000000000001"),
	}
}

// TestReads_LargestNumbers verifies that the largest and the smallest number in each query parameter cause no internal error.
func TestReads_LargestNumbers(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: brand, Emulator: true})
	var document bodyDocument
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	requests := 0
	for path, operations := range document.Paths {
		for _, parameter := range operations["get"].Parameters {
			if parameter.In != "query" || parameter.Schema.kind() != "integer" {
				continue
			}
			for _, n := range []string{"9223372036854775807", "-9223372036854775808", "0"} {
				address := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "1") + "?" + parameter.Name + "=" + n
				r := s.Do("GET", address, "", "Authorization: Bearer "+servertest.AdminToken)
				assert.True(t, r.Status < http.StatusInternalServerError, "%s: %d %s", address, r.Status, r.Body)
				requests++
			}
		}
	}
	assert.True(t, requests > 100, "%d requests", requests)
}

// bodyCalls returns all operations with a body. The emulator's come last, because they change the state that the others read.
func bodyCalls(t *testing.T, s *servertest.Server, document *bodyDocument) (calls []bodyCall) {
	t.Helper()
	s.Do("GET", "/openapi.json", "").JSON(t, document)
	ids := createRevisioned(t, s)
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	values := strings.NewReplacer("{appid}", "shop", "{component}", "isv", "{application_id}", ids.Replace("BATCH"), "{user}", "u",
		"{name}", "alice", "{mini_program}", "shop", "{host}", "h.example", "{key}", "01/09506000134352", "{seq}", "1")
	for _, path := range slices.Sorted(maps.Keys(document.Paths)) {
		for method, o := range document.Paths[path] {
			if o.RequestBody == nil {
				continue
			}
			for kind, body := range o.RequestBody.Content {
				header := []string{"Content-Type: " + kind, "Authorization: Bearer " + servertest.AdminToken}
				calls = append(calls, bodyCall{strings.ToUpper(method) + " " + path, strings.ToUpper(method),
					parameter.ReplaceAllString(values.Replace(path), "1"), body.Schema, header, kind != "application/json"})
			}
		}
	}
	for _, path := range api.Paths() {
		account := cmp.Or(map[bool]string{true: "svc"}[strings.Contains(path, "marketcode")], "shop")
		calls = append(calls, bodyCall{name: path, method: "POST", path: path + "?access_token=" + s.Token(account)})
	}
	slices.SortStableFunc(calls, func(a, b bodyCall) int {
		last := func(c bodyCall) int { return strings.Count(c.path, "/emulator/") }
		return last(a) - last(b)
	})
	return calls
}

// resourceUse is the allocations of the process in bytes and objects, and its processor time in nanoseconds.
type resourceUse struct{ bytes, objects, processor uint64 }

// measureCost returns the resources that the process has used since its start.
func measureCost() resourceUse {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return resourceUse{memory.TotalAlloc, memory.Mallocs, uint64(usage.Utime.Nano() + usage.Stime.Nano())}
}

// TestBodies_CostIsProportionalToTheirSize sends hostile bodies of two sizes to every operation. The response must be short, and
// allocations and processor time may grow at most two and three times as fast as the body. It would find an error response that repeats the
// body for each unknown key.
func TestBodies_CostIsProportionalToTheirSize(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: brand, Emulator: true})
	var document bodyDocument
	calls := bodyCalls(t, s, &document)
	raw, emulator := 0, 0
	for _, c := range calls {
		if c.raw {
			raw++
		}
		emulator += strings.Count(c.path, "/emulator/")
	}
	require.True(t, len(calls) >= 80 && raw >= 4 && emulator >= 6,
		"%d operations with a body, %d without JSON, %d of the emulator; want at least 80, 4 and 6", len(calls), raw, emulator)
	const maxAnswer = 20_000
	smallSize, largeSize := testscope.Select(30_000, 5_000), testscope.Select(240_000, 40_000)
	var worst resourceUse // of a large body
	for _, c := range calls {
		send := func(body string) (answer servertest.Answer, used resourceUse) {
			before := measureCost()
			answer = s.Do(c.method, c.path, body, c.header...)
			after := measureCost()
			used = resourceUse{after.bytes - before.bytes, after.objects - before.objects, after.processor - before.processor}
			return answer, used
		}
		smallGen, largeGen := bodyGenerator{&document, smallSize}, bodyGenerator{&document, largeSize}
		smallBodies, largeBodies := smallGen.rawBodies(), largeGen.rawBodies()
		if !c.raw {
			smallBodies, largeBodies = smallGen.bodies(t, c.schema), largeGen.bodies(t, c.schema)
		}
		for _, name := range slices.Sorted(maps.Keys(smallBodies)) {
			answer, small := send(smallBodies[name])
			largeAnswer, large := send(largeBodies[name])
			file := answer.Status == http.StatusOK && strings.HasSuffix(c.path, "/export") // an archive of what is stored
			assert.True(t, file || max(len(answer.Body), len(largeAnswer.Body)) <= maxAnswer,
				"%s with %s: an answer of %d bytes to %d, of %d bytes to %d", c.name, name, len(answer.Body), len(smallBodies[name]),
				len(largeAnswer.Body), len(largeBodies[name]))
			maxRatio := 150 // bytes for a byte
			if strings.Contains(c.path, "/emulator/") {
				maxRatio = 400
			}
			if bound := uint64(2_000_000 + maxRatio*len(largeBodies[name])); large.bytes > bound || large.bytes > 2_000_000+16*small.bytes {
				t.Errorf("%s with %s: allocates %d bytes for a body of %d, %d for one of %d; want at most %d", c.name, name, small.bytes,
					len(smallBodies[name]), large.bytes, len(largeBodies[name]), bound)
			}
			assert.True(t, large.objects <= 20_000+24*small.objects,
				"%s with %s: allocates %d objects for a body of %d, %d for one of %d", c.name, name, small.objects, len(smallBodies[name]),
				large.objects, len(largeBodies[name]))
			assert.True(t, large.processor <= uint64(time.Second/2)+24*small.processor,
				"%s with %s: computes for %v for a body of %d, %v for one of %d", c.name, name, time.Duration(small.processor),
				len(smallBodies[name]), time.Duration(large.processor), len(largeBodies[name]))
			assert.True(t, !strings.Contains(answer.Body, "correct horse"), "%s repeats a secret: %s", c.name, answer.Body)
			worst = resourceUse{max(worst.bytes, large.bytes), max(worst.objects, large.objects), max(worst.processor, large.processor)}
		}
	}
	t.Logf("%d operations, %d of them with lines or a file, %d of the emulator: at most %d bytes in %d objects, %v for %d bytes", len(calls), raw,
		emulator, worst.bytes, worst.objects, time.Duration(worst.processor), largeSize)
}

// TestAdminCall_ClientHangsUp verifies that the server cancels the database query of a call when its client closes the connection.
func TestAdminCall_ClientHangsUp(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	s := p.start(t, servertest.Options{Seed: brand})
	db := require.Value(sql.Open("pgx", p.database))(t)
	defer db.Close()
	tx := require.Value(db.Begin())(t)
	defer tx.Rollback()
	require.NoError(t, assert.ErrorOf(tx.Exec(`LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE`)))
	countWaiting := func() int64 {
		return dbtest.QueryInt(t, p.database, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'notifications'::regclass`)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	r := s.Request("GET", "/admin/v1/accounts/shop/notifications", "", "Authorization: Bearer "+servertest.AdminToken).WithContext(ctx)
	result := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		result <- err
	}()
	eventually(t, "the query waits", func() bool { return countWaiting() == 1 })
	hangUp()
	assert.True(t, (<-result) != nil, "the call completed while its table was locked, want an error")
	eventually(t, "the query is cancelled", func() bool { return countWaiting() == 0 })
}
