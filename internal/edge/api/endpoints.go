package api

import (
	"slices"
	"strings"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// endpoints returns the table of all wire endpoints. Each entry of the endpoint table lists the error codes specific to the
// endpoint; every endpoint can also return the codes in shared. Each entry of the endpoint table lists the fields of the platform's
// documentation page in the page's order, with ! after each required field.
func (a *API) endpoints() []endpoint {
	return []endpoint{
		get("/cgi-bin/token", makes|reads, "grant_type! appid! secret!", a.token, credentialCodes...),
		post("/cgi-bin/stable_token", reads, "grant_type! appid! secret! force_refresh", a.stableToken, credentialCodes...),

		post("/cgi-bin/clear_quota", token|eitherToken|reads, "appid!", a.clearQuota, errcode.InvalidAppID, errcode.ClearLimit),
		post("/cgi-bin/clear_quota/v2", queryToo|reads, "appid! appsecret!", a.clearBySecret, errcode.AppIDMissing, errcode.SecretMissing,
			errcode.InvalidAppID, errcode.InvalidSecret, errcode.MinuteLimit, errcode.InvalidIP, errcode.SecretFrozen,
			errcode.ClearLimit),
		post("/cgi-bin/component/clear_quota/v2", queryToo|reads, "component_appid! appsecret! appid!", a.clearByPlatform,
			append(platformCodes, errcode.ClearLimit)...),
		post("/cgi-bin/component/clear_quota", platform|reads, "component_appid!", a.clearPlatform,
			append(onPlatform, errcode.ClearLimit)...),
		post("/cgi-bin/openapi/quota/get", token|eitherToken|reads, "cgi_path!", a.getQuota, errcode.PathNotFound,
			errcode.PathNotPermitted),
		post("/cgi-bin/openapi/quota/clear", token|eitherToken|reads, "cgi_path!", a.clearPath, errcode.PathNotFound,
			errcode.PathNotPermitted, errcode.ClearLimit),
		post("/cgi-bin/openapi/rid/get", token|eitherToken|reads, "rid!", a.getRID, errcode.RIDNotFound, errcode.RIDInvalid,
			errcode.RIDForbidden, errcode.RIDTooOld),
		get("/cgi-bin/get_api_domain_ip", token|eitherToken|reads, "", a.apiIPs),
		get("/cgi-bin/getcallbackip", token|eitherToken|slashes|reads, "", a.callbackIPs),

		post("/cgi-bin/wxopen/qrcodejumpadd", token, "prefix! path! is_edit! permit_sub_rule! open_version! debug_url appid", a.addRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.IllegalPrefix,
			errcode.TestLinkNotBelow, errcode.PrefixAdded, errcode.PrefixOwned, errcode.PrefixLimit, errcode.PrefixDenied,
			errcode.ICPFailed, errcode.ConfirmFileFailed).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpget", token|emptyBody|listing|reads, "get_type prefix_list page_num page_size appid", a.listRules,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumppublish", token, "prefix!", a.publishRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.NotReleased,
			errcode.PublishQuota).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdelete", token, "prefix! appid", a.deleteRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdownload", token|emptyBody|reads, "", a.downloadRuleFile,
			errcode.PersonalSubject, errcode.Unauthorized).ofRules(),

		post("/cgi-bin/wxopen/wxamplink", token, "appid! notify_users show_profile", a.askLink,
			append(linkFaults, errcode.Unauthorized, errcode.InvalidAppID, errcode.LinkQuota, errcode.LinkLimit, errcode.LinkSent,
				errcode.HasLinked)...).ofLinks(),
		post("/cgi-bin/wxopen/wxamplinkget", token|withoutBody|reads, "", a.listLinks, errcode.Unauthorized).ofLinks(),
		post("/cgi-bin/wxopen/wxampunlink", token, "appid!", a.endLink,
			append(linkFaults, errcode.Unauthorized, errcode.InvalidAppID, errcode.UnlinkSent)...).ofLinks(),
		post("/cgi-bin/qrcode/create", token|slashes, "action_name! action_info! expire_seconds", a.createQRCode,
			errcode.InvalidActionName, errcode.InvalidActionInfo, errcode.QRCodeLimit,
			errcode.Unauthorized).requireSets(sameSets(accounts.AccountService)).gated(forQRCodes),
		get("/cgi-bin/showqrcode", reads, "ticket!", a.showQRCode),

		post("/intp/marketcode/applycode", token, "code_count! isv_application_id!", a.applyCode, errcode.Unauthorized,
			errcode.ApplicationExists, errcode.DailyLimit).ofCodes(),
		post("/intp/marketcode/applycodequery", token|reads, "application_id isv_application_id", a.queryApplication,
			errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication).ofCodes(),
		post("/intp/marketcode/applycodedownload", token|reads, "application_id! code_start! code_end!", a.downloadCodes,
			errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication, errcode.IndexBeyond, errcode.NotFinished,
			errcode.SegmentExpired, errcode.NoSegment, errcode.FileFailed, errcode.EncryptionFailed, errcode.NoPackageKey).ofCodes(),
		post("/intp/marketcode/codeactive", token,
			"application_id! activity_name! product_brand! product_title! product_code! wxa_appid! wxa_path! wxa_type code_start! code_end!",
			a.activateCodes, errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication, errcode.InvalidAppID,
			errcode.ActivationOverlaps, errcode.ActivationFailed, errcode.IndexBeyond, errcode.NotFinished).ofCodes(),
		post("/intp/marketcode/codeactivequery", token|reads, "application_id code_index code_url code", a.queryCode,
			errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication, errcode.CodeMalformed, errcode.CodeNotActive,
			errcode.IndexBeyond).ofCodes(),
		post("/intp/marketcode/tickettocode", token|ticketOnly|reads, "openid! code_ticket!", a.tradeTicket,
			errcode.Unauthorized).ofCodes(),

		post("/cgi-bin/component/api_start_push_ticket", reads, "component_appid! component_secret!", a.startPushTicket, platformCodes...),
		post("/cgi-bin/component/api_component_token", reads, "component_appid! component_appsecret! component_verify_ticket!",
			a.componentToken, append(platformCodes, errcode.TicketExpired, errcode.TicketInvalid, errcode.DailyLimit)...),
		post("/cgi-bin/component/api_create_preauthcode", platform|reads, "component_appid!", a.createPreAuthCode, onPlatform...),
		post("/cgi-bin/component/api_query_auth", platform|reads, "component_appid! authorization_code!", a.queryAuth,
			append(onPlatform, errcode.NotAuthorizing, errcode.GrantCodeInvalid, errcode.GrantCodeExpired)...),
		post("/cgi-bin/component/api_authorizer_token", platform|reads, "component_appid! authorizer_appid! authorizer_refresh_token!",
			a.authorizerToken, append(onPlatform, errcode.NotAuthorizing, errcode.InvalidRefresh)...),
		post("/cgi-bin/component/api_get_authorizer_info", platform|reads, "component_appid! authorizer_appid!", a.authorizerInfo,
			append(onPlatform, errcode.NotAuthorizing)...),
		post("/cgi-bin/component/api_get_authorizer_list", platform|reads, "component_appid! offset! count!", a.authorizerList,
			append(onPlatform, errcode.TooManyListed)...),
		post("/cgi-bin/component/api_get_authorizer_option", platform|reads, "component_appid! authorizer_appid! option_name!",
			a.authorizerOption, onOption...),
		post("/cgi-bin/component/api_set_authorizer_option", platform, "component_appid! authorizer_appid! option_name! option_value!",
			a.setAuthorizerOption, onOption...),
		post("/cgi-bin/component/get_authorizer_option", token|eitherToken|reads, "option_name! component_appid authorizer_appid",
			a.authorizerOption, onOption...),
		post("/cgi-bin/component/set_authorizer_option", token|eitherToken,
			"option_name! option_value! component_appid authorizer_appid", a.setAuthorizerOption, onOption...),

		get("/sns/jscode2session", makes|slashes|reads, "appid! secret! js_code! grant_type!", a.tradeLogin,
			append(credentialCodes, errcode.LoginCodeMissing, errcode.InvalidLoginCode, errcode.LoginCodeUsed, errcode.CodeBlocked)...),
		get("/sns/component/jscode2session", makes|platformLast|reads, "appid! js_code! grant_type! component_appid!",
			a.tradeLoginByPlatform, append(slices.DeleteFunc(slices.Clone(onPlatform),
				func(c *errcode.Code) bool { return c == errcode.ComponentIP }),
				errcode.InvalidSource, errcode.InvalidGrantType, errcode.AppIDMissing, errcode.NotAuthorizing,
				errcode.LoginCodeMissing, errcode.InvalidLoginCode, errcode.LoginCodeUsed)...),
	}
}

// shared lists the error codes that every endpoint can return.
var shared = []*errcode.Code{
	errcode.OK, errcode.SystemError, errcode.InvalidURL, errcode.RequirePost, errcode.EmptyPostData, errcode.DataFormat,
	errcode.InvalidArgs, errcode.TokenMissing, errcode.InvalidCredential, errcode.TokenExpired, errcode.TooFrequent, errcode.DailyLimit,
}

// linkFaults lists error codes that link calls return only for injected faults.
var linkFaults = []*errcode.Code{
	errcode.BindLimit, errcode.BindLimitToo, errcode.OverseasLink, errcode.NearbyLink, errcode.StoreLink, errcode.BannedLink,
	errcode.SameRealname, errcode.OtherRealname,
}

var credentialCodes = []*errcode.Code{
	errcode.InvalidGrantType, errcode.AppIDMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
	errcode.InvalidIP, errcode.SecretFrozen, errcode.ComponentToken, errcode.DailyLimit, errcode.MinuteLimit,
}

// platformCodes lists the error codes of calls with a platform's secret, and onPlatform those of calls with a platform's token.
var (
	platformCodes = []*errcode.Code{errcode.ComponentMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
		errcode.InvalidComponent, errcode.ComponentIP, errcode.MinuteLimit}
	onPlatform = []*errcode.Code{errcode.ComponentMissing, errcode.InvalidAppID, errcode.InvalidComponent, errcode.ComponentIP,
		errcode.WantsComponent}
	onOption = append(slices.Clone(onPlatform), errcode.NotAuthorizing, errcode.NotComponentSet)
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
func Shared() []*errcode.Code { return slices.Clone(shared) }

// Description is an endpoint in the form shown in the API reference.
type Description struct {
	Path   string
	Method string
	Token  bool
	Codes  []*errcode.Code // excluding the codes that every endpoint can return
	Fields []Field
	Reads  bool // the call leaves no entry in the audit log
	// Sets are the permission sets that a platform needs to call for a Mini Program and
	// for a service account; 0 = none.
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
			Reads: e.needs&reads != 0, Sets: [2]int{e.sets.miniProgram, e.sets.official}}
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
