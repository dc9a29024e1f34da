// Package pagetest knows what a browser that has nothing kept loads for a page.
package pagetest

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Budget is the most bytes that a page and all that it loads may have, unzipped.
const Budget = 150 << 10

var (
	tag       = regexp.MustCompile(`(?is)<(link|script|img|source|iframe|frame|embed|object|video|audio|input|image|use|track)\b([^>]*)>`)
	attribute = regexp.MustCompile(`(?is)(?:^|\s)(rel|href|src|srcset|data|poster)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))`)
	styles    = regexp.MustCompile(`(?is)<style[^>]*>(.*?)</style>`)
	scripts   = regexp.MustCompile(`(?is)<script[^>]*>(.*?)</script>`)
	// What a style or a module loads in its turn. No page of ours does that, so it is refused and not followed.
	fromStyle  = regexp.MustCompile(`(?i)@import\b|url\(\s*["']?\s*([^"'\s)]*)`)
	fromScript = regexp.MustCompile(`(?m)^\s*import\b|\bimport\s*\(|^\s*export\b.*\bfrom\b`)
)

// Weigh adds up the bytes of a page and of each style, script and picture that it names, unzipped, and says which these are.
// get is asked for each address once, as it stands in the page, and returns the body. What a script asks for by itself is not
// counted; a browser counts that.
func Weigh(t testing.TB, page string, get func(address string) string) (bytes int, loaded []string) {
	t.Helper()
	bytes = len(page)
	check := func(location, text string, style bool) {
		loads := fromScript
		if style {
			loads = fromStyle
		}
		for _, found := range loads.FindAllStringSubmatch(text, -1) {
			if style && (strings.HasPrefix(found[1], "data:") || strings.HasPrefix(found[1], "#")) {
				continue // it is in the text already
			}
			t.Errorf("%s loads more, which is not counted: %s", location, found[0])
		}
	}
	for _, innerNames := range styles.FindAllStringSubmatch(page, -1) {
		check("the page", innerNames[1], true)
	}
	for _, innerNames := range scripts.FindAllStringSubmatch(page, -1) {
		check("the page", innerNames[1], false)
	}
	for _, element := range tag.FindAllStringSubmatch(page, -1) {
		has := map[string]string{}
		for _, a := range attribute.FindAllStringSubmatch(element[2], -1) {
			has[strings.ToLower(a[1])] = html.UnescapeString(a[2] + a[3] + a[4])
		}
		name := strings.ToLower(element[1])
		addresses := []string{has["src"], has["poster"], has["data"]}
		switch name {
		case "link":
			addresses = nil
			for rel := range strings.FieldsSeq(strings.ToLower(has["rel"])) {
				if slices.Contains([]string{"stylesheet", "icon", "preload", "modulepreload", "manifest", "prefetch"}, rel) {
					addresses = []string{has["href"]}
				}
			}
		case "image", "use":
			addresses = []string{has["href"]}
		}
		assert.True(t, has["srcset"] == "", "a choice of pictures is not counted: %s", element[0])
		for _, address := range addresses {
			if address == "" || strings.HasPrefix(address, "data:") || strings.HasPrefix(address, "#") || slices.Contains(loaded, address) {
				continue
			}
			body := get(address)
			assert.True(t, body != "", "%s is empty", address)
			bytes += len(body)
			loaded = append(loaded, address)
			if name == "script" || name == "link" {
				check(address, body, name == "link")
			}
		}
	}
	return bytes, loaded
}
