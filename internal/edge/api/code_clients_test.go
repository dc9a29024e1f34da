package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

func login(t testing.TB, s *servertest.Server, user, appid string) string {
	t.Helper()
	a := s.Do("POST", "/scan/v1/login", fmt.Sprintf(`{"user":%q,"appid":%q}`, user, appid))
	made := a.Text(t, "js_code")
	require.True(t, a.Status == http.StatusOK && len(made) == 32, "%d %s", a.Status, a.Body)
	s.Hide(made)
	return made
}

// Of 32 trades of one js_code at once, one wins.
func TestJSCodeToSession_ConcurrentOneWins(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: factory})
	codes := atOnce(t, s, 32, 1, "GET", sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code="+
		login(t, s, "alice", "shop"), "")
	assert.True(t, codes[0] == 1 && codes[40163] == 31, "answers by errcode: %v, want one of 0 and 31 of 40163", codes)
}
