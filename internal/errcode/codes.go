package errcode

// StableTokenAdvice is what the platform puts behind the texts of 40001 and 45009
// on the calls that take or make an ordinary token. Contract: rules 3.6.
const StableTokenAdvice = ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"

// The codes. Contract: rules 1.8, 3.1, 3.6.
var (
	OK          = define(0, "ok", "success", Seen)
	SystemError = define(-1, "system error", "busy or broken; try again later", Seen)

	InvalidCredential = define(40001, "invalid credential, access_token is invalid or not latest",
		"the token was replaced or is unknown, or the text is none", Seen)
	InvalidGrantType = define(40002, "invalid grant_type",
		"grant_type is not the call's: client_credential, or authorization_code for a login", Seen)
	InvalidAppID       = define(40013, "invalid appid", "no account has this AppID", Seen)
	InvalidAccessToken = define(40014, "invalid access_token", "only as an injected fault: any text that is no valid token is 40001", Page)
	InvalidLoginCode   = define(40029, "invalid code", "the js_code is unknown, expired, or another account's", Seen)
	InvalidActionName  = define(40052, "invalid action name", "action_name is none of the four", Page)
	InvalidActionInfo  = define(40053, "invalid action info", "action_info has no scene that fits action_name", Page)
	InvalidURL         = define(40066, "invalid url", "no endpoint at this path", Seen)
	InvalidArgs        = define(40097, "invalid args", "a field is missing, of the wrong type or outside its range, or names nothing", Seen)
	InvalidSecret      = define(40125, "invalid appsecret", "the AppSecret is not the account's or the platform's", Seen)
	LoginCodeUsed      = define(40163, "code been used", "the js_code was traded already", Seen)
	InvalidIP          = define(40164, "invalid ip", "the caller's address is not on the account's list", Seen)
	InvalidWeappAppID  = define(40166, "invalid weapp appid", "appid is not a Mini Program that this service account is linked with", Seen)
	TooManyListed      = define(40170, "args count exceed count limit", "more authorised accounts asked for at once than 500", Page)
	CodeBlocked        = define(40226, "code blocked", "only as an injected fault: no user is a risk here", Page)
	SecretFrozen       = define(40243, "appsecret has been frozen", "the administrator froze the AppSecret", Page)
	TokenMissing       = define(41001, "access_token missing", "no access_token in the query", Seen)
	AppIDMissing       = define(41002, "appid missing", "no appid", Seen)
	SecretMissing      = define(41004, "appsecret missing", "no secret", Seen)
	LoginCodeMissing   = define(41008, "missing code", "no js_code", Seen)
	ComponentMissing   = define(41018, "missing component_appid",
		"no component_appid, or a body that is no JSON object where one must name the platform", Seen)
	TokenExpired    = define(42001, "access_token expired", "the token's two hours are over", Seen)
	RefreshReplaced = define(42007, "access_token and refresh_token exception",
		"only as an injected fault: a refresh token that was replaced is 61023", Page)
	RequirePost   = define(43002, "require POST method", "the call wants POST", Page)
	EmptyPostData = define(44002, "empty post data", "the body is empty", Seen)
	TooFrequent   = define(44990, "reach max api second frequence limit",
		"more calls a second than an account may make to an interface", Page)
	DailyLimit  = define(45009, "reach max api daily quota limit", "the day's calls of this interface are used up", Seen)
	MinuteLimit = define(45011, "api minute-quota reach limit, must slower, retry next minute",
		"the minute's calls of this interface are used up", Page)
	QRCodeLimit  = define(45029, "qrcode count out of limit", "the service account has as many permanent codes as it may", Seen)
	DataFormat   = define(47001, "data format error", "the body is not a JSON object", Seen)
	Unauthorized = define(48001, "api unauthorized", "the account cannot use this interface", Seen)
	APIForbidden = define(48004, "api forbidden for irregularities, view detail on mp.weixin.qq.com",
		"only as an injected fault: no interface is banned for an account here", Seen)
	ClearLimit = define(48006, "forbid to clear quota because of reaching the limit",
		"the month's ten clears of the account are used up", Page)
	UserLimited    = define(50002, "user limited", "only as an injected fault: no account is frozen or cancelled here", Seen)
	NotAuthorizing = define(61003, "component is not authorized by this account",
		"the account did not authorise the platform, or withdrew it", Seen)
	ComponentIP = define(61004, "access clientip is not registered",
		"the caller's address is not on the platform's list; the text ends in requestIP: and the address", Seen)
	TicketExpired = define(61005, "component ticket is expired", "the verify ticket is older than twelve hours", Seen)
	TicketInvalid = define(61006, "component ticket is invalid", "the verify ticket is missing, or was never pushed to this platform",
		Seen)
	NotComponentSet = define(61007, "api is unauthorized to component", "the account did not grant the platform the permission set",
		Seen)
	GrantCodeInvalid = define(61009, "code is invalid", "the authorization_code was never given to this platform", Seen)
	GrantCodeExpired = define(61010, "code is expired", "the authorization_code was used or its time is over", Seen)
	InvalidComponent = define(61011, "invalid component", "the AppID is an account's, or that of another platform than the token's", Seen)
	WantsComponent   = define(61014, "must use component token for component api",
		"the token is an account's, the interface is the platform's", Page)
	InvalidRefresh = define(61023, "refresh_token is invalid",
		"the text is not the refresh token in force: missing, unknown, replaced by a newer authorisation, or another account's", Seen)
	ComponentToken = define(61024, "must use api(api_component_token) to get token for component acct",
		"the AppID is a third-party platform's", Seen)

	RIDNotFound  = define(76001, "rid not found", "no call that is kept has this request id", Page)
	RIDInvalid   = define(76002, "rid is error", "the text has not the form of a request id", Page)
	RIDForbidden = define(76003, "could not query this rid,no permission", "the request id is of another account's call", Page)
	RIDTooOld    = define(76004, "rid time is error", "the request id is older than seven days", Page)
	PathNotFound = define(76021, "cgi_path not found, please check", "no interface has this path; it begins with / and names no host",
		Page)
	PathNotPermitted = define(76022, "could not use this cgi_path, no permission",
		"the caller cannot use the interface, or its quota is not shown, as of all of /sns/", Page)

	// Contract: marketcode 7. Codes that cannot happen here are there to be injected.
	NoApplication      = define(80300, "申请单不存在", "there is no such application", Seen)
	NotOwnApplication  = define(80301, "申请单不属于该账号", "the application is another account's", Seen)
	ActivationOverlaps = define(80302, "激活号段有重叠", "the range overlaps codes that are active by another range", Page)
	CodeMalformed      = define(80303, "码格式错误", "the text names no code of this server", Page)
	CodeNotActive      = define(80304, "该码未激活", "the code is not active", Page)
	ActivationFailed   = define(80305, "激活失败", "the activation failed: only as an injected fault", Page)
	IndexBeyond        = define(80306, "码索引超出申请范围", "an index past the end of the application", Page)
	ApplicationExists  = define(80307, "申请已存在", "the isv_application_id was used before with another code_count", Page)
	NotFinished        = define(80308, "子任务未完成", "the application is not FINISH yet", Page)
	SegmentExpired     = define(80309, "子任务文件过期", "the segment's file is gone: its codes were made elsewhere and imported, or it is an injected fault", Seen)
	NoSegment          = define(80310, "子任务不存在", "the range lies in no listed segment", Page)
	FileFailed         = define(80311, "获取文件失败",
		"the segment's file cannot be had: only as an injected fault, ours are made while they are sent", Page)
	EncryptionFailed = define(80312, "加密数据失败", "the package cannot be encrypted: only as an injected fault", Page)
	NoPackageKey     = define(80313, "加密数据密钥不存在，请联系接口人申请", "the account has no package key: the operator sets marketcode_key", Page)

	IllegalPrefix     = define(85066, "illegal prefix", "the prefix cannot be a rule", Seen)
	TestLinkNotBelow  = define(85068, "test url is not the sub prefix", "a test link does not satisfy its rule", Page)
	ConfirmFileFailed = define(85069, "check confirm file fail", "the verification file was not found where it must be", Seen)
	PrefixDenied      = define(85070, "url in blacklist", "the operator refuses rules on this host", Inferred)
	PrefixAdded       = define(85071, "prefix has been added", "the caller has this rule already", Inferred)
	PrefixOwned       = define(85072, "prefix owned by other", "another account has the prefix or occupies it from above", Seen)
	PrefixLimit       = define(85073, "prefix reach limit", "the Mini Program has as many rules as it may", Inferred)
	NotReleased       = define(85074, "not published", "the Mini Program has no released version", Page)
	PersonalSubject   = define(85075, "can not access", "personal Mini Programs cannot have rules", Page)
	ICPFailed         = define(85076, "check ICP fail", "the host's ICP record did not pass", Page)
	RuleDamaged       = define(85095, "data exception", "the rule's data is damaged: delete it and add it again", Inferred)

	// Contract: rules 3.4. Codes that cannot happen here are there to be injected.
	BindLimit = define(1003, "bind limit", "a binding limit of the platform: only as an injected fault, our limits are 89007 and 89009",
		Inferred)
	BindLimitToo = define(1005, "",
		"another binding limit of the platform, whose text is empty: only as an injected fault, our limits are 89007 and 89009", Seen)
	LinkQuota = define(89007, "wxa quota limit", "the service account is linked with as many Mini Programs as the operator allows",
		Page)
	OverseasLink = define(89008, "overseas account can not link", "only as an injected fault: accounts have no country here", Page)
	LinkLimit    = define(89009, "wxa reach link limit", "the Mini Program is linked with as many service accounts as the operator allows",
		Page)
	LinkSent     = define(89010, "link message has sent", "the link was asked for and waits to be confirmed", Page)
	NearbyLink   = define(89011, "can not unlink nearby wxa", "only as an injected fault: there is no nearby list here", Page)
	StoreLink    = define(89012, "can not unlink store or mall", "only as an injected fault: there are no stores here", Page)
	BannedLink   = define(89013, "wxa is banned", "only as an injected fault: Mini Programs are not banned here", Page)
	HasLinked    = define(89015, "has linked wxa", "the two are linked already", Seen)
	SameRealname = define(89016, "reach same realname quota", "only as an injected fault: who stands behind an account is not known here",
		Page)
	OtherRealname = define(89017, "reach different realname quota",
		"only as an injected fault: who stands behind an account is not known here", Page)
	UnlinkSent = define(89018, "unlink message has sent", "the end of the link was asked for and waits to be confirmed", Page)

	// Contract: rules 3.1. The texts are the page's, its slip of the pen included.
	AddressWaits = define(89503, "此次调用需要管理员确认，请耐心等候",
		"only as an injected fault: the administrator was asked about the caller's address", Page)
	AddressOutADay = define(89506, "该IP调用求请求已被公众号管理员拒绝，请24小时后再试，建议调用前与管理员沟通确认",
		"only as an injected fault: the administrator refused the caller's address, for a day", Page)
	AddressOutAnHour = define(89507, "该IP调用求请求已被公众号管理员拒绝，请1小时后再试，建议调用前与管理员沟通确认",
		"only as an injected fault: the administrator refused the caller's address, for an hour", Page)

	PublishQuota = define(886000, "beyond publish count this month", "this month's publishes are used up", Page)
	Busy         = define(886001, "system busy, please retry", "busy; try again", Inferred)
)

// OfCodes are the numbers of one item, one code alone. Their text goes on with
// a comma, three dots and a hint. Contract: marketcode 1.1.
var OfCodes = []*Code{
	NoApplication, NotOwnApplication, ActivationOverlaps, CodeMalformed, CodeNotActive, ActivationFailed, IndexBeyond, ApplicationExists,
	NotFinished, SegmentExpired, NoSegment, FileFailed, EncryptionFailed, NoPackageKey,
}
