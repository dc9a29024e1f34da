package server_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// gtins is a server on which id.example resolves GS1 keys. 09506000134352 has links by language, context and media type at
// every level; 09506000134369 belongs to another brand.
//
//go:embed testdata/seeds/gtins.yaml
var gtins string

// Every primary key leads somewhere, asked for with each of its qualifiers: the keys are those of recorded random texts.
func TestGS1Resolver_PrimaryKeys(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins})
	recorded, err := os.ReadFile("../infra/gs1/testdata/values.jsonl")
	require.NoError(t, err)
	shapes := map[string]string{} // a path by its AIs
	for line := range strings.Lines(string(recorded)) {
		var one struct{ URI string }
		require.NoError(t, json.Unmarshal([]byte(line), &one))
		path, _, _ := strings.Cut(strings.TrimPrefix(one.URI, "https://id.gs1.org/"), "?")
		parts := strings.Split(path, "/")
		var ais strings.Builder
		ais.WriteString(parts[0])
		for i := 2; i < len(parts); i += 2 {
			ais.WriteString(" " + parts[i])
		}
		if _, _, err := gs1.ParseKey(path); err != nil {
			continue // biip takes some that the dictionary refuses
		}
		if shapes[ais.String()] == "" {
			shapes[ais.String()] = path
		}
	}
	asked := map[string]bool{}
	var lines strings.Builder
	for ais, path := range shapes {
		parts := strings.Split(path, "/")
		key := parts[0] + "/" + parts[1]
		if asked[parts[0]] = true; parts[0] == "415" { // which is none without 8020
			key = path
		}
		fmt.Fprintf(&lines, `{"key":%q,"links":[{"linktype":"gs1:pip","href":"https://brand.example/%s","title":"x","default":true}]}`+"\n",
			key, strings.ReplaceAll(ais, " ", "-"))
	}
	for _, key := range gs1.PrimaryKeys() {
		assert.True(t, asked[key], "no recorded text has the key %s", key)
	}
	a := s.Do("POST", "/admin/v1/import/gs1", lines.String(), "Authorization: Bearer "+servertest.AdminToken,
		"Content-Type: application/x-ndjson")
	require.True(t, a.Status == 200, "%d %s", a.Status, a.Body)
	for ais, path := range shapes {
		want := "https://brand.example/" + strings.ReplaceAll(ais, " ", "-")
		if a := s.Do("GET", "/"+path, "", "Host: id.example"); a.Status != 307 || a.Header.Get("Location") != want {
			t.Errorf("%s: %d %q %s", path, a.Status, a.Header.Get("Location"), a.Body)
		}
		parts := strings.Split(path, "/")
		if n := len(parts); n == 6 { // the other way round
			wrong := strings.Join(append(slices.Clone(parts[:2]), parts[4], parts[5], parts[2], parts[3]), "/")
			s.Do("GET", "/"+wrong, "", "Host: id.example").WantStatus(t, 400, "%s", wrong)
		}
	}
}

// TestGS1Resolver_ScanListener holds that the listener of scans resolves too, and names its port in links.
func TestGS1Resolver_ScanListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins, ScanListener: true})
	r := s.Request("GET", "/01/09506000134352", "", "Host: id.example:8443")
	r.URL.Host = strings.TrimPrefix(s.ScanURL, "http://")
	a := s.Send(r)
	a.WantStatus(t, 307, "the scan listener")
	assert.Contains(t, a.Header.Get("Link"), "<http://id.example:8443/01/", "the header Link")
}

// TestGS1Resolver_HostileInput tries what could send a browser elsewhere, or put a line into a header.
func TestGS1Resolver_HostileInput(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins})
	const item = "/01/09506000134352"
	type request struct {
		path   string
		header []string // "Name: value"
		status int
	}
	requests := []request{
		{path: item + "?" + strings.Repeat("context=x&", 4000)},
		{path: item + "/21/" + strings.Repeat("a", 70_000), status: 431}, {path: item + "?" + strings.Repeat("%25", 25_000), status: 431},
		{path: item, header: []string{"Accept: " + strings.Repeat("text/x;q=0.1,", 4000)}},
		{path: item, header: []string{"Accept-Language: " + strings.Repeat("x-", 8000),
			"X-Forwarded-Host: evil.example", "Forwarded: host=evil.example"}},
	}
	for _, row := range testtable.Rows(t, "testdata/hostile_links.txt", 2) {
		requests = append(requests, request{path: row[0], header: testtable.List(row[1])})
	}
	for _, c := range requests {
		a := s.Do("GET", c.path, "", append([]string{"Host: id.example"}, c.header...)...)
		to := a.Header.Get("Location")
		assert.True(t, to == "" || strings.HasPrefix(to, "https://brand.example/") ||
			strings.HasPrefix(to, "https://other.example/base/01/") || strings.HasPrefix(to, "/01/0"), "%.80s: sent to %q", c.path, to)
		assert.True(t, c.status == 0 || a.Status == c.status, "%.80s: %d, want %d", c.path, a.Status, c.status)
		assert.True(t, a.Header.Get("Set-Cookie") == "" && !strings.ContainsAny(to, "<>\"\r\n ") &&
			!strings.Contains(a.Header.Get("Link"), "//evil"), "%.80s: %v", c.path, a.Header)
		assert.True(t, !strings.Contains(a.Body, "<script"), "%.80s: %s", c.path, a.Body)
	}
}

// TestGS1Links_Scans holds what a scan in the app opens, and what the ledger has of it.
func TestGS1Links_Scans(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins})
	for _, c := range []struct{ text, action, at string }{
		{"https://id.example/01/09506000134352/21/5?98=secret", "open_mini_program", "pages/product/index?gtin=09506000134352&serial=5&q="},
		{"http://id.example/01/09506000134352", "open_url", "https://brand.example/p/09506000134352"}, // no serial for its page
		{"https://id.example/01/09506000134369?a=1", "open_url", "https://rival.example/?a=1"},
		{"https://id.example/01/09506000134383", "open_url", "https://id.example/01/09506000134383"},
		{"https://elsewhere.example/01/09506000134352/21/5", "open_url", "https://elsewhere.example/01/09506000134352/21/5"},
		{"http://id.example/shop/7", "open_mini_program", "pages/shop/shop?"},
		{"(01)09506000134352(21)5", "open_mini_program", "pages/product/index?gtin=09506000134352&serial=5&q="},
		{"]d2010950600013435210ABC\x1d215", "open_mini_program", "pages/product/index?gtin=09506000134352&serial=5&q="},
		{"(01)09506000134353(21)5", "show_text", ""},
	} {
		body, _ := json.Marshal(map[string]string{"text": c.text, "user": "u"})
		var d struct {
			Action, Path, URL, AppID string
			Matched                  struct{ Kind, Prefix string }
		}
		s.Do("POST", "/scan/v1/resolve", string(body)).JSON(t, &d)
		assert.True(t, d.Action == c.action && strings.HasPrefix(d.Path+d.URL, c.at), "%s: %+v, want %s %s", c.text, d, c.action, c.at)
	}
	s.Do("GET", "/01/09506000134352/21/5?98=secret", "", "Host: id.example", "Accept-Language: zh-CN")
	s.Do("HEAD", "/01/09506000134352/21/5", "", "Host: id.example")
	s.Do("GET", "/01/09506000134352/21/5?linkType=linkset", "", "Host: id.example")
	s.Do("GET", "/01/09506000134352/21/5", "", "Host: id.example", "Sec-Purpose: prefetch;prerender")
	var seen struct{ Scans []client.RecordedScan }
	for i := 0; i < 1000 && !slices.ContainsFunc(seen.Scans, func(r client.RecordedScan) bool { return r.Source == "browser" }); i++ {
		s.Admin("GET", "/scans?limit=100", "").JSON(t, &seen)
	}
	found := map[string]int{}
	for _, one := range seen.Scans {
		if one.Kind == "gs1" {
			found[one.Source+" "+one.Client+" "+one.Text]++
		}
		assert.True(t, !strings.Contains(one.Text, "secret"), "kept: %s", one.Text)
	}
	n := found["browser gs1:pip zh-CN https://id.gs1.org/01/09506000134352/21/5"]
	assert.True(t, n == 1, "a browser that followed a link counts %d times: %v", n, found)
	assert.True(t, found["scan  https://id.gs1.org/01/09506000134352/21/5"] >= 2, "scans in the app: %v", found)
}

// What one node says the other answers.
func TestGS1Resolver_AcrossNodes(t *testing.T) {
	t.Parallel()
	where := onPostgres(t)
	node := func(c *server.Config) { c.Database, c.MasterKey = where.database, strings.Repeat("5a", 32) }
	first := servertest.Start(t, servertest.Options{Seed: gtins, Config: node})
	second := servertest.Start(t, servertest.Options{Seed: gtins, Config: node})
	lines := strings.Builder{}
	for i := range 2000 {
		fmt.Fprintf(&lines, `{"key":"01/09506000134352/21/S%d","links":[{"linktype":"gs1:pip","href":"https://brand.example/%d","title":"x","default":true}]}`+"\n", i, i)
	}
	a := first.Do("POST", "/admin/v1/import/gs1", lines.String(),
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/x-ndjson")
	done := servertest.Decode[client.Imported](t, a)
	require.True(t, done.Added == 2000, "%d %s", a.Status, a.Body)
	deadline := time.Now().Add(30 * time.Second)
	for _, s := range []*servertest.Server{first, second} {
		for {
			got := s.Do("GET", "/01/09506000134352/21/S1999", "", "Host: id.example").Header.Get("Location")
			if got == "https://brand.example/1999" {
				break
			}
			require.True(t, s != first && !time.Now().After(deadline), "a node does not know: %q", got)
		}
	}
	wrong := `{"key":"01/09506000134369/21/1","owner":"shop","links":[]}` + "\n" + `{"key":"nothing","links":[]}`
	a = first.Do("POST", "/admin/v1/import/gs1", wrong,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/x-ndjson")
	assert.True(t, a.Status == http.StatusUnprocessableEntity, "an import with wrong lines: %d %s", a.Status, a.Body)
}

// Issue 34: a scan of a link is its owner's, in the app and by a browser: GTINs of two brands never mix, also when one goes over.
func TestGS1Links_ScansScopedToOwner(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		at := where(t)
		s := servertest.Start(t, servertest.Options{Seed: gtins, Config: func(c *server.Config) { c.Database = at.database }})
		scan := func(paths ...string) {
			for _, path := range paths {
				s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":"https://id.example%s","user":"u"}`, path))
				s.Do("GET", path, "", "Host: id.example")
			}
		}
		scan("/01/09506000134352/21/5", "/01/09506000134352/21/9", "/01/09506000134352/10/ABC/21/1", "/01/09506000134369")
		s.Admin("PUT", "/gs1/links/01/09506000134369", `{"owner":"rival","links":[{"linktype":"gs1:pip","href":"https://rival.example/new","title":"x",
			"default":true}]}`)
		scan("/01/09506000134369/21/2")
		s.Admin("PUT", "/gs1/links/01/09506000134369", `{"owner":"shop","links":[{"linktype":"gs1:pip","href":"https://brand.example/bought",
			"title":"x","default":true}]}`)
		scan("/01/09506000134369/21/3")
		for i, all := 0, ""; i < 1000 && strings.Count(all, `"source":"browser"`) < 6; i++ { // who follows a link waits for no ledger
			all = s.Admin("GET", "/scans", "").Body
		}
		_, shop := adminKey(t, s, `{"name":"of-shop","role":"marketer","accounts":["shop"]}`)
		_, rival := adminKey(t, s, `{"name":"of-rival","role":"marketer","accounts":["rival"]}`)
		for _, c := range []struct {
			who              string
			call             func(method, path, body string) servertest.Answer
			scans            int
			mine, never, own string
		}{
			{"shop", shop, 8, "/01/09506000134352/10/ABC/21/1", "/01/09506000134369/21/2", "/01/09506000134369/21/3"},
			{"rival", rival, 4, "/01/09506000134369/21/2", "/01/09506000134352", "/01/09506000134369\""},
		} {
			sums := servertest.Decode[client.Statistics](t, c.call("GET", "/statistics?wait=true&group=owner", ""))
			assert.True(t, len(sums.Rows) == 1 && sums.Rows[0].Value == c.who && sums.Rows[0].Scans == int64(c.scans),
				"%s: %+v, want %d", c.who, sums.Rows, c.scans)
			a := c.call("GET", "/scans", "")
			assert.True(t, strings.Count(a.Body, `"scan_id"`) == c.scans && strings.Contains(a.Body, c.mine) &&
				strings.Contains(a.Body, c.own) && !strings.Contains(a.Body, c.never) &&
				strings.Count(a.Body, `"owner":"`+c.who+`"`) == c.scans, "%s: %s", c.who, a.Body)
			a = c.call("GET", "/scans/export", "")
			assert.True(t, !strings.Contains(a.Body, c.never) && strings.Contains(a.Body, c.mine), "%s: %s", c.who, a.Body)
		}
		// The key below a GTIN is counted for itself, and goes on being the same when its links change.
		keys := servertest.Decode[client.Statistics](t, rival("GET", "/statistics?wait=true&group=rule", ""))
		assert.True(t, len(keys.Rows) == 1 && keys.Rows[0].Scans == 4, "scans of a key whose links changed: %+v", keys.Rows)
		shop("GET", "/statistics?wait=true&group=rule", "").JSON(t, &keys)
		assert.True(t, len(keys.Rows) == 4, "scans of GTIN, lot, serial and the GTIN that came over: %+v", keys.Rows)
	})
}

// Who holds a company prefix writes links under it; whoever collides is told who that is. A prefix or a key goes over whole.
func TestGS1CompanyPrefix_ConflictAndTransfer(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		t.Parallel()
		at := where(t)
		s := servertest.Start(t, servertest.Options{Seed: gtins, Guarded: true,
			Config: func(c *server.Config) { c.Database = at.database }})
		s.Admin("PUT", "/settings", `{"gs1_prefixes":{"9506000":"shop","950600013430":"rival"}}`)
		operator := func(method, path, body string) servertest.Answer {
			return s.Do(method, "/admin/v1"+path, body, "Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/json")
		}
		_, rival := adminKey(t, s, `{"name":"of-rival","role":"rules-editor","accounts":["rival"]}`)
		const link = `"links":[{"linktype":"gs1:pip","href":"https://rival.example/x","title":"x","default":true}]`
		over := func(of, to string, keys int, dry bool) {
			t.Helper()
			a := operator("POST", "/gs1/transfer", fmt.Sprintf(`{"key":%q,"to":%q,"dry_run":%t}`, of, to, dry))
			assert.True(t, a.Status == 200 && strings.Contains(a.Body, fmt.Sprintf(`"keys":%d}`, keys)),
				"%s to %s: %d %s, want %d keys", of, to, a.Status, a.Body, keys)
		}
		ask := func(call func(method, path, body string) servertest.Answer, method, path, body string, status int, localized string) {
			t.Helper()
			if a := call(method, path, body); a.Status != status || !strings.Contains(a.Body, localized) {
				t.Errorf("%s %s: %d %s, want %d %s", method, path, a.Status, a.Body, status, localized)
			}
		}
		// 950600013 has shop's prefix, 950600013430 rival's: the longer one counts.
		ask(rival, "PUT", "/gs1/links/01/09506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		ask(rival, "PUT", "/gs1/links/8003/09506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		ask(rival, "PUT", "/gs1/links/414/9506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		ask(rival, "PUT", "/gs1/links/01/09506000134307", `{`+link+`}`, 200, `"owner":"rival"`)
		ask(operator, "PUT", "/gs1/links/01/09506000134406", `{`+link+`}`, 200, `"owner":"shop"`)
		ask(operator, "PUT", "/gs1/links/01/09506000134413", `{"owner":"rival",`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		ask(rival, "PUT", "/gs1/links/01/09506000134352/21/5", `{`+link+`}`, 409, "shop owns this GTIN")
		ask(rival, "PUT", "/gs1/links/01/09506000134352", `{`+link+`}`, 403, "shop owns this GTIN")
		ask(rival, "POST", "/gs1/links", `{"key":"01/09506000130002",`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		ask(rival, "POST", "/gs1/transfer", `{"key":"01/09506000130002","to":"rival"}`, 403, "")
		ask(operator, "POST", "/gs1/transfer", `{"key":"950","to":"rival"}`, 422, "digits of a GS1 Company Prefix")
		ask(operator, "POST", "/gs1/transfer", `{"key":"9506","to":"nobody"}`, 404, "")
		ask(operator, "PUT", "/settings", `{"gs1_prefixes":{"95O6":"shop"}}`, 422, "95O6")

		// A GTIN goes over with what is below it, and stays rival's when its prefix is said again to be shop's.
		over("01/09506000134406", "rival", 1, true)
		ask(rival, "PUT", "/gs1/links/01/09506000134406", `{`+link+`}`, 403, "shop owns")
		over("01/09506000134406/10/A", "rival", 1, false)
		ask(rival, "PUT", "/gs1/links/01/09506000134406/10/A", `{`+link+`}`, 200, `"owner":"rival"`)
		over("9506000", "shop", 2, false) // rival's 09506000134369 and the operator's 09506000134376
		ask(operator, "GET", "/gs1/links/01/09506000134406", ``, 200, `"owner":"rival"`)
		over("9506000", "rival", 6, false)
		ask(rival, "PUT", "/gs1/links/01/09506000134352/21/5", `{`+link+`}`, 200, `"owner":"rival"`)
		ask(rival, "PUT", "/gs1/links/01/09506000130002", `{`+link+`}`, 200, `"owner":"rival"`)
		ask(operator, "PUT", "/gs1/links/01/09506000130019", `{"owner":"shop",`+link+`}`, 409, "rival owns the GS1 Company Prefix 9506000")
		a := s.Do("GET", "/01/09506000134352/21/9", "", "Host: id.example")
		assert.True(t, a.Header.Get("Location") == "https://brand.example/nine", "links stay what they were: %d %s", a.Status, a.Body)
	})
}
