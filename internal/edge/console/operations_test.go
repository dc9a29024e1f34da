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

// recorder is the console of a server that records the calls of the admin API with the expected status.
type recorder struct {
	t          *testing.T
	s          *servertest.Server
	pages      http.Handler
	production http.Handler // pages of a server without an emulator
	called     *servertest.Called
	caller     string // page or form that calls the API
	wantStatus int    // expected status of a rejected call; 0 = none
}

// newRecorder returns a recorder over the admin API of a server.
func newRecorder(t *testing.T, s *servertest.Server) *recorder {
	c := &recorder{t: t, s: s, called: servertest.NewCalled()}
	target := require.Value(url.Parse(s.AdminURL))(t)
	api := httputil.NewSingleHostReverseProxy(target)
	forward := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = target.Host
		if r.Method == http.MethodPut && r.ContentLength == 0 {
			r.ContentLength = -1 // unknown length; at 0 the proxy drops the body
		}
		r.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
		api.ServeHTTP(w, r)
	})
	api.ModifyResponse = func(r *http.Response) error {
		if r.StatusCode/100 == 2 || r.StatusCode == c.wantStatus {
			c.called.Note(r.Request, c.caller)
		}
		return nil
	}
	off := func(*http.Request) bool { return false }
	newConsole := func(emulates bool) http.Handler {
		return (&console.Console{API: forward, Scan: forward, As: func(r *http.Request, _ iam.Caller) *http.Request { return r },
			Open: &iam.Caller{Role: string(adminroute.Admin)}, Emulates: emulates, Secure: off, TLSOnly: off,
			Stopping: func() bool { return false }, Wire: func() string { return s.URL }, Log: slog.New(slog.DiscardHandler),
			Health: func(context.Context) console.Health { return console.Health{DiskFree: -1} }}).Handler()
	}
	c.pages, c.production = newConsole(true), newConsole(false)
	return c
}

func (c *recorder) serve(method, path, by string, form url.Values) page {
	c.t.Helper()
	c.caller = by
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r := httptest.NewRequestWithContext(c.t.Context(), method, path, body)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	c.pages.ServeHTTP(w, r)
	if w.Code != c.wantStatus && w.Code != http.StatusOK && w.Code != http.StatusSeeOther {
		reason := regexp.MustCompile(`role="alert"[^>]*>([^<]*)`).FindString(w.Body.String())
		c.t.Errorf("%s: status %d %s, want 200 or 303", by, w.Code, reason)
	}
	return page{w.Code, w.Body.String(), w.Header()}
}

func (c *recorder) get(path string) page {
	c.t.Helper()
	return c.serve("GET", path, "GET "+path, nil)
}

// post sends a form whose fields are written as a query.
func (c *recorder) post(path, fields string) page {
	c.t.Helper()
	form := require.Value(url.ParseQuery(fields))(c.t)
	return c.serve("POST", path, "POST "+path+" "+form.Get("did"), form)
}

// TestConsole_CoversEveryOperation walks through the whole console and verifies that a page or form calls each operation of the admin API,
// unless the table of operations has a reason why not.
func TestConsole_CoversEveryOperation(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	c := newRecorder(t, s)
	story := require.Value(os.ReadFile("testdata/surface.txt"))(t)
	var last page
	answer := func(p page) servertest.Answer {
		last = p
		return servertest.Answer{Status: p.Status, Body: p.Body, Header: p.Header}
	}
	s.RunStory(strings.ReplaceAll(string(story), "PASSWORD", url.QueryEscape(password)), servertest.Commands{
		"page":  func(path string) servertest.Answer { return answer(c.get(path)) },
		"later": func(path string) servertest.Answer { return answer(c.get(deferredPath(c.get(path)))) },
		"form": func(rest string) servertest.Answer {
			path, fields, _ := strings.Cut(rest, " ")
			return answer(c.post(path, fields))
		},
		"refused": func(status string) servertest.Answer {
			c.wantStatus, _ = strconv.Atoi(status)
			return answer(last)
		},
		"copied": func(string) servertest.Answer {
			var list []string
			for _, found := range regexp.MustCompile(`<code class="copy">([^<]+)</code>`).FindAllStringSubmatch(last.Body, -1) {
				list = append(list, found[1])
			}
			require.True(c.t, len(list) != 0, "%s shows no text to copy: %s", c.caller, last.Body)
			for _, secret := range list {
				s.RegisterSecret(secret)
			}
			return answer(last)
		},
		"drawn": func(batch string) servertest.Answer {
			createLabelPackage(c, batch)
			return answer(last)
		},
		"production": func(string) servertest.Answer {
			c.pages = c.production
			return answer(last)
		},
	})
	c.called.Parity(t, servertest.Console)
}

// createLabelPackage creates a package of labels with the options of the command line. Each error must appear next to its field, with all
// input kept.
func createLabelPackage(c *recorder, batch string) {
	form := "batch=" + batch + "&from=2000&to=2003&printer=Draws&format=csv&format=sheet&format=zpl&kind=both&level=M&lines=%7Bserial%7D" +
		"&line_height=2mm&page=a5&columns=2&rows=2&margin=12mm&gap=1mm&crop_marks=1&footer=%7Bpage%7D&quiet="
	checkRejected := func(field, extra string, texts ...string) {
		c.t.Helper()
		c.wantStatus = http.StatusUnprocessableEntity
		p := c.post("/console/packages", form+"&"+extra)
		c.wantStatus = 0
		assert.Equal(c.t, p.Status, http.StatusUnprocessableEntity, "package with %s", extra)
		p.wantText(c.t, append(texts, `id="`+field+`-wrong"`, `value="a5"`, `value="zpl" checked`, `<details open>`)...)
	}
	checkRejected("module", "dpi=203&module=9yards", "9yards")
	checkRejected("colour", "dpi=203&module=0.5mm&colour=mauve", `value="mauve"`)
	checkRejected("dpi", "dpi=many&module=0.5mm", "Enter a number that is not negative.", `value="many"`)
	checkRejected("kind", "dpi=203&module=9mm", "exceeds the limit")
	checkRejected("spare", "dpi=203&module=0.5mm&spare=99", "spare is 99")
	checkRejected("format", "dpi=203&module=0.5mm&did=job", "Choose one label format")
	job := c.post("/console/packages", strings.ReplaceAll(form, "&format=zpl", "")+"&dpi=203&module=0.5mm&did=job&printer=")
	disposition := job.Header.Get("Content-Disposition")
	if disposition != `attachment; filename="labels-`+batch+`.yaml"` || job.Body != "batch: "+batch+
		"\nrange: \"2000-2003\"\nout: labels-"+batch+".pdf\nkind: \"both\"\nmodule: \"0.5mm\"\ndpi: 203\nlevel: \"M\"\nline: [\"{serial}\"]\n"+
		"line_height: \"2mm\"\npage: \"a5\"\ncolumns: 2\nrows: 2\nmargin: \"12mm\"\ngap: \"1mm\"\ncrop_marks: true\nfooter: \"{page}\"\n" {
		c.t.Errorf("job file %s =\n%s", disposition, job.Body)
	}
	checkJobFile := func(status int, text string, texts ...string) {
		c.t.Helper()
		c.wantStatus = status
		p := c.post("/console/packages/job", "text="+url.QueryEscape(text))
		c.wantStatus = 0
		assert.True(c.t, p.Status == status, "job file %q: status %d, want %d", text, p.Status, status)
		p.wantText(c.t, texts...)
	}
	texts := []string{`name="batch" value="` + batch + `"`, `name="from" value="2000"`, `name="to" value="2003"`, `value="a5"`,
		`value="203"`, `value="sheet" checked`, `value="both" selected`, `name="crop_marks" value="1" checked`}
	checkJobFile(200, job.Body, append(texts, "Labels: 4, pages: 1, labels per page: 4.", "with modules of 0.500 mm", `<details open>`)...)
	checkJobFile(200, job.Body+"font: brand.ttf\nproofs: 3\n", append(texts, "does not support", "font, proofs")...)
	checkJobFile(200, "batch: "+batch+"\nformat: png\n", `name="to" value="9999"`, "Single labels: 10,000.", `value="png" checked`)
	checkJobFile(422, "batch: "+batch+"\nrange: [0-9, 20-29]\n", `value="0-9 20-29"`, "Enter a number that is not negative.")
	checkJobFile(422, job.Body+"label: 3x3mm\n", `id="kind-wrong"`)
	checkJobFile(422, "batch: [1", "not valid YAML")
	checkJobFile(422, "batch:\n", "The key batch of the file has no value.")
	checkJobFile(422, "", "not a job file")
	checkJobFile(413, strings.Repeat("# a line\n", 9000), "at most 64 KB")
	created := c.post("/console/packages", form+"&dpi=203&module=0.5mm")
	location, _, found := strings.Cut(created.Header.Get("Location"), "?")
	require.True(c.t, found, "new package: status %d, want a redirect: %s", created.Status, created.Body)
	got := servertest.Decode[client.Package](c.t, c.s.Admin("GET", "/packages/"+strings.TrimPrefix(location, "/console/packages/"), ""))
	want := client.LabelDrawing{Kind: "both", Module: "0.5mm", DPI: 203, Level: "M", Lines: []string{"{serial}"}, LineHeight: "2mm",
		Colour: "black", Background: "white", Page: "a5", Columns: 2, Rows: 2, Margin: "12mm", Gap: "1mm", CropMarks: true,
		Footer: "{page}"}
	assert.True(c.t, slices.Equal(got.Formats, []string{"csv", "sheet", "zpl"}) && got.Drawing != nil &&
		reflect.DeepEqual(*got.Drawing, want), "the package is %+v, %+v", got, got.Drawing)
}

// TestConsoleAudit_EqualsAdminAPI verifies that the same change by the console and by the admin API leaves the same audit entry but for the
// actor, and is refused to the same roles.
func TestConsoleAudit_EqualsAdminAPI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	createPerson(s, "boss", adminroute.Admin)
	createPerson(s, "op", adminroute.Operator)
	boss, op := newVisitor(t, s), newVisitor(t, s)
	boss.signIn("boss", password, "")
	op.signIn("op", password, "")
	keys := map[adminroute.Role]string{}
	for _, role := range []adminroute.Role{adminroute.Admin, adminroute.Operator} {
		keys[role] = s.NewKey("/admin-keys", fmt.Sprintf(`{"name":"of-%s","role":%[1]q}`, role))
	}
	type change struct {
		Kind, Key, Action, Actor string
		Detail                   json.RawMessage
	}
	newestChange := func() change {
		list := servertest.Decode[struct{ Changes []change }](t, s.Admin("GET", "/changes?newest=true&limit=1", ""))
		return list.Changes[0]
	}
	form := url.Values{"did": {"add"}, "name": {"alice"}, "role": {"rules-editor"}, "accounts": {"shop"}, "password": {password}}
	body := fmt.Sprintf(`{"name":"alice","role":"rules-editor","accounts":["shop"],"password":%q}`, password)
	api := func(role adminroute.Role, method, path, body string) int {
		return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+keys[role], "Content-Type: application/json").Status
	}
	for name, status := range map[string]int{"console": op.post("/console/people", form).Status,
		"API": api(adminroute.Operator, "POST", "/people", body)} {
		assert.Equal(t, status, http.StatusForbidden, "an operator creates a person by the %s", name)
	}
	for _, c := range []struct {
		form   url.Values
		method string
		path   string
		body   string
	}{{form, "POST", "/people", body},
		{url.Values{"did": {"delete"}, "name": {"alice"}, "sure": {"alice"}}, "DELETE", "/people/alice", ""}} {
		p := boss.post("/console/people", c.form)
		p.wantStatus(t, http.StatusSeeOther, "%s by the console", c.form.Get("did"))
		console := newestChange()
		// Undo the change, so that the API can repeat it.
		if c.method == "POST" {
			s.Admin("DELETE", "/people/alice", "")
		} else {
			s.Admin("POST", "/people", body)
		}
		status := api(adminroute.Admin, c.method, c.path, c.body)
		require.True(t, status/100 == 2, "%s by the API: status %d, want 2xx", c.form.Get("did"), status)
		program := newestChange()
		assert.True(t, console.Actor == "person:boss" && program.Actor == "key:of-admin",
			"%s: actors %s and %s, want person:boss and key:of-admin", c.form.Get("did"), console.Actor, program.Actor)
		console.Actor, program.Actor = "", ""
		assert.True(t, fmt.Sprintf("%s", console) == fmt.Sprintf("%s", program),
			"%s: audit entry %s by the console, %s by the API, want equal ones", c.form.Get("did"), console, program)
	}
}
