package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/domain/iam"
	"github.com/qrjump/qrjump/internal/edge/console"
	"github.com/qrjump/qrjump/internal/infra/adminroute"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// recorded is the console of a server, whose calls of the admin API are noted where they were answered as they should be.
type recorded struct {
	t          *testing.T
	s          *servertest.Server
	pages      http.Handler
	production http.Handler // the same without an emulator
	called     *servertest.Called
	by         string // the page or form that calls
	wants      int    // a refusal that is as it should be; 0 = none is
}

// record is the console over the admin API of a server.
func record(t *testing.T, s *servertest.Server) *recorded {
	c := &recorded{t: t, s: s, called: servertest.NewCalled()}
	to, err := url.Parse(s.AdminURL)
	require.NoError(t, err)
	api := httputil.NewSingleHostReverseProxy(to)
	forward := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = to.Host
		if r.Method == http.MethodPut && r.ContentLength == 0 {
			r.ContentLength = -1 // a list of unknown length, which a proxy would drop
		}
		r.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		a := &statusOf{ResponseWriter: w}
		api.ServeHTTP(a, r)
		if a.status/100 == 2 || a.status == c.wants {
			c.called.Note(r, c.by)
		}
	})
	off := func(*http.Request) bool { return false }
	pages := func(emulates bool) http.Handler {
		return (&console.Console{API: forward, Scan: forward, As: func(r *http.Request, _ iam.Caller) *http.Request { return r },
			Open: &iam.Caller{Role: string(adminroute.Admin)}, Emulates: emulates, Secure: off, TLSOnly: off,
			Stopping: func() bool { return false }, Wire: func() string { return s.URL }, Log: slog.New(slog.DiscardHandler),
			Health: func(context.Context) console.Health { return console.Health{DiskFree: -1} }}).Handler()
	}
	c.pages, c.production = pages(true), pages(false)
	return c
}

type statusOf struct {
	http.ResponseWriter
	status int
}

func (s *statusOf) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusOf) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

func (c *recorded) serve(method, path, by string, form url.Values) page {
	c.t.Helper()
	c.by = by
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, body)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	c.pages.ServeHTTP(w, r)
	if w.Code != c.wants && w.Code != http.StatusOK && w.Code != http.StatusSeeOther {
		why := regexp.MustCompile(`role="alert"[^>]*>([^<]*)`).FindString(w.Body.String())
		c.t.Errorf("%s: %d %s", by, w.Code, why)
	}
	return page{w.Code, w.Body.String(), w.Header()}
}

func (c *recorded) get(path string) page {
	c.t.Helper()
	return c.serve("GET", path, "GET "+path, nil)
}

// post sends a form whose fields are written as a query.
func (c *recorded) post(path, fields string) page {
	c.t.Helper()
	form, err := url.ParseQuery(fields)
	require.NoError(c.t, err)
	return c.serve("POST", path, "POST "+path+" "+form.Get("did"), form)
}

// Each operation of the admin API is called by a page or a form of the console, and answers, or it is said why not: a walk through
// the console does everything that it can do.
func TestConsole_CoversEveryOperation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	c := record(t, s)
	story, err := os.ReadFile("testdata/surface.txt")
	require.NoError(t, err)
	var last page
	answer := func(p page) servertest.Answer {
		last = p
		return servertest.Answer{Status: p.Status, Body: p.Body, Header: p.Header}
	}
	s.Tell(strings.ReplaceAll(string(story), "PASSWORD", url.QueryEscape(password)), servertest.Verbs{
		"page":  func(path string) servertest.Answer { return answer(c.get(path)) },
		"later": func(path string) servertest.Answer { return answer(c.get(laterOf(c.get(path)))) },
		"form": func(rest string) servertest.Answer {
			path, fields, _ := strings.Cut(rest, " ")
			return answer(c.post(path, fields))
		},
		"refused": func(status string) servertest.Answer {
			c.wants, _ = strconv.Atoi(status)
			return answer(last)
		},
		"copied": func(string) servertest.Answer {
			var list []string
			for _, found := range regexp.MustCompile(`<code class="copy">([^<]+)</code>`).FindAllStringSubmatch(last.Body, -1) {
				list = append(list, found[1])
			}
			require.True(c.t, len(list) != 0, "%s shows nothing: %s", c.by, last.Body)
			for _, secret := range list {
				s.Hide(secret)
			}
			return answer(last)
		},
		"drawn": func(batch string) servertest.Answer {
			drawnPackage(c, batch)
			return answer(last)
		},
		"production": func(string) servertest.Answer {
			c.pages = c.production
			return answer(last)
		},
	})
	c.called.Parity(t, servertest.Console)
}

// drawnPackage makes a package of labels as the command line makes it; what is wrong with
// a field stands beside it, with all that was filled in.
func drawnPackage(c *recorded, batch string) {
	form := "batch=" + batch + "&from=2000&to=2003&printer=Draws&format=csv&format=sheet&format=zpl&kind=both&level=M&lines=%7Bserial%7D" +
		"&line_height=2mm&page=a5&columns=2&rows=2&margin=12mm&gap=1mm&crop_marks=1&footer=%7Bpage%7D&quiet="
	wrong := func(field, more string, says ...string) {
		c.t.Helper()
		c.wants = http.StatusUnprocessableEntity
		p := c.post("/console/packages", form+"&"+more)
		c.wants = 0
		assert.Equal(c.t, p.Status, http.StatusUnprocessableEntity, "%s", more)
		p.wants(c.t, append(says, `id="`+field+`-wrong"`, `value="a5"`, `value="zpl" checked`, `<details open>`)...)
	}
	wrong("module", "dpi=203&module=9yards", "9yards")
	wrong("colour", "dpi=203&module=0.5mm&colour=mauve", `value="mauve"`)
	wrong("dpi", "dpi=many&module=0.5mm", "Enter a number that is not negative.", `value="many"`)
	wrong("kind", "dpi=203&module=9mm", "exceeds the limit")
	wrong("spare", "dpi=203&module=0.5mm&spare=99", "spare is 99")
	wrong("format", "dpi=203&module=0.5mm&did=job", "Choose one label format")
	job := c.post("/console/packages", strings.ReplaceAll(form, "&format=zpl", "")+"&dpi=203&module=0.5mm&did=job&printer=")
	if kept := job.Header.Get("Content-Disposition"); kept != `attachment; filename="labels-`+batch+`.yaml"` || job.Body != "batch: "+batch+
		"\nrange: \"2000-2003\"\nout: labels-"+batch+".pdf\nkind: \"both\"\nmodule: \"0.5mm\"\ndpi: 203\nlevel: \"M\"\nline: [\"{serial}\"]\n"+
		"line_height: \"2mm\"\npage: \"a5\"\ncolumns: 2\nrows: 2\nmargin: \"12mm\"\ngap: \"1mm\"\ncrop_marks: true\nfooter: \"{page}\"\n" {
		c.t.Errorf("the file of the job: %s\n%s", kept, job.Body)
	}
	read := func(status int, file string, says ...string) {
		c.t.Helper()
		c.wants = status
		p := c.post("/console/packages/job", "text="+url.QueryEscape(file))
		c.wants = 0
		assert.True(c.t, p.Status == status, "%q: %d", file, p.Status)
		p.wants(c.t, says...)
	}
	filled := []string{`name="batch" value="` + batch + `"`, `name="from" value="2000"`, `name="to" value="2003"`, `value="a5"`,
		`value="203"`, `value="sheet" checked`, `value="both" selected`, `name="crop_marks" value="1" checked`}
	read(200, job.Body, append(filled, "Labels: 4, pages: 1, labels per page: 4.", "with modules of 0.500 mm", `<details open>`)...)
	read(200, job.Body+"font: brand.ttf\nproofs: 3\n", append(filled, "does not support", "font, proofs")...)
	read(200, "batch: "+batch+"\nformat: png\n", `name="to" value="9999"`, "Single labels: 10,000.", `value="png" checked`)
	read(422, "batch: "+batch+"\nrange: [0-9, 20-29]\n", `value="0-9 20-29"`, "Enter a number that is not negative.")
	read(422, job.Body+"label: 3x3mm\n", `id="kind-wrong"`)
	read(422, "batch: [1", "not valid YAML")
	read(422, "batch:\n", "The key batch of the file has no value.")
	read(422, "", "not a job file")
	read(413, strings.Repeat("# a line\n", 9000), "at most 64 KB")
	made := c.post("/console/packages", form+"&dpi=203&module=0.5mm")
	at, _, found := strings.Cut(made.Header.Get("Location"), "?")
	require.True(c.t, found, "no package: %d %s", made.Status, made.Body)
	got := servertest.Decode[client.Package](c.t, c.s.Admin("GET", "/packages/"+strings.TrimPrefix(at, "/console/packages/"), ""))
	want := client.LabelDrawing{Kind: "both", Module: "0.5mm", DPI: 203, Level: "M", Lines: []string{"{serial}"}, LineHeight: "2mm",
		Colour: "black", Background: "white", Page: "a5", Columns: 2, Rows: 2, Margin: "12mm", Gap: "1mm", CropMarks: true,
		Footer: "{page}"}
	assert.True(c.t, slices.Equal(got.Formats, []string{"csv", "sheet", "zpl"}) && got.Drawing != nil &&
		reflect.DeepEqual(*got.Drawing, want), "the package is %+v, %+v", got, got.Drawing)
}

// What a person does in the console and a program by the admin API leaves the same line in the log of changes, with another name, and
// is refused to the same roles.
func TestConsoleAudit_EqualsAdminAPI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "boss", adminroute.Admin)
	person(s, "op", adminroute.Operator)
	boss, op := request(t, s), request(t, s)
	boss.signIn("boss", password, "")
	op.signIn("op", password, "")
	keys := map[adminroute.Role]string{}
	for _, role := range []adminroute.Role{adminroute.Admin, adminroute.Operator} {
		keys[role] = s.NewKey("/admin-keys", fmt.Sprintf(`{"name":"ci","role":%q}`, role))
	}
	type line struct {
		Kind, Key, Action, Actor string
		Detail                   json.RawMessage
	}
	newest := func() line {
		list := servertest.Decode[struct{ Changes []line }](t, s.Admin("GET", "/changes?newest=true&limit=1", ""))
		return list.Changes[0]
	}
	form := url.Values{"did": {"add"}, "name": {"alice"}, "role": {"rules-editor"}, "accounts": {"shop"}, "password": {password}}
	body := fmt.Sprintf(`{"name":"alice","role":"rules-editor","accounts":["shop"],"password":%q}`, password)
	api := func(role adminroute.Role, method, path, body string) int {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+keys[role], "Content-Type: application/json").Status
	}
	for name, refused := range map[string]int{"console": op.post("/console/people", form).Status,
		"API": api(adminroute.Operator, "POST", "/people", body)} {
		assert.Equal(t, refused, http.StatusForbidden, "an operator makes a person by the %s", name)
	}
	for _, c := range []struct {
		form   url.Values
		method string
		path   string
		body   string
	}{{form, "POST", "/people", body},
		{url.Values{"did": {"delete"}, "name": {"alice"}, "sure": {"alice"}}, "DELETE", "/people/alice", ""}} {
		p := boss.post("/console/people", c.form)
		require.True(t, p.Status == http.StatusSeeOther, "%s by the console: %d %s", c.form.Get("did"), p.Status, p.Body)
		console := newest()
		// The other way round, so that the same can be done again.
		if c.method == "POST" {
			s.Admin("DELETE", "/people/alice", "")
		} else {
			s.Admin("POST", "/people", body)
		}
		status := api(adminroute.Admin, c.method, c.path, c.body)
		require.True(t, status/100 == 2, "%s by the API: %d", c.form.Get("did"), status)
		program := newest()
		assert.True(t, console.Actor == "person:boss" && program.Actor == "key:ci",
			"%s: by %s and by %s", c.form.Get("did"), console.Actor, program.Actor)
		console.Actor, program.Actor = "", ""
		assert.True(t, fmt.Sprintf("%s", console) == fmt.Sprintf("%s", program),
			"%s: %s by the console, %s by the API", c.form.Get("did"), console, program)
	}
}
