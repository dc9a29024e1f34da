package guide

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// Call contains the data of a call's documentation page that the table of endpoints lacks. Translated texts are stored in tables/locale.
type Call struct {
	Page, Path string
	Answer     string // names of the response fields
	Token      string // owner of the token: mini, service, component or authorizer; "" = no token
	Tokenless  bool   // only the commands before the call use the token; the call itself sends none
	Before     string // the shell commands with which the example begins, or a name that stands for these commands
	Body       string
	Query      string
	Save       string // the file in which the response is saved
	SDK        string // name of the SDK setup code shown before the call; "" = the setup code for a token of the kind in the field Token
}

// Calls returns the calls of all sections, in the order of the contents.
func Calls() []Call { return slices.Concat(tokenCalls, ruleCalls, codeCalls, platformCalls) }

// CallSection is a family of calls, as named in machine-readable documents.
type CallSection struct {
	Name, About string
	Calls       []Call
}

// CallSections returns the families of calls, in the order of the contents.
func CallSections() []CallSection {
	return []CallSection{
		{"tokens", "Tokens, quotas, request ids, logins", tokenCalls},
		{"rules", "Jump rules, links between accounts, QR codes of service accounts", ruleCalls},
		{"codes", "One item, one code", codeCalls},
		{"platforms", "Third-party platforms that act for accounts", platformCalls},
	}
}

var (
	tokenCalls = []Call{
		{Page: "token", Path: "/cgi-bin/token", Answer: "access_token expires_in",
			Query: "grant_type=client_credential&appid=wxc0ffee0000000001&secret=c0ffee00000000000000000000000001"},
		{Page: "stable_token", Path: "/cgi-bin/stable_token", Answer: "access_token expires_in",
			Body: `{"grant_type":"client_credential","appid":"wxc0ffee0000000001","secret":"c0ffee00000000000000000000000001"}`},
		{Page: "jscode2session", Path: "/sns/jscode2session", Answer: "session_key openid unionid",
			Query:  "appid=wxc0ffee0000000001&secret=c0ffee00000000000000000000000001&js_code=$JS_CODE&grant_type=authorization_code",
			Before: "login"},
		{Page: "clear_quota", Path: "/cgi-bin/clear_quota", Answer: "errcode errmsg", Token: "mini",
			Body: `{"appid":"wxc0ffee0000000001"}`},
		{Page: "clear_quota-v2", Path: "/cgi-bin/clear_quota/v2", Answer: "errcode errmsg",
			Body: `{"appid":"wxc0ffee0000000001","appsecret":"c0ffee00000000000000000000000001"}`},
		{Page: "quota-get", Path: "/cgi-bin/openapi/quota/get",
			Answer: `errcode errmsg quota quota.daily_limit quota.used quota.remain rate_limit rate_limit.call_count
				rate_limit.refresh_second component_rate_limit component_rate_limit.call_count
				component_rate_limit.refresh_second`, Token: "mini", Body: `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`},
		{Page: "quota-clear", Path: "/cgi-bin/openapi/quota/clear", Answer: "errcode errmsg", Token: "mini",
			Body: `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`},
		{Page: "rid-get", Path: "/cgi-bin/openapi/rid/get",
			Answer: `errcode errmsg request request.invoke_time request.cost_in_ms request.request_url request.request_body
				request.response_body request.client_ip`, Token: "mini", Body: `{"rid":"$RID"}`,
			Before: `RID=$(curl -s "http://127.0.0.1:8080/cgi-bin/wxopen/qrcodejumpdelete?access_token=$TOKEN" -d '{"prefix":""}' |
  sed 's/.*rid: \([0-9a-f-]*\).*/\1/')
`},
		{Page: "get_api_domain_ip", Path: "/cgi-bin/get_api_domain_ip", Answer: "ip_list", Token: "mini"},
		{Page: "getcallbackip", Path: "/cgi-bin/getcallbackip", Answer: "ip_list", Token: "mini"},
	}
	ruleCalls = []Call{
		{Page: "qrcodejumpadd", Path: "/cgi-bin/wxopen/qrcodejumpadd", Answer: "errcode errmsg", Token: "mini",
			Body: `{"prefix":"https://tea.example/t/","path":"pages/table/table","is_edit":0,"permit_sub_rule":1,` +
				`"open_version":3,"debug_url":["https://tea.example/t/1"]}`},
		{Page: "qrcodejumpget", Path: "/cgi-bin/wxopen/qrcodejumpget",
			Answer: `errcode errmsg rule_list rule_list.prefix rule_list.path rule_list.state rule_list.permit_sub_rule
				rule_list.open_version rule_list.debug_url qrcodejump_open qrcodejump_pub_quota list_size total_count`,
			Token: "mini", Body: "{}"},
		{Page: "qrcodejumppublish", Path: "/cgi-bin/wxopen/qrcodejumppublish", Answer: "errcode errmsg", Token: "mini",
			Body: `{"prefix":"https://coffee.example/menu"}`},
		{Page: "qrcodejumpdelete", Path: "/cgi-bin/wxopen/qrcodejumpdelete", Answer: "errcode errmsg", Token: "mini",
			Body: `{"prefix":"https://coffee.example/menu"}`},
		{Page: "qrcodejumpdownload", Path: "/cgi-bin/wxopen/qrcodejumpdownload", Answer: "errcode errmsg file_name file_content",
			Token: "mini", Body: "{}"},
		{Page: "wxamplink", Path: "/cgi-bin/wxopen/wxamplink", Answer: "errcode errmsg", Token: "authorizer",
			Body: `{"appid":"wxguide0001","notify_users":0,"show_profile":0}`,
			Before: `curl -s -o account.json -X PUT http://127.0.0.1:8080/admin/v1/accounts/wxguide0001 -H 'Content-Type: application/json' \
  -d '{"kind":"mini_program","secret":"a-secret-of-this-page","certified":true}'
`},
		{Page: "wxamplinkget", Path: "/cgi-bin/wxopen/wxamplinkget",
			Answer: `errcode errmsg wxopens wxopens.items wxopens.items.status wxopens.items.username wxopens.items.appid
				wxopens.items.source wxopens.items.nickname wxopens.items.selected wxopens.items.nearby_display_status
				wxopens.items.released wxopens.items.headimg_url wxopens.items.func_infos wxopens.items.func_infos.id
				wxopens.items.func_infos.status wxopens.items.func_infos.name wxopens.items.func_info wxopens.items.func_info.id
				wxopens.items.func_info.status wxopens.items.func_info.name wxopens.items.copy_verify_status wxopens.items.email`,
			Token: "authorizer", Body: "{}"},
		{Page: "wxampunlink", Path: "/cgi-bin/wxopen/wxampunlink", Answer: "errcode errmsg", Token: "authorizer",
			Body: `{"appid":"wxc0ffee0000000001"}`},
		{Page: "qrcode-create", Path: "/cgi-bin/qrcode/create", Answer: "ticket expire_seconds url", Token: "service",
			Body: `{"action_name":"QR_STR_SCENE","expire_seconds":600,"action_info":{"scene":{"scene_str":"table-7"}}}`},
		{Page: "showqrcode", Path: "/cgi-bin/showqrcode", Token: "service", Tokenless: true, Query: "ticket=$TICKET",
			Save: "code.jpg",
			Before: `TICKET=$(curl -s "http://127.0.0.1:8080/cgi-bin/qrcode/create?access_token=$TOKEN" -H 'Content-Type: application/json' \
  -d '{"action_name":"QR_STR_SCENE","action_info":{"scene":{"scene_str":"table-7"}}}' | sed 's/.*"ticket":"\([^"]*\).*/\1/')
`},
	}
	codeCalls = []Call{
		{Page: "applycode", Path: "/intp/marketcode/applycode", Answer: "errcode errmsg application_id", Token: "service",
			Body: `{"code_count":10000,"isv_application_id":"order-1"}`},
		{Page: "applycodequery", Path: "/intp/marketcode/applycodequery",
			Answer: `errcode errmsg status application_id isv_application_id code_generate_list code_generate_list.code_start
				code_generate_list.code_end create_time update_time`, Token: "service", Body: `{"application_id":$APPLICATION}`,
			Before: "apply"},
		{Page: "applycodedownload", Path: "/intp/marketcode/applycodedownload", Answer: "errcode errmsg buffer", Token: "service",
			Body: `{"application_id":$APPLICATION,"code_start":0,"code_end":9}`, Before: "apply"},
		{Page: "codeactive", Path: "/intp/marketcode/codeactive", Answer: "errcode errmsg", Token: "service",
			Body: `{"application_id":$APPLICATION,"activity_name":"Spring","product_brand":"Coffee",` +
				`"product_title":"Beans","product_code":"6901234567892","wxa_appid":"wxc0ffee0000000001",` +
				`"wxa_path":"pages/item/item","code_start":0,"code_end":99}`, Before: "apply"},
		{Page: "codeactivequery", Path: "/intp/marketcode/codeactivequery",
			Answer: `errcode errmsg code application_id isv_application_id activity_name product_brand product_title product_code
				wxa_appid wxa_path wxa_type code_start code_end`, Token: "service",
			Body: `{"application_id":$APPLICATION,"code_index":7}`, Before: "activate"},
		{Page: "tickettocode", Path: "/intp/marketcode/tickettocode",
			Answer: `errcode errmsg code application_id isv_application_id activity_name product_brand product_title product_code
				wxa_appid wxa_path wxa_type code_start code_end`, Token: "service",
			Body: `{"openid":"$OPENID","code_ticket":"$TICKET"}`, Before: "scan"},
	}
	platformCalls = []Call{
		{Page: "api_authorizer_token", Path: "/cgi-bin/component/api_authorizer_token",
			Answer: "authorizer_access_token expires_in authorizer_refresh_token", Token: "component",
			Body:   `{"component_appid":"wxc0ffee0000000003","authorizer_appid":"wxc0ffee0000000002","authorizer_refresh_token":"$REFRESH"}`,
			Before: "refresh"},
		{Page: "api_component_token", Path: "/cgi-bin/component/api_component_token", Answer: "component_access_token expires_in",
			SDK: "platform",
			Body: `{"component_appid":"wxc0ffee0000000003","component_appsecret":"c0ffee00000000000000000000000003",` +
				`"component_verify_ticket":"$TICKET"}`,
			Before: "ticket"},
		{Page: "api_create_preauthcode", Path: "/cgi-bin/component/api_create_preauthcode", Answer: "pre_auth_code expires_in",
			Token: "component", Body: `{"component_appid":"wxc0ffee0000000003"}`},
		{Page: "api_get_authorizer_info", Path: "/cgi-bin/component/api_get_authorizer_info",
			Answer: `authorizer_info authorizer_info.* authorization_info authorization_info.authorizer_appid
				authorization_info.authorizer_refresh_token authorization_info.func_info
				authorization_info.func_info.funcscope_category authorization_info.func_info.funcscope_category.id`,
			Token: "component", Body: `{"component_appid":"wxc0ffee0000000003","authorizer_appid":"wxc0ffee0000000001"}`},
		{Page: "api_get_authorizer_list", Path: "/cgi-bin/component/api_get_authorizer_list",
			Answer: "total_count list list.authorizer_appid list.refresh_token list.auth_time", Token: "component",
			Body: `{"component_appid":"wxc0ffee0000000003","offset":0,"count":100}`},
		{Page: "api_get_authorizer_option", Path: "/cgi-bin/component/api_get_authorizer_option",
			Answer: "authorizer_appid option_name option_value", Token: "component",
			Body: `{"component_appid":"wxc0ffee0000000003","authorizer_appid":"wxc0ffee0000000002","option_name":"location_report"}`},
		{Page: "api_query_auth", Path: "/cgi-bin/component/api_query_auth",
			Answer: `authorization_info authorization_info.authorizer_appid authorization_info.authorizer_access_token
				authorization_info.expires_in authorization_info.authorizer_refresh_token authorization_info.func_info
				authorization_info.func_info.funcscope_category authorization_info.func_info.funcscope_category.id`,
			Token: "component", Body: `{"component_appid":"wxc0ffee0000000003","authorization_code":"$CODE"}`, Before: "consent"},
		{Page: "api_set_authorizer_option", Path: "/cgi-bin/component/api_set_authorizer_option", Answer: "errcode errmsg",
			Token: "component",
			Body: `{"component_appid":"wxc0ffee0000000003","authorizer_appid":"wxc0ffee0000000002",` +
				`"option_name":"location_report","option_value":"1"}`},
		{Page: "api_start_push_ticket", Path: "/cgi-bin/component/api_start_push_ticket", Answer: "errcode errmsg", SDK: "platform",
			Body: `{"component_appid":"wxc0ffee0000000003","component_secret":"c0ffee00000000000000000000000003"}`},
		{Page: "get_authorizer_option", Path: "/cgi-bin/component/get_authorizer_option", Answer: "option_name option_value",
			Token: "authorizer", Body: `{"option_name":"location_report"}`},
		{Page: "set_authorizer_option", Path: "/cgi-bin/component/set_authorizer_option", Answer: "errcode errmsg",
			Token: "authorizer", Body: `{"option_name":"location_report","option_value":"1"}`},
		{Page: "component-clear_quota", Path: "/cgi-bin/component/clear_quota", Answer: "errcode errmsg", Token: "component",
			Body: `{"component_appid":"wxc0ffee0000000003"}`},
		{Page: "component-clear_quota-v2", Path: "/cgi-bin/component/clear_quota/v2", Answer: "errcode errmsg",
			Body: `{"component_appid":"wxc0ffee0000000003","appsecret":"c0ffee00000000000000000000000003","appid":"wxc0ffee0000000001"}`},
		{Page: "component-jscode2session", Path: "/sns/component/jscode2session", Answer: "session_key openid unionid", Token: "component",
			Query:  "appid=wxc0ffee0000000001&js_code=$JS_CODE&grant_type=authorization_code&component_appid=wxc0ffee0000000003",
			Before: "login"},
	}
)

// FieldType returns the type of a field of the call; "" if the field is not listed.
func (c Call) FieldType(name string) string {
	types := fieldTypes()
	return cmp.Or(types[c.Page+"."+name], types[name])
}

var fieldTypes = sync.OnceValue(func() map[string]string {
	types := map[string]string{}
	for kind, names := range fieldsOf {
		for name := range strings.FieldsSeq(names) {
			types[name] = kind
		}
	}
	return types
})

// fieldsOf lists the names of fields by their type; a name "page.field" is for the call of that page, where the type differs.
var fieldsOf = map[string]string{
	"number": `errcode expires_in quota.daily_limit quota.used quota.remain rate_limit.call_count rate_limit.refresh_second
		component_rate_limit.call_count component_rate_limit.refresh_second request.invoke_time request.cost_in_ms
		is_edit permit_sub_rule open_version get_type page_num page_size rule_list.state rule_list.permit_sub_rule
		rule_list.open_version qrcodejump_open qrcodejump_pub_quota list_size total_count notify_users show_profile
		wxopens.items.status wxopens.items.selected wxopens.items.nearby_display_status wxopens.items.released
		wxopens.items.func_infos.id wxopens.items.func_infos.status wxopens.items.func_info.id
		wxopens.items.func_info.status wxopens.items.copy_verify_status expire_seconds code_count application_id
		code_generate_list.code_start code_generate_list.code_end create_time update_time code_start code_end wxa_type
		code_index authorization_info.expires_in authorization_info.func_info.funcscope_category.id offset count
		list.auth_time`,
	"string": `errmsg access_token grant_type appid secret appsecret cgi_path rid request.request_url request.request_body
		request.response_body request.client_ip prefix path rule_list.prefix rule_list.path file_name file_content
		wxopens.items.username wxopens.items.appid wxopens.items.source wxopens.items.nickname wxopens.items.headimg_url
		wxopens.items.func_infos.name wxopens.items.func_info.name wxopens.items.email action_name ticket url
		isv_application_id status buffer activity_name product_brand product_title product_code wxa_appid wxa_path
		code_url code openid code_ticket component_appid component_secret component_appsecret component_verify_ticket
		component_access_token pre_auth_code authorization_code authorizer_appid authorizer_refresh_token
		authorizer_access_token authorization_info.authorizer_appid authorization_info.authorizer_access_token
		authorization_info.authorizer_refresh_token list.authorizer_appid list.refresh_token option_name option_value
		js_code session_key unionid`,
	"boolean": `force_refresh`,
	"object": `quota rate_limit component_rate_limit request wxopens action_info authorization_info
		authorization_info.func_info.funcscope_category authorizer_info`,
	"array of string": `ip_list debug_url prefix_list rule_list.debug_url`,
	"array of object": `rule_list wxopens.items wxopens.items.func_infos wxopens.items.func_info code_generate_list
		authorization_info.func_info list`,
	"any": `authorizer_info.*`,
}
