package docgen

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/edge/adminapi"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/emulator"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
)

// settingRow is a line of the page about settings.
type settingRow struct{ Heading, Name, Type, Default, Limits, Means, Effect string }

// settingRows returns the settings in the order of their table.
func (p *press) settingRows(l language) any {
	var rows []settingRow
	for _, f := range settings.Table {
		schema := adminapi.SettingSchema(huma.NewMapRegistry("#/", huma.DefaultSchemaNamer), f)
		fallback, err := json.Marshal(f.Value(settings.Defaults()))
		if err != nil {
			p.reportMissing("the default of %s: %w", f.Name, err)
		}
		row := settingRow{Name: f.Name, Type: cmp.Or(schema.Type, "string or array"), Default: string(fallback), Limits: l.say(f.Allowed()),
			Means: l.say(f.Meaning())}
		if f.Effect != "" {
			row.Effect = l.say(f.Counts())
		}
		if f.Group != "" {
			row.Heading = l.say(f.Heading())
		}
		rows = append(rows, row)
	}
	return rows
}

// metricRow is a line of the page about metrics.
type metricRow struct{ Name, Type, Labels, Says string }

func metricRows(l language, rows []metricRow) any {
	rows = slices.Clone(rows)
	for i, row := range rows {
		rows[i].Says = l.say(server.Metric(row.Name))
	}
	return rows
}

var described = regexp.MustCompile(
	`fqName: "(\w+)", help: ".*?", (?:unit: "[^"]*", )?constLabels: \{(?:(\w+)=.*)?\}, variableLabels: \{(.*)\}\}$`)

// metricsOfAServer returns the metrics that a server registers, sorted by name. One call is made to the server, after which the
// server exposes the types of all metrics except counters.
func metricsOfAServer(ctx context.Context) (rows []metricRow, err error) {
	folder, err := os.MkdirTemp("", "qrjump-print-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	c := server.Default()
	c.Data, c.Listen, c.Dev, c.Emulator = filepath.Join(folder, "data"), "127.0.0.1:0", true, true
	s, err := server.Start(ctx, c, io.Discard, server.TestHooks{})
	if err != nil {
		return nil, err
	}
	defer func() { err = cmp.Or(err, s.Close()) }()
	answer, err := http.Get(s.URL + "/cgi-bin/token")
	if err != nil {
		return nil, err
	}
	answer.Body.Close()
	families, err := s.Registered().Gather()
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	for _, family := range families {
		kinds[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	found := make(chan *prometheus.Desc)
	go func() {
		s.Registered().Describe(found)
		close(found)
	}()
	lines := map[string]metricRow{}
	for d := range found {
		is := described.FindStringSubmatch(d.String())
		if is == nil {
			err = fmt.Errorf("cannot read %s", d)
			continue
		}
		name, kind := is[1], kinds[is[1]]
		if kind == "" && strings.HasSuffix(name, "_total") {
			kind = "counter" // of nothing yet
		}
		if !strings.HasPrefix(name, "qrjump_") || lines[name].Name != "" {
			continue
		}
		if kind == "" {
			err = fmt.Errorf("%s has no type: let the server above show it", name)
		}
		lines[name] = metricRow{Name: name, Type: kind, Labels: strings.ReplaceAll(strings.Trim(is[2]+","+is[3], ","), ",", ", ")}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		rows = append(rows, lines[name])
	}
	return rows, err
}

// operationRow is a line of the page about the admin API.
type operationRow struct {
	adminroute.Route
	Go string // The client methods that call the operation.
}

func operationRows(ctx context.Context) (rows []operationRow, err error) {
	list := append((&adminapi.Admin{}).Operations(), (&emulator.Control[api.Record]{}).Operations()...)
	mux, methods := http.NewServeMux(), map[string][]string{}
	for _, o := range list {
		mux.Handle(o.Method+" "+adminroute.Base+o.Path, http.NotFoundHandler())
	}
	err = EachClientCall(ctx, func(call *http.Request, method string) {
		if _, pattern := mux.Handler(call); !slices.Contains(methods[pattern], method) {
			methods[pattern] = append(methods[pattern], method)
		}
	})
	for _, o := range list {
		rows = append(rows, operationRow{o, strings.Join(methods[o.Method+" "+adminroute.Base+o.Path], ", ")})
	}
	return rows, err
}

// unanswered is a transport that records the client's calls and never returns a response.
type unanswered struct{ calls []*http.Request }

func (u *unanswered) RoundTrip(r *http.Request) (*http.Response, error) {
	u.calls = append(u.calls, r)
	return &http.Response{StatusCode: 500, Body: io.NopCloser(bytes.NewReader(nil)), Header: http.Header{}, Request: r}, nil
}

// EachClientCall calls every method from EachClientMethod and passes the first request of each method to note; further requests of
// a method are ignored.
func EachClientCall(ctx context.Context, note func(call *http.Request, method string)) error {
	sent := &unanswered{}
	c, err := client.New("http://127.0.0.1:1", client.Options{HTTP: &http.Client{Transport: sent}, AccessToken: "t"})
	if err != nil {
		return err
	}
	for name, call := range EachClientMethod() {
		sent.calls = nil
		_ = call(ctx, c)
		if len(sent.calls) > 0 {
			note(sent.calls[0], name)
		}
	}
	return nil
}

// EachClientMethod returns the methods of the Go client that call a server, each with placeholder arguments: 1 for a number, and
// "csv", which is also a valid format, for a string. Methods that return an iterator are omitted.
func EachClientMethod() iter.Seq2[string, func(context.Context, *client.Client) error] {
	return func(yield func(string, func(context.Context, *client.Client) error) bool) {
		kind := reflect.TypeFor[client.Client]()
		services := []reflect.StructField{{Name: "", Type: reflect.PointerTo(kind)}}
		for _, service := range reflect.VisibleFields(kind) {
			if service.IsExported() {
				services = append(services, service)
			}
		}
		for _, service := range services {
			for method := range service.Type.Methods() {
				kind, name := method.Func.Type(), strings.TrimPrefix(service.Name+"."+method.Name, ".")
				if kind.NumIn() < 2 || kind.Out(0).Kind() == reflect.Func {
					continue
				}
				call := func(ctx context.Context, c *client.Client) error {
					receiver := reflect.ValueOf(c)
					if service.Name != "" {
						receiver = receiver.Elem().FieldByName(service.Name)
					}
					out := method.Func.Call(append([]reflect.Value{receiver, reflect.ValueOf(ctx)}, madeUp(kind)...))
					err, _ := out[len(out)-1].Interface().(error)
					if file, ok := out[0].Interface().(io.Closer); ok && err == nil {
						err = file.Close()
					}
					return err
				}
				if !yield(name, call) {
					return
				}
			}
		}
	}
}

// madeUp returns placeholder values for the parameters of a method after the client and the context.
func madeUp(method reflect.Type) (values []reflect.Value) {
	for i := 2; i < method.NumIn(); i++ {
		v := reflect.New(method.In(i)).Elem()
		switch v.Kind() {
		case reflect.String:
			v.SetString("csv")
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
		values = append(values, v)
	}
	return values
}
