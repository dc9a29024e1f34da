// Package pagetest measures what a browser with an empty cache loads for a page.
package pagetest

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Budget is the maximum uncompressed size in bytes of a page with everything that it loads.
const Budget = 150 << 10

var (
	tag       = regexp.MustCompile(`(?is)<(link|script|img|source|iframe|frame|embed|object|video|audio|input|image|use|track)\b([^>]*)>`)
	attribute = regexp.MustCompile(`(?is)(?:^|\s)(rel|href|src|srcset|data|poster)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)
	styles    = regexp.MustCompile(`(?is)<style[^>]*>(.*?)</style>`)
	scripts   = regexp.MustCompile(`(?is)<script[^>]*>(.*?)</script>`)
	// Further loads of a style sheet or a module. No page of the project has them, so that they are an error.
	styleLoads  = regexp.MustCompile(`(?i)@import\b|url\(\s*["']?\s*([^"'\s)]*)`)
	scriptLoads = regexp.MustCompile(`(?m)^\s*import\b|\bimport\s*\(|^\s*export\b.*\bfrom\b`)
)

// MeasurePage returns the uncompressed size of a page with its styles, scripts and images, and the addresses of these. It calls get once
// for each address, as written in the page, to get the body. It does not count requests that scripts make; browsertest.Loaded does.
func MeasurePage(t testing.TB, page string, get func(address string) string) (bytes int, loaded []string) {
	t.Helper()
	bytes = len(page)
	check := func(location, text string, style bool) {
		pattern := scriptLoads
		if style {
			pattern = styleLoads
		}
		for _, found := range pattern.FindAllStringSubmatch(text, -1) {
			if style && (strings.HasPrefix(found[1], "data:") || strings.HasPrefix(found[1], "#")) {
				continue // part of the text
			}
			t.Errorf("%s loads a further file, which is not counted: %s", location, found[0])
		}
	}
	for _, element := range styles.FindAllStringSubmatch(page, -1) {
		check("the page", element[1], true)
	}
	for _, element := range scripts.FindAllStringSubmatch(page, -1) {
		check("the page", element[1], false)
	}
	for _, element := range tag.FindAllStringSubmatch(page, -1) {
		attrs := map[string]string{}
		for _, a := range attribute.FindAllStringSubmatch(element[2], -1) {
			attrs[strings.ToLower(a[1])] = html.UnescapeString(a[2] + a[3] + a[4])
		}
		name := strings.ToLower(element[1])
		addresses := []string{attrs["src"], attrs["poster"], attrs["data"]}
		switch name {
		case "link":
			addresses = nil
			for rel := range strings.FieldsSeq(strings.ToLower(attrs["rel"])) {
				if slices.Contains([]string{"stylesheet", "icon", "preload", "modulepreload", "manifest", "prefetch"}, rel) {
					addresses = []string{attrs["href"]}
				}
			}
		case "image", "use":
			addresses = []string{attrs["href"]}
		}
		assert.True(t, attrs["srcset"] == "", "images of srcset are not counted: %s", element[0])
		for _, address := range addresses {
			if address == "" || strings.HasPrefix(address, "data:") || strings.HasPrefix(address, "#") || slices.Contains(loaded, address) {
				continue
			}
			body := get(address)
			assert.True(t, body != "", "body of %s is empty", address)
			bytes += len(body)
			loaded = append(loaded, address)
			if name == "script" || name == "link" {
				check(address, body, name == "link")
			}
		}
	}
	return bytes, loaded
}
