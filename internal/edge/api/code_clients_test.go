package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func login(t *testing.T, s *servertest.Server, user, appid string) string {
	t.Helper()
	a := s.Do("POST", "/scan/v1/login", fmt.Sprintf(`{"user":%q,"appid":%q}`, user, appid))
	jsCode := a.Text(t, "js_code")
	require.True(t, a.Status == http.StatusOK && len(jsCode) == 32, "login = %d %s, want 200 with a js_code", a.Status, a.Body)
	s.RegisterSecret(jsCode)
	return jsCode
}

// TestJSCodeToSession_ConcurrentOneWins exchanges one js_code in 32 concurrent calls, of which exactly one must succeed.
func TestJSCodeToSession_ConcurrentOneWins(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	path := sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=" + login(t, s, "alice", "shop")
	codes := callConcurrently(t, s, 32, 1, func(int) *http.Request { return s.Request("GET", path, "") })
	assert.True(t, codes[0] == 1 && codes[40163] == 31, "responses by errcode: %v, want one of 0 and 31 of 40163", codes)
}
