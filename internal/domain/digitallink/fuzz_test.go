package digitallink

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// FuzzEntry verifies that a valid entry is its own normal form and that no request value moves its links to another host.
func FuzzEntry(f *testing.F) {
	f.Add(`{"key":"01/9506000134352","links":[{"linktype":"gs1:pip","href":"https://a.example/{21}?x={10}#y","title":"t","default":true}]}`,
		"../../b")
	f.Add(`{"key":"01/09506000134352/10/A%2FB","wxa_path":"p?g={01}","owner":"o","links":[],"archived":true}`, "\r\nX: y")
	f.Add(`{"key":"8003/09506000134352","links":[{"linktype":"http://a.example/b","href":"http://a.example/{","title":"t"}]}`, "//evil")
	f.Fuzz(func(t *testing.T, text, value string) {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			return
		}
		e, err := Parse(v)
		if err != nil {
			return
		}
		normal, err := e.normalize()
		require.True(t, err == nil && normal.equal(e), "%s is not its own normal form: %+v %v", text, normal, err)
		for _, link := range e.activeLinks(time.Unix(0, 0), func(string) (string, bool) { return value, true }) {
			filled := require.Value(fill(link.Href, anyValue, url.PathEscape))(t)
			want := require.Value(url.Parse(filled))(t)
			to, err := url.Parse(link.address)
			require.True(t, err == nil && to.Scheme == want.Scheme && to.Host == want.Host && to.User == nil &&
				!strings.ContainsAny(link.address, "\r\n \"<>"), "%q with %q leads to %q: %v", link.Href, value, link.address, err)
		}
	})
}

// FuzzRequest verifies that every request gets one of the known status codes and redirects only to the links of the entry or to a GTIN of
// 14 digits.
func FuzzRequest(f *testing.F) {
	e, err := Parse(map[string]any{"key": "01/09506000134352", "links": []any{
		map[string]any{"linktype": "gs1:pip", "href": "https://brand.example/{21}", "title": "a serial"},
		map[string]any{"linktype": "gs1:pip", "href": "https://brand.example/", "title": "a product", "default": true, "hreflang": "en"}}})
	require.NoError(f, err)
	b := &Service{Hosts: func() []string { return []string{"id.example"} }, Now: time.Now, entries: map[string]*Entry{e.Key: &e}}
	r := &Resolver{Service: b, Scheme: func(*http.Request) string { return "https" }, Reserved: func(string) bool { return false },
		Opens: func(string) bool { return false }}
	f.Add("/01/9506000134352//evil.example", "linkType=gs1:pip", "id.example", "text/html;q=2", "zh;q=,en")
	f.Add("//evil.example/01/09506000134352", "a=\r\nb", "ID.example:443", "application/linkset+json", "*")
	f.Fuzz(func(t *testing.T, path, query, host, accept, language string) {
		q := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Host: host,
			Header: http.Header{"Accept": {accept}, "Accept-Language": {language}}}
		w := httptest.NewRecorder()
		r.Middleware(http.NotFoundHandler()).ServeHTTP(w, q)
		to := w.Header().Get("Location")
		switch w.Code {
		case 200, 300, 400, 404:
			require.Equal(t, to, "", "Location of status %d", w.Code)
		case 307:
			require.True(t, (strings.HasPrefix(to, "https://brand.example/") || strings.HasPrefix(to, "/01/0")) &&
				!strings.ContainsAny(to, "\r\n \"<>"), "%q?%q leads to %q", path, query, to)
		default:
			t.Fatalf("status %d, want 200, 300, 307, 400 or 404", w.Code)
		}
		links := w.Header().Values("Link")
		require.True(t, !strings.ContainsAny(strings.Join(links, ""), "\r\n"), "Link: %q", links)
	})
}
