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

// whyOf asks why a call was answered so.
func whyOf(t *testing.T, s *servertest.Server, rid string) client.Call {
	t.Helper()
	var call client.Call
	a := s.Admin("GET", "/calls/"+rid, "")
	require.True(t, a.Status == 200, "%s: %d %s", rid, a.Status, a.Body)
	a.JSON(t, &call)
	return call
}

// A request id leads to what was wrong and to the behaviours that decided, with their
// marks: in memory, from the log on the disk, and for a caller that nobody knows.
func TestWhy_ByRequestID(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, where func(*testing.T) place) {
		p := where(t)
		s := p.start(t, servertest.Options{Guarded: true, Seed: brand})
		add := "/cgi-bin/wxopen/qrcodejumpadd?access_token=" + s.Token("shop")
		a := s.Do("POST", add, `{"prefix":"https://shop.example/","path":"p","is_edit":"2","open_version":1}`)
		rid := a.RID(t)
		list := s.Do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+s.Token("shop"), `{"get_type":2,"page_num":1,"page_size":"10"}`)
		logged := regexp.MustCompile(`rid=(\S+) endpoint=/cgi-bin/wxopen/qrcodejumpget errcode=0 `).FindStringSubmatch(s.Log())
		require.True(t, list.Code(t) == 0 && logged != nil, "%s: %s", list.Body, s.Log())
		check := func(when string) {
			t.Helper()
			call := whyOf(t, s, rid)
			assert.True(t, call.Account == "shop" && call.ErrCode == a.Code(t) && strings.Contains(call.Detail, "is_edit") &&
				call.Endpoint == "/cgi-bin/wxopen/qrcodejumpadd" && strings.Contains(call.Response, rid), "%s: %+v", when, call)
			// It was refused for the flag alone: that the flag was a text decided nothing.
			assert.True(t, slices.Equal(call.Behaviours, []string{"rules.add.edit_flag"}) && len(call.Rows) == 1,
				"%s: behaviours %v, %d rows", when, call.Behaviours, len(call.Rows))
			// What was taken as it should not have been written decided with the rest.
			taken := whyOf(t, s, logged[1])
			assert.True(t, slices.Contains(taken.Behaviours, "wire.number.text") && len(taken.Behaviours) >= 2 &&
				len(taken.Rows) == len(taken.Behaviours), "%s: behaviours %v, %d rows", when, taken.Behaviours, len(taken.Rows))
			for _, row := range append(call.Rows, taken.Rows...) {
				assert.True(t, row.EvidenceLevel != "" && row.English != "" && row.Chinese != "", "%s: %+v", when, row)
			}
		}
		check("before it is written")
		s.Stop()
		s = p.start(t, servertest.Options{Guarded: true, Seed: brand})
		check("after a start")
		missing := s.Do("GET", "/admin/v1/calls/nothing", "", "Authorization: Bearer "+servertest.AdminToken)
		assert.True(t, missing.Status == 404 && strings.Contains(missing.Body, "the call log has no call with this request id"),
			"no such call: %d %s", missing.Status, missing.Body)
		s.Do("GET", "/admin/v1/calls/"+rid, "").WantStatus(t, 401, "without the admin token")
		assert.True(t, s.Do("GET", "/cgi-bin/token?x=1", "").Header.Get("X-Qrjump-Trace") == "",
			"only a developer's server names the record of a call")
	})
}

// A developer's server names the record in a header of each answer, also of those to
// callers that showed nothing; the body is what it is without.
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
		call := whyOf(t, s, rid)
		assert.True(t, call.RID == rid && call.ErrCode == a.Code(t) && (call.ErrCode == 0 || len(call.Rows) != 0), "%s: %+v", path, call)
		page := "/console/calls/" + rid
		assert.Equal(t, strings.Contains(s.Log(), " page="+s.AdminURL+page+"\n"), (a.Code(t) != 0),
			"%s: the log line ends in its page", path)
		a = s.Do("GET", page, "")
		assert.True(t, a.Status == 200 && strings.Contains(a.Body, rid), "%s: %d %.500s", page, a.Status, a.Body)
	}
}
