package server_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/internal/adminapi"
	"github.com/qrjump/qrjump/internal/api"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/settings"
)

var update = flag.Bool("update", false, "rewrite docs/reference")

// TestReferenceIsFresh holds docs/reference to the tables in the code.
func TestReferenceIsFresh(t *testing.T) {
	pages := map[string]string{"errors.md": errorsPage(), "endpoints.md": endpointsPage(), "admin.md": operationsPage(t),
		"settings.md": settingsPage(t), "metrics.md": metricsPage(t), "behaviours.md": behavioursPage(), "coverage.md": coveragePage(t),
		"../what-this-is-not.md": whatThisIsNot()}
	maps.Copy(pages, guidePages(t))
	for name, text := range pages {
		path := filepath.Join("..", "..", "docs", "reference", name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(path)
		if err != nil || string(have) != text {
			t.Errorf("%s is not what the code says (%v): run make update and read the diff", path, err)
		}
	}
}

func errorsPage() string {
	var b strings.Builder
	b.WriteString(
		"# Error codes\n\nPrinted from `internal/errcode/codes.go` by `make update`. Every answer is HTTP 200; `errmsg` is the text, a space and `rid: ` with\nthe request id; under `/sns/` a comma stands before that space. Behind 40001 and 45009 the calls that take a token, and `/cgi-bin/token`, add\n`" + errcode.StableTokenAdvice + "`.\n*How we know*: seen = quoted from a live answer, page = documented only, inferred = our choice.\n\n| errcode | errmsg | meaning | how we know |\n| --- | --- | --- | --- |\n")
	for _, c := range errcode.All() {
		text := "`" + c.Text + "`"
		if c.Text == "" {
			text = "(empty)"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", c.Number, text, c.Meaning, c.Evidence)
	}
	return b.String()
}

var described = regexp.MustCompile(
	`fqName: "(\w+)", help: (".*?"), (?:unit: "[^"]*", )?constLabels: \{(?:(\w+)=.*)?\}, variableLabels: \{(.*)\}\}$`)

// metricsPage is docs/reference/metrics.md.
func metricsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(
		"# Metrics\n\nPrinted from what a server registers by `make update`. `GET /metrics` on the admin listener, with the admin token, shows them in the format of Prometheus, and beside\n" +
			"them those of the Go runtime (`go_…`) and of the process (`process_…`). A counter ends in `_total` and counts what its line says; labels have a bounded number of values.\n\n" +
			"| name | type | labels | unit | what it says |\n| --- | --- | --- | --- | --- |\n")
	for _, m := range metrics(t) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.name, m.kind, m.labels, m.unit, m.says)
	}
	return b.String()
}

// metric is a line of the pages about metrics.
type metric struct{ name, kind, labels, unit, says string }

// metrics are what a server registers, by name.
func metrics(t *testing.T) (list []metric) {
	s := servertest.Start(t, servertest.Options{Emulator: true})
	s.Do("GET", "/cgi-bin/token", "")
	kinds := map[string]string{}
	for line := range strings.Lines(s.Do("GET", "/metrics", "").Body) {
		if of, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(of), " ")
			kinds[name] = kind
		}
	}
	lines := map[string]metric{}
	found := make(chan *prometheus.Desc)
	go func() {
		s.Registered().Describe(found)
		close(found)
	}()
	for d := range found {
		is := described.FindStringSubmatch(d.String())
		if is == nil {
			t.Errorf("cannot read %s", d)
			continue
		}
		name := is[1]
		kind := kinds[name]
		delete(kinds, name)
		if kind == "" && strings.HasSuffix(name, "_total") {
			kind = "counter" // of nothing yet
		}
		if !strings.HasPrefix(name, "qrjump_") || lines[name].name != "" {
			continue
		}
		help, err := strconv.Unquote(is[2])
		if err != nil || kind == "" {
			t.Errorf("%s has the type %q: %v; make this test's server show it", name, kind, err)
		}
		unit := ""
		if strings.HasSuffix(name, "_seconds") {
			unit = "seconds"
		}
		lines[name] = metric{name, kind, strings.ReplaceAll(strings.Trim(is[3]+","+is[4], ","), ",", ", "), unit, help}
	}
	for name := range kinds {
		t.Errorf("%s is shown and was registered by nobody", name)
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		list = append(list, lines[name])
	}
	return list
}

// settingsPage is docs/reference/settings.md.
func settingsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(
		"# Settings\n\nPrinted from `internal/settings/table.go` by `make update`. A seed names them under `settings:`, `PUT /admin/v1/settings` and `Client.SetSettings` change them,\n" +
			"those that are not named stay. Who changes them is in the audit log. A change counts " + settings.AtOnce +
			", where nothing else is said.\n\n" +
			"| name | type | default | limits | what it is |\n| --- | --- | --- | --- | --- |\n")
	for _, one := range settingRows(t) {
		means := one.Meaning
		if one.Effect != "" {
			means += ". Counts " + one.Effect
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", one.Name, one.kind, one.fallback, one.limits, means)
	}
	return b.String()
}

// settingRow is a line of the pages about settings.
type settingRow struct {
	settings.Field
	kind, fallback, limits string
}

func settingRows(t *testing.T) (rows []settingRow) {
	kind := reflect.TypeFor[settings.Settings]()
	if len(settings.Table) != kind.NumField() {
		t.Errorf("%d settings and %d lines of the table", kind.NumField(), len(settings.Table))
	}
	for i, f := range settings.Table {
		if name := kind.Field(min(i, kind.NumField()-1)).Tag.Get("json"); f.Name != name || f.Meaning == "" {
			t.Errorf("the setting %s is %q in the table and means %q", name, f.Name, f.Meaning)
		}
		schema := adminapi.SettingSchema(huma.NewMapRegistry("#/", huma.DefaultSchemaNamer), f)
		limits := f.Allowed()
		fallback, err := json.Marshal(f.Of(settings.Defaults()))
		if err != nil {
			t.Error(err)
		}
		rows = append(rows, settingRow{f, cmp.Or(schema.Type, "string or array"), string(fallback), limits})
	}
	return rows
}

func endpointsPage() string {
	var b strings.Builder
	b.WriteString(
		"# Endpoints of the wire\n\nPrinted from `internal/api/endpoints.go` by `make update`. Each can also answer the codes that all share: -1, 40001, 40097, 41001,\n42001, 43002, 44002, 44990, 45009, 47001; one that takes an account's token also 48001, 61003, 61004, 61007 and 61011,\nwhere a third-party platform calls for the account, and 45011 where the setting `service_minute_limit` is on; an unknown path answers 40066.\n\n| method | path | token | its own codes |\n| --- | --- | --- | --- |\n")
	for _, e := range api.Describe() {
		token := "no"
		if e.Token {
			token = "yes"
		}
		var codes []string
		for _, c := range e.Codes {
			codes = append(codes, fmt.Sprint(c.Number))
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", e.Method, e.Path, token, strings.Join(codes, ", "))
	}
	return b.String()
}
