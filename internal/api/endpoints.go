package api

import "github.com/qrjump/qrjump/internal/errcode"

// endpoints is the whole wire on one screen. Each line names the codes that
// the endpoint itself can answer; the codes of shared are everywhere.
func (a *API) endpoints() []endpoint {
	return []endpoint{
		get("/cgi-bin/token", a.token, credentialCodes...),
		post("/cgi-bin/stable_token", open, a.stableToken, append(credentialCodes, errcode.MinuteLimit)...),

		post("/cgi-bin/wxopen/qrcodejumpadd", token, a.addRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID, errcode.IllegalPrefix,
			errcode.TestLinkNotBelow, errcode.PrefixAdded, errcode.PrefixOwned, errcode.PrefixLimit, errcode.PrefixDenied,
			errcode.ICPFailed, errcode.ConfirmFileFailed),
		post("/cgi-bin/wxopen/qrcodejumpget", token|emptyBody, a.listRules,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.InvalidWeappAppID),
		post("/cgi-bin/wxopen/qrcodejumppublish", token, a.publishRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized, errcode.NotReleased, errcode.PublishQuota),
		post("/cgi-bin/wxopen/qrcodejumpdelete", token, a.deleteRule,
			errcode.InvalidArgs, errcode.PersonalSubject, errcode.Unauthorized),
		post("/cgi-bin/wxopen/qrcodejumpdownload", token|emptyBody, a.downloadRuleFile,
			errcode.PersonalSubject, errcode.Unauthorized),
	}
}

// shared are the codes that every endpoint can answer.
var shared = []*errcode.Code{
	errcode.OK, errcode.SystemError, errcode.RequirePost, errcode.EmptyPostData, errcode.DataFormat, errcode.InvalidArgs,
	errcode.TokenMissing, errcode.InvalidCredential, errcode.InvalidAccessToken, errcode.TokenExpired, errcode.TooFrequent,
}

var credentialCodes = []*errcode.Code{
	errcode.InvalidGrantType, errcode.AppIDMissing, errcode.SecretMissing, errcode.InvalidAppID, errcode.InvalidSecret,
	errcode.InvalidIP, errcode.SecretFrozen, errcode.ComponentToken, errcode.DailyLimit,
}

// Paths are the paths of all endpoints.
func Paths() []string {
	var paths []string
	for _, e := range (&API{}).endpoints() {
		paths = append(paths, e.path)
	}
	return paths
}

// Description is an endpoint as the reference shows it.
type Description struct {
	Path   string
	Method string
	Token  bool
	Codes  []*errcode.Code // beside those that every endpoint can answer
}

// Describe lists every endpoint in the order of the table.
func Describe() []Description {
	var list []Description
	for _, e := range (&API{}).endpoints() {
		d := Description{Path: e.path, Method: "POST", Token: e.needs&token != 0, Codes: e.codes}
		if e.needs&anyMethod != 0 {
			d.Method = "GET"
		}
		list = append(list, d)
	}
	return list
}
