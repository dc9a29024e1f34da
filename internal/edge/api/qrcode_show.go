package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/infra/ratelimit"
	"github.com/qrjump/qrjump/internal/print/symbol"
)

// pictureSide is the width and height of a picture in pixels, as on the platform.
const pictureSide = 430

// maxPictureAge is how long a client may cache a picture.
const maxPictureAge = 24 * time.Hour

// picture is the response of showqrcode: a JPEG, or only a status code.
type picture struct {
	status int
	jpeg   []byte
	maxAge time.Duration
}

// masked returns the text that the call log stores in place of the picture: its status and size.
func (p picture) masked() []byte {
	return fmt.Appendf(nil, "[status %d, %d bytes]", p.status, len(p.jpeg))
}

func (p picture) write(_ context.Context, w http.ResponseWriter) error {
	h := w.Header()
	switch p.status {
	case http.StatusOK:
		h.Set("Content-Type", "image/jpeg")
		h.Set("Content-Length", strconv.Itoa(len(p.jpeg)))
		h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(p.maxAge/time.Second)))
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if p.status == http.StatusTooManyRequests {
			h.Set("Retry-After", "1")
		}
	}
	w.WriteHeader(p.status)
	if p.status != http.StatusOK {
		_, err := fmt.Fprintln(w, http.StatusText(p.status))
		return err
	}
	_, err := w.Write(p.jpeg)
	return err
}

// showQRCode requires no token: a request with a valid ticket gets the picture of its code, any other request gets 404. Contract: rules
// §3.5. Assumed(qrcode.show.rate): a client address that requests too many pictures per second gets status 429.
func (a *API) showQRCode(ctx context.Context, c *call, f *fields) (any, error) {
	if !a.pictureLimiter.allow(ratelimit.KeyForIP(c.ip).String(), a.Settings.Get().QRCodeImageRateLimit, a.RealNow()) {
		return picture{status: http.StatusTooManyRequests}, nil
	}
	ticket, _ := f.peek("ticket")
	q, err := a.Accounts.QRCodeByTicket(ctx, ticket)
	if errors.Is(err, accounts.ErrNoQRCode) {
		return picture{status: http.StatusNotFound}, nil
	}
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := drawQRCode(&b, q.URL()); err != nil {
		return nil, err
	}
	p := picture{status: http.StatusOK, jpeg: b.Bytes(), maxAge: maxPictureAge}
	if !q.Permanent() {
		p.maxAge = min(p.maxAge, q.ExpiresAt.Sub(a.Now()))
	}
	return p, nil
}

// drawQRCode writes a text as a QR code, after checking that the code can be decoded. drawQRCode uses the lowest error correction level,
// which gives the largest modules. About one in 300 codes of the lowest level has a pattern that the decoder mistakes for a corner; such a
// code is drawn with another level.
func drawQRCode(w io.Writer, text string) error {
	for _, level := range []symbol.Level{'L', 'Q', 'H', 'M'} {
		code, err := symbol.QR(text, level)
		if err != nil {
			return fmt.Errorf("drawing a QR code: %w", err)
		}
		m := drawCentered(code)
		if found, err := symbol.FindQR(m); err == nil && found == text {
			return jpeg.Encode(w, m, &jpeg.Options{Quality: 90})
		}
	}
	return fmt.Errorf("no QR code of %q can be read", text)
}

// drawCentered draws a code in the centre of a white square, with modules of whole pixels.
func drawCentered(code symbol.Grid) image.Image {
	side := code.Picture(1).Bounds().Dx()
	img := code.Picture(pictureSide / side)
	margin := (pictureSide - img.Bounds().Dx()) / 2
	m := image.NewGray(image.Rect(0, 0, pictureSide, pictureSide))
	draw.Draw(m, m.Bounds(), image.White, image.Point{}, draw.Src)
	draw.Draw(m, img.Bounds().Add(image.Pt(margin, margin)), img, image.Point{}, draw.Src)
	return m
}
