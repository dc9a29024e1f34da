package guide

// contents are the sections with their pages in order. Every page stands in one of them.
var contents = []struct {
	title string // key
	names []string
}{
	{"contents.start", []string{"", "tour", "how/install", "matching", "questions"}},
	{"contents.how", []string{"how/sdk", "how/ci", "how/rules-in-git", "how/platform", "how/production", "how/sign-in",
		"how/nodes", "handbook", "how/app", "how/webhooks", "how/print", "how/copied-codes", "how/pages-for-buyers", "how/statistics"}},
	{"contents.tokens", []string{"calls/every-call", "calls/sdks", "calls/token", "calls/stable_token",
		"calls/jscode2session", "calls/clear_quota", "calls/clear_quota-v2", "calls/quota-get", "calls/quota-clear", "calls/rid-get",
		"calls/get_api_domain_ip", "calls/getcallbackip"}},
	{"contents.rules", []string{"calls/qrcodejumpadd", "calls/qrcodejumpget", "calls/qrcodejumppublish",
		"calls/qrcodejumpdelete", "calls/qrcodejumpdownload", "calls/wxamplink", "calls/wxamplinkget", "calls/wxampunlink",
		"calls/qrcode-create", "calls/showqrcode"}},
	{"contents.codes", []string{"calls/applycode", "calls/applycodequery", "calls/applycodedownload",
		"calls/codeactive", "calls/codeactivequery", "calls/tickettocode"}},
	{"contents.platforms", []string{"calls/api_authorizer_token", "calls/api_component_token",
		"calls/api_create_preauthcode", "calls/api_get_authorizer_info", "calls/api_get_authorizer_list",
		"calls/api_get_authorizer_option", "calls/api_query_auth", "calls/api_set_authorizer_option", "calls/api_start_push_ticket",
		"calls/component-clear_quota", "calls/component-clear_quota-v2", "calls/component-jscode2session"}},
	{"contents.tables", []string{"errors", "settings", "commands", "metrics", "behaviours"}},
}
