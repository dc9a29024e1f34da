package server_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/client"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// lookupCall returns the record of a call in the call log.
func lookupCall(t *testing.T, s *servertest.Server, rid string) client.Call {
	t.Helper()
	var call client.Call
	a := s.Admin("GET", "/calls/"+rid, "")
	require.True(t, a.Status == 200, "%s: %d %s", rid, a.Status, a.Body)
	a.JSON(t, &call)
	return call
}

// TestWhy_ByRequestID verifies that the call log has the error detail and the behaviours of a call, before and after a restart.
func TestWhy_ByRequestID(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, newInstance func(*testing.T) instance) {
		p := newInstance(t)
		s := p.start(t, servertest.Options{Guarded: true, Seed: brand})
		add := "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + s.Token("shop")
		a := s.Do("POST", add, `{"prefix":"https://shop.example/","path":"p","is_edit":"2","open_version":1}`)
		rid := a.RID(t)
		list := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("shop"), `{"get_type":2,"page_num":1,"page_size":"10"}`)
		logged := regexp.MustCompile(`rid=(\S+) endpoint=/cgi-bin/wxopen/qrcodejumpget errcode=0 `).FindStringSubmatch(s.Log())
		require.True(t, list.Code(t) == 0 && logged != nil, "%s: %s", list.Body, s.Log())
		check := func(when string) {
			t.Helper()
			call := lookupCall(t, s, rid)
			assert.True(t, call.Account == "shop" && call.ErrCode == a.Code(t) && strings.Contains(call.Detail, "is_edit") &&
				call.Endpoint == "/cgi-bin/wxopen/qrcodejumpadd" && strings.Contains(call.Response, rid), "%s: %+v", when, call)
			// The value of the flag decided the rejection; its type, a string, did not.
			assert.True(t, slices.Equal(call.Behaviours, []string{"rules.add.edit_flag"}) && len(call.Rows) == 1,
				"%s: behaviours %v, %d rows", when, call.Behaviours, len(call.Rows))
			// A number as string was accepted, so this behaviour decided the response as well.
			accepted := lookupCall(t, s, logged[1])
			assert.True(t, slices.Contains(accepted.Behaviours, "wire.number.text") && len(accepted.Behaviours) >= 2 &&
				len(accepted.Rows) == len(accepted.Behaviours), "%s: behaviours %v, %d rows", when, accepted.Behaviours, len(accepted.Rows))
			for _, row := range append(call.Rows, accepted.Rows...) {
				assert.True(t, row.EvidenceLevel != "" && row.English != "" && row.Chinese != "", "%s: %+v", when, row)
			}
		}
		check("before the restart")
		s.Stop()
		s = p.start(t, servertest.Options{Guarded: true, Seed: brand})
		check("after the restart")
		missing := s.Do("GET", "/admin/v1/calls/nothing", "", "Authorization: Bearer "+servertest.AdminToken)
		assert.True(t, missing.Status == 404 && strings.Contains(missing.Body, "the call log has no call with this request id"),
			"an unknown request id: %d %s, want 404", missing.Status, missing.Body)
		s.Do("GET", "/admin/v1/calls/"+rid, "").WantStatus(t, 401, "without the admin token")
		assert.True(t, s.Do("GET", "/cgi-bin/token?x=1", "").Header.Get("X-Qrjump-Trace") == "",
			"X-Qrjump-Trace is set without --dev")
	})
}

// TestWhy_DevServerHeader verifies that each response of a --dev server has the path of the call's record in X-Qrjump-Trace.
func TestWhy_DevServerHeader(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{})
	for _, path := range []string{"/cgi-bin/token?grant_type=client_credential&appid=wxnobody&secret=x", "/no/such/path",
		"/cgi-bin/token?grant_type=client_credential&appid=wxminiprogram0001&secret=secret0001"} {
		a := s.Do("GET", path, "")
		link := a.Header.Get("X-Qrjump-Trace")
		rid := strings.TrimPrefix(link, "/admin/v1/calls/")
		require.True(t, rid != link && rid != "", "%s: X-Qrjump-Trace %q", path, link)
		assert.True(t, a.Code(t) == 0 || a.RID(t) == rid, "%s: %s names %s", path, a.Body, rid)
		call := lookupCall(t, s, rid)
		assert.True(t, call.RID == rid && call.ErrCode == a.Code(t) && (call.ErrCode == 0 || len(call.Rows) != 0), "%s: %+v", path, call)
		page := "/console/calls/" + rid
		assert.Equal(t, strings.Contains(s.Log(), " page="+s.AdminURL+page+"\n"), (a.Code(t) != 0),
			"%s: the log line ends in the URL of its page", path)
		a = s.Do("GET", page, "")
		assert.True(t, a.Status == 200 && strings.Contains(a.Body, rid), "%s: %d %.500s", page, a.Status, a.Body)
	}
}
