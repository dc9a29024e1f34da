package server_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/contract/settings"
	"github.com/qrjump/qrjump/internal/infra/gs1"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/dbtest"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

// gtins is a server on which id.example resolves GS1 keys. 09506000134352 has links by language, context and media type at
// every level; 09506000134369 belongs to another brand.
//
//go:embed testdata/seeds/gtins.yaml
var gtins string

// TestGS1Resolver_PrimaryKeys verifies that the resolver redirects every primary key with each of its qualifiers, and rejects qualifiers in
// the wrong order. The keys are from recorded random values.
func TestGS1Resolver_PrimaryKeys(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins})
	recorded := require.Value(os.ReadFile("../infra/gs1/testdata/values.jsonl"))(t)
	shapes := map[string]string{} // a path by its AIs
	for line := range strings.Lines(string(recorded)) {
		var value struct{ URI string }
		require.NoError(t, json.Unmarshal([]byte(line), &value))
		path, _, _ := strings.Cut(strings.TrimPrefix(value.URI, "https://id.gs1.org/"), "?")
		parts := strings.Split(path, "/")
		var ais strings.Builder
		ais.WriteString(parts[0])
		for i := 2; i < len(parts); i += 2 {
			ais.WriteString(" " + parts[i])
		}
		if _, _, err := gs1.ParseKey(path); err != nil {
			continue // biip, which recorded them, accepts some that the GS1 dictionary rejects
		}
		if shapes[ais.String()] == "" {
			shapes[ais.String()] = path
		}
	}
	tested := map[string]bool{}
	var lines strings.Builder
	for ais, path := range shapes {
		parts := strings.Split(path, "/")
		key := parts[0] + "/" + parts[1]
		if tested[parts[0]] = true; parts[0] == "415" { // which is a key only together with 8020
			key = path
		}
		fmt.Fprintf(&lines, `{"key":%q,"links":[{"linktype":"gs1:pip","href":"https://brand.example/%s","title":"x","default":true}]}`+"\n",
			key, strings.ReplaceAll(ais, " ", "-"))
	}
	for _, key := range gs1.PrimaryKeys() {
		assert.True(t, tested[key], "no recorded text has the key %s", key)
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
		if n := len(parts); n == 6 { // swap the two qualifiers
			wrong := strings.Join(append(slices.Clone(parts[:2]), parts[4], parts[5], parts[2], parts[3]), "/")
			s.Do("GET", "/"+wrong, "", "Host: id.example").WantStatus(t, 400, "%s", wrong)
		}
	}
}

// TestGS1Resolver_ScanListener verifies that the scan listener resolves GS1 keys, and that its links contain its port.
func TestGS1Resolver_ScanListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: gtins, ScanListener: true})
	r := s.Request("GET", "/01/09506000134352", "", "Host: id.example:8443")
	r.URL.Host = strings.TrimPrefix(s.ScanURL, "http://")
	a := s.Send(r)
	a.WantStatus(t, 307, "the scan listener")
	assert.Contains(t, a.Header.Get("Link"), "<http://id.example:8443/01/", "the header Link")
}

// TestGS1Resolver_HostileInput sends requests that attempt an open redirect or a header injection.
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
		location := a.Header.Get("Location")
		assert.True(t, location == "" || strings.HasPrefix(location, "https://brand.example/") ||
			strings.HasPrefix(location, "https://other.example/base/01/") || strings.HasPrefix(location, "/01/0"),
			"%.80s: Location %q", c.path, location)
		assert.True(t, c.status == 0 || a.Status == c.status, "%.80s: %d, want %d", c.path, a.Status, c.status)
		assert.True(t, a.Header.Get("Set-Cookie") == "" && !strings.ContainsAny(location, "<>\"\r\n ") &&
			!strings.Contains(a.Header.Get("Link"), "//evil"), "%.80s: %v", c.path, a.Header)
		assert.True(t, !strings.Contains(a.Body, "<script"), "%.80s: %s", c.path, a.Body)
	}
}

// TestGS1Links_Scans verifies what a scan of a GS1 link opens, and what the scan log records of scans by the app and by a browser.
func TestGS1Links_Scans(t *testing.T) {
	t.Parallel()
	const rule = "\nrules:\n  - {owner: rival, prefix: \"http://id.example/01/\", path: p, published: true}"
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(gtins, "\nrules:", rule, 1)})
	for _, c := range []struct{ text, action, target string }{
		{"https://id.example/01/09506000134352/21/5?98=secret", "open_mini_program", "pages/product/index?gtin=09506000134352&serial=5&q="},
		{"http://id.example/01/09506000134352", "open_url", "https://brand.example/p/09506000134352"}, // no serial for its page
		{"https://id.example/01/09506000134369?a=1", "open_url", "https://rival.example/?a=1"},
		{"https://id.example/01/09506000134352?context=EU", "open_url", "https://brand.example/eu?context=EU"},
		{"https://id.example/01/09506000134352?linkType=https://types.example/own", "open_url", "https://brand.example/own?linkType="},
		{"https://id.example/01/09506000134352?linkType=gs1:defaultLinkMulti", "open_url", "https://brand.example/p/09506000134352?"},
		{"https://id.example/01/09506000134352?linkType=gs1:epil", "open_url", "https://id.example/01/09506000134352?linkType=gs1:epil"},
		{"http://id.example/01/09506000134352?linkType=linkset", "open_url", "http://id.example/01/09506000134352?linkType=linkset"},
		{"https://id.example/01/09506000134376/21/7?a=1", "open_url", "https://other.example/base/01/09506000134376/21/7?a=1"},
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
		assert.True(t, d.Action == c.action && strings.HasPrefix(d.Path+d.URL, c.target), "%s: %+v, want %+v", c.text, d, c)
	}
	s.Do("GET", "/01/09506000134352/21/5?98=secret", "", "Host: id.example", "Accept-Language: zh-CN")
	s.Do("HEAD", "/01/09506000134352/21/5", "", "Host: id.example")
	s.Do("GET", "/01/09506000134352/21/5?linkType=linkset", "", "Host: id.example")
	s.Do("GET", "/01/09506000134352/21/5", "", "Host: id.example", "Sec-Purpose: prefetch;prerender")
	var page struct{ Scans []client.RecordedScan }
	for i := 0; i < 1000 && !slices.ContainsFunc(page.Scans, func(r client.RecordedScan) bool { return r.Source == "browser" }); i++ {
		s.Admin("GET", "/scans?limit=100", "").JSON(t, &page)
	}
	counts := map[string]int{}
	for _, scan := range page.Scans {
		if scan.Kind == "gs1" {
			counts[scan.Source+" "+scan.Client+" "+scan.Text]++
		}
		assert.True(t, !strings.Contains(scan.Text, "secret"), "the scan log contains a secret: %s", scan.Text)
	}
	n := counts["browser gs1:pip zh-CN https://id.gs1.org/01/09506000134352/21/5"]
	assert.True(t, n == 1, "scans of one GET by a browser = %d, want 1: %v", n, counts)
	assert.True(t, counts["scan  https://id.gs1.org/01/09506000134352/21/5"] >= 2, "scans by the app: %v, want at least 2", counts)
}

// TestGS1Resolver_AcrossNodes verifies that a second node resolves imported links, and that an import with invalid lines fails.
func TestGS1Resolver_AcrossNodes(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	node := func(c *server.Config) { c.Database, c.MasterKey = p.database, strings.Repeat("5a", 32) }
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
	for _, s := range []*servertest.Server{first, second} {
		for deadline := time.Now().Add(30 * time.Second); ; {
			got := s.Do("GET", "/01/09506000134352/21/S1999", "", "Host: id.example").Header.Get("Location")
			if got == "https://brand.example/1999" {
				break
			}
			require.True(t, s != first && !time.Now().After(deadline), "Location of the last key = %q, want …/1999", got)
		}
	}
	wrong := `{"key":"01/09506000134369/21/1","owner":"shop","links":[]}` + "\n" + `{"key":"nothing","links":[]}`
	a = first.Do("POST", "/admin/v1/import/gs1", wrong,
		"Authorization: Bearer "+servertest.AdminToken, "Content-Type: application/x-ndjson")
	assert.True(t, a.Status == http.StatusUnprocessableEntity, "an import with wrong lines: %d %s", a.Status, a.Body)
}

// TestGS1Links_ScansScopedToOwner verifies that a key limited to an account sees only the scans of the account's GS1 links, by the app and
// by a browser, also if the ownership of a GTIN is transferred between scans.
func TestGS1Links_ScansScopedToOwner(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		s := servertest.Start(t, servertest.Options{Seed: gtins, Config: func(c *server.Config) { c.Database = p.database }})
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
		for i, scans := 0, ""; i < 1000 && strings.Count(scans, `"source":"browser"`) < 6; i++ { // redirects do not wait for the log
			scans = s.Admin("GET", "/scans", "").Body
		}
		shop := newAdminKey(t, s, `{"name":"of-shop","role":"marketer","accounts":["shop"]}`)
		rival := newAdminKey(t, s, `{"name":"of-rival","role":"marketer","accounts":["rival"]}`)
		for _, c := range []struct {
			owner                string
			call                 func(method, path, body string) servertest.Answer
			scans                int
			first, foreign, last string
		}{
			{"shop", shop, 8, "/01/09506000134352/10/ABC/21/1", "/01/09506000134369/21/2", "/01/09506000134369/21/3"},
			{"rival", rival, 4, "/01/09506000134369/21/2", "/01/09506000134352", "/01/09506000134369\""},
		} {
			sums := servertest.Decode[client.Statistics](t, c.call("GET", "/statistics?wait=true&group=owner", ""))
			assert.True(t, len(sums.Rows) == 1 && sums.Rows[0].Value == c.owner && sums.Rows[0].Scans == int64(c.scans),
				"%s: %+v, want %d", c.owner, sums.Rows, c.scans)
			a := c.call("GET", "/scans", "")
			assert.True(t, strings.Count(a.Body, `"scan_id"`) == c.scans && strings.Contains(a.Body, c.first) &&
				strings.Contains(a.Body, c.last) && !strings.Contains(a.Body, c.foreign) &&
				strings.Count(a.Body, `"owner":"`+c.owner+`"`) == c.scans, "%s: %s", c.owner, a.Body)
			a = c.call("GET", "/scans/export", "")
			assert.True(t, !strings.Contains(a.Body, c.foreign) && strings.Contains(a.Body, c.first), "%s: %s", c.owner, a.Body)
		}
		// Each key below a GTIN has a separate count, which continues when its links change.
		keys := servertest.Decode[client.Statistics](t, rival("GET", "/statistics?wait=true&group=rule", ""))
		assert.True(t, len(keys.Rows) == 1 && keys.Rows[0].Scans == 4, "scans of a key whose links changed: %+v", keys.Rows)
		shop("GET", "/statistics?wait=true&group=rule", "").JSON(t, &keys)
		assert.True(t, len(keys.Rows) == 4, "scans of GTIN, lot, serial and the GTIN that came over: %+v", keys.Rows)
	})
}

// TestGS1Transfer_TwoNodes transfers different GS1 Company Prefixes through two nodes at the same time. No transfer may undo another.
func TestGS1Transfer_TwoNodes(t *testing.T) {
	t.Parallel()
	p := newPostgres(t)
	var nodes [2]*servertest.Server
	for i := range nodes {
		nodes[i] = servertest.Start(t, servertest.Options{Seed: gtins, Config: func(c *server.Config) {
			c.Database, c.MasterKey = p.database, strings.Repeat("5a", 32)
		}})
	}
	answers := [20]servertest.Answer{}
	require.NoError(t, errors.Join(dbtest.Race(len(answers), func(i int) error {
		answers[i] = nodes[i%2].TryAdmin("POST", "/gs1/transfer", fmt.Sprintf(`{"key":"95060%02d","to":"rival"}`, i))
		return nil
	})...))
	for i, a := range answers {
		require.True(t, a.Status == http.StatusOK, "transfer %d: %d %s", i, a.Status, a.Body)
	}
	eventually(t, "the first node has all assigned prefixes", func() bool {
		return len(servertest.Decode[settings.Settings](t, nodes[0].Admin("GET", "/settings", "")).GS1Prefixes) == len(answers)
	})
}

// TestGS1CompanyPrefix_ConflictAndTransfer verifies that only the owner of a GS1 Company Prefix creates links under it, that the error for
// other accounts names the owner, and that a transfer of a prefix or key includes all keys below it.
func TestGS1CompanyPrefix_ConflictAndTransfer(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		t.Parallel()
		p := newInstance(t)
		s := servertest.Start(t, servertest.Options{Seed: gtins, Guarded: true,
			Config: func(c *server.Config) { c.Database = p.database }})
		s.Admin("PUT", "/settings", `{"gs1_prefixes":{"9506000":"shop","950600013430":"rival"}}`)
		operator := s.TryAdmin
		rival := newAdminKey(t, s, `{"name":"of-rival","role":"rules-editor","accounts":["rival"]}`)
		const link = `"links":[{"linktype":"gs1:pip","href":"https://rival.example/x","title":"x","default":true}]`
		transfer := func(key, to string, keys int, dry bool) {
			t.Helper()
			a := operator("POST", "/gs1/transfer", fmt.Sprintf(`{"key":%q,"to":%q,"dry_run":%t}`, key, to, dry))
			assert.True(t, a.Status == 200 && strings.Contains(a.Body, fmt.Sprintf(`"keys":%d}`, keys)),
				"%s to %s: %d %s, want %d keys", key, to, a.Status, a.Body, keys)
		}
		want := func(call func(method, path, body string) servertest.Answer, method, path, body string, status int, text string) {
			t.Helper()
			if a := call(method, path, body); a.Status != status || !strings.Contains(a.Body, text) {
				t.Errorf("%s %s: %d %s, want %d %s", method, path, a.Status, a.Body, status, text)
			}
		}
		// 950600013 has shop's prefix, 950600013430 rival's: the longer one counts.
		want(rival, "PUT", "/gs1/links/01/09506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		want(rival, "PUT", "/gs1/links/8003/09506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		want(rival, "PUT", "/gs1/links/414/9506000130002", `{`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		want(rival, "PUT", "/gs1/links/01/09506000134307", `{`+link+`}`, 200, `"owner":"rival"`)
		want(operator, "PUT", "/gs1/links/01/09506000134406", `{`+link+`}`, 200, `"owner":"shop"`)
		want(operator, "PUT", "/gs1/links/01/09506000134413", `{"owner":"rival",`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		want(rival, "PUT", "/gs1/links/01/09506000134352/21/5", `{`+link+`}`, 409, "shop owns this GTIN")
		want(rival, "PUT", "/gs1/links/01/09506000134352", `{`+link+`}`, 403, "shop owns this GTIN")
		want(rival, "POST", "/gs1/links", `{"key":"01/09506000130002",`+link+`}`, 409, "shop owns the GS1 Company Prefix 9506000")
		want(rival, "POST", "/gs1/transfer", `{"key":"01/09506000130002","to":"rival"}`, 403, "")
		want(operator, "POST", "/gs1/transfer", `{"key":"950","to":"rival"}`, 422, "digits of a GS1 Company Prefix")
		want(operator, "POST", "/gs1/transfer", `{"key":"9506","to":"nobody"}`, 404, "")
		want(operator, "PUT", "/settings", `{"gs1_prefixes":{"95O6":"shop"}}`, 422, "95O6")
		// The setting cannot name a key with letters; storing it would make the settings unreadable.
		want(operator, "PUT", "/gs1/links/8004/9506000AB", `{`+link+`}`, 200, `"owner":"shop"`)
		want(operator, "POST", "/gs1/transfer", `{"key":"8004/9506000AB","to":"rival"}`, 422, "GS1 Company Prefix 9506000")
		want(operator, "DELETE", "/gs1/links/8004/9506000AB", ``, 200, "")
		// As a prefix, 950600013 would also give the receiver the keys below it.
		want(operator, "PUT", "/gs1/links/8004/950600013", `{`+link+`}`, 200, `"owner":"shop"`)
		want(operator, "POST", "/gs1/transfer", `{"key":"8004/950600013","to":"rival"}`, 422, "GS1 Company Prefix 9506000")
		want(operator, "DELETE", "/gs1/links/8004/950600013", ``, 200, "")

		// The transfer of a GTIN includes the keys below it. It remains rival's when the prefix is transferred to shop again.
		transfer("01/09506000134406", "rival", 1, true)
		want(rival, "PUT", "/gs1/links/01/09506000134406", `{`+link+`}`, 403, "shop owns")
		transfer("01/09506000134406/10/A", "rival", 1, false)
		want(rival, "PUT", "/gs1/links/01/09506000134406/10/A", `{`+link+`}`, 200, `"owner":"rival"`)
		transfer("9506000", "shop", 2, false) // rival's 09506000134369 and the operator's 09506000134376
		want(operator, "GET", "/gs1/links/01/09506000134406", ``, 200, `"owner":"rival"`)
		transfer("9506000", "rival", 6, false)
		want(rival, "PUT", "/gs1/links/01/09506000134352/21/5", `{`+link+`}`, 200, `"owner":"rival"`)
		want(rival, "PUT", "/gs1/links/01/09506000130002", `{`+link+`}`, 200, `"owner":"rival"`)
		want(operator, "PUT", "/gs1/links/01/09506000130019", `{"owner":"shop",`+link+`}`, 409, "rival owns the GS1 Company Prefix 9506000")
		a := s.Do("GET", "/01/09506000134352/21/9", "", "Host: id.example")
		assert.True(t, a.Header.Get("Location") == "https://brand.example/nine", "a link after transfers: %d %s", a.Status, a.Body)
	})
}
