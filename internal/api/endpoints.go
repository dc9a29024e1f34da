package api

import (
	"slices"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/errcode"
)

// endpoints is the whole wire on one screen. Each line names the codes that
// the endpoint itself can answer; the codes of shared are everywhere.
func (a *API) endpoints() []endpoint {
	return []endpoint{
		getOrPost("/cgi-bin/token", makes, a.token, credentialCodes...),
		post("/cgi-bin/stable_token", open, a.stableToken, credentialCodes...),

		post("/cgi-bin/clear_quota", token|eitherToken, a.clearQuota, errcode.InvalidAppID, errcode.ClearLimit),
		post("/cgi-bin/clear_quota/v2", queryToo, a.clearBySecret, errcode.AppIDMissing, errcode.SecretMissing, errcode.InvalidAppID,
			errcode.InvalidSecret, errcode.MinuteLimit, errcode.InvalidIP, errcode.SecretFrozen, errcode.ClearLimit),
		post("/cgi-bin/component/clear_quota/v2", queryToo, a.clearByPlatform, append(platformCodes, errcode.ClearLimit)...),
		post("/cgi-bin/component/clear_quota", platform, a.clearPlatform, append(onPlatform, errcode.ClearLimit)...),
		post("/cgi-bin/openapi/quota/get", token|eitherToken, a.getQuota, errcode.PathNotFound, errcode.PathNotPermitted),
		post("/cgi-bin/openapi/quota/clear", token|eitherToken, a.clearPath, errcode.PathNotFound, errcode.PathNotPermitted,
			errcode.ClearLimit),
		post("/cgi-bin/openapi/rid/get", token|eitherToken, a.getRID, errcode.RIDNotFound, errcode.RIDInvalid, errcode.RIDForbidden,
			errcode.RIDTooOld),
		getOrPost("/cgi-bin/get_api_domain_ip", token|eitherToken, a.apiIPs),
		getOrPost("/cgi-bin/getcallbackip", token|eitherToken, a.callbackIPs),

		post("/cgi-bin/wxopen/qrcodejumpadd", token, a.addRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.IllegalPrefix,
			errcode.TestLinkNotBelow, errcode.PrefixAdded, errcode.PrefixOwned, errcode.PrefixLimit, errcode.PrefixDenied,
			errcode.ICPFailed, errcode.ConfirmFileFailed).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpget", token|emptyBody|listing, a.listRules,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumppublish", token, a.publishRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.NotReleased,
			errcode.PublishQuota).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdelete", token, a.deleteRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized).ofRules(),
		post("/cgi-bin/wxopen/qrcodejumpdownload", token|emptyBody, a.downloadRuleFile,
			errcode.PersonalSubject, errcode.Unauthorized).ofRules(),

		post("/cgi-bin/wxopen/wxamplink", token, a.askLink,
			append(linkFaults, errcode.Unauthorized, errcode.InvalidAppID, errcode.LinkQuota, errcode.LinkLimit, errcode.LinkSent,
				errcode.HasLinked)...).ofLinks(),
		post("/cgi-bin/wxopen/wxamplinkget", token|noBody, a.listLinks, errcode.Unauthorized).ofLinks(),
		post("/cgi-bin/wxopen/wxampunlink", token, a.endLink,
			append(linkFaults, errcode.Unauthorized, errcode.InvalidAppID, errcode.UnlinkSent)...).ofLinks(),
		post("/cgi-bin/qrcode/create", token, a.createQRCode,
			errcode.InvalidActionName, errcode.InvalidActionInfo, errcode.QRCodeLimit,
			errcode.Unauthorized).under(only(accounts.AccountService)).gated(forQRCodes),
		get("/cgi-bin/showqrcode", a.showQRCode),

		post("/intp/marketcode/applycode", token, a.applyCode, errcode.Unauthorized, errcode.ApplicationExists,
			errcode.DailyLimit).ofCodes(),
		post("/intp/marketcode/applycodequery", token, a.queryApplication, errcode.Unauthorized, errcode.NoApplication,
			errcode.NotOwnApplication).ofCodes(),
		post("/intp/marketcode/applycodedownload", token, a.downloadCodes, errcode.Unauthorized, errcode.NoApplication,
			errcode.NotOwnApplication, errcode.IndexBeyond,
			errcode.NotFinished, errcode.SegmentExpired, errcode.NoSegment, errcode.FileFailed, errcode.EncryptionFailed,
			errcode.NoPackageKey).ofCodes(),
		post("/intp/marketcode/codeactive", token, a.activateCodes, errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication,
			errcode.InvalidAppID,
			errcode.ActivationOverlaps, errcode.ActivationFailed, errcode.IndexBeyond, errcode.NotFinished).ofCodes(),
		post("/intp/marketcode/codeactivequery", token, a.queryCode, errcode.Unauthorized, errcode.NoApplication, errcode.NotOwnApplication,
			errcode.CodeMalformed, errcode.CodeNotActive, errcode.IndexBeyond).ofCodes(),
		post("/intp/marketcode/tickettocode", token|ticketOnly, a.tradeTicket, errcode.Unauthorized).ofCodes(),

		post("/cgi-bin/component/api_start_push_ticket", open, a.startPushTicket, platformCodes...),
		post("/cgi-bin/component/api_component_token", open, a.componentToken,
			append(platformCodes, errcode.TicketExpired, errcode.TicketInvalid, errcode.DailyLimit)...),
		post("/cgi-bin/component/api_create_preauthcode", platform, a.createPreAuthCode, onPlatform...),
		post("/cgi-bin/component/api_query_auth", platform, a.queryAuth,
			append(onPlatform, errcode.NotAuthorizing, errcode.GrantCodeInvalid, errcode.GrantCodeExpired)...),
		post("/cgi-bin/component/api_authorizer_token", platform, a.authorizerToken,
			append(onPlatform, errcode.NotAuthorizing, errcode.InvalidRefresh)...),
		post("/cgi-bin/component/api_get_authorizer_info", platform, a.authorizerInfo, append(onPlatform, errcode.NotAuthorizing)...),
		post("/cgi-bin/component/api_get_authorizer_list", platform, a.authorizerList, append(onPlatform, errcode.TooManyListed)...),
		post("/cgi-bin/component/api_get_authorizer_option", platform, a.authorizerOption, append(onPlatform, errcode.NotAuthorizing)...),
		post("/cgi-bin/component/api_set_authorizer_option", platform, a.setAuthorizerOption,
			append(onPlatform, errcode.NotAuthorizing)...),

		getOrPost("/sns/jscode2session", makes, a.tradeLogin,
			append(credentialCodes, errcode.LoginCodeMissing, errcode.InvalidLoginCode, errcode.LoginCodeUsed, errcode.CodeBlocked)...),
		getOrPost("/sns/component/jscode2session", makes|platformLast, a.tradeLoginByPlatform,
			append(onPlatform, errcode.InvalidGrantType, errcode.AppIDMissing, errcode.NotAuthorizing, errcode.LoginCodeMissing,
				errcode.InvalidLoginCode, errcode.LoginCodeUsed)...),
	}
}

// shared are the codes that every endpoint can answer.
var shared = []*errcode.Code{
	errcode.OK, errcode.SystemError, errcode.RequirePost, errcode.EmptyPostData, errcode.DataFormat, errcode.InvalidArgs,
	errcode.TokenMissing, errcode.InvalidCredential, errcode.TokenExpired, errcode.TooFrequent, errcode.DailyLimit,
}

// linkFaults are answered by the link calls only where a fault injects them.
var linkFaults = []*errcode.Code{
	errcode.BindLimit, errcode.BindLimitToo, errcode.OverseasLink, errcode.NearbyLink, errcode.StoreLink, errcode.BannedLink,
	errcode.SameRealname, errcode.OtherRealname,
}

var credentialCodes = []*errcode.Code{
	errcode.InvalidGrantType, errcode.AppIDMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
	errcode.InvalidIP, errcode.SecretFrozen, errcode.ComponentToken, errcode.DailyLimit, errcode.MinuteLimit,
}

// platformCodes are those of calls with a platform's secret, onPlatform those
// of calls with its token.
var (
	platformCodes = []*errcode.Code{errcode.ComponentMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
		errcode.InvalidComponent, errcode.ComponentIP, errcode.MinuteLimit}
	onPlatform = []*errcode.Code{errcode.ComponentMissing, errcode.InvalidAppID, errcode.InvalidComponent, errcode.ComponentIP,
		errcode.WantsComponent}
)

// Paths are the paths of all endpoints.
func Paths() []string {
	var paths []string
	for _, e := range (&API{}).endpoints() {
		paths = append(paths, e.path)
	}
	return paths
}

// Shared lists the codes that every endpoint can answer.
func Shared() []*errcode.Code { return slices.Clone(shared) }

// Description is an endpoint as the reference shows it.
type Description struct {
	Path   string
	Method string
	Token  bool
	Codes  []*errcode.Code // beside those that every endpoint can answer
	Fields []string        // those that the platform's pages name
	// Sets are the permission sets that a platform needs to call for a Mini Program and
	// for a service account; 0 = none.
	Sets [2]int
}

// Describe lists every endpoint in the order of the table.
func Describe() []Description {
	var list []Description
	for _, e := range (&API{}).endpoints() {
		d := Description{Path: e.path, Method: "POST", Token: e.needs&(token|platform|platformLast) != 0, Codes: e.codes,
			Fields: namedFields[e.path], Sets: [2]int{e.sets.miniProgram, e.sets.official}}
		if e.needs&anyMethod != 0 {
			d.Method = "GET"
		}
		list = append(list, d)
	}
	return list
}
