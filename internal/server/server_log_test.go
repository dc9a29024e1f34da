package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Issue 28, 9: whoever hangs up while a call waits is nothing that an operator has to look at.
func TestServerLog_NoErrorOnClientDisconnect(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Admin("POST", "/emulator/faults", `{"path":"/cgi-bin/wxopen/qrcodejumpget","delay":"1m"}`)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	token := s.Token("shop")
	r := s.Request("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").WithContext(ctx)
	gone := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		gone <- err
	}()
	// The fault is used up when the call waits.
	for !strings.Contains(s.Do("GET", "/admin/v1/emulator/faults", "").Body, `"trigger_count":1`) {
		require.True(t, t.Context().Err() == nil, "the call does not come to wait")
	}
	hangUp()
	assert.True(t, (<-gone) != nil, "it was answered")
	s.Stop()
	log := s.Log()
	assert.True(t, !strings.Contains(log, "level=ERROR") && strings.Contains(log, "the caller hung up"), "the log: %s", log)
}

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
