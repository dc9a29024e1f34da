// Package assets provides the style sheet and scripts that all HTML pages share.
//
// A page links [Sheet].Path() and uses plain elements and the few classes listed at the start of look.css. Additional styles or scripts of
// a page are separate [Asset] values instead of inline code, so that the page's Content-Security-Policy can be style-src 'self' and
// script-src 'self'.
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed look.css
var sheet []byte

//go:embed look.js
var script []byte

// Sheet is the style sheet that all pages share. A listener that serves pages registers the style sheet: mux.Handle("GET
// "+assets.Sheet.Path(), assets.Sheet). Assets are served below /qrjump/, a path that links of rules are unlikely to use.
var Sheet = NewAsset("/qrjump/look.css", sheet)

// Script adds a copy button to elements of class copy.
var Script = NewAsset("/qrjump/look.js", script)

// Asset is an immutable file: its name contains a hash of its content, so that browsers cache the file for a year and a new version
// has another name.
type Asset struct {
	path, kind, tag string
	plain           []byte
	zipped          func() []byte
}

// kinds maps the file extensions of assets to content types.
var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// NewAsset returns an asset with the hash of its content inserted before the extension: /qrjump/look.css is served at
// /qrjump/look-0123456789abcdef.css. NewAsset panics if the extension is not .css, .js or .svg, because assets are created at start
// from embedded files.
func NewAsset(name string, content []byte) *Asset {
	ending := path.Ext(name)
	kind, known := kinds[ending]
	if !known {
		panic("look: " + name + " is no style, script or picture")
	}
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:8])
	return &Asset{path: strings.TrimSuffix(name, ending) + "-" + tag + ending, kind: kind, tag: `"` + tag + `"`, plain: content,
		zipped: sync.OnceValue(func() []byte { return Gzip(content, gzip.BestCompression) })}
}

// Gzip compresses content with a level of package gzip.
func Gzip(content []byte, level int) []byte {
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, level)
	w.Write(content) // writing to memory cannot fail
	w.Close()
	return zipped.Bytes()
}

// Path returns the path of the asset, including the hash.
func (a *Asset) Path() string { return a.path }

// ServeHTTP sends the content with a cache lifetime of one year, compressed for clients that accept gzip.
func (a *Asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	ServePrecompressed(w, r, a.tag, a.plain, a.zipped())
}

// ServePrecompressed sends content that exists in plain and gzip form: 304 if the browser's ETag matches tag, else gzip for clients
// that accept gzip, else plain. The parameter tag is the quoted ETag of the plain form.
func ServePrecompressed(w http.ResponseWriter, r *http.Request, tag string, plain, zipped []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	content := plain
	if TakesGzip(r.Header.Get("Accept-Encoding")) {
		content = zipped
		tag = strings.TrimSuffix(tag, `"`) + `-gz"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", tag)
	for held := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(held), "W/") == tag {
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method != http.MethodHead {
		w.Write(content)
	}
}

// TakesGzip reports whether an Accept-Encoding header lists gzip with a quality other than zero.
func TakesGzip(accepted string) bool {
	for name := range strings.SplitSeq(accepted, ",") {
		coding, quality, _ := strings.Cut(strings.TrimSpace(name), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q := strings.TrimPrefix(strings.ReplaceAll(quality, " ", ""), "q=")
			return strings.Trim(q, "0.") != "" || quality == ""
		}
	}
	return false
}
