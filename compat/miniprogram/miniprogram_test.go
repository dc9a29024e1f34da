// Package miniprogram_test tests qrjump with github.com/fastwego/miniprogram: the five endpoints for ordinary rules.
package miniprogram_test

import (
	"fmt"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/fastwego/miniprogram"
	"github.com/fastwego/miniprogram/wxopen/apis/qrcode"

	"github.com/qrjump/qrjump/compat/harness"
)

// newApp returns the library's client for the seeded Mini Program, with s as the base URL.
func newApp(t *testing.T, s *harness.Server, secret string) *miniprogram.Miniprogram {
	// The library stores its token in a file of the temporary folder, named after the AppID: with the file of another run
	// it would send a token that this server has not issued.
	t.Setenv("TMPDIR", t.TempDir())
	miniprogram.WXServerUrl = s.URL
	app := miniprogram.New(miniprogram.Config{Appid: harness.MiniProgram, Secret: secret})
	app.Logger = log.New(io.Discard, "", 0)
	return app
}

// call returns a Caller that uses the library's wrappers.
func call(app *miniprogram.Miniprogram) harness.Caller {
	wrappers := map[string]func(*miniprogram.Miniprogram, []byte) ([]byte, error){
		"qrcodejumpadd":      qrcode.QRCodeJumpAdd,
		"qrcodejumpget":      qrcode.QRCodeJumpGet,
		"qrcodejumppublish":  qrcode.QRCodeJumpPublish,
		"qrcodejumpdelete":   qrcode.QRCodeJumpDelete,
		"qrcodejumpdownload": qrcode.QRCodeJumpDownload,
	}
	return func(t testing.TB, name string, body []byte) []byte {
		t.Helper()
		raw, err := wrappers[name](app, body)
		if err == nil {
			return raw
		}
		// The error text of an API error is the complete response.
		if !strings.HasPrefix(err.Error(), "{") {
			t.Fatalf("%s: %v", name, err)
		}
		return []byte(err.Error())
	}
}

func TestJumpRules_MiniProgram(t *testing.T) {
	s := harness.Start(t)
	harness.OrdinaryRules(t, s, call(newApp(t, s, harness.MiniProgramSecret)))
}

func TestToken_WrongSecret(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, "wrong")
	harness.WrongSecret(t, s, func() string {
		_, err := qrcode.QRCodeJumpGet(app, nil)
		return fmt.Sprint(err)
	})
}

func TestTokenCache_ReusesToken(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, harness.MiniProgramSecret)
	fresh, err := app.AccessToken.GetAccessTokenHandler(app)
	if err != nil {
		t.Fatal(err)
	}
	cached, err := app.AccessToken.GetAccessTokenHandler(app)
	if err != nil || cached != fresh {
		t.Errorf("second token = %q, %v, want the first token from the file", cached, err)
	}
}

// Contract: clients, "When a token is refreshed": this library requests a new token on 40001 and 42001, and retries the
// call at once on -1. The emulator injects these errors; the library must hide them from its caller.
func TestLibraryRetry_AfterOneError(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, harness.MiniProgramSecret)
	for _, errcode := range []int{40001, 42001, -1} {
		s.FailOnce(t, "/cgi-bin/wxopen/qrcodejumpget", errcode)
		if _, err := qrcode.QRCodeJumpGet(app, []byte("{}")); err != nil {
			t.Errorf("got %v after one %d, want the retry to succeed", err, errcode)
		}
	}
}
