package api_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const componentPath = "/cgi-bin/component/"

// TestComponentAPI_DailyLimit verifies that a call above the daily limit returns 45009 and pushes no ticket.
func TestComponentAPI_DailyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1/"}`)
	s.Admin("PUT", "/settings", `{"daily_limits":{"`+componentPath+`api_start_push_ticket":1}}`)
	startPush := func() (errcode, tickets int) {
		a := s.Do("POST", componentPath+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		return a.Code(t), strings.Count(s.Admin("GET", "/components/isv/pushes", "").Body, `"component_verify_ticket"`)
	}
	code, before := startPush()
	require.True(t, code == 0 && before >= 1, "first call: errcode %d, %d tickets, want 0 and at least 1", code, before)
	code, after := startPush()
	assert.True(t, code == 45009 && after == before, "second call: errcode %d, %d tickets, want 45009 and %d", code, after, before)
}
