package errcode

// StableTokenAdvice is what the platform puts behind the texts of 40001 and 45009
// on the calls that take or make an ordinary token. Contract: rules 3.6.
const StableTokenAdvice = ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"

// The codes. Contract: rules 1.8, 3.1, 3.6.
var (
	OK          = define(0, "ok", Seen)
	SystemError = define(-1, "system error", Seen)

	InvalidCredential  = define(40001, "invalid credential, access_token is invalid or not latest", Seen)
	InvalidGrantType   = define(40002, "invalid grant_type", Seen)
	InvalidAppID       = define(40013, "invalid appid", Seen)
	InvalidAccessToken = define(40014, "invalid access_token", Page)
	InvalidLoginCode   = define(40029, "invalid code", Seen)
	InvalidActionName  = define(40052, "invalid action name", Page)
	InvalidActionInfo  = define(40053, "invalid action info, please check document", Seen)
	InvalidURL         = define(40066, "invalid url", Seen)
	InvalidSource      = define(40090, "invalid request source (bad client ip)", Seen)
	InvalidArgs        = define(40097, "invalid args", Seen)
	InvalidSecret      = define(40125, "invalid appsecret", Seen)
	LoginCodeUsed      = define(40163, "code been used", Seen)
	InvalidIP          = define(40164, "invalid ip", Seen)
	InvalidWeappAppID  = define(40166, "invalid weapp appid", Seen)
	TooManyListed      = define(40170, "args count exceed count limit", Page)
	CodeBlocked        = define(40226, "code blocked", Page)
	SecretFrozen       = define(40243, "appsecret has been frozen", Page)
	TokenMissing       = define(41001, "access_token missing", Seen)
	AppIDMissing       = define(41002, "appid missing", Seen)
	SecretMissing      = define(41004, "appsecret missing", Seen)
	LoginCodeMissing   = define(41008, "missing code", Seen)
	ComponentMissing   = define(41018, "missing component_appid", Seen)
	TokenExpired       = define(42001, "access_token expired", Seen)
	RefreshReplaced    = define(42007, "access_token and refresh_token exception", Page)
	RequirePost        = define(43002, "require POST method", Seen)
	EmptyPostData      = define(44002, "empty post data", Seen)
	TooFrequent        = define(44990, "reach max api second frequence limit", Page)
	DailyLimit         = define(45009, "reach max api daily quota limit", Seen)
	MinuteLimit        = define(45011, "api minute-quota reach limit, must slower, retry next minute", Page)
	QRCodeLimit        = define(45029, "qrcode count out of limit", Seen)
	DataFormat         = define(47001, "data format error", Seen)
	Unauthorized       = define(48001, "api unauthorized", Seen)
	APIForbidden       = define(48004, "api forbidden for irregularities, view detail on mp.weixin.qq.com", Seen)
	ClearLimit         = define(48006, "forbid to clear quota because of reaching the limit", Page)
	UserLimited        = define(50002, "user limited", Seen)
	NotAuthorizing     = define(61003, "component is not authorized by this account", Seen)
	ComponentIP        = define(61004, "access clientip is not registered", Seen)
	TicketExpired      = define(61005, "component ticket is expired", Seen)
	TicketInvalid      = define(61006, "component ticket is invalid", Seen)
	NotComponentSet    = define(61007, "api is unauthorized to component", Seen)
	GrantCodeInvalid   = define(61009, "code is invalid", Seen)
	GrantCodeExpired   = define(61010, "code is expired", Seen)
	InvalidComponent   = define(61011, "invalid component", Seen)
	WantsComponent     = define(61014, "must use component token for component api", Page)
	InvalidRefresh     = define(61023, "refresh_token is invalid", Seen)
	ComponentToken     = define(61024, "must use api(api_component_token) to get token for component acct", Seen)

	RIDNotFound      = define(76001, "rid not found, please check", Seen)
	RIDInvalid       = define(76002, "rid is error", Page)
	RIDForbidden     = define(76003, "could not query this rid,no permission", Page)
	RIDTooOld        = define(76004, "rid time is error", Page)
	PathNotFound     = define(76021, "cgi_path not found, please check", Page)
	PathNotPermitted = define(76022, "could not use this cgi_path, no permission", Page)

	// Contract: marketcode 7. Codes that cannot happen here are there to be injected.
	NoApplication      = define(80300, "申请单不存在", Seen)
	NotOwnApplication  = define(80301, "申请单不属于该账号", Seen)
	ActivationOverlaps = define(80302, "激活号段有重叠", Page)
	CodeMalformed      = define(80303, "码格式错误", Page)
	CodeNotActive      = define(80304, "该码未激活", Page)
	ActivationFailed   = define(80305, "激活失败", Page)
	IndexBeyond        = define(80306, "码索引超出申请范围", Page)
	ApplicationExists  = define(80307, "申请已存在", Page)
	NotFinished        = define(80308, "子任务未完成", Page)
	SegmentExpired     = define(80309, "子任务文件过期", Seen)
	NoSegment          = define(80310, "子任务不存在", Page)
	FileFailed         = define(80311, "获取文件失败", Page)
	EncryptionFailed   = define(80312, "加密数据失败", Page)
	NoPackageKey       = define(80313, "加密数据密钥不存在，请联系接口人申请", Page)

	IllegalPrefix     = define(85066, "illegal prefix", Seen)
	TestLinkNotBelow  = define(85068, "test url is not the sub prefix", Page)
	ConfirmFileFailed = define(85069, "check confirm file fail", Seen)
	PrefixDenied      = define(85070, "url in blacklist", Inferred)
	PrefixAdded       = define(85071, "prefix has been added", Inferred)
	PrefixOwned       = define(85072, "prefix owned by other", Seen)
	PrefixLimit       = define(85073, "prefix reach limit", Inferred)
	NotReleased       = define(85074, "not published", Page)
	PersonalSubject   = define(85075, "can not access", Page)
	ICPFailed         = define(85076, "check ICP fail", Page)
	RuleDamaged       = define(85095, "data exception", Inferred)

	// Contract: rules 3.4. Codes that cannot happen here are there to be injected.
	BindLimit     = define(1003, "bind limit", Inferred)
	BindLimitToo  = define(1005, "", Seen)
	LinkQuota     = define(89007, "wxa quota limit", Page)
	OverseasLink  = define(89008, "overseas account can not link", Page)
	LinkLimit     = define(89009, "wxa reach link limit", Page)
	LinkSent      = define(89010, "link message has sent", Page)
	NearbyLink    = define(89011, "can not unlink nearby wxa", Page)
	StoreLink     = define(89012, "can not unlink store or mall", Page)
	BannedLink    = define(89013, "wxa is banned", Page)
	HasLinked     = define(89015, "has linked wxa", Seen)
	SameRealname  = define(89016, "reach same realname quota", Page)
	OtherRealname = define(89017, "reach different realname quota", Page)
	UnlinkSent    = define(89018, "unlink message has sent", Page)

	// Contract: rules 3.1. The texts are the page's, its slip of the pen included.
	AddressWaits     = define(89503, "此次调用需要管理员确认，请耐心等候", Page)
	AddressOutADay   = define(89506, "该IP调用求请求已被公众号管理员拒绝，请24小时后再试，建议调用前与管理员沟通确认", Page)
	AddressOutAnHour = define(89507, "该IP调用求请求已被公众号管理员拒绝，请1小时后再试，建议调用前与管理员沟通确认", Page)

	PublishQuota = define(886000, "beyond publish count this month", Page)
	Busy         = define(886001, "system busy, please retry", Inferred)
)

// OfCodes are the numbers of one item, one code alone. Their text goes on with
// a comma, three dots and a hint. Contract: marketcode 1.1.
var OfCodes = []*Code{
	NoApplication, NotOwnApplication, ActivationOverlaps, CodeMalformed, CodeNotActive, ActivationFailed, IndexBeyond, ApplicationExists,
	NotFinished, SegmentExpired, NoSegment, FileFailed, EncryptionFailed, NoPackageKey,
}
