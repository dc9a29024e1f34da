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

// WCAG 2.2, 1.4.3: text stands out from its ground by 4.5.
func TestAppearance_TextContrast(t *testing.T) {
	t.Parallel()
	least := 21.0
	for r := 0; r < 256; r += 5 {
		for g := 0; g < 256; g += 5 {
			for b := 0; b < 256; b += 15 {
				c := Colour(fmt.Sprintf("#%02x%02x%02x", r, g, b))
				got := contrast(c, c.On())
				require.True(t, got >= 4.5, "%s on %s has a contrast of %.2f", c.On(), c, got)
				least = min(least, got)
				best := max(contrast(c, "#000000"), contrast(c, "#ffffff"))
				require.True(t, got >= best-1e-9, "%s: %s has less contrast than the other", c, c.On())
			}
		}
	}
	got := contrast("#ffffff", "#000000")
	assert.True(t, !(got < 20.99) && !(got > 21.01), "white on black: %.2f", got)
	t.Logf("the least contrast is %.2f", least)
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
		"a colour that is CSS":    {"accent", Appearance{Accent: "#000}body{"}},
		"a colour in upper case":  {"accent", Appearance{Accent: "#ABCDEF"}},
		"a colour and a new line": {"accent", Appearance{Accent: "#abcdef\n"}},
		"help in plain http":      {"help", Appearance{Help: "http://help.example/"}},
		"help that runs":          {"help", Appearance{Help: "javascript:alert(1)"}},
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
		"a text that is none":     {"texts.en.code", Appearance{Texts: map[Language]Texts{English: {Code: "\xff"}}}},
	} {
		err := c.bad.Validate()
		_, invalid := errors.AsType[accounts.Invalid](err)
		assert.True(t, invalid && strings.HasPrefix(err.Error(), c.field), "%s: %v, want a fault of %s", name, err, c.field)
	}
}

// drawn is a picture that does not compress, with a hole in it.
func drawn(width, height int) *image.NRGBA {
	chance := rand.New(rand.NewPCG(1, 2))
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range m.Pix {
		m.Pix[i] = byte(chance.Uint32())
	}
	m.Set(0, 0, color.Transparent)
	return m
}

func encoded(t *testing.T, m image.Image, format string) []byte {
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

// webp is one pixel without loss.
const webp = "RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x00\x00\x00\x10\x07\x10\x11\x11\x88\x88\xfe\x07\x00"

func TestLogo_Reencoded(t *testing.T) {
	t.Parallel()
	const script = "<script>alert(1)</script>"
	for name, c := range map[string]struct {
		file          []byte
		width, height int // 0 = smaller than the box, because it does not compress
	}{
		"a small PNG":        {encoded(t, drawn(40, 30), "png"), 40, 30},
		"a PNG and a script": {append(encoded(t, drawn(40, 30), "png"), script...), 40, 30},
		"a large PNG":        {encoded(t, drawn(300, 300), "png"), 0, 0},
		"a JPEG":             {encoded(t, drawn(60, 20), "jpeg"), 60, 20},
		"a thin one":         {encoded(t, image.NewNRGBA(image.Rect(0, 0, 3000, 1)), "png"), 384, 1},
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
			(c.width == 0 || logo.Width == c.width && logo.Height == c.height), "%s: %d × %d", name, logo.Width, logo.Height)
		assert.True(t, !bytes.Contains(file, []byte("<script")), "%s: what followed the picture is still there", name)
		got, is := HashOfPath(logo.Path())
		assert.True(t, is && got == logo.Hash, "%s: %q is no path of a logo", name, logo.Path())
	}
}

func TestLogo_InvalidFile(t *testing.T) {
	t.Parallel()
	// A PNG that says that it is so large, and has next to nothing in it: its size and the sum of it are those of another.
	large := encoded(t, image.NewGray(image.Rect(0, 0, 1, 1)), "png")
	copy(large, encoded(t, image.NewGray(image.Rect(0, 0, 2049, 2048)), "png")[:33])
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"an SVG":               {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), "SVG"},
		"an SVG after a mark":  {[]byte("\xef\xbb\xbf \n<?xml version=\"1.0\"?><svg/>"), "SVG"},
		"a page":               {[]byte("<!DOCTYPE html><script>alert(1)</script>"), "SVG"},
		"a GIF":                {[]byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"), "upload a PNG, JPEG or WebP image"},
		"no picture":           {[]byte("hello"), "upload a PNG, JPEG or WebP image"},
		"half of one":          {encoded(t, drawn(40, 30), "png")[:200], "cannot be read"},
		"too long":             {make([]byte, MaxUpload+1), "524289 bytes"},
		"too large":            {large, "2049 × 2048 pixels"},
		"wide beyond counting": {[]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x00\x00\x00\x00"), "logo: "},
	} {
		_, _, err := new(Service).encodeLogo(t.Context(), c.file)
		_, invalid := errors.AsType[accounts.Invalid](err)
		assert.True(t, invalid && strings.Contains(err.Error(), c.says), "%s: %v, want %q", name, err, c.says)
	}
}

func FuzzLogo(f *testing.F) {
	f.Add([]byte(webp))
	f.Add([]byte("<svg/>"))
	var b bytes.Buffer
	_ = png.Encode(&b, drawn(3, 3))
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		logo, kept, err := new(Service).encodeLogo(t.Context(), file)
		assert.True(t, err != nil ||
			len(kept) <= maxLogoBytes && logo.Width <= boxWidth && logo.Height <= boxHeight && len(logo.Hash) == 64,
			"%+v of %d bytes", logo, len(kept))
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
		_, is := HashOfPath(path)
		assert.Equal(t, is, want, "%s", path)
	}
}

// shelf is a store that counts what it is asked.
type shelf struct {
	asked int
	fault error
	has   map[string]Appearance
	while func() // runs while it answers
	Tx
}

func (s *shelf) View(_ context.Context, f func(Tx) error) error { return f(s) }

func (s *shelf) Update(context.Context, func(Tx) error) error { panic("not asked for") }

func (s *shelf) Appearance(_ context.Context, appid string) (Appearance, error) {
	s.asked++
	a, ok := s.has[appid]
	if s.while != nil {
		s.while()
	}
	switch {
	case s.fault != nil:
		return Appearance{}, s.fault
	case !ok:
		return Appearance{}, ErrNone
	}
	return a, nil
}

func TestAppearanceCache_SingleStoreRead(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 2, 0, 0, 0, time.UTC)
	store := &shelf{has: map[string]Appearance{"shop": {Accent: "#000000"}}}
	b := &Service{Store: store, Log: slog.New(slog.DiscardHandler), RealNow: func() time.Time { return now }}
	see := func(appid string, accent Colour, asked int) {
		t.Helper()
		for range 3 {
			got := b.Lookup(t.Context(), appid)
			assert.True(t, got.Accent == accent, "%s looks like %+v", appid, got)
		}
		assert.True(t, store.asked == asked, "the store was asked %d times, want %d", store.asked, asked)
	}
	see("shop", "#000000", 1)
	see("plain", "", 2) // one that has nothing is remembered as well
	store.has["shop"] = Appearance{Accent: "#111111"}
	see("shop", "#000000", 2)
	b.Invalidate("shop")
	see("shop", "#111111", 3)
	b.Invalidate("")
	store.fault = errors.New("the database is away")
	see("shop", "", 4)
	store.fault = nil
	now = now.Add(errorTTL)
	see("shop", "#111111", 5)
	for i := range 3 * maxAppearances {
		b.Lookup(t.Context(), fmt.Sprint(i))
	}
	assert.True(t, len(b.appearances) <= maxAppearances, "%d accounts are kept", len(b.appearances))
}

// What was read before a change must not outlive it.
func TestAppearanceCache_ChangeDuringRead(t *testing.T) {
	t.Parallel()
	store := &shelf{has: map[string]Appearance{"shop": {Accent: "#000000"}}}
	b := &Service{Store: store, Log: slog.New(slog.DiscardHandler), RealNow: time.Now}
	store.while = func() {
		store.while = nil
		store.has["shop"] = Appearance{Accent: "#111111"}
		b.Invalidate("shop")
	}
	b.Lookup(t.Context(), "shop")
	got := b.Lookup(t.Context(), "shop")
	assert.True(t, got.Accent == "#111111", "%+v", got)
}
