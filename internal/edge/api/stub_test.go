package api_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
)

// A stub stands before everything that a call of the platform goes through: the
// method, the token, the endpoint. Its record is masked like any other.
func TestStub_PrecedesAllChecks(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Hide("hush-hush-hush")
	s.Admin("POST", "/emulator/faults", `{"path":"`+getPath+
		`","response":{"body":{"errcode":45009,"access_token":"hush-hush-hush"}},"count":1}`)
	a := s.Do("DELETE", getPath+"?access_token=hush-hush-hush", "")
	assert.True(t, a.Code(t) == 45009, "got %s", a.Body)
	why := s.Admin("GET", strings.TrimPrefix(a.Header.Get("X-Qrjump-Trace"), "/admin/v1"), "").Body
	if strings.Contains(why, "hush") || !strings.Contains(why, `"detail":"answered by a stub"`) || !strings.Contains(why, `"wire.stub"`) {
		t.Errorf("on record: %s", why)
	}
	s.OK("shop", "get", "{}").WantCode(t, 0, "used up")
}
