package api

import (
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
)

// endpoints returns the table of all wire endpoints. Each entry lists the fields of the platform's documentation page in the page's order,
// with ! after each required field. Each entry also lists the error codes specific to the endpoint; every endpoint can return the codes in
// commonErrors too.
func (a *API) endpoints() []endpoint {
	return []endpoint{
		get("/cgi-bin/token", mutates|unaudited, "grant_type! appid! secret!", a.token, credentialErrors...),
		post("/cgi-bin/stable_token", unaudited, "grant_type! appid! secret! force_refresh", a.stableToken, credentialErrors...),

		post("/cgi-bin/clear_quota", token|eitherToken|unaudited, "appid!", a.clearQuota, errcode.InvalidAppID, errcode.ClearLimit),
		post("/cgi-bin/clear_quota/v2", queryAllowed|unaudited, "appid! appsecret!", a.clearBySecret, errcode.AppIDMissing,
			errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret, errcode.MinuteLimit, errcode.InvalidIP,
			errcode.SecretFrozen, errcode.ClearLimit),
		post("/cgi-bin/component/clear_quota/v2", queryAllowed|unaudited, "component_appid! appsecret! appid!", a.clearByPlatform,
			append(platformSecretErrors, errcode.ClearLimit)...),
		post("/cgi-bin/component/clear_quota", platform|unaudited, "component_appid!", a.clearPlatform,
			append(platformTokenErrors, errcode.ClearLimit)...),
		post("/cgi-bin/openapi/quota/get", token|eitherToken|unaudited, "cgi_path!", a.getQuota, errcode.PathNotFound,
			errcode.PathNotPermitted),
		post("/cgi-bin/openapi/quota/clear", token|eitherToken|unaudited, "cgi_path!", a.clearPath, errcode.PathNotFound,
			errcode.PathNotPermitted, errcode.ClearLimit),
		post("/cgi-bin/openapi/rid/get", token|eitherToken|unaudited, "rid!", a.getRID, errcode.RIDNotFound, errcode.RIDInvalid,
			errcode.RIDForbidden, errcode.RIDTooOld),
		get("/cgi-bin/get_api_domain_ip", token|eitherToken|unaudited, "", a.apiIPs),
		get("/cgi-bin/getcallbackip", token|eitherToken|escapedSlashes|unaudited, "", a.callbackIPs),

		post("/cgi-bin/wxopen/qrcodejumpadd", token, "prefix! path! is_edit! permit_sub_rule! open_version! debug_url appid", a.addRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.IllegalPrefix,
			errcode.TestLinkNotBelow, errcode.PrefixAdded, errcode.PrefixOwned, errcode.PrefixLimit, errcode.PrefixDenied,
			errcode.ICPFailed, errcode.ConfirmFileFailed).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpget", token|emptyBody|getAllowed|unaudited, "get_type prefix_list page_num page_size appid",
			a.listRules, errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumppublish", token, "prefix!",
			reading(requiring("prefix", behaviour.RulesPrefixMissing), a.publishRule), errcode.InvalidArgs, errcode.PersonalSubject,
			errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.NotReleased, errcode.PublishQuota).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdelete", token, "prefix! appid", a.deleteRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdownload", token|emptyBody|unaudited, "", a.downloadRuleFile,
			errcode.PersonalSubject, errcode.Unauthorized).ofRules(),

		post("/cgi-bin/wxopen/wxamplink", token, "appid! notify_users show_profile", reading(readLinkRequest, a.askLink),
			append(injectedLinkErrors, errcode.Unauthorized, errcode.InvalidAppID, errcode.LinkQuota, errcode.LinkLimit, errcode.LinkSent,
				errcode.HasLinked)...).ofLinks(),
		post("/cgi-bin/wxopen/wxamplinkget", token|withoutBody|unaudited, "", a.listLinks, errcode.Unauthorized).ofLinks(),
		post("/cgi-bin/wxopen/wxampunlink", token, "appid!", reading(requiring("appid", behaviour.LinkAppIDMissing), a.endLink),
			append(injectedLinkErrors, errcode.Unauthorized, errcode.InvalidAppID, errcode.UnlinkSent)...).ofLinks(),
		post("/cgi-bin/qrcode/create", token|escapedSlashes, "action_name! action_info! expire_seconds",
			reading(readQRDraft, a.createQRCode), errcode.InvalidActionName, errcode.InvalidActionInfo, errcode.QRCodeLimit,
			errcode.Unauthorized).ofQRCodes(),
		get("/cgi-bin/showqrcode", unaudited, "ticket!", a.showQRCode),

		post("/intp/marketcode/applycode", token, "code_count! isv_application_id!", reading(readApplyCode, a.applyCode),
			errcode.Unauthorized, errcode.ApplicationExists, errcode.DailyLimit).ofCodes(),
		post("/intp/marketcode/applycodequery", token|unaudited, "application_id isv_application_id",
			reading(readBatchKey, a.queryApplication), errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication).ofCodes(),
		post("/intp/marketcode/applycodedownload", token|unaudited, "application_id! code_start! code_end!", a.downloadCodes,
			errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication, errcode.IndexBeyond, errcode.NotFinished,
			errcode.SegmentExpired, errcode.NoSegment, errcode.FileFailed, errcode.EncryptionFailed, errcode.NoPackageKey).ofCodes(),
		post("/intp/marketcode/codeactive", token,
			"application_id! activity_name! product_brand! product_title! product_code! wxa_appid! wxa_path! wxa_type code_start! code_end!",
			reading(readActivation, a.activateCodes), errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication,
			errcode.InvalidAppID, errcode.ActivationOverlaps, errcode.ActivationFailed, errcode.IndexBeyond, errcode.NotFinished).ofCodes(),
		post("/intp/marketcode/codeactivequery", token|unaudited, "application_id code_index code_url code",
			reading(readCodeName, a.queryCode), errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication,
			errcode.CodeMalformed, errcode.CodeNotActive, errcode.IndexBeyond).ofCodes(),
		post("/intp/marketcode/tickettocode", token|ticketOnly|unaudited, "openid! code_ticket!", a.tradeTicket,
			errcode.Unauthorized).ofCodes(),

		post("/cgi-bin/component/api_start_push_ticket", unaudited, "component_appid! component_secret!",
			a.startPushTicket, platformSecretErrors...),
		post("/cgi-bin/component/api_component_token", unaudited, "component_appid! component_appsecret! component_verify_ticket!",
			a.componentToken, append(platformSecretErrors, errcode.TicketExpired, errcode.TicketInvalid, errcode.DailyLimit)...),
		post("/cgi-bin/component/api_create_preauthcode", platform|unaudited, "component_appid!",
			a.createPreAuthCode, platformTokenErrors...),
		post("/cgi-bin/component/api_query_auth", platform|unaudited, "component_appid! authorization_code!",
			reading(requiring("authorization_code", behaviour.ComponentCodeMissing), a.queryAuth),
			append(platformTokenErrors, errcode.NotAuthorizing, errcode.GrantCodeInvalid, errcode.GrantCodeExpired)...),
		post("/cgi-bin/component/api_authorizer_token", platform|unaudited, "component_appid! authorizer_appid! authorizer_refresh_token!",
			a.authorizerToken, append(platformTokenErrors, errcode.NotAuthorizing, errcode.InvalidRefresh)...),
		post("/cgi-bin/component/api_get_authorizer_info", platform|unaudited, "component_appid! authorizer_appid!",
			reading(requiring("authorizer_appid", behaviour.ComponentAccountMissing), a.authorizerInfo),
			append(platformTokenErrors, errcode.NotAuthorizing)...),
		post("/cgi-bin/component/api_get_authorizer_list", platform|unaudited, "component_appid! offset! count!", a.authorizerList,
			append(platformTokenErrors, errcode.TooManyListed)...),
		post("/cgi-bin/component/api_get_authorizer_option", platform|unaudited, "component_appid! authorizer_appid! option_name!",
			a.authorizerOption, optionErrors...),
		post("/cgi-bin/component/api_set_authorizer_option", platform, "component_appid! authorizer_appid! option_name! option_value!",
			a.setAuthorizerOption, optionErrors...),
		post("/cgi-bin/component/get_authorizer_option", token|eitherToken|unaudited, "option_name! component_appid authorizer_appid",
			a.authorizerOption, optionErrors...),
		post("/cgi-bin/component/set_authorizer_option", token|eitherToken,
			"option_name! option_value! component_appid authorizer_appid", a.setAuthorizerOption, optionErrors...),

		get("/sns/jscode2session", mutates|escapedSlashes|unaudited, "appid! secret! js_code! grant_type!", a.tradeLogin,
			append(credentialErrors, errcode.LoginCodeMissing, errcode.InvalidLoginCode, errcode.LoginCodeUsed, errcode.CodeBlocked)...),
		get("/sns/component/jscode2session", mutates|platformLast|unaudited, "appid! js_code! grant_type! component_appid!",
			a.tradeLoginByPlatform, append(slices.DeleteFunc(slices.Clone(platformTokenErrors),
				func(c *errcode.Code) bool { return c == errcode.ComponentIP }),
				errcode.InvalidSource, errcode.InvalidGrantType, errcode.AppIDMissing, errcode.NotAuthorizing,
				errcode.LoginCodeMissing, errcode.InvalidLoginCode, errcode.LoginCodeUsed)...),
	}
}

// commonErrors lists the error codes that every endpoint can return.
var commonErrors = []*errcode.Code{
	errcode.OK, errcode.SystemError, errcode.InvalidURL, errcode.RequirePost, errcode.EmptyPostData, errcode.DataFormat,
	errcode.InvalidArgs, errcode.TokenMissing, errcode.InvalidCredential, errcode.TokenExpired, errcode.TooFrequent, errcode.DailyLimit,
}

// injectedLinkErrors lists error codes that link calls return only for injected faults.
var injectedLinkErrors = []*errcode.Code{
	errcode.BindLimit, errcode.BindLimitToo, errcode.OverseasLink, errcode.NearbyLink, errcode.StoreLink, errcode.BannedLink,
	errcode.SameRealname, errcode.OtherRealname,
}

var credentialErrors = []*errcode.Code{
	errcode.InvalidGrantType, errcode.AppIDMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
	errcode.InvalidIP, errcode.SecretFrozen, errcode.ComponentToken, errcode.DailyLimit, errcode.MinuteLimit,
}

// platformSecretErrors lists the error codes of calls with a platform's secret; platformTokenErrors, of calls with a platform's token.
var (
	platformSecretErrors = []*errcode.Code{errcode.ComponentMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
		errcode.InvalidComponent, errcode.ComponentIP, errcode.MinuteLimit}
	platformTokenErrors = []*errcode.Code{errcode.ComponentMissing, errcode.InvalidAppID, errcode.InvalidComponent, errcode.ComponentIP,
		errcode.WantsComponent}
	optionErrors = append(slices.Clone(platformTokenErrors), errcode.NotAuthorizing, errcode.NotComponentSet)
)

// Paths returns the paths of all endpoints.
func Paths() []string {
	var paths []string
	for _, e := range (&API{}).endpoints() {
		paths = append(paths, e.path)
	}
	return paths
}

// Shared returns the error codes that every endpoint can return.
func Shared() []*errcode.Code { return slices.Clone(commonErrors) }

// Description is an endpoint in the form shown in the API reference.
type Description struct {
	Path   string
	Method string
	Token  bool
	Codes  []*errcode.Code // excluding the codes that every endpoint can return
	Fields []Field
	Reads  bool // the call leaves no entry in the audit log
	// Sets are the permission sets that a platform needs for calls in the name of a Mini Program and of a service account; 0 = none.
	Sets [2]int
}

// Field is a field that the platform's documentation page of an endpoint lists; Must reports whether the page requires the field.
type Field struct {
	Name string
	Must bool
}

// Describe returns all endpoints in the order of the endpoint table.
func Describe() []Description {
	var list []Description
	for _, e := range (&API{}).endpoints() {
		d := Description{Path: e.path, Method: "POST", Token: e.needs&(token|platform|platformLast) != 0, Codes: e.codes,
			Reads: e.needs&unaudited != 0, Sets: [2]int{e.permissionSets.miniProgram, e.permissionSets.official}}
		for name := range strings.FieldsSeq(e.page) {
			name, required := strings.CutSuffix(name, "!")
			d.Fields = append(d.Fields, Field{name, required})
		}
		if e.needs&anyMethod != 0 {
			d.Method = "GET"
		}
		list = append(list, d)
	}
	return list
}
