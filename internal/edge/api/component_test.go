package api_test

import (
	"strings"
	"testing"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const family = "/cgi-bin/component/"

// A call above the day's limit does nothing.
func TestComponentAPI_DailyLimit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	s.Admin("PUT", "/components/isv", `{"event_url":"http://127.0.0.1/"}`)
	s.Admin("PUT", "/settings", `{"daily_limits":{"`+family+`api_start_push_ticket":1}}`)
	start := func() (errcode, tickets int) {
		a := s.Do("POST", family+"api_start_push_ticket", `{"component_appid":"isv","component_secret":"secret-isv"}`)
		return a.Code(t), strings.Count(s.Admin("GET", "/components/isv/pushes", "").Body, `"component_verify_ticket"`)
	}
	code, tickets := start()
	require.True(t, code == 0 && tickets >= 1, "the first: errcode %d, %d tickets", code, tickets)
	code, again := start()
	assert.True(t, code == 45009 && again == tickets, "the second: errcode %d, %d tickets after %d", code, again, tickets)
}
