package server_test

import (
	"cmp"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// The documents want no credential. They are where the admin API is, with the address to which programs call,
// and a printed link below /docs stays the rule's.
func TestDocs_OnAdminListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Config: func(c *server.Config) { c.AdminListen = "127.0.0.1:0" }, Seed: `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}
rules:
  - {owner: shop, prefix: "http://shop.example/docs/", path: pages/a/a, published: true}
settings: {verification: trust}
`})
	get := func(base, path, host string) servertest.Answer {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
		require.NoError(t, err)
		r.Host = cmp.Or(host, r.Host)
		return s.Send(r)
	}
	a := get(s.AdminURL, "/docs/zh/tour", "")
	assert.True(t, a.Status == http.StatusOK && a.Header.Get("Content-Security-Policy") == guide.Policy &&
		strings.Contains(a.Body, s.URL+"/cgi-bin/wxopen/qrcodejumpget"), "the documents: %d %v", a.Status, a.Header)
	for _, found := range regexp.MustCompile(`"(/qrjump/[^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
		asset := get(s.AdminURL, found[1], "")
		assert.True(t, asset.Status == http.StatusOK && strings.Contains(asset.Header.Get("Cache-Control"), "immutable"),
			"%s: %d %v", found[1], asset.Status, asset.Header)
	}
	if a := get(s.URL, "/docs/zh/tour", ""); a.Status != http.StatusNotFound || strings.Contains(a.Body, "<html") {
		t.Errorf("the wire's listener answers %d: %.200s", a.Status, a.Body)
	}
	if a := get(s.URL, "/docs/7", "shop.example"); a.Status != http.StatusOK || !strings.Contains(a.Body, "shop.example/docs/7") {
		t.Errorf("a printed link below /docs: %d %.200s", a.Status, a.Body)
	}
}
