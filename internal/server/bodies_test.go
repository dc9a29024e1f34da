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

// schema is what the API document says of a value.
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

// hostile makes bodies of about n bytes by a schema.
type hostile struct {
	document *bodyDocument
	n        int
}

func (h hostile) schemaOf(s schema) schema {
	for s.Ref != "" {
		s = h.document.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	return s
}

func (s schema) kind() string {
	if list, several := s.Type.([]any); several {
		return fmt.Sprint(list[0])
	}
	return fmt.Sprint(s.Type)
}

// value returns a value of a schema, whose texts and lists are as long as said.
func (h hostile) value(s schema, text, items, deep int) any {
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
	case s.kind() == "array" && deep > 0:
		list := make([]any, items)
		for i := range list {
			list[i] = h.value(*s.Items, 1+text/(items+1), 1, deep-1)
		}
		return list
	case s.kind() == "object" && deep > 0:
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = h.value(property, text, items, deep-1)
		}
		return object
	}
	return nil
}

// bodies are hostile bodies for a schema by what is wrong with them.
func (h hostile) bodies(t *testing.T, s schema) map[string]string {
	t.Helper()
	written := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return string(text)
	}
	few, many := map[string]any{}, map[string]any{}
	for i := range h.n / 12 {
		many[fmt.Sprintf("k%07d", i)] = i % 10
		if i < 990 {
			few[fmt.Sprintf("k%07d", i)] = strings.Repeat("x", h.n/990)
		}
	}
	properties := len(h.schemaOf(s).Properties)
	list := func(one any) string {
		all := map[string]any{}
		for name := range h.schemaOf(s).Properties {
			all[name] = slices.Repeat([]any{one}, h.n/8/(properties+1))
		}
		return written(all)
	}
	return map[string]string{
		"unknown keys":        written(many),
		"fewer unknown keys":  written(few),
		"objects of one key":  list(map[string]any{"a": 1}),
		"lists":               list([]any{}),
		"texts in lists":      list("a"),
		"numbers":             list(1),
		"long texts":          written(h.value(s, h.n/(properties+1), 1, 4)),
		"long lists":          written(h.value(s, 8, h.n/100, 4)),
		"depth":               strings.Repeat(`{"a":`, h.n/6) + "1" + strings.Repeat("}", h.n/6),
		"list of lists":       strings.Repeat(`[`, h.n/2) + strings.Repeat("]", h.n/2),
		"no JSON":             strings.Repeat("x", h.n),
		"a long key":          written(map[string]any{strings.Repeat("k", h.n): 1}),
		"a password and junk": `{"password":"correct horse battery","secret":"correct horse battery","junk":1}`,
	}
}

// bodyCall is an operation that takes a body, with a path at which it finds what it changes.
type bodyCall struct {
	name, method, path string
	schema             schema
	header             []string
	raw                bool // no JSON
}

// rawBodies are hostile bodies of about n bytes for operations that take lines or a file.
func (h hostile) rawBodies() map[string]string {
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

// TestReads_LargestNumbers: reads answer the largest and the smallest number in each query parameter without an internal error.
func TestReads_LargestNumbers(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: brand, Emulator: true})
	var document bodyDocument
	s.Do("GET", "/openapi.json", "").JSON(t, &document)
	asked := 0
	for path, operations := range document.Paths {
		for _, parameter := range operations["get"].Parameters {
			if parameter.In != "query" || parameter.Schema.kind() != "integer" {
				continue
			}
			for _, n := range []string{"9223372036854775807", "-9223372036854775808", "0"} {
				address := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(path, "1") + "?" + parameter.Name + "=" + n
				r := s.Do("GET", address, "", "Authorization: Bearer "+servertest.AdminToken)
				assert.True(t, r.Status < http.StatusInternalServerError, "%s: %d %s", address, r.Status, r.Body)
				asked++
			}
		}
	}
	assert.True(t, asked > 100, "%d requests", asked)
}

// bodyCalls are all operations of the three listeners that take a body; those of the emulator come last, since they change what
// the others meet.
func bodyCalls(t *testing.T, s *servertest.Server, document *bodyDocument) (calls []bodyCall) {
	t.Helper()
	s.Do("GET", "/openapi.json", "").JSON(t, document)
	ids := revised(t, s)
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
		of := cmp.Or(map[bool]string{true: "svc"}[strings.Contains(path, "marketcode")], "shop")
		calls = append(calls, bodyCall{name: path, method: "POST", path: path + "?access_token=" + s.Token(of)})
	}
	slices.SortStableFunc(calls, func(a, b bodyCall) int {
		last := func(c bodyCall) int { return strings.Count(c.path, "/emulator/") }
		return last(a) - last(b)
	})
	return calls
}

// cost is what a call took of the process: bytes and objects that it allocated, and processor time.
type cost struct{ bytes, objects, processor uint64 }

func spent() cost {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return cost{memory.TotalAlloc, memory.Mallocs, uint64(usage.Utime.Nano() + usage.Stime.Nano())}
}

// Issue 42, 5: a rejection repeated the whole body for each unknown key. Whatever is wrong with a body, the answer is short, and
// what the call costs is proportional to the body: allocations and processor time are measured for every operation, and may grow
// twice and three times as much as the body.
func TestBodies_CostIsProportionalToTheirSize(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Seed: brand, Emulator: true})
	var document bodyDocument
	calls := bodyCalls(t, s, &document)
	raw, emulated := 0, 0
	for _, c := range calls {
		if c.raw {
			raw++
		}
		emulated += strings.Count(c.path, "/emulator/")
	}
	require.True(t, len(calls) >= 80 && raw >= 4 && emulated >= 6,
		"%d operations take a body, %d no JSON, %d of the emulator", len(calls), raw, emulated)
	const longest = 20_000
	small, large := testscope.Choose(30_000, 10_000), testscope.Choose(240_000, 80_000)
	var worst cost // of a large body
	for _, c := range calls {
		send := func(body string) (answer servertest.Answer, took cost) {
			before := spent()
			answer = s.Do(c.method, c.path, body, c.header...)
			after := spent()
			took = cost{after.bytes - before.bytes, after.objects - before.objects, after.processor - before.processor}
			return answer, took
		}
		little, much := hostile{&document, small}, hostile{&document, large}
		first, second := little.rawBodies(), much.rawBodies()
		if !c.raw {
			first, second = little.bodies(t, c.schema), much.bodies(t, c.schema)
		}
		for _, what := range slices.Sorted(maps.Keys(first)) {
			answer, few := send(first[what])
			longer, many := send(second[what])
			file := answer.Status == http.StatusOK && strings.HasSuffix(c.path, "/export") // an archive of what is stored
			assert.True(t, file || max(len(answer.Body), len(longer.Body)) <= longest,
				"%s with %s: an answer of %d bytes to %d, of %d bytes to %d", c.name, what, len(answer.Body), len(first[what]),
				len(longer.Body), len(second[what]))
			each := 150 // bytes for a byte
			if strings.Contains(c.path, "/emulator/") {
				each = 400
			}
			if bound := uint64(2_000_000 + each*len(second[what])); many.bytes > bound || many.bytes > 2_000_000+16*few.bytes {
				t.Errorf("%s with %s: allocates %d bytes for a body of %d, %d for one of %d; want at most %d", c.name, what, few.bytes,
					len(first[what]), many.bytes, len(second[what]), bound)
			}
			assert.True(t, many.objects <= 20_000+24*few.objects,
				"%s with %s: allocates %d objects for a body of %d, %d for one of %d", c.name, what, few.objects, len(first[what]),
				many.objects, len(second[what]))
			assert.True(t, many.processor <= uint64(time.Second/2)+24*few.processor,
				"%s with %s: computes for %v for a body of %d, %v for one of %d", c.name, what, time.Duration(few.processor),
				len(first[what]), time.Duration(many.processor), len(second[what]))
			assert.True(t, !strings.Contains(answer.Body, "correct horse"), "%s repeats a secret: %s", c.name, answer.Body)
			worst = cost{max(worst.bytes, many.bytes), max(worst.objects, many.objects), max(worst.processor, many.processor)}
		}
	}
	t.Logf("%d operations, %d of them with lines or a file, %d of the emulator: at most %d bytes in %d objects, %v for %d bytes", len(calls), raw,
		emulated, worst.bytes, worst.objects, time.Duration(worst.processor), large)
}

// Issue 42, 5: what a call does in the database ends when its client hangs up.
func TestAdminCall_ClientHangsUp(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	s := p.start(t, servertest.Options{Seed: brand})
	db, err := sql.Open("pgx", p.database)
	require.NoError(t, err)
	defer db.Close()
	tx, err := db.Begin()
	require.NoError(t, err)
	defer tx.Rollback()
	require.NoError(t, assert.ErrorOf(tx.Exec(`LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE`)))
	waiting := func() int64 {
		return dbtest.Number(t, p.database, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'notifications'::regclass`)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	r := s.Request("GET", "/admin/v1/accounts/shop/notifications", "", "Authorization: Bearer "+servertest.AdminToken).WithContext(ctx)
	answered := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		answered <- err
	}()
	eventually(t, "the query waits", func() bool { return waiting() == 1 })
	hangUp()
	assert.True(t, (<-answered) != nil, "the call was answered while its table was locked")
	eventually(t, "the query is cancelled", func() bool { return waiting() == 0 })
}
