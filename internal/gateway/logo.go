package gateway

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/qrjump/qrjump/internal/appearance"
)

// dress puts on a page how an account looks, and its name where it is not on the page.
func (g *Gateway) dress(r *http.Request, v *view, appid string) {
	if g.Looks == nil || appid == "" {
		return
	}
	v.Look = g.Looks.Of(r.Context(), appid)
	if v.Look.Logo.Hash != "" && v.Kind != "landing" {
		if maker, ok := g.Account(appid); ok {
			v.Maker = maker.Name
		}
	}
}

// logo answers the picture of a hash. Its path never has another content, so that a
// browser keeps it for a year; its type is always that of what the server drew itself.
func (g *Gateway) logo(w http.ResponseWriter, r *http.Request, hash string) {
	file, kept := g.Looks.Kept(hash)
	if !kept {
		// Hashes can be made up, and looking is work.
		if !g.within(w, r, "logo", 1, g.Settings.Get().PageLimit) {
			return
		}
		var err error
		if file, err = g.Looks.Read(r.Context(), hash); errors.Is(err, appearance.ErrNone) {
			g.show(w, r, MissingPage, http.StatusNotFound, notice("missing"))
			return
		} else if err != nil {
			g.Log.WarnContext(r.Context(), "a logo could not be read", "hash", hash, "error", err)
			g.away(w, r)
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
