package cassette_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/emulator/cassette"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// platformTown is theTown with a component that three accounts authorized. The calls name their AppIDs in another order than the list.
var platformTown = strings.Replace(theTown, "rules:\n", `  - {appid: wx7777888899990000, secret: f1b2c3d4e5f60718293a4b5c6d7e8f90,
     message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE,
     authorizations: [{appid: wx1111222233334444, permission_sets: [18, 33]}, {appid: wx2222333344445555, permission_sets: [17, 18]},
       {appid: wx3333444455556666, permission_sets: [3, 46, 99]}]}
rules:
`, 1)

const agency = "wx7777888899990000"

// TestCassetteCompare_PlatformSetsOfSameServer verifies that authorizations that administrators granted or changed outside of the recorded
// calls, before and during the recording, cause no difference.
func TestCassetteCompare_PlatformSetsOfSameServer(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: platformTown, Undeclared: true})
	proxy, out := record(t, s.URL, s.Clock.Now)
	c := &caller{t: t, base: proxy, s: s}
	c.token(brand)
	c.token(rival)
	token := s.ComponentToken(agency)
	call := func(name, more string) {
		c.do("POST", "/cgi-bin/component/"+name+"?component_access_token="+token, `{"component_appid":"`+agency+`"`+more+`}`)
		s.Clock.Step(time.Second)
	}
	authorizer := func(account string) string { return `,"authorizer_appid":"` + account + `"` }
	list := func(offset, count int) {
		call("api_get_authorizer_list", fmt.Sprintf(`,"offset":%d,"count":%d`, offset, count))
	}
	list(1, 1)
	list(0, 100)
	list(0, 2)
	call("api_get_authorizer_info", authorizer(brand))
	call("api_get_authorizer_info", authorizer(shop))
	call("api_get_authorizer_info", authorizer(rival))
	refresh := c.field("authorizer_refresh_token")
	call("api_authorizer_token", authorizer(rival)+`,"authorizer_refresh_token":"`+refresh+`"`)
	s.Authorize(token, agency, shop, "[33]") // fewer sets; the component does not exchange the code
	call("api_get_authorizer_info", authorizer(shop))
	s.Admin("DELETE", "/components/"+agency+"/authorizations/"+brand, "")
	list(0, 100)
	call("api_get_authorizer_info", authorizer(brand))
	s.Authorize(token, agency, brand, "[3]")
	list(0, 100)
	code := s.Authorize(token, agency, brand, "[3,46]")
	call("api_query_auth", `,"authorization_code":"`+code+`"`)
	call("api_get_authorizer_info", authorizer(brand))
	s.Admin("DELETE", "/components/"+agency+"/authorizations/"+brand, "")
	s.Authorize(token, agency, brand, "[3,46]") // the same again, with another refresh token
	call("api_get_authorizer_info", authorizer(brand))
	s.Admin("DELETE", "/components/"+agency+"/authorizations/"+rival, "")
	s.Authorize(token, agency, person, "[18]")
	list(0, 100)
	list(0, 1)
	call("api_get_authorizer_info", authorizer(person))
	other := s.ComponentToken(isv)
	s.Admin("POST", "/emulator/authorize", fmt.Sprintf(`{"component":%q,"pre_auth_code":%q,"appid":%q,"permission_sets":[18],"force_exclusive":true}`,
		isv, s.PreAuthCode(other, isv), person))
	c.do("POST", "/cgi-bin/component/api_get_authorizer_info?component_access_token="+other,
		`{"component_appid":"`+isv+`","authorizer_appid":"`+person+`"}`)
	list(0, 100)
	checkEqual(t, out.String(), 0)
}

// TestCassetteCompare_PlatformListMismatch verifies that a list whose count or fields differ is reported.
func TestCassetteCompare_PlatformListMismatch(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: platformTown, Undeclared: true})
	list := []injected{
		{"/cgi-bin/component/api_get_authorizer_list", 1, replaceBody(`"total_count":3`, `"total_count":4`), cassette.Value, "list"},
		{"/cgi-bin/component/api_get_authorizer_list", 2, replaceBody(`"auth_time":[0-9]+`, `"auth_time":"x"`), cassette.Type,
			"list[0].auth_time"},
	}
	base, done := newDifferingServer(t, s.URL, list)
	proxy, out := record(t, base, s.Clock.Now)
	token := s.ComponentToken(agency)
	c := &caller{t: t, base: proxy, s: s}
	for range 3 {
		c.do("POST", "/cgi-bin/component/api_get_authorizer_list?component_access_token="+token,
			`{"component_appid":"`+agency+`","offset":0,"count":100}`)
	}
	done()
	var got []string
	for _, d := range compare(t, out.String()).Differences {
		got = append(got, fmt.Sprint(d.Line, " ", d.Kind, " ", d.Location, ": ", d.Platform, "; ", d.Server))
	}
	want := []string{"1 value list: 3 of 4 entries from 0; 3 of 3 entries from 0", "2 type list[0].auth_time: a text; a number",
		"2 type list[1].auth_time: a text; a number", "2 type list[2].auth_time: a text; a number"}
	assert.True(t, slices.Equal(got, want), "differences = %q\nwant %q", got, want)
}

// TestCassetteCompare_CounterDelta verifies that quotas are compared by their change, whichever token is used: a platform that counts a
// publish that the server does not count is a difference of the publish. Earlier calls, a new day and a new month cause no difference.
func TestCassetteCompare_CounterDelta(t *testing.T) {
	t.Parallel()
	const rules = "/cgi-bin/wxopen/qrcodejump"
	run := func(t *testing.T, spends bool) (cassette.Report, []string) {
		s := servertest.Start(t, servertest.Options{Seed: theTown, Undeclared: true})
		decrease := func(n int) func(*int, http.Header, string) string {
			return func(_ *int, _ http.Header, body string) string {
				return regexp.MustCompile(`"qrcodejump_pub_quota":[0-9]+`).ReplaceAllStringFunc(body, func(found string) string {
					quota, _ := strconv.Atoi(found[strings.Index(found, ":")+1:])
					return fmt.Sprint(`"qrcodejump_pub_quota":`, quota-n)
				})
			}
		}
		list := []injected{}
		if spends { // from the second publish of the same rule on
			list = append(list, injected{path: rules + "get", nth: 2, change: decrease(1)},
				injected{path: rules + "get", nth: 3, change: decrease(1)})
		}
		base, done := newDifferingServer(t, s.URL, list)
		tea := s.Token(shop)
		s.OK(shop, "add", `{"prefix":"https://tea.example/b/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		s.OK(shop, "publish", `{"prefix":"https://tea.example/b/"}`) // before the recording
		proxy, out := record(t, base, s.Clock.Now)
		c := &caller{t: t, base: proxy, s: s}
		tea = c.token(shop)
		get := func() { c.do("POST", rules+"get?access_token="+tea, `{"get_type":0}`) }
		quota := func(path string) {
			c.do("POST", "/cgi-bin/openapi/quota/get?access_token="+tea, `{"cgi_path":"`+path+`"}`)
		}
		get()
		quota(rules + "publish")
		c.do("POST", rules+"add?access_token="+tea,
			`{"prefix":"https://tea.example/a/","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":3}`)
		c.do("POST", rules+"publish?access_token="+tea, `{"prefix":"https://tea.example/a/"}`)
		c.do("POST", rules+"publish?access_token="+tea, `{"prefix":"https://tea.example/a/"}`)
		tea = c.token(shop)
		get()
		quota(rules + "publish")
		get()
		c.do("POST", rules+"publish?access_token="+tea, `{"prefix":"https://tea.example/none/"}`)
		quota(rules + "publish")
		c.do("POST", "/cgi-bin/clear_quota?access_token="+tea, `{"appid":"`+shop+`"}`)
		quota(rules + "publish")
		s.Clock.Step(20 * 24 * time.Hour) // another month, too
		tea = c.token(shop)
		quota(rules + "publish")
		get()
		done()
		return compare(t, out.String()), strings.Split(out.String(), "\n")
	}
	t.Run("the same server", func(t *testing.T) {
		t.Parallel()
		report, text := run(t, false)
		assert.True(t, len(report.Differences) == 0 && len(report.Skipped) == 0, "report = %+v, want no difference\n%s", report,
			strings.Join(text, "\n"))
	})
	t.Run("a platform that spends a publish of a published rule", func(t *testing.T) {
		t.Parallel()
		report, text := run(t, true)
		require.True(t, len(report.Differences) == 1, "report = %+v, want one difference\n%s", report, strings.Join(text, "\n"))
		d := report.Differences[0]
		assert.True(t, d.Line == 8 && d.Location == "qrcodejump_pub_quota" && d.Platform == "97, 2 fewer than on line 2" &&
			d.Server == "99, 1 fewer" && len(d.Behaviours) >= 2 && d.Behaviours[0] == "rules.publish.again" && d.EvidenceLevel == "assumed",
			"difference = %+v, want the quota after the second publish", d)
	})
}

// TestCassetteRecord_StreamsResponse verifies that the recorder passes on each part of a response as soon as it arrives.
func TestCassetteRecord_StreamsResponse(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, piece := range []string{"first ", "second ", "third"} {
			io.WriteString(w, piece)
			http.NewResponseController(w).Flush()
			<-next // waits until the caller has this part
		}
	}))
	t.Cleanup(upstream.Close)
	proxy, out := record(t, upstream.URL, time.Now)
	resp := require.Value(http.Get(proxy + "/cgi-bin/token"))(t)
	defer resp.Body.Close()
	for _, want := range []string{"first ", "second ", "third"} {
		got := make([]byte, len(want))
		_, err := io.ReadFull(resp.Body, got)
		require.True(t, err == nil && string(got) == want, "next part = %q, %v, want %q", got, err, want)
		next <- struct{}{}
	}
	rest, err := io.ReadAll(resp.Body)
	assert.True(t, err == nil && len(rest) == 0, "rest of the response = %q, %v, want none", rest, err)
	assert.Contains(t, out.String(), `"response":"{plain:1:18}"`, "cassette")
}

// TestCassette_SlashEscapingPreserved verifies that a recording keeps how slashes are escaped, that a replay restores it, and that Compare
// reports a server that escapes them in another way.
func TestCassette_SlashEscapingPreserved(t *testing.T) {
	t.Parallel()
	const response = `{"session_key":"a\/b==","url":"http:\/\/weixin.qq.com\/q\/02AbCdEfGh","ip_list":["118.126.124.0\/24"],"errmsg":"a \\\\/ a"}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; encoding=utf-8")
		io.WriteString(w, response)
	}))
	t.Cleanup(upstream.Close)
	proxy, out := record(t, upstream.URL, time.Now)
	c := &caller{t: t, base: proxy}
	c.do("POST", "/cgi-bin/a", `{"prefix":"https:\/\/tea.example\/t\/","path":"pages/t/t"}`)
	text := out.String()
	for _, want := range []string{`"response":{"session_key":"{\/key:`, `"url":"http:\/\/weixin.qq.com\/q\/{word:`, `"ip_list":["{\/ip:`,
		`"errmsg":"a \\\\/ a"`, `"prefix":"https:\/\/{`, `"path":"pages/{`} {
		assert.True(t, strings.Contains(text, want), "cassette = %s, want %s in it", text, want)
	}
	base, _ := newPlayer(t, text, false)
	replayed := (&caller{t: t, base: base}).do("POST", "/cgi-bin/a", `{"prefix":"https:\/\/tea.example\/t\/","path":"pages/t/t"}`)
	assert.Equal(t, strings.Count(replayed, `\/`), strings.Count(response, `\/`), "number of escaped slashes in the replayed response")
	const line = `{"occurred_at":"2026-01-15T02:00:00Z","method":"GET","path":"/cgi-bin/showqrcode","status":200,"headers":{},"response":%s}` + "\n"
	for answer, want := range map[string]bool{`{"errcode":40001,"url":"http:\/\/a\/"}`: true,
		`{"errcode":40001,"url":"http://a/"}`: false} {
		ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"errcode":40001,"url":"http://a/"}`)
		}))
		t.Cleanup(ours.Close)
		report, err := cassette.Compare(t.Context(), cassette.NewStage(lines(t, fmt.Sprintf(line, answer))),
			cassette.Server{URL: ours.URL, Reach: func(time.Time) {}})
		found := slices.ContainsFunc(report.Differences, func(d cassette.Difference) bool { return d.Kind == cassette.Slashes })
		assert.True(t, err == nil && found == want, "%s: report = %+v, %v, want a difference of slashes: %v", answer, report, err, want)
	}
}
