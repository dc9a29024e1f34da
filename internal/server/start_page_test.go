package server_test

import (
	"encoding/json"
	"html"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/pagetest"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const browserAccept = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// TestFirstPage_BrowserOnly verifies that "/" returns the welcome page to a browser, and the platform's error to other clients.
func TestFirstPage_BrowserOnly(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	for accept, page := range map[string]bool{
		browserAccept:                         true,
		"Accept: text/html":                   true,
		"Accept: TEXT/HTML;q=0.5, */*":        true,
		"Accept: text/html;q=0, */*":          false,
		"Accept: */*":                         false,
		"Accept: application/json, text/*":    false,
		"Accept: application/json":            false,
		"Accept: text/htmlx":                  false,
		"X-Nothing: said":                     false,
		"Accept: application/xml, ;;, ,text/": false,
	} {
		a := s.Do("GET", "/", "", accept)
		assert.True(t, strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") == page && a.Status == http.StatusOK,
			"%s: %d %s", accept, a.Status, a.Header.Get("Content-Type"))
		assert.True(t, page || strings.Contains(a.Body, `"errcode":40066`), "%s: %s, want errcode 40066", accept, a.Body)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		assert.Contains(t, s.Do(method, "/", "", browserAccept).Body, `"errcode":40066`, "%s /", method)
	}
	a := s.Do("GET", "/", "", browserAccept, "Accept-Language: zh-CN,en;q=0.5")
	assert.True(t, strings.Contains(a.Body, `lang="zh-CN"`) && strings.Contains(a.Body, "已就绪") && len(a.Body) <= 20<<10,
		"the page in Chinese, %d bytes, want at most 20 KiB: %s", len(a.Body), a.Body)
	bytes, loaded := pagetest.MeasurePage(t, a.Body, func(address string) string { return s.Do("GET", address, "").Body })
	assert.True(t, bytes <= pagetest.Budget && len(loaded) == 2, "the page loads %d bytes with %q, want at most %d with two files", bytes,
		loaded, pagetest.Budget)
	for _, sheet := range regexp.MustCompile(`rel="stylesheet" href="([^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
		style := s.Do("GET", sheet[1], "")
		assert.True(t, style.Status == http.StatusOK && style.Header.Get("Content-Type") == "text/css; charset=utf-8",
			"the page's style %s: %d %v", sheet[1], style.Status, style.Header)
	}
}

// TestFirstPage_CommandsRun runs the commands of the welcome page in a shell, in order and without changes.
func TestFirstPage_CommandsRun(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	for _, program := range []string{"curl", "sed"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not here: install it, for example by scripts/install-test-deps.sh", program)
		}
	}
	page, id := s.Do("GET", "/", "", browserAccept).Body, "curl"
	found := regexp.MustCompile(`(?s) id="` + id + `">(.*?)</code>`).FindStringSubmatch(page)
	require.True(t, found != nil, "the page has no block %s: %s", id, page)
	lines := html.UnescapeString(found[1])
	var answers []string
	for line := range strings.Lines(lines) {
		answers = append(answers, strings.TrimSpace(line)+"; echo '@@'")
	}
	out, err := exec.Command("sh", "-ec", strings.Join(answers, "\n")+"\necho TOKEN $TOKEN").CombinedOutput()
	require.True(t, err == nil, "%v: %s", err, out)
	text, token, _ := strings.Cut(string(out), "TOKEN ")
	s.RegisterSecret(strings.TrimSpace(token))
	got := strings.Split(text, "@@")
	for i, want := range []string{"", `"errcode":0`, `"errcode":0`, `"wxc0ffee0000000001"`, `"steps"`} {
		require.True(t, i < len(got) && strings.Contains(got[i], want), "output of line %d lacks %s: %q", i, want, got)
	}
	var scan struct{ Path string }
	err = json.Unmarshal([]byte(got[3]), &scan)
	assert.True(t, err == nil && strings.HasPrefix(scan.Path, "pages/index/index?q="), "the scan: %v, %s", err, got[3])
}

// TestFirstPage_SampleAccounts verifies that the page shows only current secrets, and only AppIDs that are safe in a shell command.
func TestFirstPage_SampleAccounts(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: `
accounts:
  - {appid: "a';rm$IFS-rf$IFS/", kind: mini_program, name: Bad, secret: secret-of-bad-00001}
  - {appid: shop, kind: mini_program, name: "<script>alert(1)</script>", secret: secret-of-shop-0001}
`})
	page := func() string { return s.Do("GET", "/", "", browserAccept).Body }
	got := page()
	assert.True(t, strings.Contains(got, "secret-of-shop-0001") && !strings.Contains(got, "<script>alert") &&
		!strings.Contains(got, "rm$IFS"), "%v", got)
	s.Admin("PUT", "/accounts/shop", `{"kind":"mini_program","secret":"another-secret-0001"}`)
	if got := page(); strings.Contains(got, "secret-of-shop-0001") || strings.Contains(got, `id="curl"`) {
		t.Error("the page shows a replaced secret: " + got)
	}
}

// TestFirstPage_PerListener verifies that the pages in production link to console and wire API and show no sample accounts.
func TestFirstPage_PerListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, ScanListener: true, Config: func(c *server.Config) {
		c.AdminListen, c.TrustedProxy = "127.0.0.1:0", []string{"127.0.0.2/32"}
	}})
	for name, base := range map[string]string{"wire": s.URL, "scan": s.ScanURL, "admin": s.AdminURL} {
		get := func(accept string) (int, string) {
			r := require.Value(http.NewRequestWithContext(t.Context(), "GET", base+"/", nil))(t)
			r.Header.Set("Accept", accept)
			a := s.Send(r)
			return a.Status, a.Body
		}
		status, page := get("text/html")
		for _, url := range []string{s.AdminURL, s.URL} {
			assert.True(t, status == http.StatusOK && strings.Contains(page, url), "%s: %d, want 200 with %s: %s", name, status, url, page)
		}
		assert.True(t, !strings.Contains(page, "secret") && !strings.Contains(page, `id="curl"`),
			"%s: the page in production contains sample accounts: %s", name, page)
		if status, text := get("*/*"); name == "wire" != strings.Contains(text, `"errcode":40066`) || name != "wire" && status != 404 {
			t.Errorf("%s: with Accept */*: %d %s, want errcode 40066 on wire, otherwise 404", name, status, text)
		}
	}
}
