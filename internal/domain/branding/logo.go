package branding

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"image"
	_ "image/jpeg" // decoder for JPEG logos
	"image/png"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // decoder for WebP logos

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

const (
	// MaxUpload is the maximum size in bytes of an uploaded logo file; MaxPixels is the maximum number of pixels of its picture.
	MaxUpload = 512 << 10
	MaxPixels = 4 << 20
	// boxWidth and boxHeight are the maximum dimensions of a stored logo: the page shows it at half this size, for high-density screens.
	boxWidth, boxHeight = 384, 192
	// maxLogoBytes is the maximum size in bytes of a stored logo. With a logo of this size, a page is far below 150 KiB.
	maxLogoBytes = 48 << 10
)

// encodeLogo re-encodes an uploaded picture as a PNG of limited size that contains only the pixels. Other contents of the file (scripts,
// locations, camera names) never reach a browser. An SVG is rejected, because it can contain scripts.
func (s *Service) encodeLogo(ctx context.Context, file []byte) (Logo, []byte, error) {
	if len(file) > MaxUpload {
		return Logo{}, nil, accounts.Invalidf("logo: %d bytes: want %d at most", len(file), MaxUpload)
	}
	if looksLikeMarkup(file) {
		return Logo{}, nil, accounts.Invalidf("logo: SVG files can contain scripts and are not accepted: upload a PNG, JPEG or WebP file")
	}
	config, kind, err := image.DecodeConfig(bytes.NewReader(file))
	switch {
	case err != nil || kind != "png" && kind != "jpeg" && kind != "webp":
		return Logo{}, nil, accounts.Invalidf("logo: the file cannot be read: upload a PNG, JPEG or WebP image without animation")
	case config.Width <= 0 || config.Height <= 0 || config.Width > MaxPixels || config.Height > MaxPixels ||
		config.Width*config.Height > MaxPixels:
		return Logo{}, nil, accounts.Invalidf("logo: %d × %d pixels: want %d in all at most, such as 2048 × 2048", config.Width,
			config.Height, MaxPixels)
	}
	done, err := s.decoding.Acquire(ctx, 1, 0) // decoding the largest picture needs about 32 MB of memory
	if err != nil {
		return Logo{}, nil, err
	}
	defer done()
	from, _, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		return Logo{}, nil, accounts.Invalidf("logo: its %s cannot be read: %v", kind, err)
	}
	for scale := 1.0; ; scale *= 0.75 {
		m := fit(from, boxWidth*scale, boxHeight*scale)
		var b bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, m); err != nil {
			return Logo{}, nil, err
		}
		if b.Len() <= maxLogoBytes {
			sum := sha256.Sum256(b.Bytes())
			size := m.Bounds()
			return Logo{Hash: hex.EncodeToString(sum[:]), Width: size.Dx(), Height: size.Dy(), Bytes: b.Len()}, b.Bytes(), nil
		}
	}
}

// looksLikeMarkup reports whether a file starts like XML or HTML, after white space and a byte order mark.
func looksLikeMarkup(file []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(file, []byte("\xef\xbb\xbf")), " \t\r\n"), []byte("<"))
}

// fit scales a picture down to fit into a box; a smaller picture keeps its size.
func fit(from image.Image, width, height float64) *image.NRGBA {
	w, h := float64(from.Bounds().Dx()), float64(from.Bounds().Dy())
	scale := min(1, width/w, height/h)
	m := image.NewNRGBA(image.Rect(0, 0, max(1, int(w*scale)), max(1, int(h*scale))))
	draw.CatmullRom.Scale(m, m.Bounds(), from, from.Bounds(), draw.Src, nil)
	return m
}
