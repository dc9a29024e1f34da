package errcode

import "github.com/qrjump/qrjump/internal/contract/behaviour"

// StableTokenAdvice is the text that the platform appends to errors 40001 and 45009 on calls that use or issue an ordinary access
// token. Contract: rules §3.6.
const StableTokenAdvice = ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"

// The codes. Contract: rules §1.8, §3.1, §3.6.
var (
	OK          = define(0, "ok", behaviour.Observed)
	SystemError = define(-1, "system error", behaviour.Observed)

	InvalidCredential  = define(40001, "invalid credential, access_token is invalid or not latest", behaviour.Observed)
	InvalidGrantType   = define(40002, "invalid grant_type", behaviour.Observed)
	InvalidAppID       = define(40013, "invalid appid", behaviour.Observed)
	InvalidAccessToken = define(40014, "invalid access_token", behaviour.Documented)
	InvalidLoginCode   = define(40029, "invalid code", behaviour.Observed)
	InvalidActionName  = define(40052, "invalid action name", behaviour.Documented)
	InvalidActionInfo  = define(40053, "invalid action info, please check document", behaviour.Observed)
	InvalidURL         = define(40066, "invalid url", behaviour.Observed)
	InvalidSource      = define(40090, "invalid request source (bad client ip)", behaviour.Observed)
	InvalidArgs        = define(40097, "invalid args", behaviour.Observed)
	InvalidSecret      = define(40125, "invalid appsecret", behaviour.Observed)
	LoginCodeUsed      = define(40163, "code been used", behaviour.Observed)
	InvalidIP          = define(40164, "invalid ip", behaviour.Observed)
	InvalidWeappAppID  = define(40166, "invalid weapp appid", behaviour.Observed)
	TooManyListed      = define(40170, "args count exceed count limit", behaviour.Documented)
	CodeBlocked        = define(40226, "code blocked", behaviour.Documented)
	SecretFrozen       = define(40243, "appsecret has been frozen", behaviour.Documented)
	TokenMissing       = define(41001, "access_token missing", behaviour.Observed)
	AppIDMissing       = define(41002, "appid missing", behaviour.Observed)
	SecretMissing      = define(41004, "appsecret missing", behaviour.Observed)
	LoginCodeMissing   = define(41008, "missing code", behaviour.Observed)
	ComponentMissing   = define(41018, "missing component_appid", behaviour.Observed)
	TokenExpired       = define(42001, "access_token expired", behaviour.Observed)
	RefreshReplaced    = define(42007, "access_token and refresh_token exception", behaviour.Documented)
	RequirePost        = define(43002, "require POST method", behaviour.Observed)
	EmptyPostData      = define(44002, "empty post data", behaviour.Observed)
	TooFrequent        = define(44990, "reach max api second frequence limit", behaviour.Documented)
	DailyLimit         = define(45009, "reach max api daily quota limit", behaviour.Observed)
	MinuteLimit        = define(45011, "api minute-quota reach limit, must slower, retry next minute", behaviour.Documented)
	QRCodeLimit        = define(45029, "qrcode count out of limit", behaviour.Observed)
	DataFormat         = define(47001, "data format error", behaviour.Observed)
	Unauthorized       = define(48001, "api unauthorized", behaviour.Observed)
	APIForbidden       = define(48004, "api forbidden for irregularities, view detail on mp.weixin.qq.com", behaviour.Observed)
	ClearLimit         = define(48006, "forbid to clear quota because of reaching the limit", behaviour.Documented)
	UserLimited        = define(50002, "user limited", behaviour.Observed)
	NotAuthorizing     = define(61003, "component is not authorized by this account", behaviour.Observed)
	ComponentIP        = define(61004, "access clientip is not registered", behaviour.Observed)
	TicketExpired      = define(61005, "component ticket is expired", behaviour.Observed)
	TicketInvalid      = define(61006, "component ticket is invalid", behaviour.Observed)
	NotComponentSet    = define(61007, "api is unauthorized to component", behaviour.Observed)
	GrantCodeInvalid   = define(61009, "code is invalid", behaviour.Observed)
	GrantCodeExpired   = define(61010, "code is expired", behaviour.Observed)
	InvalidComponent   = define(61011, "invalid component", behaviour.Observed)
	WantsComponent     = define(61014, "must use component token for component api", behaviour.Documented)
	InvalidRefresh     = define(61023, "refresh_token is invalid", behaviour.Observed)
	ComponentToken     = define(61024, "must use api(api_component_token) to get token for component acct", behaviour.Observed)

	RIDNotFound      = define(76001, "rid not found, please check", behaviour.Observed)
	RIDInvalid       = define(76002, "rid is error", behaviour.Documented)
	RIDForbidden     = define(76003, "could not query this rid,no permission", behaviour.Documented)
	RIDTooOld        = define(76004, "rid time is error", behaviour.Documented)
	PathNotFound     = define(76021, "cgi_path not found, please check", behaviour.Documented)
	PathNotPermitted = define(76022, "could not use this cgi_path, no permission", behaviour.Documented)

	// Contract: marketcode §7. Error codes that this server never returns by itself are defined so that fault injection can return them.
	NoApplication      = define(80300, "申请单不存在", behaviour.Observed)
	NotOwnApplication  = define(80301, "申请单不属于该账号", behaviour.Observed)
	ActivationOverlaps = define(80302, "激活号段有重叠", behaviour.Documented)
	CodeMalformed      = define(80303, "码格式错误", behaviour.Documented)
	CodeNotActive      = define(80304, "该码未激活", behaviour.Documented)
	ActivationFailed   = define(80305, "激活失败", behaviour.Documented)
	IndexBeyond        = define(80306, "码索引超出申请范围", behaviour.Documented)
	ApplicationExists  = define(80307, "申请已存在", behaviour.Documented)
	NotFinished        = define(80308, "子任务未完成", behaviour.Documented)
	SegmentExpired     = define(80309, "子任务文件过期", behaviour.Observed)
	NoSegment          = define(80310, "子任务不存在", behaviour.Documented)
	FileFailed         = define(80311, "获取文件失败", behaviour.Documented)
	EncryptionFailed   = define(80312, "加密数据失败", behaviour.Documented)
	NoPackageKey       = define(80313, "加密数据密钥不存在，请联系接口人申请", behaviour.Documented)

	IllegalPrefix     = define(85066, "illegal prefix", behaviour.Observed)
	TestLinkNotBelow  = define(85068, "test url is not the sub prefix", behaviour.Documented)
	ConfirmFileFailed = define(85069, "check confirm file fail", behaviour.Observed)
	PrefixDenied      = define(85070, "url in blacklist", behaviour.Inferred)
	PrefixAdded       = define(85071, "prefix has been added", behaviour.Inferred)
	PrefixOwned       = define(85072, "prefix owned by other", behaviour.Observed)
	PrefixLimit       = define(85073, "prefix reach limit", behaviour.Inferred)
	NotReleased       = define(85074, "not published", behaviour.Documented)
	PersonalSubject   = define(85075, "can not access", behaviour.Documented)
	ICPFailed         = define(85076, "check ICP fail", behaviour.Documented)
	RuleDamaged       = define(85095, "data exception", behaviour.Inferred)

	// Contract: rules §3.4. Error codes that this server never returns by itself are defined so that fault injection can return them.
	BindLimit     = define(1003, "bind limit", behaviour.Inferred)
	BindLimitToo  = define(1005, "", behaviour.Observed)
	LinkQuota     = define(89007, "wxa quota limit", behaviour.Documented)
	OverseasLink  = define(89008, "overseas account can not link", behaviour.Documented)
	LinkLimit     = define(89009, "wxa reach link limit", behaviour.Documented)
	LinkSent      = define(89010, "link message has sent", behaviour.Documented)
	NearbyLink    = define(89011, "can not unlink nearby wxa", behaviour.Documented)
	StoreLink     = define(89012, "can not unlink store or mall", behaviour.Documented)
	BannedLink    = define(89013, "wxa is banned", behaviour.Documented)
	HasLinked     = define(89015, "has linked wxa", behaviour.Observed)
	SameRealname  = define(89016, "reach same realname quota", behaviour.Documented)
	OtherRealname = define(89017, "reach different realname quota", behaviour.Documented)
	UnlinkSent    = define(89018, "unlink message has sent", behaviour.Documented)

	// Contract: rules §3.1. The error texts are copied from the documentation page, including its typing error.
	AddressWaits     = define(89503, "此次调用需要管理员确认，请耐心等候", behaviour.Documented)
	AddressOutADay   = define(89506, "该IP调用求请求已被公众号管理员拒绝，请24小时后再试，建议调用前与管理员沟通确认", behaviour.Documented)
	AddressOutAnHour = define(89507, "该IP调用求请求已被公众号管理员拒绝，请1小时后再试，建议调用前与管理员沟通确认", behaviour.Documented)

	PublishQuota = define(886000, "beyond publish count this month", behaviour.Documented)
	Busy         = define(886001, "system busy, please retry", behaviour.Inferred)
)

// OfCodes lists the error codes of the marketcode calls (one unique code per item). In responses of the wire API, a comma, three
// dots and a hint follow the text of each error code in OfCodes. Contract: marketcode §1.1.
var OfCodes = []*Code{
	NoApplication, NotOwnApplication, ActivationOverlaps, CodeMalformed, CodeNotActive, ActivationFailed, IndexBeyond, ApplicationExists,
	NotFinished, SegmentExpired, NoSegment, FileFailed, EncryptionFailed, NoPackageKey,
}
