package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

const (
	codeFamily  = "/intp/marketcode/"
	tradePath   = codeFamily + "tickettocode"
	sessionPath = "/sns/jscode2session"
)

// codeCall makes a call of the code family as an account.
func codeCall(s *servertest.Server, appid, call, body string) servertest.Answer {
	return s.CodeCall(appid, call, body)
}

// told is an answer of the code family: the union of all of them.
type told struct {
	ErrCode          int             `json:"errcode"`
	ErrMsg           string          `json:"errmsg"`
	Status           string          `json:"status"`
	ApplicationID    int64           `json:"application_id"`
	ISVApplicationID string          `json:"isv_application_id"`
	CodeGenerateList []segment       `json:"code_generate_list"`
	CreateTime       int64           `json:"create_time"`
	UpdateTime       int64           `json:"update_time"`
	Buffer           string          `json:"buffer"`
	Code             string          `json:"code"`
	ActivityName     string          `json:"activity_name"`
	ProductBrand     string          `json:"product_brand"`
	ProductTitle     string          `json:"product_title"`
	ProductCode      string          `json:"product_code"`
	WxaAppID         string          `json:"wxa_appid"`
	WxaPath          string          `json:"wxa_path"`
	WxaType          int             `json:"wxa_type"`
	CodeStart        int64           `json:"code_start"`
	CodeEnd          int64           `json:"code_end"`
	OpenID           string          `json:"openid"`
	SessionKey       string          `json:"session_key"`
	Fields           map[string]bool `json:"-"` // which fields came
}

type segment struct {
	CodeStart int64 `json:"code_start"`
	CodeEnd   int64 `json:"code_end"`
}

func tellOf(t testing.TB, a servertest.Answer) (got told) {
	t.Helper()
	a.JSON(t, &got)
	fields := servertest.Decode[map[string]json.RawMessage](t, a)
	got.Fields = map[string]bool{}
	for name := range fields {
		got.Fields[name] = true
	}
	return got
}

// works makes a call that must succeed.
func works(t testing.TB, s *servertest.Server, appid, call, body string) told {
	t.Helper()
	a := codeCall(s, appid, call, body)
	require.True(t, a.Status == http.StatusOK && strings.HasPrefix(a.Body, `{"errcode":0,"errmsg":"ok"`),
		"%s as %s with %.300s: %d %.500s", call, appid, body, a.Status, a.Body)
	return tellOf(t, a)
}

// hinted is the text of an error of this family: its base, a detail, a hint of
// 10 to 14 characters and the time at the platform, the request id.
// Contract: marketcode 1.1.
var hinted = regexp.MustCompile(
	`^(.*?), (.*)\.\.\. hint: \[([0-9A-Za-z]{10,14})\]\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\] rid: ([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})$`)

var baseTexts = map[int]string{
	40097: "invalid args", 80300: "申请单不存在", 80301: "申请单不属于该账号", 80302: "激活号段有重叠", 80303: "码格式错误", 80304: "该码未激活", 80305: "激活失败",
	80306: "码索引超出申请范围",
	80307: "申请已存在", 80308: "子任务未完成", 80309: "子任务文件过期", 80310: "子任务不存在", 80311: "获取文件失败", 80312: "加密数据失败", 80313: "加密数据密钥不存在，请联系接口人申请",
}

var otherTexts = map[int]string{
	-1: "system error", 40001: badToken, 40013: "invalid appid", 40029: "invalid code,", 40163: "code been used,",
	41001: "access_token missing", 41008: "missing code,", 42001: "access_token expired", 43002: "require POST method",
	44002: "empty post data", 44990: "reach max api second frequence limit",
	45009: dayQuota, 47001: "data format error", 48001: "api unauthorized", 61007: "api is unauthorized to component",
}

// contentType returns the type that an answer must have. Behaviour(wire.answer.plain).
func contentType(a servertest.Answer) string {
	if strings.HasPrefix(a.Path, "/sns/") {
		return "text/plain"
	}
	return "application/json; encoding=utf-8"
}

// refused checks an error to the letter: number, shape of the text, and that the detail says which field and why.
func refused(t testing.TB, what string, a servertest.Answer, number int, detail string) {
	t.Helper()
	assert.True(t, a.Status == http.StatusOK && a.Header.Get("Content-Type") == contentType(a),
		"%s: status %d, Content-Type %q", what, a.Status, a.Header.Get("Content-Type"))
	got := tellOf(t, a)
	if got.ErrCode != number || len(got.Fields) != 2 {
		t.Errorf("%s: %.400s, want %d", what, a.Body, number)
		return
	}
	base, hints := baseTexts[number]
	if !hints {
		m := ridText.FindStringSubmatch(got.ErrMsg)
		assert.True(t, m != nil && m[1] == otherTexts[number], "%s: %q, want %q and a request id", what, got.ErrMsg, otherTexts[number])
		return
	}
	m := hinted.FindStringSubmatch(got.ErrMsg)
	if m == nil || m[1] != base || !strings.Contains(m[2], detail) || number != 40097 && m[2] != "" || number == 40097 && m[2] == "" {
		t.Errorf("%s: %q, want %q, a detail with %q, a hint and a request id", what, got.ErrMsg, base, detail)
		return
	}
	second, err := strconv.ParseInt(m[5], 16, 64)
	require.NoError(t, err)
	assert.Equal(t, time.Unix(second, 0).In(time.FixedZone("", 8*3600)).Format(time.DateTime), m[4], "%s", what)
}

// binding is the body of an activation; extra fields come last and win.
func binding(id int64, from, to any, extra ...string) string {
	fields := append(
		[]string{fmt.Sprintf(
			`"application_id":%d,"code_start":%v,"code_end":%v,"activity_name":"test_name","product_brand":"test_brand","product_title":"test_title","product_code":"test_code","wxa_appid":"shop","wxa_path":"pages/index/index"`, id, from, to)}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

// applied is a new application of an account.
func applied(t testing.TB, s *servertest.Server, appid, isv string, count int64) int64 {
	t.Helper()
	return works(t, s, appid, "applycode", fmt.Sprintf(`{"code_count":%d,"isv_application_id":%q}`, count, isv)).ApplicationID
}

// printed is the code text and the original code of an index.
func printed(t testing.TB, s *servertest.Server, id, index int64) (text, code string) {
	t.Helper()
	a := s.LookupCode(id, index)
	text, code = a.Text(t, "code_url"), a.Text(t, "code")
	require.True(t, len(code) == 9 && len(text) == 28, "%s", a.Body)
	return text, code
}

// ticketOf scans a text and takes the ticket out of the page.
func ticketOf(t testing.TB, s *servertest.Server, user, text string) string {
	t.Helper()
	a := s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%s,"user":%q}`, quoted(text), user))
	a.WantStatus(t, http.StatusOK, "%s", text)
	got := servertest.Decode[struct{ Path string }](t, a)
	_, ticket, found := strings.Cut(got.Path, "code_ticket=")
	require.True(t, found && regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ticket), "no ticket in %+v", got)
	s.Hide(ticket)
	return ticket
}

func openid(t testing.TB, s *servertest.Server, user, appid string) string {
	t.Helper()
	got := servertest.Decode[struct{ OpenID string }](t, s.Admin("GET", "/users/"+user+"/openid?appid="+appid, ""))
	require.True(t, len(got.OpenID) == 28, "%+v", got)
	return got.OpenID
}

func trade(openid, ticket string) string {
	return fmt.Sprintf(`{"openid":%q,"code_ticket":%q}`, openid, ticket)
}
