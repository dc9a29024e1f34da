// Package offiaccount_test tests qrjump with github.com/fastwego/offiaccount: the five endpoints for the rules of a service
// account, and the library's wrappers for product codes.
package offiaccount_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/fastwego/offiaccount"
	"github.com/fastwego/offiaccount/apis/marketcode"

	"github.com/qrjump/qrjump/compat/harness"
)

// newApp returns the library's client for the seeded service account, with s as the base URL.
func newApp(t *testing.T, s *harness.Server, secret string) *offiaccount.OffiAccount {
	// The library stores its token in a file of the temporary folder, named after the AppID: with the file of another run
	// it would send a token that this server has not issued.
	t.Setenv("TMPDIR", t.TempDir())
	offiaccount.WXServerUrl = s.URL
	app := offiaccount.New(offiaccount.Config{Appid: harness.ServiceAcct, Secret: secret})
	app.Logger = log.New(io.Discard, "", 0)
	return app
}

// call returns a Caller that uses the library's generic client, because the library has no wrappers for jump rules. The
// content type is that of the library's wrappers.
func call(app *offiaccount.OffiAccount) harness.Caller {
	return func(t testing.TB, name string, body []byte) []byte {
		t.Helper()
		return response(t, name)(app.Client.HTTPPost("/cgi-bin/wxopen/"+name, bytes.NewReader(body), "application/json;charset=utf-8"))
	}
}

// response returns a function that converts the results of a call to the response: if the library reports an API error, the
// error text is the complete response.
func response(t testing.TB, name string) func(raw []byte, err error) []byte {
	t.Helper()
	return func(raw []byte, err error) []byte {
		t.Helper()
		if err == nil {
			return raw
		}
		if !strings.HasPrefix(err.Error(), "{") {
			t.Fatalf("%s: %v", name, err)
		}
		return []byte(err.Error())
	}
}

func TestJumpRules_ServiceAccount(t *testing.T) {
	s := harness.Start(t)
	harness.ServiceRules(t, s, call(newApp(t, s, harness.ServiceAcctSecret)))
}

// codes has the library's wrappers for product codes.
var codes = map[string]func(*offiaccount.OffiAccount, []byte) ([]byte, error){
	"applycode":         marketcode.ApplyCode,
	"applycodequery":    marketcode.ApplyCodeQuery,
	"applycodedownload": marketcode.ApplyCodeDownload,
	"codeactive":        marketcode.CodeActive,
	"codeactivequery":   marketcode.CodeActiveQuery,
	"tickettocode":      marketcode.TicketToCode,
}

func TestProductCodes_ApplyToTicket(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, harness.ServiceAcctSecret)
	harness.ProductCodes(t, s, func(t testing.TB, name string, body []byte) []byte {
		t.Helper()
		return response(t, name)(codes[name](app, body))
	})
}

func TestToken_WrongSecret(t *testing.T) {
	s := harness.Start(t)
	app := newApp(t, s, "wrong")
	harness.WrongSecret(t, s, func() string {
		_, err := app.Client.HTTPPost("/cgi-bin/wxopen/qrcodejumpget", nil, "application/json;charset=utf-8")
		return fmt.Sprint(err)
	})
}
