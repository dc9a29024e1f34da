package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
	"github.com/qrjump/qrjump/internal/testkit/testscope"
	"github.com/qrjump/qrjump/internal/testkit/testtable"
)

const (
	addPath      = "/cgi-bin/wxopen/qrcodejumpadd"
	getPath      = "/cgi-bin/wxopen/qrcodejumpget"
	publishPath  = "/cgi-bin/wxopen/qrcodejumppublish"
	deletePath   = "/cgi-bin/wxopen/qrcodejumpdelete"
	downloadPath = "/cgi-bin/wxopen/qrcodejumpdownload"
	tokenPath    = "/cgi-bin/token"
	stablePath   = "/cgi-bin/stable_token"
)

// Error texts of calls that accept or issue access tokens, spelled as observed on the platform. Contract: rules 3.6.
const (
	badToken = "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
	dayQuota = "reach max api daily quota limit, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
)

// quoteJSON returns s as a JSON string. Unlike %q it writes control characters as JSON escapes.
func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// addRuleBody returns the request body that adds an ordinary rule; extra fields come last and override.
func addRuleBody(prefix string, extra ...string) string {
	fields := append([]string{`"prefix":` + quoteJSON(prefix) +
		`,"path":"pages/index/index","is_edit":0,"permit_sub_rule":1,"open_version":3`}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

func prefixBody(p string) string { return fmt.Sprintf(`{"prefix":%q}`, p) }

const codeURLPrefix = "http://weixin.qq.com/q/"

// callFunc makes the calls of a story and returns the last response.
type callFunc func(s *servertest.Server) servertest.Answer

// post calls an endpoint with the access token of appid.
func post(s *servertest.Server, appid, path, body string) servertest.Answer {
	return s.Do("POST", path+"?access_token="+s.Token(appid), body)
}

func stableTokenBody(appid string) string {
	return fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":"secret-%s"}`, appid, appid)
}

type errorRow struct {
	code int
	text string // errmsg before the request id
	path string
	name string
	call callFunc
	// changes is false if the story is a single call that is refused.
	changes bool
}

// readStories returns the stories of a file of testdata/stories; each runs after the lines of the preamble.
func readStories(t *testing.T, file, preamble string) map[string]callFunc {
	t.Helper()
	list := map[string]callFunc{}
	for name, text := range servertest.ReadStories(t, "testdata/stories/"+file+".txt") {
		list[name] = func(s *servertest.Server) servertest.Answer { return s.RunStory(preamble+text, nil) }
	}
	return list
}

// errorFiles are the files of testdata/stories with one story per error number, each with its seed and the preamble of its stories.
var errorFiles = map[string]struct{ seed, preamble string }{
	"errors": {town, ""},
	"component_errors": {agency, `ticket = ticket isv
component = component isv
component2 = component isv2
access = access <component> isv shop
`},
}

// errorRows returns the rows of a file of testdata/stories, first those that change nothing, each group in a fixed order.
func errorRows(t *testing.T, file string) (rows []errorRow) {
	t.Helper()
	for head, text := range servertest.ReadStories(t, "testdata/stories/"+file+".txt") {
		call := func(s *servertest.Server) servertest.Answer { return s.RunStory(errorFiles[file].preamble+text, nil) }
		commands := strings.Count(strings.TrimSpace(text), "\n") + strings.Count(text, " times ")
		number, rest, _ := strings.Cut(head, " ")
		path, rest, _ := strings.Cut(rest, ": ")
		name, message, ok := strings.Cut(rest, " | ")
		code, err := strconv.Atoi(number)
		require.True(t, err == nil && ok, "%s.txt: %q, %v", file, head, err)
		rows = append(rows, errorRow{code, message, path, name, call, code == 0 || commands > 0})
	}
	key := func(r errorRow) string { return fmt.Sprint(r.changes, r.path, r.code, r.name) }
	slices.SortFunc(rows, func(a, b errorRow) int { return strings.Compare(key(a), key(b)) })
	return rows
}

var ridText = regexp.MustCompile(`^(.*) rid: ([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})$`)

func TestErrorCodes_EachProduced(t *testing.T) {
	t.Parallel()
	for file, fixture := range errorFiles {
		s, began := servertest.Start(t, servertest.Options{Seed: fixture.seed}), false
		for _, r := range errorRows(t, file) {
			t.Run(fmt.Sprintf("%d %s %s", r.code, r.path[strings.LastIndex(r.path, "/")+1:], r.name), func(t *testing.T) {
				if s.For(t); !began || r.changes || testscope.IsComplete() {
					began = true
					s.Reset(t)
					s.Advance(36 * time.Hour) // the time in a request id comes from the server's clock
				}
				a := r.call(s)
				assert.True(t, a.Status == http.StatusOK && a.Header.Get("Content-Type") == contentType(a),
					"status %d, Content-Type %q", a.Status, a.Header.Get("Content-Type"))
				if r.code == 0 {
					assert.True(t, strings.HasPrefix(a.Body, `{"errcode":0,"errmsg":"ok"`), "got %s", a.Body)
					return
				}
				e := servertest.Decode[struct{ ErrMsg string }](t, a)
				m := ridText.FindStringSubmatch(e.ErrMsg)
				require.True(t, m != nil && a.Code(t) == r.code && m[1] == r.text,
					"got %s, want %d %q and a request id", a.Body, r.code, r.text)
				want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: %s-%s-%s"}`, r.code, r.text, m[2], m[3], m[4])
				assert.True(t, a.Body == want, "got  %s\nwant %s", a.Body, want)
				clock := servertest.Decode[struct{ Now time.Time }](t, s.Admin("GET", "/emulator/clock", ""))
				assert.Equal(t, strconv.FormatInt(clock.Now.Unix(), 16), m[2], "server time in hexadecimal seconds, as in the request id")
				assert.True(t, !clock.Now.Before(servertest.Began.Add(36*time.Hour)),
					"/emulator/clock = %s, want 36 hours after the start", clock.Now)
			})
		}
	}
}

func TestErrorCodes_TableComplete(t *testing.T) {
	covered := testtable.Map(t, "testdata/no_story.txt")
	rows := append(errorRows(t, "errors"), errorRows(t, "component_errors")...)
	for _, c := range errcode.All() {
		if covered[strconv.Itoa(c.Number)] == "" && !slices.ContainsFunc(rows, func(r errorRow) bool { return r.code == c.Number }) {
			t.Errorf("no story produces %d %s", c.Number, c.Text)
		}
	}
}

// TestErrorCodes_NeverReturned checks the numbers that the platform's pages list for a call by mistake. Contract: rules 1.8; marketcode 2,
// 7.
func TestErrorCodes_NeverReturned(t *testing.T) {
	code, known := errcode.ByNumber(45112)
	assert.True(t, !known, "ByNumber(45112) = %v, want none", code)
	for _, e := range api.Describe() {
		assert.True(t, !strings.HasPrefix(e.Path, marketcodePath) || !slices.Contains(e.Codes, errcode.InvalidGrantType),
			"%s lists 40002, which it never returns", e.Path)
	}
}

// TestRateLimit_DefaultJumpRulesOnly verifies that by default only the calls of jump rules are limited to five a second: a shop creates
// many codes in a row and exchanges a ticket for every scan.
func TestRateLimit_DefaultJumpRulesOnly(t *testing.T) {
	t.Parallel()
	granted := strings.Replace(town, "secret: secret-svc,", "secret: secret-svc, features: [marketcode],", 1)
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(granted, ", rule_rate_limit: null", "", 1)})
	countRateLimited := func(appid, path, body string) (n int) {
		for range 20 {
			if post(s, appid, path, body).Code(t) == 44990 {
				n++
			}
		}
		return n
	}
	rateLimit := func(appid, path string) string {
		a := post(s, appid, quotaGetPath, fmt.Sprintf(`{"cgi_path":%q}`, path))
		_, rate, _ := strings.Cut(a.Body, `"rate_limit":`)
		rate, _, _ = strings.Cut(rate, "}")
		return rate + "}"
	}
	otherCalls := map[string]string{createPath: createQRCodeBody("QR_SCENE", `"scene_id":1`, ""), ticketToCodePath: "{}",
		"/cgi-bin/get_api_domain_ip": "{}"}
	for path, body := range otherCalls {
		assert.Equal(t, countRateLimited("svc", path, body), 0, "rate-limited calls of 20 to %s", path)
	}
	for _, path := range []string{addPath, getPath, publishPath, deletePath, downloadPath} {
		assert.Equal(t, countRateLimited("shop", path, "{}"), 15, "rate-limited calls of 20 to %s", path)
	}
	assert.Equal(t, rateLimit("svc", getPath), `{"call_count":5,"refresh_second":1}`, "quota/get of a jump rule's call")
	assert.Equal(t, rateLimit("svc", createPath), `{"call_count":500000,"refresh_second":86400}`, "quota/get of qrcode/create")

	// default_rate_limit applies to the other calls only.
	s.Admin("PUT", "/settings", `{"rule_rate_limit":null,"default_rate_limit":7}`)
	s.Clock.Step(time.Minute)
	for path, body := range otherCalls {
		assert.Equal(t, countRateLimited("svc", path, body), 13, "rate-limited calls of 20 to %s", path)
	}
	assert.Equal(t, countRateLimited("shop", getPath, "{}"), 0, "rate-limited calls of 20 to %s", getPath)
	s.Clock.Step(time.Minute)
	assert.Equal(t, rateLimit("svc", createPath), `{"call_count":7,"refresh_second":1}`, "quota/get of qrcode/create with a limit")
	s.Admin("PUT", "/settings", `{"rule_rate_limit":0}`)
	assert.Equal(t, countRateLimited("shop", getPath, "{}"), 20, "rate-limited calls of 20 to %s with a limit of 0", getPath)
}

func TestRateLimit_PerMinute(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand calls, one after the other")
	}
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.RegisterSecret(s.Do("POST", stablePath, stableTokenBody("shop")).Text(t, "access_token"))
	client := &http.Client{}
	send := func() int {
		resp := require.Value(client.Do(s.Request("POST", stablePath, stableTokenBody("shop"))))(t)
		defer resp.Body.Close()
		b := make([]byte, 4096)
		n, _ := resp.Body.Read(b)
		return servertest.Answer{Body: string(b[:n])}.Code(t)
	}
	for n := range 9_999 {
		require.Equal(t, send(), 0, "errcode of call %d", n+2)
	}
	a := s.Do("POST", stablePath, stableTokenBody("shop"))
	checkText(t, a, 45011, "api minute-quota reach limit, must slower, retry next minute")
	s.Do("POST", stablePath, stableTokenBody("rival")).WantCode(t, 0, "another account")
	s.Advance(time.Minute)
	s.Do("POST", stablePath, stableTokenBody("shop")).WantCode(t, 0, "in the next minute")
}

func checkText(t *testing.T, a servertest.Answer, code int, text string) {
	t.Helper()
	want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: `, code, text)
	assert.True(t, strings.HasPrefix(a.Body, want), "got %s, want %s…", a.Body, want)
}
