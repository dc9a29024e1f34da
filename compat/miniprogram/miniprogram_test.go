// Package miniprogram_test drives qrjump with github.com/fastwego/miniprogram: the five calls for ordinary rules.
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

// newApp returns the library's client for the seeded Mini Program, pointed at s.
func newApp(t *testing.T, s *harness.Server, secret string) *miniprogram.Miniprogram {
	// The library keeps its token in a file of the temporary folder, named by the AppID alone: a run that found
	// the file of another one would send a token that this server never gave out.
	t.Setenv("TMPDIR", t.TempDir())
	miniprogram.WXServerUrl = s.URL
	app := miniprogram.New(miniprogram.Config{Appid: harness.MiniProgram, Secret: secret})
	app.Logger = log.New(io.Discard, "", 0)
	return app
}

// call uses the library's wrapper of each call.
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
		// The text of its errors is the whole answer, unless the trouble was another one.
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
	kept, err := app.AccessToken.GetAccessTokenHandler(app)
	if err != nil || kept != fresh {
		t.Errorf("got %q, %v the second time, want the token of the first time out of the file", kept, err)
	}
}

// Contract: clients, "When a token is refreshed": this library asks for a new token on 40001 and 42001, and
// repeats the call at once on -1. The emulator plays these answers; the caller must notice nothing.
func TestLibraryRetry_AfterOneError(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, harness.MiniProgramSecret)
	for _, errcode := range []int{40001, 42001, -1} {
		s.FailOnce(t, "/cgi-bin/wxopen/qrcodejumpget", errcode)
		if _, err := qrcode.QRCodeJumpGet(app, []byte("{}")); err != nil {
			t.Errorf("got %v after one %d, want the repeated call to succeed", err, errcode)
		}
	}
}
