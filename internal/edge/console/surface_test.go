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
	"reflect"
	"regexp"
	"slices"
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

// copied are the texts of a page that are there to be copied; none may be logged.
func (c *recorded) copied(p page) (list []string) {
	for _, found := range regexp.MustCompile(`<code class="copy">([^<]+)</code>`).FindAllStringSubmatch(p.Body, -1) {
		list = append(list, found[1])
	}
	if len(list) == 0 {
		c.t.Fatalf("%s shows nothing: %s", c.by, p.Body)
	}
	return list
}

// Each operation of the admin API is called by a page or a form of the console, and answers, or it is said why not: a walk through
// the console does everything that it can do.
func TestEachOperationIsInTheConsole(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop, Config: func(c *server.Config) { c.CodePrefix = "C.EXAMPLE/" }})
	c := record(t, s)
	walkAccounts(c)
	walkRules(c)
	walkScans(c, walkCodes(c))
	walkOrders(c)
	walkGS1(c)
	walkOperate(c)
	walkEmulator(c)
	walkProduction(c)
	c.called.Parity(t, servertest.Console)
}

func walkGS1(c *recorded) {
	c.post("/console/gs1/key", "did=save&fresh=yes&key=01/09506000134352&linktype_0=gs1:pip&href_0=https://tea.example/&title_0=Tea&default=0")
	c.get("/console/gs1")
	c.get("/console/gs1/key?key=01/09506000134352")
	c.get("/console/gs1/symbol?key=01/09506000134352&text=(01)09506000134352&kind=gs1-qr&module=0.5mm&as=svg")
	c.post("/console/gs1/key", "did=save&key=01/09506000134352&archived=yes&linktype_0=gs1:pip&href_0=https://tea.example/&title_0=Tea"+
		"&default=0&from_0=2026-01-31T15:04:05Z")
	var log struct{ Changes []struct{ Seq int64 } }
	c.s.Admin("GET", "/changes?kind=gs1&newest=true&limit=1", "").JSON(c.t, &log)
	c.post("/console/gs1/key", fmt.Sprintf("did=undo&seq=%d", log.Changes[0].Seq))
	c.post("/console/gs1/hand-over", "of=9506000&to=shop&sure=9506000")
	c.get("/console/operate/bulk/gs1.ndjson")
	c.post("/console/operate/bulk", "what=gs1&did=check&text="+url.QueryEscape(`{"key":"01/09506000134369","links":[]}`))
	c.post("/console/gs1/key", "did=delete&key=01/09506000134352&sure=01/09506000134352")
}

// walkProduction visits the pages that are others where nothing emulates.
func walkProduction(c *recorded) {
	c.pages = c.production
	c.get("/console/calls")
	c.get("/console/calls?view=errors")
}

func walkAccounts(c *recorded) {
	c.get("/console/accounts")
	c.get("/console/search?q=shop&account=shop")
	c.get("/console/accounts/shop")
	c.get("/console/accounts/press") // with its links
	c.post("/console/accounts", "appid=new&kind=mini_program&name=New&versions=release")
	for _, fields := range []string{"did=versions&versions=release&versions=trial", "did=jump-on", "did=member&user=ann&role=trial",
		"did=member-off&user=ann&sure=ann", "did=tokens&sure=new"} {
		c.post("/console/accounts/new", fields)
	}
	c.post("/console/accounts/press", "did=link&mini_program=new")
	c.post("/console/accounts/press", "did=unlink&mini_program=new&sure=new")
	c.post("/console/operate/settings", "did=set&value=%7B%22link.own_token_taken%22%3A%22allow%22%7D&name=behaviours")
	c.post("/console/operate/settings", "did=set&value=true&name=hold_links")
	c.s.Do("POST", "/cgi-bin/wxopen/wxamplink?access_token="+c.s.Token("press"), `{"appid":"new","notify_users":0,"show_profile":0}`)
	c.post("/console/accounts/press", "did=agree&mini_program=new&side=account")
	c.get("/console/accounts/shop/appearance")
	c.post("/console/accounts/shop/appearance", "app_en=Tea&own_accent=1&accent=%23336699")
	c.get("/console/platforms")
	c.get("/console/platforms/plat")
	c.post("/console/platforms", "appid=other&secret=0123456789abcdef0123456789abcdef&message_token=tok"+
		"&encoding_aes_key=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE")
	ticket := c.copied(c.post("/console/platforms/plat", "did=ticket"))[0]
	c.s.Hide(ticket)
	var token struct {
		Text string `json:"component_access_token"`
	}
	c.s.Do("POST", "/cgi-bin/component/api_component_token", `{"component_appid":"plat","component_appsecret":"the-secret-of-plat",`+
		`"component_verify_ticket":"`+ticket+`"}`).JSON(c.t, &token)
	c.s.Hide(token.Text)
	for page, withdraw := range map[string]string{"/console/platforms/plat": "did=withdraw&appid=shop&sure=shop",
		"/console/accounts/shop": "did=withdraw&component=plat&sure=plat"} {
		var asked struct {
			Code string `json:"pre_auth_code"`
		}
		c.s.Do("POST", "/cgi-bin/component/api_create_preauthcode?component_access_token="+token.Text,
			`{"component_appid":"plat"}`).JSON(c.t, &asked)
		c.s.Hide(asked.Code)
		c.post("/console/platforms/plat", "did=authorize&appid=shop&sets=18&pre_auth_code="+url.QueryEscape(asked.Code))
		c.post(page, withdraw)
	}
	walkAgreement(c, token.Text)
	c.post("/console/platforms/other", "did=delete&sure=other")
	c.post("/console/accounts", "appid=gone&kind=mini_program&name=Gone")
	c.post("/console/accounts/gone", "did=delete&sure=gone")
}

// walkOrders orders codes, and decides about what was ordered.
func walkOrders(c *recorded) {
	c.post("/console/operate/settings", "did=set&value=true&name=order_by_two") // else asking decides
	c.post("/console/orders", "did=ask&account=press&isv=walked&count=10000")
	c.get("/console/orders")
	c.post("/console/orders", "did=refuse&account=press&isv=walked&count=10000")
}

// walkAgreement agrees to a platform, by what its authorisation page asks for.
func walkAgreement(c *recorded, token string) {
	c.post("/console/platforms/plat", "did=put&redirect_hosts=plat.example")
	asked := "?" + url.Values{"component_appid": {"plat"}, "redirect_uri": {"https://plat.example/"},
		"pre_auth_code": {c.s.PreAuthCode(token, "plat")}}.Encode()
	c.get("/console/agree?here=1&ref=" + url.QueryEscape(asked))
	c.post("/console/agree", "did=agree&appid=shop&set=18&ref="+url.QueryEscape(asked))
}

func walkRules(c *recorded) {
	c.get("/console/rules")
	at := "owner=shop&prefix=" + url.QueryEscape("https://tea.example/")
	c.post("/console/rules/new", at+"&path=pages/tea/tea")
	c.post("/console/rules/edit", at+"&path=pages/tea/green")
	c.post("/console/rules/do", at+"&did=check")
	c.post("/console/rules/do", at+"&did=publish-sure")
	c.post("/console/rules/do", at+"&did=delete-sure")
	c.get("/console/rules?" + at)
	seq := regexp.MustCompile(`name="seq" value="(\d+)"`).FindStringSubmatch(c.get("/console/rules?" + at).Body)
	if seq == nil {
		c.t.Fatal("nothing can be undone")
	}
	c.post("/console/rules/undo", "sure=1&seq="+seq[1]+"&"+at)
	plan := "owner=shop&prune=1&text=" + url.QueryEscape(`rules: [{prefix: "https://shop.example/", path: pages/new/new, published: true}]`)
	c.post("/console/rules/import", plan).wants(c.t, "https://shop.example/")
	c.post("/console/rules/import", plan+"&did=replay&days=7").wants(c.t, "in 7 days")
	c.post("/console/rules/do", at+"&did=release&reason=sold&sure="+url.QueryEscape("https://tea.example/")).wants(c.t, "taken away")
}

// walkCodes returns an application of which some codes are active.
func walkCodes(c *recorded) string {
	batch := fmt.Sprint(applied(c.t, c.s))
	at := "/console/codes/" + batch
	c.get("/console/codes")
	c.get(at)
	c.get(at + "/list.csv?from=0&to=9")
	c.get("/console/codes?code=" + batch + ":7")
	c.post("/console/codes", "batch="+batch+"&did=activate&from=0&to=99&sure=100&target=shop&path=pages/a&activity=a&brand=b&title=t&product=1")
	c.post("/console/codes", "batch="+batch+"&did=retarget&from=0&to=99&sure=100&target=shop&path=pages/b")
	c.post("/console/codes", "batch="+batch+"&did=freeze&from=5&to=5&sure=1")
	c.post("/console/codes", "batch="+batch+"&did=withdraw&from=90&to=99&sure=10")
	c.post(at+"/serials", "serials="+url.QueryEscape("7,TEA-0007\n8,TEA-0008\n"))
	c.get("/console/codes?code="+batch+":7").wants(c.t, "TEA-0007")
	c.get("/console/packages")
	made := c.post("/console/packages", "batch="+batch+"&from=1000&to=1999&printer=Press&spare=10&format=csv")
	pack, _, _ := strings.Cut(made.Header.Get("Location"), "?")
	c.get(pack)
	drawnPackage(c, batch)
	file := c.post(pack+"/file", "passphrase="+url.QueryEscape("a passphrase of the test"))
	if !strings.HasPrefix(file.Body, "age-encryption.org/") || file.Header.Get("Content-Disposition") == "" {
		c.t.Errorf("no file in age: %.100q %v", file.Body, file.Header)
	}
	number := strings.TrimPrefix(pack, "/console/packages/")
	c.post(pack, "did=spoil&ranges=1000-1009+1020&sure="+number)
	c.post(pack, "did=recall&sure="+number)
	c.get(pack).wants(c.t, "1000–1009", "recalled")
	return batch
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
	wrong("dpi", "dpi=many&module=0.5mm", "Want a number from 0 on.", `value="many"`)
	wrong("kind", "dpi=203&module=9mm", "larger than")
	wrong("spare", "dpi=203&module=0.5mm&spare=99", "spare is 99")
	wrong("format", "dpi=203&module=0.5mm&did=job", "One format of labels")
	job := c.post("/console/packages", strings.ReplaceAll(form, "&format=zpl", "")+"&dpi=203&module=0.5mm&did=job&printer=")
	if kept := job.Header.Get("Content-Disposition"); kept != `attachment; filename="labels-`+batch+`.yaml"` || job.Body != "batch: "+batch+
		"\nrange: \"2000-2003\"\nout: labels-"+batch+".pdf\nkind: \"both\"\nmodule: \"0.5mm\"\ndpi: 203\nlevel: \"M\"\nline: [\"{serial}\"]\n"+
		"line_height: \"2mm\"\npage: \"a5\"\ncolumns: 2\nrows: 2\nmargin: \"12mm\"\ngap: \"1mm\"\ncrop_marks: true\nfooter: \"{page}\"\n" {
		c.t.Errorf("the file of the job: %s\n%s", kept, job.Body)
	}
	readJob(c, batch, job.Body)
	made := c.post("/console/packages", form+"&dpi=203&module=0.5mm")
	at, _, found := strings.Cut(made.Header.Get("Location"), "?")
	if !found {
		c.t.Fatalf("no package: %d %s", made.Status, made.Body)
	}
	var got client.Package
	c.s.Admin("GET", "/packages/"+strings.TrimPrefix(at, "/console/packages/"), "").JSON(c.t, &got)
	want := client.LabelDrawing{Kind: "both", Module: "0.5mm", DPI: 203, Level: "M", Lines: []string{"{serial}"}, LineHeight: "2mm",
		Colour: "black", Background: "white", Page: "a5", Columns: 2, Rows: 2, Margin: "12mm", Gap: "1mm", CropMarks: true,
		Footer: "{page}"}
	if !slices.Equal(got.Formats, []string{"csv", "sheet", "zpl"}) || got.Drawing == nil || !reflect.DeepEqual(*got.Drawing, want) {
		c.t.Errorf("the package is %+v, %+v", got, got.Drawing)
	}
}

// readJob gives the console the file of a job that it made: the form is filled as it was, and the plan stands beside it.
func readJob(c *recorded, batch, file string) {
	read := func(status int, file string, says ...string) {
		c.t.Helper()
		c.wants = status
		p := c.post("/console/packages/job", "text="+url.QueryEscape(file))
		if c.wants = 0; p.Status != status {
			c.t.Errorf("%q: %d", file, p.Status)
		}
		p.wants(c.t, says...)
	}
	filled := []string{`name="batch" value="` + batch + `"`, `name="from" value="2000"`, `name="to" value="2003"`, `value="a5"`,
		`value="203"`, `value="sheet" checked`, `value="both" selected`, `name="crop_marks" value="1" checked`}
	read(200, file, append(filled, "4 labels: 1 × a page of 4.", "a module is 0.500 mm", `<details open>`)...)
	read(200, file+"font: brand.ttf\nproofs: 3\n", append(filled, "has no place for", "font, proofs")...)
	read(200, "batch: "+batch+"\nformat: png\n", `name="to" value="9999"`, "10,000 labels, one by one.", `value="png" checked`)
	read(422, "batch: "+batch+"\nrange: [0-9, 20-29]\n", `value="0-9 20-29"`, "Want a number from 0 on.")
	read(422, file+"label: 3x3mm\n", `id="kind-wrong"`)
	read(422, "batch: [1", "no YAML")
	read(422, "batch:\n", "The word batch of the file has no value.")
	read(422, "", "no words of a job")
	read(413, strings.Repeat("# a line\n", 9000), "at most 64 KB")
}

func walkScans(c *recorded, batch string) {
	var first struct {
		ID string `json:"scan_id"`
	}
	c.s.Do("POST", "/scan/v1/resolve", `{"text":"https://shop.example/7","user":"ann"}`).JSON(c.t, &first)
	c.s.Admin("GET", "/statistics?wait=true", "")
	c.get(laterOf(c.get("/console/statistics")))
	c.get("/console/statistics/nothing")
	for _, table := range []string{"numbers", "misses", "alarms", "scans"} {
		c.get("/console/statistics/" + table + ".csv")
	}
	c.get("/console/statistics/scans").wants(c.t, first.ID)
	c.get("/console/statistics/scans?user=ann&appid=shop").wants(c.t, first.ID, "openid under shop")
	c.get("/console/statistics/scans/"+first.ID).wants(c.t, "https://shop.example/7")
	c.post("/console/statistics", "did=recount").wants(c.t, "0 differ")
	shared := linkOf.FindStringSubmatch(c.post("/console/statistics", "did=share&lasts=7").Body)
	c.post("/console/statistics", "did=end&id="+strings.TrimPrefix(strings.Split(shared[1], ".")[0], "/console/shared/"))
	c.post("/console/statistics/scans", "did=erase&user=ann&sure=ann").wants(c.t, "1 scans were made anonymous")
	walkAlarms(c, batch)
	c.get("/console/scan?text=https://shop.example/7&moment=then&at=2026-01-15T01:59:00Z")
}

// walkAlarms looks at an alarm where it stands, asks what another threshold would have given, chooses it, and takes the alarm back.
func walkAlarms(c *recorded, batch string) {
	c.t.Helper()
	id := copiedCode(c, batch)
	c.get("/console/alarms").wants(c.t, batch+":7", `name="note"`)
	c.get("/console/codes?code="+batch+":7").wants(c.t, `<span class="tag bad">Open</span>`)
	c.get("/console/codes/"+batch).wants(c.t, "1 with an alarm", "A code is alarmed from a score of 100 on.", "Alarms that stand: 1")
	c.post("/console/alarms", "did=acknowledge&id="+id)
	c.post("/console/codes/"+batch+"/alarm", "did=replay&threshold=100").wants(c.t,
		"the last 90 days would have given 1 alarms, of 1 codes", "There were 1, of which 0 were dismissed")
	c.post("/console/codes/"+batch+"/alarm", "did=set&threshold=900")
	c.wants = http.StatusUnprocessableEntity
	c.post("/console/codes/"+batch+"/alarm", "did=set&threshold=many").wants(c.t, `value="many"`)
	c.post("/console/alarms", "did=dismiss&note=+&id="+id).wants(c.t, "Say in up to 1,000 characters why", `aria-invalid="true"`)
	c.wants = 0
	c.post("/console/alarms", "did=dismiss&note=a+gift&id="+id)
	c.get("/console/alarms?which=all&lang=zh").wants(c.t, "已撤销", "a gift")
	c.get("/console/codes/"+batch+"?lang=en").wants(c.t, "A code is alarmed from a score of 900 on.", "Alarms that stand: 0")
}

// copiedCode scans a code as if it were in many hands, and returns the number of the alarm.
func copiedCode(c *recorded, batch string) string {
	c.t.Helper()
	text := regexp.MustCompile(`C\.EXAMPLE/[^<]+`).FindString(c.get("/console/codes?code=" + batch + ":7").Body)
	for i := range 60 {
		c.s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%q,"user":"u%d","ip":"10.%d.%d.1"}`, text, i, i, i))
	}
	c.s.Admin("GET", "/statistics?wait=true", "")
	var list struct {
		Alarms []struct{ ID int64 }
	}
	c.s.Admin("GET", "/alarms", "").JSON(c.t, &list)
	if len(list.Alarms) == 0 {
		c.t.Fatal("no alarm")
	}
	return fmt.Sprint(list.Alarms[0].ID)
}

func walkOperate(c *recorded) {
	c.get("/console/operate")
	c.wants = http.StatusNotFound // one node has no others
	c.post("/console/operate", "node=elsewhere&sure=elsewhere")
	c.wants = 0
	c.get("/console/operate/audit")
	c.post("/console/operate/audit", "")
	c.get("/console/operate/settings")
	c.post("/console/operate/settings", "did=set&name=rule_limit&value=99")
	c.post("/console/operate/settings", "did=reset&name=rule_limit")
	hook := c.post("/console/operate/webhooks", "did=add&url="+url.QueryEscape("https://hooks.example/x")+"&alarms=yes")
	for _, secret := range c.copied(hook) {
		c.s.Hide(secret)
	}
	for _, fields := range []string{"did=test&id=1", "did=again&delivery=1", "did=off&id=1", "did=delete&id=1&sure=1"} {
		c.post("/console/operate/webhooks", fields)
	}
	c.get("/console/operate/checks")
	for _, fields := range []string{"did=recheck", "did=domain&host=bad.example&status=denied",
		"did=forget&host=bad.example&sure=bad.example"} {
		c.post("/console/operate/checks", fields)
	}
	c.get("/console/operate/apps")
	for _, key := range c.copied(c.post("/console/operate/apps", "did=add&name=till&namespace=tills")) {
		c.s.Hide(key)
	}
	c.post("/console/operate/apps", "did=delete&name=till&sure=till")
	lines := c.get("/console/operate/bulk/rules.ndjson").Body
	accounts := c.get("/console/operate/bulk/accounts.ndjson").Body
	if !strings.Contains(lines, "https://shop.example/") || !strings.Contains(accounts, `"shop"`) {
		c.t.Errorf("the lines: %s %s", lines, accounts)
	}
	c.post("/console/operate/bulk", "did=store&what=accounts&text="+url.QueryEscape(accounts)).wants(c.t, "lines are stored")
	c.post("/console/operate/bulk", "did=check&what=rules&text="+url.QueryEscape(lines)).wants(c.t, "lines could be stored")
	c.get("/console/people")
	c.post("/console/people", "did=add&name=alice&role=viewer&password="+url.QueryEscape(password))
	for _, did := range []string{"factor", "link"} {
		for _, secret := range c.copied(c.post("/console/people", "did="+did+"&name=alice")) {
			c.s.Hide(secret)
		}
	}
	c.post("/console/people", "did=sign-out&name=alice")
	c.post("/console/people", "did=change&name=alice&role=marketer&accounts=shop")
	c.post("/console/people", "did=delete&name=alice&sure=alice")
	c.s.Hide(c.copied(c.post("/console/people", "did=add-key&name=ci&role=viewer"))[0])
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(c.get("/console/people").Body)
	c.post("/console/people", "did=delete-key&name=ci&sure=ci&id="+id[1])
}

func walkEmulator(c *recorded) {
	rid := c.s.Rule("shop", "publish", `{"prefix":"https://none.example/"}`).RID(c.t)
	c.get("/console/calls")
	c.get("/console/calls/" + rid)
	c.get("/console/calls/behaviours?mark=seen&word=token")
	c.get("/console/calls/deviations")
	c.post("/console/calls/deviations", "did=forget&account=shop")
	c.get("/console/emulator")
	for _, fields := range []string{"did=advance&advance=1m", "did=fault&path=/cgi-bin/token&how=answer&errcode=-1&times=1", "did=clear",
		"did=fault&path=/cgi-bin/menu/get&how=response&body=" + url.QueryEscape(`{"a":1}`),
		"did=plant&text=" + url.QueryEscape("accounts:\n  - {appid: planted, kind: mini_program}\n"), "did=reset&sure=reset"} {
		c.post("/console/emulator", fields)
	}
}

// What a person does in the console and a program by the admin API leaves the same line in the log of changes, with another name, and
// is refused to the same roles.
func TestTheConsoleLeavesTheLineOfTheAPI(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Seed: shop})
	person(s, "boss", adminroute.Admin)
	person(s, "op", adminroute.Operator)
	boss, op := request(t, s), request(t, s)
	boss.signIn("boss", password, "")
	op.signIn("op", password, "")
	keys := map[adminroute.Role]string{}
	for _, role := range []adminroute.Role{adminroute.Admin, adminroute.Operator} {
		var made struct{ Key string }
		s.Admin("POST", "/admin-keys", fmt.Sprintf(`{"name":"ci","role":%q}`, role)).JSON(t, &made)
		s.Hide(made.Key)
		keys[role] = made.Key
	}
	type line struct {
		Kind, Key, Did, Actor string
		Detail                json.RawMessage
	}
	newest := func() line {
		var list struct{ Changes []line }
		s.Admin("GET", "/changes?newest=true&limit=1", "").JSON(t, &list)
		return list.Changes[0]
	}
	form := url.Values{"did": {"add"}, "name": {"alice"}, "role": {"rules"}, "accounts": {"shop"}, "password": {password}}
	body := fmt.Sprintf(`{"name":"alice","role":"rules","accounts":["shop"],"password":%q}`, password)
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
		if p := boss.post("/console/people", c.form); p.Status != http.StatusSeeOther {
			t.Fatalf("%s by the console: %d %s", c.form.Get("did"), p.Status, p.Body)
		}
		console := newest()
		// The other way round, so that the same can be done again.
		if c.method == "POST" {
			s.Admin("DELETE", "/people/alice", "")
		} else {
			s.Admin("POST", "/people", body)
		}
		if status := api(adminroute.Admin, c.method, c.path, c.body); status/100 != 2 {
			t.Fatalf("%s by the API: %d", c.form.Get("did"), status)
		}
		program := newest()
		if console.Actor != "person:boss" || program.Actor != "key:ci" {
			t.Errorf("%s: by %s and by %s", c.form.Get("did"), console.Actor, program.Actor)
		}
		console.Actor, program.Actor = "", ""
		if fmt.Sprintf("%s", console) != fmt.Sprintf("%s", program) {
			t.Errorf("%s: %s by the console, %s by the API", c.form.Get("did"), console, program)
		}
	}
}
