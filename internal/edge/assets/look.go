// Package assets knows what every page for people looks like.
//
// A page links [Sheet].Path() and is styled by its elements and the few classes that the head of look.css lists. A page's own additions
// are an [Asset] of their own: nothing is inline, so that a page's policy can be style-src 'self' and script-src 'self'.
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

// Sheet is the style that all pages share. A listener that serves pages serves it at its own path:
// mux.Handle("GET "+look.Sheet.Path(), look.Sheet). Assets of this server are below /qrjump/, which no link of a rule is likely to have.
var Sheet = NewAsset("/qrjump/look.css", sheet)

// Script puts a button on texts that are meant to be copied (class copy).
var Script = NewAsset("/qrjump/look.js", script)

// Asset is a file that never changes: the hash of its content is in its name, so that a browser keeps it
// for a year and a new version has another name.
type Asset struct {
	path, kind, tag string
	plain           []byte
	zipped          func() []byte
}

// kinds are the forms of files that pages have.
var kinds = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// NewAsset returns the content under the name, with its hash put in front of the ending: /qrjump/look.css is served at
// /qrjump/look-0123456789abcdef.css. It panics when the ending is none of .css, .js and .svg, since assets are made at start from what
// the binary embeds.
func NewAsset(name string, content []byte) *Asset {
	ending := path.Ext(name)
	kind, known := kinds[ending]
	if !known {
		panic("look: " + name + " is no style, script or picture")
	}
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:8])
	return &Asset{path: strings.TrimSuffix(name, ending) + "-" + tag + ending, kind: kind, tag: `"` + tag + `"`, plain: content,
		zipped: sync.OnceValue(func() []byte {
			var zipped bytes.Buffer
			w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
			w.Write(content) // into memory: cannot fail
			w.Close()
			return zipped.Bytes()
		})}
}

// Path returns the path of the asset, hash included.
func (a *Asset) Path() string { return a.path }

// ServeHTTP answers the content, compressed for those that can read it, to be kept for a year.
func (a *Asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	ServePrecompressed(w, r, a.tag, a.plain, a.zipped())
}

// ServePrecompressed answers with content that exists in both forms: 304 to a browser that has what the tag names, else zipped
// to a caller that accepts gzip, plain to others. The tag is a quoted ETag of the plain form.
func ServePrecompressed(w http.ResponseWriter, r *http.Request, tag string, plain, zipped []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	content := plain
	if takesGzip(r.Header.Get("Accept-Encoding")) {
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

// takesGzip says whether a caller reads gzip: it names it, and not with a quality of zero.
func takesGzip(accepted string) bool {
	for name := range strings.SplitSeq(accepted, ",") {
		coding, quality, _ := strings.Cut(strings.TrimSpace(name), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q := strings.TrimPrefix(strings.ReplaceAll(quality, " ", ""), "q=")
			return strings.Trim(q, "0.") != "" || quality == ""
		}
	}
	return false
}
