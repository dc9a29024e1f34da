// Package offiaccount_test drives qrjump with github.com/fastwego/offiaccount: the five calls for the rules of a
// service account, and the wrappers that it has for one item, one code.
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

// newApp returns the library's client for the seeded service account, pointed at s.
func newApp(t *testing.T, s *harness.Server, secret string) *offiaccount.OffiAccount {
	// The library keeps its token in a file of the temporary folder, named by the AppID alone: a run that found
	// the file of another one would send a token that this server never gave out.
	t.Setenv("TMPDIR", t.TempDir())
	offiaccount.WXServerUrl = s.URL
	app := offiaccount.New(offiaccount.Config{Appid: harness.ServiceAcct, Secret: secret})
	app.Logger = log.New(io.Discard, "", 0)
	return app
}

// call goes through the library's generic client: it has no wrappers for jump rules, so this is how its users
// reach them, with the content type of its own wrappers.
func call(app *offiaccount.OffiAccount) harness.Caller {
	return func(t testing.TB, name string, body []byte) []byte {
		t.Helper()
		return answered(t, name)(app.Client.HTTPPost("/cgi-bin/wxopen/"+name, bytes.NewReader(body), "application/json;charset=utf-8"))
	}
}

// answered is the answer of a call that the library may have taken for an error: the text of its errors is the whole
// answer, unless the trouble was another one.
func answered(t testing.TB, name string) func(raw []byte, err error) []byte {
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

// codes are the library's own wrappers of one item, one code.
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
		return answered(t, name)(codes[name](app, body))
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
