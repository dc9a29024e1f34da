package branding

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// contrast returns the WCAG 2.2 contrast ratio of two colours, from 1 to 21.
func contrast(c, d Colour) float64 {
	a, b := c.luminance(), d.luminance()
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

// TestAppearance_TextContrast verifies that the contrast of text is at lowest 4.5 (WCAG 2.2, 1.4.3) and the better of black and white.
func TestAppearance_TextContrast(t *testing.T) {
	t.Parallel()
	lowest := 21.0
	for r := 0; r < 256; r += 5 {
		for g := 0; g < 256; g += 5 {
			for b := 0; b < 256; b += 15 {
				c := Colour(fmt.Sprintf("#%02x%02x%02x", r, g, b))
				got := contrast(c, c.On())
				require.True(t, got >= 4.5, "contrast of %s on %s = %.2f, want at least 4.5", c.On(), c, got)
				lowest = min(lowest, got)
				best := max(contrast(c, "#000000"), contrast(c, "#ffffff"))
				require.True(t, got >= best-1e-9, "%s: %s has a contrast of %.2f, want %.2f", c, c.On(), got, best)
			}
		}
	}
	got := contrast("#ffffff", "#000000")
	assert.True(t, !(got < 20.99) && !(got > 21.01), "white on black: %.2f", got)
	t.Logf("lowest contrast %.2f", lowest)
}

func TestAppearance_InvalidFields(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxText+1)
	good := Appearance{Accent: "#0b6b45", Help: "https://help.example/q?a=b#c", Texts: map[Language]Texts{
		English: {App: "Coffee", Landing: strings.Repeat("x", MaxText)}, Chinese: {Code: strings.Repeat("咖", MaxText)}}}
	require.NoError(t, good.Validate())
	for name, c := range map[string]struct {
		field string
		bad   Appearance
	}{
		"a colour by its name":    {"accent", Appearance{Accent: "red"}},
		"a colour with CSS":       {"accent", Appearance{Accent: "#000}body{"}},
		"a colour in upper case":  {"accent", Appearance{Accent: "#ABCDEF"}},
		"a colour and a new line": {"accent", Appearance{Accent: "#abcdef\n"}},
		"help in plain http":      {"help", Appearance{Help: "http://help.example/"}},
		"help with a script":      {"help", Appearance{Help: "javascript:alert(1)"}},
		"help without a host":     {"help", Appearance{Help: "https:///x"}},
		"help with only a port":   {"help", Appearance{Help: "https://:443/x"}},
		"help with a name":        {"help", Appearance{Help: "https://bank.example@evil.example/"}},
		"help with quotes":        {"help", Appearance{Help: `https://help.example/"onclick="x`}},
		"help too long":           {"help", Appearance{Help: "https://help.example/" + strings.Repeat("x", MaxHelp)}},
		"a language of no page":   {"texts", Appearance{Texts: map[Language]Texts{"fr": {}}}},
		"a long text":             {"texts.en.code", Appearance{Texts: map[Language]Texts{English: {Code: long}}}},
		"a name too long":         {"texts.zh.app", Appearance{Texts: map[Language]Texts{Chinese: {App: strings.Repeat("咖", MaxApp+1)}}}},
		"a control character":     {"texts.en.code", Appearance{Texts: map[Language]Texts{English: {Code: "a\x00b"}}}},
		"a turn of direction":     {"texts.en.code", Appearance{Texts: map[Language]Texts{English: {Code: "a\u202eb"}}}},
		"a text of invalid UTF-8": {"texts.en.code", Appearance{Texts: map[Language]Texts{English: {Code: "\xff"}}}},
	} {
		err := c.bad.Validate()
		_, invalid := errors.AsType[accounts.Invalid](err)
		assert.True(t, invalid && strings.HasPrefix(err.Error(), c.field), "%s: %v, want an Invalid error of %s", name, err, c.field)
	}
}

// newImage returns a random image, which does not compress, with a transparent pixel.
func newImage(width, height int) *image.NRGBA {
	random := rand.New(rand.NewPCG(1, 2))
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = byte(random.Uint32())
	}
	m.Set(0, 0, color.Transparent)
	return m
}

func encodeImage(t *testing.T, m image.Image, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	if format == "jpeg" {
		err = jpeg.Encode(&b, m, nil)
	} else {
		err = png.Encode(&b, m)
	}
	require.NoError(t, err)
	return b.Bytes()
}

// webp is a lossless image of one pixel.
const webp = "RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"

func TestLogo_Reencoded(t *testing.T) {
	t.Parallel()
	const script = "<script>alert(1)</script>"
	for name, c := range map[string]struct {
		file          []byte
		width, height int // 0 if the logo is smaller than the box, because it does not compress
	}{
		"a small PNG":        {encodeImage(t, newImage(40, 30), "png"), 40, 30},
		"a PNG and a script": {append(encodeImage(t, newImage(40, 30), "png"), script...), 40, 30},
		"a large PNG":        {encodeImage(t, newImage(300, 300), "png"), 0, 0},
		"a JPEG":             {encodeImage(t, newImage(60, 20), "jpeg"), 60, 20},
		"a thin image":       {encodeImage(t, image.NewNRGBA(image.Rect(0, 0, 3000, 1)), "png"), 384, 1},
		"a WebP":             {[]byte(webp), 1, 1},
	} {
		logo, file, err := new(Service).encodeLogo(t.Context(), c.file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m, err := png.Decode(bytes.NewReader(file))
		if err != nil || m.Bounds().Dx() != logo.Width || m.Bounds().Dy() != logo.Height || logo.Bytes != len(file) ||
			len(file) > maxLogoBytes {
			t.Errorf("%s: %+v of %d bytes: %v", name, logo, len(file), err)
			continue
		}
		assert.True(t, (c.width != 0 || logo.Width >= boxWidth/4 && logo.Height <= boxHeight) &&
			(c.width == 0 || logo.Width == c.width && logo.Height == c.height), "%s: %d × %d, want %d × %d", name, logo.Width,
			logo.Height, c.width, c.height)
		assert.True(t, !bytes.Contains(file, []byte("<script")), "%s: the logo contains the bytes after the image", name)
		got, ok := HashOfPath(logo.Path())
		assert.True(t, ok && got == logo.Hash, "%s: HashOfPath(%q) = %q, %t, want %q", name, logo.Path(), got, ok, logo.Hash)
	}
}

func TestLogo_InvalidFile(t *testing.T) {
	t.Parallel()
	// A PNG of one pixel with the header, including its checksum, of a large image.
	large := encodeImage(t, image.NewGray(image.Rect(0, 0, 1, 1)), "png")
	copy(large, encodeImage(t, image.NewGray(image.Rect(0, 0, 2049, 2048)), "png")[:33])
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"an SVG":              {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), "SVG"},
		"an SVG after a mark": {[]byte("\xef\xbb\xbf \n<?xml version=\"1.0\"?><svg/>"), "SVG"},
		"a page":              {[]byte("<!DOCTYPE html><script>alert(1)</script>"), "SVG"},
		"a GIF":               {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), "upload a PNG, JPEG or WebP image"},
		"no image":            {[]byte("hello"), "upload a PNG, JPEG or WebP image"},
		"half of an image":    {encodeImage(t, newImage(40, 30), "png")[:200], "cannot be read"},
		"too long":            {make([]byte, MaxUpload+1), "524289 bytes"},
		"too large":           {large, "2049 × 2048 pixels"},
		"the largest size": {[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x00\x00\x00\x00"),
			"logo: "},
	} {
		_, _, err := new(Service).encodeLogo(t.Context(), c.file)
		_, invalid := errors.AsType[accounts.Invalid](err)
		assert.True(t, invalid && strings.Contains(err.Error(), c.want), "%s: %v, want %q", name, err, c.want)
	}
}

func FuzzLogo(f *testing.F) {
	f.Add([]byte(webp))
	f.Add([]byte("<svg/>"))
	var b bytes.Buffer
	_ = png.Encode(&b, newImage(3, 3))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		logo, output, err := new(Service).encodeLogo(t.Context(), file)
		assert.True(t, err != nil ||
			len(output) <= maxLogoBytes && logo.Width <= boxWidth && logo.Height <= boxHeight && len(logo.Hash) == 64,
			"encodeLogo = %+v with %d bytes, want them within the limits", logo, len(output))
	})
}

func TestLogoPath_HashFormat(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	for path, want := range map[string]bool{
		"/qrjump/logo/" + sum + ".png": true, "/qrjump/logo/" + sum: false, "/qrjump/logo/.png": false,
		"/qrjump/logo/" + sum[1:] + ".png": false, "/qrjump/logo/" + strings.ToUpper(sum) + ".png": false, "/" + sum + ".png": false,
		"/qrjump/logo/../" + sum[3:] + ".png": false, "/qrjump/logo/" + sum + ".png.png": false,
	} {
		_, ok := HashOfPath(path)
		assert.Equal(t, ok, want, "HashOfPath(%s)", path)
	}
}

// memoryStore is a store in memory that counts reads and fails them with err.
type memoryStore struct {
	reads       int
	err         error
	appearances map[string]Appearance
	onRead      func()
	Tx
}

func (s *memoryStore) View(_ context.Context, f func(Tx) error) error { return f(s) }

func (s *memoryStore) Update(context.Context, func(Tx) error) error { panic("unexpected Update") }

func (s *memoryStore) Appearance(_ context.Context, appid string) (Appearance, error) {
	s.reads++
	a, ok := s.appearances[appid]
	if s.onRead != nil {
		s.onRead()
	}
	switch {
	case s.err != nil:
		return Appearance{}, s.err
	case !ok:
		return Appearance{}, ErrNone
	}
	return a, nil
}

func TestAppearanceCache_SingleStoreRead(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)
	store := &memoryStore{appearances: map[string]Appearance{"shop": {Accent: "#000000"}}}
	b := &Service{Store: store, Log: slog.New(slog.DiscardHandler), RealNow: func() time.Time { return now }}
	check := func(appid string, accent Colour, reads int) {
		t.Helper()
		for range 3 {
			assert.Equal(t, b.Lookup(t.Context(), appid).Accent, accent, "accent of %s", appid)
		}
		assert.Equal(t, store.reads, reads, "store reads")
	}
	check("shop", "#000000", 1)
	check("plain", "", 2) // a missing appearance is cached too
	store.appearances["shop"] = Appearance{Accent: "#111111"}
	check("shop", "#000000", 2)
	b.Invalidate("shop")
	check("shop", "#111111", 3)
	b.Invalidate("")
	store.err = errors.New("the database is unavailable")
	check("shop", "", 4)
	store.err = nil
	now = now.Add(errorTTL)
	check("shop", "#111111", 5)
	for i := range 3 * maxAppearances {
		b.Lookup(t.Context(), fmt.Sprint(i))
	}
	assert.True(t, len(b.appearances) <= maxAppearances, "%d appearances are cached, want at most %d", len(b.appearances), maxAppearances)
}

// TestAppearanceCache_ChangeDuringRead verifies that an appearance that was read before a change is not cached after it.
func TestAppearanceCache_ChangeDuringRead(t *testing.T) {
	t.Parallel()
	store := &memoryStore{appearances: map[string]Appearance{"shop": {Accent: "#000000"}}}
	b := &Service{Store: store, Log: slog.New(slog.DiscardHandler), RealNow: time.Now}
	store.onRead = func() {
		store.onRead = nil
		store.appearances["shop"] = Appearance{Accent: "#111111"}
		b.Invalidate("shop")
	}
	b.Lookup(t.Context(), "shop")
	assert.Equal(t, b.Lookup(t.Context(), "shop").Accent, "#111111", "accent after the change")
}
