package assets_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/edge/assets"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// TestLookCSS_ColourContrast verifies the contrast ratios of WCAG 2.2 in both colour schemes: 4.5 for text (1.4.3), 3 for edges and focus
// rings (1.4.11).
func TestLookCSS_ColourContrast(t *testing.T) {
	css := require.Value(os.ReadFile("look.css"))(t)
	colours := map[string][2]string{}
	declaration := regexp.MustCompile(`--([a-z-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\)`)
	for _, match := range declaration.FindAllStringSubmatch(string(css), -1) {
		colours[match[1]] = [2]string{match[2], match[3]}
	}
	pairs := []struct {
		front    string
		back     string
		minRatio float64
	}{
		{"text", "ground", 7}, {"text", "raised", 7}, {"muted", "ground", 4.5}, {"muted", "raised", 4.5}, {"on-accent", "accent", 4.5},
		{"info", "ground", 4.5}, {"info", "raised", 4.5}, {"good", "good-ground", 4.5}, {"warn", "warn-ground", 4.5},
		{"bad", "bad-ground", 4.5}, {"bad", "ground", 4.5}, {"info", "info-ground", 4.5}, {"text", "good-ground", 4.5},
		{"text", "warn-ground", 4.5}, {"text", "bad-ground", 4.5}, {"text", "info-ground", 4.5}, {"info", "warn-ground", 4.5},
		{"info", "bad-ground", 4.5}, {"info", "good-ground", 4.5}, {"edge", "ground", 3}, {"edge", "raised", 3}, {"focus", "ground", 3},
		{"focus", "raised", 3}, {"accent", "ground", 3},
	}
	luminance := func(colour string) float64 { // relative luminance of six hexadecimal digits
		sum := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n := require.Value(strconv.ParseUint(colour[2*i:2*i+2], 16, 8))(t)
			c := float64(n) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	for _, pair := range pairs {
		for i, scheme := range []string{"light", "dark"} {
			front, back := colours[pair.front][i], colours[pair.back][i]
			if front == "" || back == "" {
				t.Errorf("look.css has no colour %s or %s", pair.front, pair.back)
				continue
			}
			a, b := luminance(front), luminance(back)
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < pair.minRatio {
				t.Errorf("%s: contrast of --%s on --%s = %.2f, want at least %g", scheme, pair.front, pair.back, got, pair.minRatio)
			}
		}
	}
}

func TestLookCSS_SizeAndNoExternalURLs(t *testing.T) {
	css := require.Value(os.ReadFile("look.css"))(t)
	assert.True(t, len(css) <= 15<<10, "look.css has %d bytes, want at most 15 KiB", len(css))
	assert.True(t, !regexp.MustCompile(`url\(|@import|https?:|//`).Match(css), "look.css refers to another resource, want none")
	head, rest, _ := strings.Cut(string(css), "*/")
	selectors := regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(rest, "")
	for _, class := range regexp.MustCompile(`\.([a-z]+)\b`).FindAllStringSubmatch(selectors, -1) {
		assert.True(t, strings.Contains(head, "."+class[1]), "the comment at the top of look.css does not list .%s", class[1])
	}
}

func TestAssets_CacheOneYear(t *testing.T) {
	get := func(headers ...string) *http.Response {
		r := httptest.NewRequest("GET", assets.Sheet.Path(), nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		assets.Sheet.ServeHTTP(w, r)
		return w.Result()
	}
	assert.True(t, regexp.MustCompile(`^/qrjump/look-[0-9a-f]{16}\.css$`).MatchString(assets.Sheet.Path()),
		"Sheet.Path() = %s, want a hash in the name", assets.Sheet.Path())
	plain := get()
	want, _ := io.ReadAll(plain.Body)
	assert.True(t, plain.Header.Get("Cache-Control") == "public, max-age=31536000, immutable" && plain.Header.Get("Content-Encoding") == "",
		"headers = %v, want one year of caching and no encoding", plain.Header)
	compressed := get("Accept-Encoding", "br;q=1.0, gzip;q=0.8")
	assert.True(t, compressed.Header.Get("Content-Encoding") == "gzip" && compressed.Header.Get("ETag") != plain.Header.Get("ETag"),
		"headers for a client that accepts gzip = %v, want gzip and another ETag", compressed.Header)
	if r, err := gzip.NewReader(compressed.Body); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("decompressed body: %d bytes, %v, want %d bytes", len(got), err, len(want))
	}
	assert.Equal(t, get("Accept-Encoding", "gzip;q=0").Header.Get("Content-Encoding"), "", "Content-Encoding with gzip;q=0")
	assert.Equal(t, get("If-None-Match", `"x", W/`+plain.Header.Get("ETag")).StatusCode, http.StatusNotModified, "with a matching ETag")
}
