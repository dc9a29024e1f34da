package errcode

// StableTokenAdvice is the text that the platform appends to errors 40001 and 45009 on calls that use or issue an ordinary access
// token. Contract: rules §3.6.
const StableTokenAdvice = ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"

// The codes. Contract: rules §1.8, §3.1, §3.6.
var (
	OK          = define(0, "ok", Observed)
	SystemError = define(-1, "system error", Observed)

	InvalidCredential  = define(40001, "invalid credential, access_token is invalid or not latest", Observed)
	InvalidGrantType   = define(40002, "invalid grant_type", Observed)
	InvalidAppID       = define(40013, "invalid appid", Observed)
	InvalidAccessToken = define(40014, "invalid access_token", Documented)
	InvalidLoginCode   = define(40029, "invalid code", Observed)
	InvalidActionName  = define(40052, "invalid action name", Documented)
	InvalidActionInfo  = define(40053, "invalid action info, please check document", Observed)
	InvalidURL         = define(40066, "invalid url", Observed)
	InvalidSource      = define(40090, "invalid request source (bad client ip)", Observed)
	InvalidArgs        = define(40097, "invalid args", Observed)
	InvalidSecret      = define(40125, "invalid appsecret", Observed)
	LoginCodeUsed      = define(40163, "code been used", Observed)
	InvalidIP          = define(40164, "invalid ip", Observed)
	InvalidWeappAppID  = define(40166, "invalid weapp appid", Observed)
	TooManyListed      = define(40170, "args count exceed count limit", Documented)
	CodeBlocked        = define(40226, "code blocked", Documented)
	SecretFrozen       = define(40243, "appsecret has been frozen", Documented)
	TokenMissing       = define(41001, "access_token missing", Observed)
	AppIDMissing       = define(41002, "appid missing", Observed)
	SecretMissing      = define(41004, "appsecret missing", Observed)
	LoginCodeMissing   = define(41008, "missing code", Observed)
	ComponentMissing   = define(41018, "missing component_appid", Observed)
	TokenExpired       = define(42001, "access_token expired", Observed)
	RefreshReplaced    = define(42007, "access_token and refresh_token exception", Documented)
	RequirePost        = define(43002, "require POST method", Observed)
	EmptyPostData      = define(44002, "empty post data", Observed)
	TooFrequent        = define(44990, "reach max api second frequence limit", Documented)
	DailyLimit         = define(45009, "reach max api daily quota limit", Observed)
	MinuteLimit        = define(45011, "api minute-quota reach limit, must slower, retry next minute", Documented)
	QRCodeLimit        = define(45029, "qrcode count out of limit", Observed)
	DataFormat         = define(47001, "data format error", Observed)
	Unauthorized       = define(48001, "api unauthorized", Observed)
	APIForbidden       = define(48004, "api forbidden for irregularities, view detail on mp.weixin.qq.com", Observed)
	ClearLimit         = define(48006, "forbid to clear quota because of reaching the limit", Documented)
	UserLimited        = define(50002, "user limited", Observed)
	NotAuthorizing     = define(61003, "component is not authorized by this account", Observed)
	ComponentIP        = define(61004, "access clientip is not registered", Observed)
	TicketExpired      = define(61005, "component ticket is expired", Observed)
	TicketInvalid      = define(61006, "component ticket is invalid", Observed)
	NotComponentSet    = define(61007, "api is unauthorized to component", Observed)
	GrantCodeInvalid   = define(61009, "code is invalid", Observed)
	GrantCodeExpired   = define(61010, "code is expired", Observed)
	InvalidComponent   = define(61011, "invalid component", Observed)
	WantsComponent     = define(61014, "must use component token for component api", Documented)
	InvalidRefresh     = define(61023, "refresh_token is invalid", Observed)
	ComponentToken     = define(61024, "must use api(api_component_token) to get token for component acct", Observed)

	RIDNotFound      = define(76001, "rid not found, please check", Observed)
	RIDInvalid       = define(76002, "rid is error", Documented)
	RIDForbidden     = define(76003, "could not query this rid,no permission", Documented)
	RIDTooOld        = define(76004, "rid time is error", Documented)
	PathNotFound     = define(76021, "cgi_path not found, please check", Documented)
	PathNotPermitted = define(76022, "could not use this cgi_path, no permission", Documented)

	// Contract: marketcode §7. Error codes that this server never returns by itself are defined so that fault injection can return them.
	NoApplication      = define(80300, "申请单不存在", Observed)
	NotOwnApplication  = define(80301, "申请单不属于该账号", Observed)
	ActivationOverlaps = define(80302, "激活号段有重叠", Documented)
	CodeMalformed      = define(80303, "码格式错误", Documented)
	CodeNotActive      = define(80304, "该码未激活", Documented)
	ActivationFailed   = define(80305, "激活失败", Documented)
	IndexBeyond        = define(80306, "码索引超出申请范围", Documented)
	ApplicationExists  = define(80307, "申请已存在", Documented)
	NotFinished        = define(80308, "子任务未完成", Documented)
	SegmentExpired     = define(80309, "子任务文件过期", Observed)
	NoSegment          = define(80310, "子任务不存在", Documented)
	FileFailed         = define(80311, "获取文件失败", Documented)
	EncryptionFailed   = define(80312, "加密数据失败", Documented)
	NoPackageKey       = define(80313, "加密数据密钥不存在，请联系接口人申请", Documented)

	IllegalPrefix     = define(85066, "illegal prefix", Observed)
	TestLinkNotBelow  = define(85068, "test url is not the sub prefix", Documented)
	ConfirmFileFailed = define(85069, "check confirm file fail", Observed)
	PrefixDenied      = define(85070, "url in blacklist", Inferred)
	PrefixAdded       = define(85071, "prefix has been added", Inferred)
	PrefixOwned       = define(85072, "prefix owned by other", Observed)
	PrefixLimit       = define(85073, "prefix reach limit", Inferred)
	NotReleased       = define(85074, "not published", Documented)
	PersonalSubject   = define(85075, "can not access", Documented)
	ICPFailed         = define(85076, "check ICP fail", Documented)
	RuleDamaged       = define(85095, "data exception", Inferred)

	// Contract: rules §3.4. Error codes that this server never returns by itself are defined so that fault injection can return them.
	BindLimit     = define(1003, "bind limit", Inferred)
	BindLimitToo  = define(1005, "", Observed)
	LinkQuota     = define(89007, "wxa quota limit", Documented)
	OverseasLink  = define(89008, "overseas account can not link", Documented)
	LinkLimit     = define(89009, "wxa reach link limit", Documented)
	LinkSent      = define(89010, "link message has sent", Documented)
	NearbyLink    = define(89011, "can not unlink nearby wxa", Documented)
	StoreLink     = define(89012, "can not unlink store or mall", Documented)
	BannedLink    = define(89013, "wxa is banned", Documented)
	HasLinked     = define(89015, "has linked wxa", Observed)
	SameRealname  = define(89016, "reach same realname quota", Documented)
	OtherRealname = define(89017, "reach different realname quota", Documented)
	UnlinkSent    = define(89018, "unlink message has sent", Documented)

	// Contract: rules §3.1. The error texts are copied from the documentation page, including its typing error.
	AddressWaits     = define(89503, "此次调用需要管理员确认，请耐心等候", Documented)
	AddressOutADay   = define(89506, "该IP调用求请求已被公众号管理员拒绝，请24小时后再试，建议调用前与管理员沟通确认", Documented)
	AddressOutAnHour = define(89507, "该IP调用求请求已被公众号管理员拒绝，请1小时后再试，建议调用前与管理员沟通确认", Documented)

	PublishQuota = define(886000, "beyond publish count this month", Documented)
	Busy         = define(886001, "system busy, please retry", Inferred)
)

// OfCodes lists the error codes of the marketcode calls (one unique code per item). In responses of the wire API, a comma, three
// dots and a hint follow the text of each error code in OfCodes. Contract: marketcode §1.1.
var OfCodes = []*Code{
	NoApplication, NotOwnApplication, ActivationOverlaps, CodeMalformed, CodeNotActive, ActivationFailed, IndexBeyond, ApplicationExists,
	NotFinished, SegmentExpired, NoSegment, FileFailed, EncryptionFailed, NoPackageKey,
}
