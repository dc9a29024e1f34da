// Package offiaccount_test drives qrjump with github.com/fastwego/offiaccount: the five calls for the rules of a
// service account.
package offiaccount_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/fastwego/offiaccount"

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
		raw, err := app.Client.HTTPPost("/cgi-bin/wxopen/"+name, bytes.NewReader(body), "application/json;charset=utf-8")
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

func TestServiceAccountRules(t *testing.T) {
	s := harness.Start(t)
	harness.ServiceRules(t, s, call(newApp(t, s, harness.ServiceAcctSecret)))
}

func TestAWrongSecretGetsNoToken(t *testing.T) {
	s := harness.Start(t)
	_, err := newApp(t, s, "wrong").Client.HTTPPost("/cgi-bin/wxopen/qrcodejumpget", nil, "application/json;charset=utf-8")
	harness.WrongSecret(t, fmt.Sprint(err))
}
