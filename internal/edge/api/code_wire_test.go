package api_test

import (
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
	marketcodePath   = "/intp/marketcode/"
	ticketToCodePath = marketcodePath + "tickettocode"
	sessionPath      = "/sns/jscode2session"
)

// codeResponse has the fields of responses of the code family that tests compare.
type codeResponse struct {
	ErrCode          int
	ErrMsg           string
	CodeGenerateList []segment `json:"code_generate_list"`
	Buffer           string
	Code             string
	CodeEnd          int64 `json:"code_end"`
}

type segment struct {
	CodeStart int64 `json:"code_start"`
	CodeEnd   int64 `json:"code_end"`
}

// mustCallCode makes a call of the code family that must succeed.
func mustCallCode(t testing.TB, s *servertest.Server, appid, call, body string) codeResponse {
	t.Helper()
	a := s.CodeCall(appid, call, body)
	require.True(t, a.Status == http.StatusOK && strings.HasPrefix(a.Body, `{"errcode":0,"errmsg":"ok"`),
		"%s as %s with %.300s = %d %.500s, want errcode 0", call, appid, body, a.Status, a.Body)
	return servertest.Decode[codeResponse](t, a)
}

// hintText matches the text of an error of this family: base, detail, hint of 10 to 14 characters, platform time, request id.
// Contract: marketcode 1.1.
var hintText = regexp.MustCompile(
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

// contentType returns the Content-Type that a response must have. Behaviour(wire.answer.plain).
func contentType(a servertest.Answer) string {
	if strings.HasPrefix(a.Path, "/sns/") {
		return "text/plain"
	}
	return "application/json; encoding=utf-8"
}

// wantCodeError verifies the complete error of a call: number, form of the text, and that its detail contains a text.
func wantCodeError(t testing.TB, name string, a servertest.Answer, number int, detail string) {
	t.Helper()
	assert.True(t, a.Status == http.StatusOK && a.Header.Get("Content-Type") == contentType(a),
		"%s: status %d, Content-Type %q, want 200 and %q", name, a.Status, a.Header.Get("Content-Type"), contentType(a))
	got := servertest.Decode[codeResponse](t, a)
	if got.ErrCode != number || len(servertest.Decode[map[string]any](t, a)) != 2 {
		t.Errorf("%s = %.400s, want errcode %d", name, a.Body, number)
		return
	}
	base, hints := baseTexts[number]
	if !hints {
		m := ridText.FindStringSubmatch(got.ErrMsg)
		assert.True(t, m != nil && m[1] == otherTexts[number],
			"%s: errmsg %q, want %q and a request id", name, got.ErrMsg, otherTexts[number])
		return
	}
	m := hintText.FindStringSubmatch(got.ErrMsg)
	if m == nil || m[1] != base || !strings.Contains(m[2], detail) || number != 40097 && m[2] != "" || number == 40097 && m[2] == "" {
		t.Errorf("%s: errmsg %q, want %q, a detail with %q, a hint and a request id", name, got.ErrMsg, base, detail)
		return
	}
	second := require.Value(strconv.ParseInt(m[5], 16, 64))(t)
	assert.Equal(t, time.Unix(second, 0).In(time.FixedZone("", 8*3600)).Format(time.DateTime), m[4],
		"%s: time of the request id, as in the hint", name)
}

// activationBody returns the request body of codeactive; extra fields come last and override.
func activationBody(id int64, from, to any, extra ...string) string {
	fields := append(
		[]string{fmt.Sprintf(
			`"application_id":%d,"code_start":%v,"code_end":%v,"activity_name":"test_name","product_brand":"test_brand","product_title":"test_title","product_code":"test_code","wxa_appid":"shop","wxa_path":"pages/index/index"`, id, from, to)}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

// lookupCode returns the printed text and the code at an index of an application.
func lookupCode(t testing.TB, s *servertest.Server, id, index int64) (text, code string) {
	t.Helper()
	a := s.LookupCode(id, index)
	text, code = a.Text(t, "code_url"), a.Text(t, "code")
	require.True(t, len(code) == 9 && len(text) == 28, "codes/lookup = %s, want a code of 9 and a text of 28 bytes", a.Body)
	return text, code
}

// scanForTicket scans a text and returns the ticket in the path of the page that opens.
func scanForTicket(t testing.TB, s *servertest.Server, user, text string) string {
	t.Helper()
	a := s.Do("POST", "/scan/v1/resolve", fmt.Sprintf(`{"text":%s,"user":%q}`, quoteJSON(text), user))
	a.WantStatus(t, http.StatusOK, "scan of %s", text)
	got := servertest.Decode[struct{ Path string }](t, a)
	_, ticket, found := strings.Cut(got.Path, "code_ticket=")
	require.True(t, found && regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ticket), "path of %+v has no code_ticket", got)
	s.RegisterSecret(ticket)
	return ticket
}

func openIDOf(t testing.TB, s *servertest.Server, user, appid string) string {
	t.Helper()
	id := s.Admin("GET", "/users/"+user+"/openid?appid="+appid, "").Text(t, "openid")
	require.True(t, len(id) == 28, "openid = %q, want 28 bytes", id)
	return id
}
