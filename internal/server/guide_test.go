package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/api"
	"github.com/qrjump/qrjump/internal/behaviour"
	"github.com/qrjump/qrjump/internal/console"
	"github.com/qrjump/qrjump/internal/errcode"
	"github.com/qrjump/qrjump/internal/guide"
	"github.com/qrjump/qrjump/internal/server"
	"github.com/qrjump/qrjump/internal/server/servertest"
)

// The texts of docs/calls.yaml, docs/errors.yaml and docs/words.yaml: what the guide
// says beside the tables of the code.
type callTexts struct {
	Fields map[string][]string
	Calls  []callText
}

type callText struct {
	Page, Path   string
	Title, About []string
	Request      []string // names; ! behind those that must be there
	Answer       []string
	Notes        [][]string
	Token        string // mini, service, component or authorizer; "" = none
	Tokenless    bool   // the token is for what comes before
	Before       string // commands, or the name of some
	Body         string
	Query        *string
	Save         string
	SDK          string // what makes the call in an SDK, where that is not the token's
}

type wordTexts struct{ Settings, Limits, Effects, Metrics map[string]string }

func readTexts(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err == nil {
		err = yaml.UnmarshalWithOptions(text, into, yaml.DisallowUnknownField())
	}
	if err != nil {
		t.Fatalf("docs/%s: %v", name, err)
	}
}

// tongue is one of the two languages while a page is printed.
type tongue struct{ chinese bool }

func (l tongue) say(english, chinese string) string {
	if l.chinese {
		return chinese
	}
	return english
}

// of is the text of a pair.
func (l tongue) of(pair []string) string { return l.say(pair[0], pair[1]) }

var markWords = map[behaviour.Mark]string{behaviour.Seen: "实测", behaviour.Page: "文档", behaviour.Inferred: "推断", behaviour.Choice: "自定"}

func (l tongue) mark(m behaviour.Mark) string { return l.say(string(m), markWords[m]) }

// evidence is how an errcode is known; its marks are words of the same meaning.
func (l tongue) evidence(c *errcode.Code) string { return l.mark(behaviour.Mark(c.Evidence)) }

// guidePages are the pages of the guide that are printed, by their paths below docs/reference.
func guidePages(t *testing.T) map[string]string {
	var calls callTexts
	causes := map[int][]string{}
	var words wordTexts
	readTexts(t, "calls.yaml", &calls)
	readTexts(t, "errors.yaml", &causes)
	readTexts(t, "words.yaml", &words)
	var sdks []sdkText
	readTexts(t, "sdk.yaml", &sdks)
	checkTexts(t, calls, causes)
	pages := map[string]string{}
	put := func(name string, page func(tongue) string) {
		english := page(tongue{})
		pages["../en/"+name+".md"] = english
		pages["../zh/"+name+".md"] = "<!-- translates " + guide.Hash([]byte(english)) + " -->\n\n" + page(tongue{true})
	}
	endpoints := map[string]api.Description{}
	for _, e := range api.Describe() {
		endpoints[e.Path] = e
	}
	for _, c := range calls.Calls {
		put("calls/"+c.Page, func(l tongue) string { return callPage(t, l, c, endpoints[c.Path], calls.Fields, causes, sdks) })
	}
	put("calls/sdks", func(l tongue) string { return sdksPage(t, l, sdks) })
	put("calls/every-call", func(l tongue) string { return everyCallPage(l, causes) })
	put("errors", func(l tongue) string { return causesPage(l, calls, endpoints, causes) })
	settings := settingRows(t)
	put("settings", func(l tongue) string { return settingsOf(t, l, settings, words) })
	put("behaviours", behavioursOf)
	measured := metrics(t)
	put("metrics", func(l tongue) string { return metricsOf(t, l, measured, words) })
	return pages
}

func checkTexts(t *testing.T, calls callTexts, causes map[int][]string) {
	t.Helper()
	said := map[string]bool{}
	for _, c := range calls.Calls {
		said[c.Path] = true
	}
	for _, e := range api.Describe() {
		if !said[e.Path] {
			t.Errorf("docs/calls.yaml says nothing of %s", e.Path)
		}
		i := slices.IndexFunc(calls.Calls, func(c callText) bool { return c.Path == e.Path })
		if i < 0 {
			continue
		}
		var names []string
		for _, name := range calls.Calls[i].Request {
			names = append(names, strings.TrimSuffix(name, "!"))
		}
		want := slices.Sorted(slices.Values(e.Fields))
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("docs/calls.yaml has the fields %q of %s, the pages name %q", names, e.Path, want)
		}
		delete(said, e.Path)
		checkExample(t, calls.Calls[i], calls.Fields)
	}
	for path := range said {
		t.Errorf("docs/calls.yaml has %s, which is no call", path)
	}
	known := map[int]bool{}
	for _, c := range errcode.All() {
		known[c.Number] = true
		if len(causes[c.Number]) != 3 || slices.Contains(causes[c.Number], "") {
			t.Errorf("docs/errors.yaml has %q for %d, wanted the cause in Chinese, what to do in English, what to do in Chinese",
				causes[c.Number], c.Number)
			causes[c.Number] = []string{"", "", ""}
		}
	}
	for number := range causes {
		if !known[number] {
			t.Errorf("docs/errors.yaml has %d, which no call answers", number)
		}
	}
}

// checkExample holds the types of a request's fields to the body of its example.
func checkExample(t *testing.T, c callText, fields map[string][]string) {
	t.Helper()
	if c.Body == "" {
		return
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(regexp.MustCompile(`:\$[A-Z_]+`).ReplaceAllString(c.Body, ":1")), &body); err != nil {
		t.Errorf("the example of %s: %v", c.Page, err)
	}
	for name, value := range body {
		said := fields[c.Page+"."+name]
		if said == nil {
			said = fields[name]
		}
		kind := map[reflect.Kind]string{reflect.String: "string", reflect.Float64: "number", reflect.Bool: "boolean", reflect.Map: "object",
			reflect.Slice: "array of string"}[reflect.TypeOf(value).Kind()]
		if len(said) == 0 || kind != said[0] {
			t.Errorf("the example of %s has %s as %s, the table says %q", c.Page, name, kind, said)
		}
	}
}

const (
	here       = guide.Example
	jsonHeader = ` -H 'Content-Type: application/json'`
	fieldOf    = `field() { sed 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/'; }` + "\n"
)

// postLine is a curl line that sends JSON, broken where it would be too long.
func postLine(path, body string) string {
	body = regexp.MustCompile(`\$[A-Z_]+`).ReplaceAllString(body, `'"$0"'`)
	line := `curl -s ` + path + jsonHeader + ` -d '` + body + `'`
	if len(line) <= 120 {
		return line
	}
	line = "curl -s " + path + " \\\n "
	last := jsonHeader + ` -d '`
	width := len(last) + 1
	for i, part := range strings.SplitAfter(body, ",") {
		if i > 0 && width+len(part) > 128 {
			last += "\n    "
			width = 4
		}
		last += part
		width += len(part)
	}
	return line + last + "'"
}

func takeToken(appid, secret string) string {
	return "TOKEN=$(curl -s '" + here + "/cgi-bin/token?grant_type=client_credential&appid=" + appid + "&secret=" + secret +
		"' |\n  field access_token)\n"
}

func take(variable, curl, field string) string {
	return variable + "=$(" + curl + " |\n  field " + field + ")\n"
}

var (
	takeTicket = take("TICKET", "curl -s "+here+"/admin/v1/emulator/ticket"+jsonHeader+` -d '{"component":"wxcomponent0001"}'`,
		"component_verify_ticket")
	takePlatform = takeTicket + take("TOKEN", postLine(here+"/cgi-bin/component/api_component_token",
		`{"component_appid":"wxcomponent0001","component_appsecret":"secret0003","component_verify_ticket":"$TICKET"}`),
		"component_access_token")
	takeRefresh = "REFRESH=$(" + postLine(`"`+here+`/cgi-bin/component/api_get_authorizer_list?component_access_token=$TOKEN"`,
		`{"component_appid":"wxcomponent0001","offset":0,"count":100}`) +
		" |\n  sed 's/.*\"wxserviceacct0001\",\"refresh_token\":\"\\([^\"]*\\).*/\\1/')\n"
	takeAuthorizer = takePlatform + takeRefresh +
		take("TOKEN", postLine(`"`+here+`/cgi-bin/component/api_authorizer_token?component_access_token=$TOKEN"`,
			`{"component_appid":"wxcomponent0001","authorizer_appid":"wxserviceacct0001","authorizer_refresh_token":"$REFRESH"}`),
			"authorizer_access_token")
	takeConsent = take("PRE", postLine(`"`+here+`/cgi-bin/component/api_create_preauthcode?component_access_token=$TOKEN"`,
		`{"component_appid":"wxcomponent0001"}`), "pre_auth_code") +
		take("CODE", postLine(here+"/admin/v1/emulator/authorize",
			`{"component":"wxcomponent0001","pre_auth_code":"$PRE","appid":"wxserviceacct0001","permission_sets":[3,33,46]}`), "auth_code")
	takeApplication = take("APPLICATION", postLine(`"`+here+`/intp/marketcode/applycode?access_token=$TOKEN"`,
		`{"code_count":10000,"isv_application_id":"order-1"}`), "application_id")
	activated = takeApplication + strings.Replace(postLine(`"`+here+`/intp/marketcode/codeactive?access_token=$TOKEN"`,
		`{"application_id":$APPLICATION,"activity_name":"Spring","product_brand":"Coffee","product_title":"Beans",`+
			`"product_code":"6901234567892","wxa_appid":"wxminiprogram0001","wxa_path":"pages/item/item","code_start":0,"code_end":99}`),
		"curl -s ", "curl -s -o activated.json ", 1) + "\n"
	scanned = activated +
		take("TEXT", postLine(here+"/admin/v1/codes/lookup", `{"application_id":$APPLICATION,"code_index":7}`), "code_url") +
		"TICKET=$(" + postLine(here+"/scan/v1/resolve", `{"text":"$TEXT","user":"alice"}`) +
		" |\n  sed 's/.*code_ticket=\\([^&\"]*\\).*/\\1/')\n" +
		take("OPENID", `curl -s "`+here+`/admin/v1/users/alice/openid?appid=wxminiprogram0001"`, "openid")
	takeLogin = take("JS_CODE", postLine(here+"/scan/v1/login", `{"appid":"wxminiprogram0001","user":"alice"}`), "js_code")
)

var tokens = map[string]string{"": "", "mini": takeToken("wxminiprogram0001", "secret0001"),
	"service": takeToken("wxserviceacct0001", "secret0002"), "component": takePlatform, "authorizer": takeAuthorizer}

var befores = map[string]string{"apply": takeApplication, "activate": activated, "scan": scanned, "ticket": takeTicket,
	"consent": takeConsent, "refresh": takeRefresh, "login": takeLogin}

// script are the commands of a call's example.
func (c callText) script() string {
	before, named := befores[c.Before]
	if !named {
		before = c.Before
	}
	text := tokens[c.Token] + before
	if strings.Contains(text, "field ") {
		text = fieldOf + text
	}
	url := here + c.Path
	if parameters := c.parameters(); parameters != "" {
		url = `"` + url + "?" + parameters + `"`
	}
	if c.Body != "" {
		return text + postLine(url, c.Body) + "\n"
	}
	if c.Save != "" {
		return text + "curl -s -o " + c.Save + " " + url + "\n"
	}
	if at := strings.LastIndexByte(url[:min(len(url), 120)], '&'); len(url) > 132 && at > 0 {
		url = url[:at] + "\\\n" + url[at:] // within the quotes a shell takes both characters out
	}
	return text + "curl -s " + url + "\n"
}

// parameters are the query of a call's example.
func (c callText) parameters() string {
	parameters := ""
	switch {
	case c.Token == "component":
		parameters = "component_access_token=$TOKEN"
	case c.Token != "" && !c.Tokenless:
		parameters = "access_token=$TOKEN"
	}
	if c.Query != nil && *c.Query != "" {
		parameters = strings.Trim(parameters+"&"+*c.Query, "&")
	}
	return parameters
}

// shortOf is how people name a call.
func shortOf(path string) string {
	short := path
	for _, family := range []string{"/cgi-bin/", "/intp/marketcode/", "/sns/", "wxopen/", "component/api"} {
		if rest, is := strings.CutPrefix(short, family); is {
			short = strings.TrimPrefix(family, "component/")
			if short == family {
				short = ""
			}
			short += rest
		}
	}
	return short
}

func callPage(
	t *testing.T, l tongue, c callText, e api.Description, fields map[string][]string, causes map[int][]string, sdks []sdkText,
) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s%s%s\n\n%s\n", shortOf(c.Path), l.say(": ", "："), l.of(c.Title), l.of(c.About))

	p("\n## %s\n\n", l.say("How to call", "调用方式"))
	query := ""
	switch {
	case e.Token && strings.Contains(c.Path, "/component/"):
		query = "?component_access_token=TOKEN"
	case e.Token:
		query = "?access_token=TOKEN"
	}
	p("```text\n%s https://%s%s%s\n```\n\n", e.Method, l.say("SERVER", "服务器"), c.Path, query)
	p("%s\n", l.say("Fields stand in "+map[string]string{"GET": "the query", "POST": "a JSON body"}[e.Method]+".",
		map[string]string{"GET": "参数放在查询串中。", "POST": "参数放在 JSON 请求体中。"}[e.Method]))
	if e.Sets != [2]int{} {
		p("%s\n\n", l.say("A third-party platform that calls for an account needs a permission set:", "第三方平台代调用需要权限集："))
		p("| %s | %s | %s |\n| --- | --- | --- |\n", l.say("account", "账号"), l.say("set", "权限集"), l.say("name", "名称"))
		for i, kind := range [][]string{{"Mini Program", "小程序"}, {"service account", "服务号"}} {
			english, chinese := accounts.SetName(e.Sets[i])
			p("| %s | %d | %s |\n", l.of(kind), e.Sets[i], l.say(english, chinese))
		}
	}

	text := func(name string) []string {
		one := fields[c.Page+"."+name]
		if one == nil {
			one = fields[name]
		}
		if len(one) != 3 {
			t.Errorf("docs/calls.yaml has no type and two texts for the field %s of %s", name, c.Page)
			return []string{"", "", ""}
		}
		return one
	}
	p("\n## %s\n\n", l.say("Request", "请求参数"))
	if len(c.Request) == 0 {
		p("%s\n", l.say("No fields. Send `{}` where a body is wanted.", "没有参数；需要请求体时发送 `{}`。"))
	} else {
		p("| %s | %s | %s | %s |\n| --- | --- | --- | --- |\n", l.say("field", "参数名"), l.say("type", "类型"), l.say("required", "必填"),
			l.say("meaning", "说明"))
	}
	for _, name := range c.Request {
		name, must := strings.CutSuffix(name, "!")
		one := text(name)
		required := l.say("no", "否")
		if must {
			required = l.say("yes", "是")
		}
		p("| `%s` | %s | %s | %s |\n", name, one[0], required, l.of(one[1:]))
	}

	p("\n## %s\n\n", l.say("Answer", "返回参数"))
	if len(c.Answer) == 0 {
		p("%s\n", l.say("A picture.", "图片。"))
	} else {
		p("| %s | %s | %s |\n| --- | --- | --- |\n", l.say("field", "参数名"), l.say("type", "类型"), l.say("meaning", "说明"))
	}
	for _, name := range c.Answer {
		one := text(name)
		p("| `%s` | %s | %s |\n", name, one[0], l.of(one[1:]))
	}

	p("\n## %s\n\n", l.say("Notes", "注意事项"))
	for _, note := range c.Notes {
		p("- %s\n", l.of(note))
	}
	p("- %s\n", l.say("What all calls have in common, such as tokens and limits: [Every call](every-call.md).",
		"所有接口的共同之处（token、频率等）见[所有接口](every-call.md)。"))

	p("\n## %s\n\n%s\n\n```sh\n%s```\n", l.say("Example", "示例"),
		l.say("These lines run on a server that was started by `qrjump serve --dev`.", "以下命令可在 `qrjump serve --dev` 启动的服务器上直接运行。"), c.script())
	b.WriteString(sdkSection(t, l, c, e, sdks))

	p("\n## %s\n\n", l.say("Errors: why would I get this?", "错误码：为什么会出现？"))
	if len(e.Codes) == 0 {
		p("%s\n", l.say("None of its own; see [Every call](every-call.md).", "没有专属错误码，见[所有接口](every-call.md)。"))
	} else {
		p("| %s | errmsg | %s | %s |\n| --- | --- | --- | --- |\n", l.say("number", "错误码"), l.say("why", "原因"), l.say("what to do", "处理方法"))
	}
	seen := map[int]bool{}
	for _, code := range e.Codes {
		if !seen[code.Number] {
			seen[code.Number] = true
			p("| [%d](../errors.md#%d) | `%s` | %s | %s |\n", code.Number, code.Number, cmp.Or(code.Text, " "), l.say(code.Meaning,
				causes[code.Number][0]), l.of(causes[code.Number][1:]))
		}
	}
	if len(e.Codes) > 0 {
		p("\n%s\n", l.say(
			"And what every call can answer, such as 40097 for a wrong field and 40001 for a token: [Every call](every-call.md).",
			"此外还有所有接口都可能返回的错误码，如 40097（参数有误）、40001（token 无效），见[所有接口](every-call.md)。"))
	}

	p("\n## %s\n\n", l.say("Differences from the platform", "与平台的差异"))
	rowsOf(&b, l, func(id string) bool { return speaksOf(id, c.Path) && !speaksOf(id, "*") })
	return b.String()
}

// rowsOf prints behaviours with their marks, the least sure first.
func rowsOf(b *strings.Builder, l tongue, is func(id string) bool) {
	fmt.Fprintf(b, "%s\n\n| %s | %s | %s | %s |\n| --- | --- | --- | --- |\n",
		l.say("What this server does, and how sure it is that the platform does the same, the least sure first:",
			"本服务器的行为，以及平台与之相同的可信程度，最不确定的在前："),
		l.say("behaviour", "行为"), l.say("how sure", "可信程度"), l.say("what the server does", "服务器的行为"), l.say("evidence", "依据的日期"))
	for _, one := range byDoubt() {
		if is(one.ID) {
			evidence := cmp.Or(strings.Trim(one.Source+", "+one.Date, ", "), "–")
			if l.chinese {
				evidence = cmp.Or(one.Date, "–")
			}
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", one.ID, l.mark(one.Mark), l.say(one.English, one.Chinese), evidence)
		}
	}
	fmt.Fprintf(b, "\n%s\n", l.say("seen = quoted from a live answer, page = the platform's documentation says so, inferred = follows from several sources, "+
		"choice = ours.", "实测 = 见于平台的真实回答；文档 = 平台文档如此说明；推断 = 由多处资料推断；自定 = 本服务器的选择。"))
	fmt.Fprintf(b, "%s\n", l.say("Evidence is where that answer or page was, and when. `docs/contract` in the repository quotes it: D/ and W/ "+
		"are addresses\nof the platform's community, seen/ is its folder of real answers.",
		"依据的日期是见到该回答或读到该文档的日期；原文摘录在仓库的 `docs/contract` 中（英文）。"))
}

func everyCallPage(l tongue, causes map[int][]string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# %s\n\n%s\n\n", l.say("Every call", "所有接口"), l.say("What all calls of the wire have in common.", "所有接口的共同之处。"))
	for _, one := range [][]string{
		{"`https://SERVER` is the address on which your server listens: `http://127.0.0.1:8080`, unless `serve --listen` says otherwise.",
			"`https://服务器` 是您的服务器监听的地址：`http://127.0.0.1:8080`，除非用 `serve --listen` 另行指定。"},
		{"An answer is HTTP 200 with a JSON object. A refusal has `errcode` and `errmsg`; behind the text stands `rid: ` with the request id.",
			"返回 HTTP 200 和 JSON 对象。拒绝时含 `errcode` 与 `errmsg`，文字末尾为 `rid: ` 加请求 id。"},
		{"`qrjump why RID` says why a call was answered so.", "`qrjump why RID` 说明某次调用为何如此返回。"},
		{"The token stands in the query, as `access_token`; calls of a platform take `component_access_token`.",
			"token 放在查询串的 `access_token` 中；第三方平台接口使用 `component_access_token`。"},
		{"Numbers may be sent in quotes. The platform was seen to take that on few fields: send numbers.",
			"数字可以带引号。平台只在少数字段上被见到如此接受：请发送数字。"},
		{"Fields that no page names are ignored, and counted: `qrjump deviations` lists them.", "文档没有的字段会被忽略并记录，用 `qrjump deviations` 查看。"},
		{"The platform has more interfaces than this server: those of Mini Program codes, messages, payment and others answer 40066 here. A stub\n  can answer " +
			"in their place, see [Compare with the real platform](../handbook.md#compare-with-the-real-platform).",
			"平台的接口比本服务器多：小程序码、消息、支付等接口在这里返回 40066。可以用桩代替它们回答，\n  见[与真实平台比较](../handbook.md#compare-with-the-real-platform)。"},
	} {
		p("- %s\n", l.of(one))
	}
	p("\n## %s\n\n| %s | errmsg | %s | %s |\n| --- | --- | --- | --- |\n", l.say("Errors that every call can answer", "所有接口都可能返回的错误码"),
		l.say("number", "错误码"), l.say("why", "原因"), l.say("what to do", "处理方法"))
	list := append(api.Shared(), errcode.Unauthorized, errcode.InvalidURL)
	slices.SortFunc(list, func(a, b *errcode.Code) int { return a.Number - b.Number })
	for _, code := range slices.Compact(list) {
		p("| [%d](../errors.md#%d) | `%s` | %s | %s |\n", code.Number, code.Number, code.Text, l.say(code.Meaning, causes[code.Number][0]),
			l.of(causes[code.Number][1:]))
	}
	p("\n## %s\n\n", l.say("Differences from the platform", "与平台的差异"))
	rowsOf(&b, l, func(id string) bool { return speaksOf(id, "*") })
	return b.String()
}

// item is an item of a list, broken at spaces where it is long.
func item(text string) string {
	line, lines := "-", []string{}
	for word := range strings.FieldsSeq(text) {
		if utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > 136 {
			lines = append(lines, line)
			line = " "
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}

// causesPage is every number with its cause and cure.
func causesPage(l tongue, calls callTexts, endpoints map[string]api.Description, causes map[int][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", l.say("Error numbers", "错误码"),
		l.say("Every number that a call can answer: why, and what to do. `qrjump why RID` says more about one call.",
			"接口可能返回的全部错误码、原因和处理方法。`qrjump why RID` 说明某一次调用。"))
	b.WriteString("\n")
	for line := range slices.Chunk(errcode.All(), 8) {
		var links []string
		for _, code := range line {
			links = append(links, fmt.Sprintf("[%d](#%d)", code.Number, code.Number))
		}
		b.WriteString(strings.Join(links, " ") + "\n")
	}
	shared := append(api.Shared(), errcode.Unauthorized, errcode.InvalidURL)
	for _, code := range errcode.All() {
		cause := causes[code.Number]
		mark := l.say(" (", "（") + l.evidence(code) + l.say(")", "）")
		fmt.Fprintf(&b, "\n## %d\n\n`%s`%s\n\n%s\n%s\n", code.Number, cmp.Or(code.Text, " "), mark,
			item(l.say("Why: ", "原因：")+l.say(code.Meaning, cause[0])), item(l.say("What to do: ", "处理：")+l.of(cause[1:])))
		var by []string
		for _, c := range calls.Calls {
			if slices.Contains(endpoints[c.Path].Codes, code) {
				by = append(by, fmt.Sprintf("[%s](calls/%s.md)", shortOf(c.Path), c.Page))
			}
		}
		if slices.Contains(shared, code) {
			by = []string{l.say("[every call](calls/every-call.md)", "[所有接口](calls/every-call.md)")}
		}
		if len(by) > 0 {
			fmt.Fprintf(&b, "- %s\n", l.say("Calls:", "接口："))
			for _, one := range by {
				fmt.Fprintf(&b, "  %s\n", one)
			}
		}
	}
	return b.String()
}

// settingSections are the headings of the page, by the first setting below each.
var settingSections = map[string][]string{
	"strict": {"How strict the server is", "严格程度"}, "rate_limit": {"Limits of calls", "调用频率"}, "allow_private_hosts": {"Rules", "规则"},
	"token_daily_limit": {"Days and daily quotas", "时区与每日额度"}, "scan_days": {"Scans and what they count", "扫码与统计"},
	"rid_log_rows": {"What calls answer", "接口的回答"}, "hold_links": {"Links and parametric codes", "关联与带参数二维码"},
	"code_count_max": {"One item, one code", "一物一码"}, "api_hosts": {"Hosts and pages", "主机与页面"},
	"webhook_days": {"Webhooks and verification files", "Webhook 与校验文件"}, "second_factor": {"Sign-in", "登录"},
}

func settingsOf(t *testing.T, l tongue, list []settingRow, words wordTexts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", l.say("Settings", "设置"),
		l.say("What an operator may choose while the server runs: by `qrjump setting set`, in the console, or under `settings:` of a seed file\n"+
			"(`serve --seed`). A change counts at once, on other nodes within a second, where the row says nothing else.",
			"运维人员可在服务器运行时修改的选项：用 `qrjump setting set`、在控制台，或写在种子文件（`serve --seed`）的 `settings:` 下。\n"+
				"除非另有说明，修改立即生效，其他节点一秒内生效。"))
	for _, one := range list {
		if section := settingSections[one.Name]; section != nil {
			fmt.Fprintf(&b, "\n## %s\n\n| %s | %s | %s | %s | %s |\n| --- | --- | --- | --- | --- |\n", l.of(section),
				l.say("name", "名称"), l.say("type", "类型"), l.say("default", "默认值"), l.say("limits", "范围"), l.say("meaning", "含义"))
		}
		means, limits, effect := one.Meaning, one.limits, one.Effect
		if l.chinese {
			means = words.Settings[one.Name]
			limits = console.AllowedInChinese(limits)
			if effect != "" {
				effect = words.Effects[effect]
			}
			if means == "" || one.Effect != "" && effect == "" || one.Limits != "" && words.Limits[one.Limits] == "" {
				t.Errorf("docs/words.yaml lacks the Chinese of the setting %s (limits %q, effect %q)", one.Name, one.Limits, one.Effect)
			}
		}
		limits = strings.Replace(limits, l.say("behaviours", "行为"), l.say("[behaviours](behaviours.md)", "[行为](behaviours.md)"), 1)
		if effect != "" {
			means += l.say(". Counts ", "。生效：") + effect
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s | %s |\n", one.Name, one.kind, one.fallback, limits, means)
	}
	return b.String()
}

func metricsOf(t *testing.T, l tongue, list []metric, words wordTexts) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n| %s | %s | %s | %s |\n| --- | --- | --- | --- |\n", l.say("Metrics", "指标"),
		l.say("`GET /metrics` on the admin listener, with the admin token, in the format of Prometheus.",
			"在管理监听上以管理员 token 访问 `GET /metrics`，格式为 Prometheus。")+"\n"+
			l.say("Beside the program in the packages and in the repository stand what Prometheus needs to read them (`deploy/prometheus/scrape.yaml`),\n"+
				"rules of alerts that say what to do (`deploy/prometheus/alerts.yaml`) and a dashboard for Grafana (`deploy/grafana/qrjump.json`).",
				"安装包和仓库中附有 Prometheus 的抓取配置（`deploy/prometheus/scrape.yaml`）、写明处理办法的告警规则（`deploy/prometheus/alerts.yaml`）\n"+
					"和 Grafana 面板（`deploy/grafana/qrjump.json`）。"),
		l.say("name", "名称"), l.say("type", "类型"), l.say("labels", "标签"), l.say("meaning", "含义"))
	for _, m := range list {
		says := m.says
		if l.chinese {
			if says = words.Metrics[m.name]; says == "" {
				t.Errorf("docs/words.yaml lacks the Chinese of the metric %s", m.name)
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, says)
	}
	return b.String()
}

// behavioursOf is the whole table.
func behavioursOf(l tongue) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n\n", l.say("Behaviours and marks", "行为与可信程度"),
		l.say("Where the platform may answer otherwise than this server, and how likely that is. [From the emulator to the real platform](how/platform.md)\n"+
			"says what each mark means for your program; `qrjump deviations` lists the rows that it relied on, `qrjump behaviour show ID` says more of\none.",
			"平台的回答可能与本服务器不同之处，以及可能性的大小。各标记对您的程序意味着什么，见[从模拟器到真实平台](how/platform.md)；\n"+
				"`qrjump deviations` 列出程序依赖了哪些行，`qrjump behaviour show ID` 说明其中一项。"))
	rowsOf(&b, l, func(string) bool { return true })
	return b.String()
}

// The documents want no credential. They are where the admin API is, with the address to which programs call,
// and a printed link below /docs stays the rule's.
func TestTheDocumentsAreOnTheAdminListener(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Guarded: true, Config: func(c *server.Config) { c.AdminListen = "127.0.0.1:0" }, Seed: `
accounts:
  - {appid: shop, kind: mini_program, secret: the-secret-of-shop, certified: true, versions: [release]}
rules:
  - {owner: shop, prefix: "http://shop.example/docs/", path: pages/a/a, published: true}
settings: {verification: trust}
`})
	get := func(base, path, host string) servertest.Answer {
		r, err := http.NewRequestWithContext(t.Context(), "GET", base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = cmp.Or(host, r.Host)
		return s.Send(r)
	}
	a := get(s.AdminURL, "/docs/zh/tour", "")
	if a.Status != http.StatusOK || a.Header.Get("Content-Security-Policy") != guide.Policy ||
		!strings.Contains(a.Body, s.URL+"/cgi-bin/token") {
		t.Errorf("the documents: %d %v", a.Status, a.Header)
	}
	for _, found := range regexp.MustCompile(`"(/qrjump/[^"]+)"`).FindAllStringSubmatch(a.Body, -1) {
		asset := get(s.AdminURL, found[1], "")
		if asset.Status != http.StatusOK || !strings.Contains(asset.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", found[1], asset.Status, asset.Header)
		}
	}
	if a := get(s.URL, "/docs/zh/tour", ""); a.Status != http.StatusNotFound || strings.Contains(a.Body, "<html") {
		t.Errorf("the wire's listener answers %d: %.200s", a.Status, a.Body)
	}
	if a := get(s.URL, "/docs/7", "shop.example"); a.Status != http.StatusOK || !strings.Contains(a.Body, "shop.example/docs/7") {
		t.Errorf("a printed link below /docs: %d %.200s", a.Status, a.Body)
	}
}
