package server_test

import (
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// Issue 12, 10: a caller who puts a secret into the path does not find it in the log, whatever else the path is.
func TestServerLog_PathSecretsRedacted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop}) // its end looks for secrets in the log
	token := s.Token("shop")
	for _, path := range []string{"/cgi-bin/wxopen/qrcodejumpget/" + token, "/cgi-bin/" + token,
		"/cgi-bin/token/client_credential/shop/the-secret-of-shop", "/cgi-bin/gettoken/the-secret-of-shop"} {
		a := s.Do("POST", path, "{}")
		assert.True(t, a.Code(t) != 0, "%s: %s", path, a.Body)
	}
}
