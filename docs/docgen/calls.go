package docgen

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
	"github.com/qrjump/qrjump/internal/edge/guide"
	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// text returns the text of a key, or "" if the key does not exist.
func (p *press) text(l language, key string) string {
	if !book.Has(key) {
		return ""
	}
	p.texts[key] = true
	return l.says(key)
}

// checkSaid reports texts of calls and fields that no page uses.
func (p *press) checkSaid() {
	texts, _ := i18n.Read(locale)
	for key := range texts[i18n.English] {
		if (strings.HasPrefix(key, "call.") || strings.HasPrefix(key, "field.")) && !p.texts[key] {
			p.reportMissing("docs/docgen/locale has %s, which no page says", key)
		}
	}
}

// requiredText returns a text that the page of a call must contain, and reports the text as missing if it does not exist.
func (p *press) requiredText(l language, c guide.Call, key string) string {
	said := p.text(l, key)
	if said == "" {
		p.reportMissing("docs/docgen/locale lacks %s of %s", key, c.Page)
	}
	return said
}

// fieldText returns the text about a field: the text for this call, else the general text.
func (p *press) fieldText(l language, c guide.Call, name string) string {
	if said := p.text(l, "field."+c.Page+"."+name); said != "" {
		return said
	}
	return p.requiredText(l, c, "field."+name)
}

// notes returns the numbered remarks on a call.
func (p *press) notes(l language, c guide.Call) (notes []string) {
	for {
		said := p.text(l, fmt.Sprintf("call.%s.note.%d", c.Page, len(notes)+1))
		if said == "" {
			return notes
		}
		notes = append(notes, said)
	}
}

// checkTexts checks the texts against the tables in the code.
func (p *press) checkTexts() {
	said := map[string]bool{}
	for _, c := range guide.Calls() {
		if said[c.Path] = true; p.endpoints[c.Path].Path == "" {
			p.reportMissing("internal/edge/guide/calls.go has %s, which is no call", c.Path)
		}
		p.checkExample(c)
	}
	for path := range p.endpoints {
		if !said[path] {
			p.reportMissing("internal/edge/guide/calls.go says nothing of %s", path)
		}
	}
	for _, c := range errcode.All() {
		if c.Meaning().IsZero() || c.Cure().IsZero() {
			p.reportMissing("internal/contract/errcode/locale lacks %d or %d.do: when it is returned, and what its caller does then", c.Number, c.Number)
		}
	}
	for subject, key := range subjects {
		for path := range strings.FieldsSeq(key) {
			if path != everyCall && !slices.ContainsFunc(guide.Calls(), func(c guide.Call) bool { return meets(path, c.Path) }) {
				p.reportMissing("the behaviours %s speak of %s, which is no call", subject, path)
			}
		}
	}
}

// checkExample checks the types of a request's fields against the body of its example.
func (p *press) checkExample(c guide.Call) {
	if c.Body == "" {
		return
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(regexp.MustCompile(`:\$[A-Z_]+`).ReplaceAllString(c.Body, ":1")), &body); err != nil {
		p.reportMissing("the example of %s: %w", c.Page, err)
	}
	for name, value := range body {
		said := c.FieldType(name)
		kind := map[reflect.Kind]string{reflect.String: "string", reflect.Float64: "number", reflect.Bool: "boolean", reflect.Map: "object",
			reflect.Slice: "array of string"}[reflect.TypeOf(value).Kind()]
		if kind != said {
			p.reportMissing("the example of %s has %s as %s, the table says %q", c.Page, name, kind, said)
		}
	}
}

const (
	exampleHost = guide.Example
	jsonHeader  = ` -H 'Content-Type: application/json'`
	fieldOf     = `field() { sed 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/'; }` + "\n"
)

// postLine returns a curl command that posts JSON, wrapped if the line would be too long.
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
	return "TOKEN=$(curl -s \\\n  '" + exampleHost + "/cgi-bin/token?grant_type=client_credential&appid=" + appid + "&secret=" + secret +
		"' |\n  field access_token)\n"
}

func take(variable, curl, field string) string {
	return variable + "=$(" + curl + " |\n  field " + field + ")\n"
}

var (
	takeTicket = take("TICKET", postLine(exampleHost+"/admin/v1/emulator/ticket", `{"component":"wxc0ffee0000000003"}`),
		"component_verify_ticket")
	takePlatform = takeTicket + take("TOKEN", postLine(exampleHost+"/cgi-bin/component/api_component_token",
		`{"component_appid":"wxc0ffee0000000003","component_appsecret":"c0ffee00000000000000000000000003","component_verify_ticket":"$TICKET"}`),
		"component_access_token")
	takeRefresh = "REFRESH=$(" + postLine(`"`+exampleHost+`/cgi-bin/component/api_get_authorizer_list?component_access_token=$TOKEN"`,
		`{"component_appid":"wxc0ffee0000000003","offset":0,"count":100}`) +
		" |\n  sed 's/.*\"wxc0ffee0000000002\",\"refresh_token\":\"\\([^\"]*\\).*/\\1/')\n"
	takeAuthorizer = takePlatform + takeRefresh +
		take("TOKEN", postLine(`"`+exampleHost+`/cgi-bin/component/api_authorizer_token?component_access_token=$TOKEN"`,
			`{"component_appid":"wxc0ffee0000000003","authorizer_appid":"wxc0ffee0000000002","authorizer_refresh_token":"$REFRESH"}`),
			"authorizer_access_token")
	takeConsent = take("PRE", postLine(`"`+exampleHost+`/cgi-bin/component/api_create_preauthcode?component_access_token=$TOKEN"`,
		`{"component_appid":"wxc0ffee0000000003"}`), "pre_auth_code") +
		take("CODE", postLine(exampleHost+"/admin/v1/emulator/authorize",
			`{"component":"wxc0ffee0000000003","pre_auth_code":"$PRE","appid":"wxc0ffee0000000002","permission_sets":[2,3,33,46]}`), "auth_code")
	takeApplication = take("APPLICATION", postLine(`"`+exampleHost+`/intp/marketcode/applycode?access_token=$TOKEN"`,
		`{"code_count":10000,"isv_application_id":"order-1"}`), "application_id")
	activated = takeApplication + strings.Replace(postLine(`"`+exampleHost+`/intp/marketcode/codeactive?access_token=$TOKEN"`,
		`{"application_id":$APPLICATION,"activity_name":"Spring","product_brand":"Coffee","product_title":"Beans",`+
			`"product_code":"6901234567892","wxa_appid":"wxc0ffee0000000001","wxa_path":"pages/item/item","code_start":0,"code_end":99}`),
		"curl -s ", "curl -s -o activated.json ", 1) + "\n"
	scanned = activated +
		take("TEXT", postLine(exampleHost+"/admin/v1/codes/lookup", `{"application_id":$APPLICATION,"code_index":7}`), "code_url") +
		"TICKET=$(" + postLine(exampleHost+"/scan/v1/resolve", `{"text":"$TEXT","user":"alice"}`) +
		" |\n  sed 's/.*code_ticket=\\([^&\"]*\\).*/\\1/')\n" +
		take("OPENID", `curl -s "`+exampleHost+`/admin/v1/users/alice/openid?appid=wxc0ffee0000000001"`, "openid")
	takeLogin = take("JS_CODE", postLine(exampleHost+"/scan/v1/login", `{"appid":"wxc0ffee0000000001","user":"alice"}`), "js_code")
)

var tokens = map[string]string{"": "", "mini": takeToken("wxc0ffee0000000001", "c0ffee00000000000000000000000001"),
	"service": takeToken("wxc0ffee0000000002", "c0ffee00000000000000000000000002"), "component": takePlatform, "authorizer": takeAuthorizer}

var befores = map[string]string{"apply": takeApplication, "activate": activated, "scan": scanned, "ticket": takeTicket,
	"consent": takeConsent, "refresh": takeRefresh, "login": takeLogin}

// script returns the shell commands of a call's example.
func script(c guide.Call) string {
	prev, named := befores[c.Before]
	if !named {
		prev = c.Before
	}
	text := tokens[c.Token] + prev
	if strings.Contains(text, "field ") {
		text = fieldOf + text
	}
	url := exampleHost + c.Path
	if query := parameters(c); query != "" {
		url = `"` + url + "?" + query + `"`
	}
	if c.Body != "" {
		return text + postLine(url, c.Body) + "\n"
	}
	if c.Save != "" {
		return text + "curl -s -o " + c.Save + " " + url + "\n"
	}
	if pos := strings.LastIndexByte(url[:min(len(url), 120)], '&'); len(url) > 132 && pos > 0 {
		url = url[:pos] + "\\\n" + url[pos:] // The line break is within double quotes, where a shell removes the backslash and the newline.
	}
	return text + "curl -s " + url + "\n"
}

// parameters returns the query string of a call's example.
func parameters(c guide.Call) string {
	query := ""
	switch {
	case c.Token == "component":
		query = "component_access_token=$TOKEN"
	case c.Token != "" && !c.Tokenless:
		query = "access_token=$TOKEN"
	}
	return strings.Trim(query+"&"+c.Query, "&")
}

// shortOf returns the display name of a call.
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

// callPage returns the data of a call's page.
func (p *press) callPage(l language, c guide.Call) any {
	type field struct {
		Name, Type, Says string
		Must             bool
	}
	type set struct {
		Number int
		Name   string
	}
	e := p.endpoints[c.Path]
	page := struct {
		guide.Call
		Short, Title, About   string
		Notes                 []string
		Method, Query, Script string
		Sets                  []set
		Request, Answer       []field
		Codes                 []numberRow
		Behaviours            []behaviourRow
		SDK                   sdkSection
	}{Call: c, Short: shortOf(c.Path), Title: p.requiredText(l, c, "call."+c.Page), About: p.requiredText(l, c, "call."+c.Page+".about"),
		Notes: p.notes(l, c), Method: e.Method, Script: script(c),
		Behaviours: p.behaviours(l, c.Path), SDK: p.sdkSection(l, c)}
	switch {
	case e.Token && c.Token == "component":
		page.Query = "?component_access_token=TOKEN"
	case e.Token:
		page.Query = "?access_token=TOKEN"
	}
	for _, number := range e.Sets {
		if e.Sets != [2]int{} {
			page.Sets = append(page.Sets, set{number, l.say(accounts.SetName(number))})
		}
	}
	text := func(name string, required bool) field {
		kind := c.FieldType(name)
		if kind == "" {
			p.reportMissing("internal/edge/guide/calls.go has no type of the field %s of %s", name, c.Page)
		}
		return field{name, kind, p.fieldText(l, c, name), required}
	}
	for _, f := range e.Fields {
		page.Request = append(page.Request, text(f.Name, f.Must))
	}
	for name := range strings.FieldsSeq(c.Answer) {
		page.Answer = append(page.Answer, text(name, false))
	}
	for _, code := range e.Codes {
		page.Codes = append(page.Codes, p.number(l, code))
	}
	return page
}
