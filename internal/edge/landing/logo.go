package landing

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/qrjump/qrjump/internal/domain/branding"
)

// dress adds an account's branding to a page, and the account's name if the page lacks the name.
func (g *Gateway) dress(r *http.Request, v *view, appid string) {
	if g.Looks == nil || appid == "" {
		return
	}
	v.Look = g.Looks.Lookup(r.Context(), appid)
	if v.Look.Logo.Hash != "" && v.Kind != "landing" {
		if maker, ok := g.Account(appid); ok {
			v.Maker = maker.Name
		}
	}
}

// logo serves the logo with a given hash. The content of a logo's path never changes, so a browser may cache the logo for a year.
// The server generated the logo's picture itself, so its content type is always the same.
func (g *Gateway) logo(w http.ResponseWriter, r *http.Request, hash string) {
	file, kept := g.Looks.CachedLogo(hash)
	if !kept {
		// Clients can invent hashes, and looking up a hash takes time.
		if !g.withinLimit(w, r, "logo", 1, 1) {
			return
		}
		var err error
		if file, err = g.Looks.LoadLogo(r.Context(), hash); errors.Is(err, branding.ErrNone) {
			g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
			return
		} else if err != nil {
			g.Log.WarnContext(r.Context(), "a logo could not be read", "hash", hash, "error", err)
			g.serveUnavailable(w, r)
			return
		}
	}
	g.observe(LogoFile)
	h := w.Header()
	guardHeaders(h)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Type", "image/png")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Length", strconv.Itoa(len(file)))
	if r.Method != http.MethodHead {
		w.Write(file)
	}
}
