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

// TestServerLog_NoErrorOnClientDisconnect verifies that a client that disconnects during a call causes no ERROR in the log.
func TestServerLog_NoErrorOnClientDisconnect(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop})
	s.Admin("POST", "/emulator/faults", `{"path":"/cgi-bin/wxopen/qrcodejumpget","delay":"1m"}`)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	token := s.Token("shop")
	r := s.Request("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+token, "{}").WithContext(ctx)
	result := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(r)
		result <- err
	}()
	// The count of the fault changes when the call begins to wait.
	for !strings.Contains(s.Do("GET", "/admin/v1/emulator/faults", "").Body, `"trigger_count":1`) {
		require.True(t, t.Context().Err() == nil, "the call did not begin to wait")
	}
	hangUp()
	assert.True(t, (<-result) != nil, "the canceled call = nil, want an error")
	s.Stop()
	log := s.Log()
	assert.True(t, !strings.Contains(log, "level=ERROR") && strings.Contains(log, "the caller hung up"), "the log: %s", log)
}

// TestServerLog_PathSecretsRedacted verifies that the log does not contain secrets in request paths.
func TestServerLog_PathSecretsRedacted(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: shop}) // fails the test if the log contains a secret
	token := s.Token("shop")
	for _, path := range []string{"/cgi-bin/wxopen/qrcodejumpget/" + token, "/cgi-bin/" + token,
		"/cgi-bin/token/client_credential/shop/the-secret-of-shop", "/cgi-bin/gettoken/the-secret-of-shop"} {
		a := s.Do("POST", path, "{}")
		assert.True(t, a.Code(t) != 0, "%s: %s", path, a.Body)
	}
}
