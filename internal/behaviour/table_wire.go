package behaviour

// live is the source of what stands in docs/contract/seen.
const live = "docs/contract/seen"

// Every call: path, method, body, fields, answers, rates.
var (
	WirePathUnknown = seen("wire.path.unknown", "rules 3.6", live, "2026",
		"A path that no endpoint has is answered with 40066.", "没有任何接口的路径返回 40066。")
	WireMethodPost = page("wire.method.post", "rules 3.6", "error tables",
		"GET on a call that wants POST is answered with 43002.", "须用 POST 的接口收到 GET 时返回 43002。")
	WireMethodProbe = choice("wire.method.probe", "rules 3.1",
		"HEAD, OPTIONS, PUT or DELETE is answered with 43002 and makes or ends no token.",
		"HEAD、OPTIONS、PUT、DELETE 一律返回 43002，既不签发也不作废任何 token。")

	WireMethodTaken = choice("wire.method.taken", "rules 3.1",
		"POST on a call that the page has as GET is taken, with the fields in the query.", "文档为 GET 的接口也接受 POST，参数仍取自查询串。")

	WireBodyEmpty = seen("wire.body.empty", "rules 0", live, "2024-03-26",
		"An empty body on a call that wants one is answered with 44002.", "须带请求体的接口收到空请求体时返回 44002。")
	WireBodyEmptyAccepted = choice("wire.body.empty_accepted", "rules 0",
		"qrcodejumpget and qrcodejumpdownload take an empty body as {} where the operator turns this loose; else it is 44002.",
		"运维放行时，qrcodejumpget 和 qrcodejumpdownload 把空请求体当作 {} 接受；否则返回 44002。")
	WireBodyNone = page("wire.body.none", "rules 3.4", "wxamplinkget page",
		"A call whose page has no body takes an empty one, unless the setting strict_empty_body is on.",
		"文档没有请求体的接口接受空请求体，除非设置 strict_empty_body 已开启。")
	WireBodyType = choice("wire.body.type", "clients 1",
		"A body is read as JSON under any Content-Type or none.", "无论 Content-Type 是什么或没有，请求体都按 JSON 读取。")
	WireBodyLong = choice("wire.body.long", "rules 0",
		"A body above one mebibyte is answered with 47001.", "请求体超过 1 MiB 时返回 47001。")
	WireBodySlow = choice("wire.body.slow", "rules 0",
		"A body that does not arrive in time is answered with 47001, then the connection closes.",
		"请求体迟迟未到齐时返回 47001，随后断开连接。")
	WireBodyBroken = choice("wire.body.broken", "rules 0",
		"A body that breaks off is answered with 47001.", "请求体中途断掉时返回 47001。")
	WireBodyNotJSON = seen("wire.body.not_json", "rules 0", live, "2021-09-04",
		"A body that is no JSON is answered with 47001.", "请求体不是 JSON 时返回 47001。")
	WireBodyNotObject = choice("wire.body.not_object", "rules 0",
		"A body that is JSON but no object is answered with 47001.", "请求体是 JSON 但不是对象时返回 47001。")
	WireBodyNoUTF = choice("wire.body.no_utf", "rules 0",
		"A body that is not UTF-8 is answered with 47001.", "请求体不是 UTF-8 时返回 47001。")
	WireBodyTrailing = choice("wire.body.trailing", "rules 0",
		"Text after the JSON object makes the body 47001.", "JSON 对象之后还有内容时返回 47001。")
	WireBodyComponent = seen("wire.body.component", "rules 0", live, "2023-03-03",
		"On a component call a body that is no JSON object, a form most of all, is answered with 41018.",
		"第三方平台接口的请求体不是 JSON 对象（多为表单）时返回 41018。")

	WireFieldType = choice("wire.field.type", "rules 0",
		"A field of a wrong type inside a valid object is answered with 40097.", "对象合法但字段类型不对时返回 40097。")
	WireFieldNUL = choice("wire.field.nul", "rules 0",
		"A text with a NUL character is answered with 40097.", "文本含 NUL 字符时返回 40097。")
	WireFieldNull = choice("wire.field.null", "clients 3",
		"null and the empty text count as an absent field.", "null 和空字符串等同于没有该字段。")
	WireFieldUnknown = seen("wire.field.unknown", "rules 0", "a live edit carried state and appid", "2022",
		"A field that no page names is ignored.", "文档没有的字段会被忽略。")
	WireFieldDoubled = choice("wire.field.doubled", "rules 0",
		"Of a field that stands twice the last one in a body counts, and the first one in a query.",
		"重复的字段在请求体中以最后一个为准，在查询串中以第一个为准。")
	WireFieldQuery = choice("wire.field.query", "rules 0",
		"A field in the query of a call that takes it in the body is ignored.", "应放在请求体里的字段若写在查询串中会被忽略。")
	WireNumberText = seen("wire.number.text", "rules 0", live, "2020-11-02",
		"A number written as a text of decimal digits is taken as the number.", "写成十进制数字字符串的数字按数字处理。")
	WireNumberForm = choice("wire.number.form", "rules 0",
		"A text that is no whole decimal number is answered with 40097 where a number is wanted.",
		"须为数字处若给出不是十进制整数的文本，返回 40097。")
	WireNumberFloat = choice("wire.number.float", "rules 0",
		"A number with a point or an exponent is taken where it is whole.", "带小数点或指数但数值为整数的数字会被接受。")
	WireListText = seen("wire.list.text", "rules 0", live, "2024-09-22",
		"One text is taken where a list of texts is wanted.", "须为字符串数组处给出单个字符串会被接受。")
	WireFlagWord = choice("wire.flag.word", "clients 4",
		"1, 0, \"true\" and \"false\" are taken where true or false is wanted, and true and false where 1 or 0 is.",
		"须为布尔值处接受 1、0、\"true\"、\"false\"；须为 1 或 0 处接受 true、false。")
	WireTextNumber = choice("wire.text.number", "marketcode 1",
		"A number is taken as its digits where a text such as an order number is wanted.", "须为文本（如单号）处给出数字时按其数字文本处理。")

	WireAnswerType = seen("wire.answer.type", "rules 0", live, "2020-08-12",
		"Answers carry the Content-Type application/json; encoding=utf-8.", "回答的 Content-Type 为 application/json; encoding=utf-8。")
	WireAnswerRID = seen("wire.answer.rid", "rules 0", live, "2026-09-17",
		"The text of an error ends in rid: and three groups of eight lower-case hexadecimal digits.",
		"错误文本以 rid: 加三组八位小写十六进制数结尾。")
	WireAnswerRIDTime = inferred("wire.answer.rid_time", "rules 0", "eight live rids whose time is known",
		"The first group of a rid is the time of the call in Unix seconds.", "rid 的第一组是调用时刻的 Unix 秒。")
	WireAnswerComma = seen("wire.answer.comma", "rules 0", live, "2026-09-17",
		"Under /sns/ a comma stands before rid.", "/sns/ 下的错误文本在 rid 前有一个逗号。")
	WireAnswerAdvice = seen("wire.answer.advice", "rules 3.6", live, "2026-09-17",
		"The texts of 40001 and 45009 end in the advice to use getStableAccessToken.", "40001 和 45009 的文本末尾带有改用 getStableAccessToken 的提示。")
	WireAnswerNoAdvice = choice("wire.answer.no_advice", "rules 3.6",
		"The advice to call getStableAccessToken is left out on calls with a secret other than token, where nobody could follow it.",
		"除 token 外，凭密钥调用的接口不带改用 getStableAccessToken 的提示，因为照做也无济于事。")
	WireAnswerHint = seen("wire.answer.hint", "marketcode 1.1", live, "2023-07-07",
		"Errors of one item, one code carry a detail, three dots and a hint with the time.", "一物一码的错误文本带详情、三个点和含时间的 hint。")
	WireAnswerBare = page("wire.answer.bare", "rules 0", "token pages",
		"Answers with a token carry neither errcode nor errmsg.", "签发 token 的回答既无 errcode 也无 errmsg。")

	WireRateRules = page("wire.rate.rules", "rules 0", "founding pages",
		"More than five calls a second to a jump-rule interface are answered with 44990.", "跳转规则接口每秒超过 5 次时返回 44990。")
	WireRateAbove = choice("wire.rate.above", "rules 0",
		"A setting lets more than five calls a second through to a jump-rule interface.", "可用设置放行每秒超过 5 次的跳转规则接口调用。")
	WireRetry = choice("wire.retry", "rules 1.8",
		"A refused call that comes again as it was is refused again, without end.", "被拒绝的调用原样重试，会一直被拒绝，没有次数限制。")
	WireRateOther = choice("wire.rate.other", "rules 0",
		"Other interfaces have no limit a second unless a setting makes one; then it is 44990.",
		"其他接口默认不限每秒次数；设置了上限时超出返回 44990。")
	WireRateMinute = choice("wire.rate.minute", "rules 1.9",
		"A limit of calls a minute for service accounts is a setting, off by default; above it 45011.",
		"服务号每分钟次数上限是可选设置，默认关闭；超出返回 45011。")
	WireRateDay = seen("wire.rate.day", "rules 3.6", live, "2025-09-25",
		"Calls above an interface's limit a day are answered with 45009.", "超过接口当日次数上限时返回 45009。")
	WireFault = choice("wire.fault", "rules 1.8",
		"A fault that the operator injects is answered in place of the call, in the platform's words.",
		"运维注入的故障会以平台的措辞代替正常回答。")
	WireStub = choice("wire.stub", "rules 1.8",
		"A stub that the operator sets is answered in place of the call, whatever its path, and asks for no token.",
		"运维设置的桩会代替任意路径的调用直接回答，且不要求 token。")
)

// Whose token, and what it may do.
var (
	CallerTokenMissing = seen("caller.token.missing", "rules 3.6", live, "2026-09-17",
		"A call without a token is answered with 41001.", "没有带 token 的调用返回 41001。")
	CallerTokenText = seen("caller.token.text", "rules 3.6", live, "2026-09-17",
		"A text that is no token at all is answered with 40001.", "根本不是 token 的文本返回 40001。")
	CallerTokenUnknown = seen("caller.token.unknown", "rules 3.6", live, "2026-09-17",
		"A token that is unknown here is answered with 40001.", "不认识的 token 返回 40001。")
	CallerTokenReplaced = seen("caller.token.replaced", "rules 3.6", live, "2021-08-02",
		"A token that a newer one replaced is answered with 40001.", "已被新 token 取代的 token 返回 40001。")
	CallerTokenExpired = seen("caller.token.expired", "rules 3.6", live, "2026-03-27",
		"A token past its two hours is answered with 42001.", "超过两小时的 token 返回 42001。")
	CallerSetMissing = seen("caller.set.missing", "rules 3.3", live, "2024-03-28",
		"A platform without the permission set is answered with 61007.", "第三方平台缺少权限集时返回 61007。")
	CallerWithdrawn = seen("caller.withdrawn", "rules 3.2", live, "2018-11-20",
		"A platform whose authorisation was withdrawn is answered with 61003.", "授权已被取消的第三方平台返回 61003。")
	CallerAddress = seen("caller.address", "rules 3.2", live, "2024-04-02",
		"A platform's call from an address off its list is answered with 61004.", "第三方平台从白名单以外的地址调用时返回 61004。")
	CallerWantsPlatform = page("caller.wants_platform", "rules 3.2", "component pages",
		"An account's token on a component call is answered with 61014.", "用账号的 token 调用第三方平台接口时返回 61014。")
	CallerWantsAccount = seen("caller.wants_account", "rules 1.8", "W/minihome/doc/0000663437cf283693cacdad85b800", "2021",
		"A platform's own token on an account's call is answered with 48001.", "用第三方平台自身的 token 调用账号接口时返回 48001。")
	CallerPlatformMissing = seen("caller.platform.missing", "rules 3.2", live, "2023-03-03",
		"A component call without component_appid is answered with 41018.", "第三方平台接口缺少 component_appid 时返回 41018。")
	CallerPlatformUnknown = seen("caller.platform.unknown", "rules 3.2", live, "2020-01-16",
		"A component_appid that nobody has is answered with 40013.", "component_appid 不存在时返回 40013。")
	CallerPlatformAccount = seen("caller.platform.account", "rules 3.2", live, "2025-05-19",
		"A component_appid that is an account's is answered with 61011.", "component_appid 属于公众号或小程序时返回 61011。")
	CallerPlatformOther = inferred("caller.platform.other", "rules 3.2", "61011 of an account's AppID",
		"A component_appid of another platform than the token's is answered with 61011.", "component_appid 与 token 所属平台不符时返回 61011。")
	CallerPersonal = page("caller.personal", "rules 1.8", "G3 add page",
		"A personal Mini Program on a jump-rule call is answered with 85075.", "个人主体小程序调用跳转规则接口时返回 85075。")
	CallerKind = inferred("caller.kind", "rules 1.8", "a live 48001 whose account is not known",
		"A jump-rule call for an account that is neither a Mini Program nor a service account is answered with 48001.",
		"既非小程序也非服务号的账号调用跳转规则接口返回 48001。")
	CallerUncertified = choice("caller.uncertified", "rules 1",
		"A service account that is not certified is answered with 48001.", "未认证的服务号返回 48001。")
)

// Tokens, quotas and request ids.
var (
	TokenAppIDMissing = seen("token.appid.missing", "rules 3.1", live, "2026-07-28",
		"A token call without appid is answered with 41002, whatever else is wrong.", "取 token 时缺少 appid 返回 41002，无论其他参数如何。")
	TokenAppIDUnknown = seen("token.appid.unknown", "rules 3.1", live, "2026-09-17",
		"An AppID that nobody has is answered with 40013, also without grant_type.", "AppID 不存在时返回 40013，没有 grant_type 时也一样。")
	TokenAppIDPlatform = inferred("token.appid.platform", "rules 3.1", "a live answer quoted without its date",
		"A platform's AppID on a token call is answered with 61024.", "用第三方平台的 AppID 取 token 时返回 61024。")
	TokenGrant = seen("token.grant", "rules 3.1", live, "2026-01-09",
		"A grant_type that is not the call's is answered with 40002.", "grant_type 不对时返回 40002。")
	TokenSecretMissing = seen("token.secret.missing", "rules 3.1", live, "2026-01-09",
		"A token call without a secret is answered with 41004.", "缺少 secret 时返回 41004。")
	TokenSecretWrong = seen("token.secret.wrong", "rules 3.1", live, "2026-04-28",
		"A wrong AppSecret is answered with 40125 on every call that takes one.", "凡需 AppSecret 的接口，密钥错误一律返回 40125。")
	TokenSecretGuessing = choice("token.secret.guessing", "rules 3.1",
		"Wrong secrets are answered with 45011 after twenty from one address within a minute, the right one never; each node counts its own.",
		"同一地址一分钟内密钥错误满 20 次后，再错则返回 45011；正确的密钥始终可用；各节点分别计数。")
	TokenSecretFrozen = page("token.secret.frozen", "rules 3.1", "token page",
		"A frozen AppSecret is answered with 40243.", "AppSecret 已冻结时返回 40243。")
	TokenAddress = seen("token.address", "rules 3.1", live, "2026-06",
		"A caller's address off the account's list is answered with 40164, which quotes the address.", "调用地址不在白名单时返回 40164，并写出该地址。")
	TokenDay = seen("token.day", "rules 3.1", live, "2026-01-13",
		"Fetches of a token above the day's limit are answered with 45009.", "当日取 token 次数超限时返回 45009。")
	TokenAgain = choice("token.again", "rules 3.1",
		"A token is made again although the one before is new: the third within a minute, and each after it, is noted.",
		"刚签发过 token 也可以再次签发；一分钟内第三次起记为偏差。")
	TokenStableDay = page("token.stable.day", "rules 3.1", "stable_token page",
		"More than twenty forced refreshes a day are answered with 45009.", "每日强制刷新超过 20 次时返回 45009。")
	TokenStableMinute = page("token.stable.minute", "rules 3.1", "stable_token page",
		"More than ten thousand stable_token calls a minute are answered with 45011.", "stable_token 每分钟超过一万次时返回 45011。")
	TokenStableSoon = inferred("token.stable.soon", "rules 3.1", "stable_token page: it does not refresh",
		"A forced refresh within thirty seconds of the one before answers the current token.", "30 秒内再次强制刷新，返回当前的 token。")
	TokenStableBorder = choice("token.stable.border", "rules 3.1",
		"At exactly five minutes before the end stable_token makes a new token, so that expires_in stays above 300.",
		"恰好剩五分钟时 stable_token 即签发新 token，使 expires_in 始终大于 300。")
	QuotaAppID = page("quota.appid", "rules 3.1", "clear_quota page",
		"clear_quota with an appid that is not the caller's is answered with 40013.", "clear_quota 的 appid 不是调用者自己时返回 40013。")
	QuotaPlatform = choice("quota.platform", "rules 3.1",
		"A platform's AppID on clear_quota/v2 is answered with 40013.", "clear_quota/v2 使用第三方平台的 AppID 时返回 40013。")
	QuotaStranger = choice("quota.stranger", "rules 3.1",
		"component/clear_quota/v2 for an account that did not authorise the platform is answered with 40013.",
		"component/clear_quota/v2 指向未授权的账号时返回 40013。")
	QuotaClears = page("quota.clears", "rules 3.1", "clear_quota page",
		"The eleventh clear of a month, all ways together, is answered with 48006.", "每月各种方式合计第十一次清零返回 48006。")
	QuotaInQuery = page("quota.in_query", "rules 3.1", "clear_quota/v2 page, sample",
		"clear_quota/v2 takes its fields from the query, with an empty body, as the sample has it; a secret in an address ends up in logs.",
		"clear_quota/v2 可按示例从查询串取参数，请求体可为空；地址中的密钥会留在日志里。")
	QuotaPathMissing = choice("quota.path.missing", "rules 3.1",
		"A quota call without cgi_path is answered with 40097.", "额度接口缺少 cgi_path 时返回 40097。")
	QuotaPathUnknown = page("quota.path.unknown", "rules 3.1", "quota/get page",
		"A cgi_path that no interface has is answered with 76021.", "cgi_path 不是任何接口时返回 76021。")
	QuotaPathSNS = page("quota.path.sns", "rules 3.1", "quota/get page",
		"The quota of a path under /sns/ is answered with 76022.", "查询 /sns/ 下接口的额度返回 76022。")
	QuotaPathNotYours = page("quota.path.not_yours", "rules 3.1", "quota/get page",
		"The quota of an interface that the caller cannot use is answered with 76022.", "查询调用者无权使用的接口的额度返回 76022。")
	RIDForm = page("rid.form", "rules 3.1", "rid/get page",
		"A text that has not the form of a rid is answered with 76002.", "不符合 rid 格式的文本返回 76002。")
	RIDOld = page("rid.old", "rules 3.1", "rid/get page",
		"A rid older than seven days is answered with 76004.", "超过七天的 rid 返回 76004。")
	RIDUnknown = page("rid.unknown", "rules 3.1", "rid/get page",
		"A rid of no kept call is answered with 76001.", "没有对应记录的 rid 返回 76001。")
	RIDOther = page("rid.other", "rules 3.1", "rid/get page",
		"A rid of another account's call is answered with 76003.", "属于其他账号的 rid 返回 76003。")
	LoginCodeMissing = seen("login.code.missing", "rules 3.1", live, "2024-02-21",
		"jscode2session without js_code is answered with 41008.", "jscode2session 缺少 js_code 时返回 41008。")
	LoginCodeUnknown = seen("login.code.unknown", "rules 3.1", live, "2026-10",
		"A js_code that is unknown, over or another account's is answered with 40029.", "js_code 不存在、过期或属于其他账号时返回 40029。")
	LoginCodeUsed = seen("login.code.used", "rules 3.1", live, "2024-03-28",
		"A js_code that was traded already is answered with 40163.", "js_code 已被使用时返回 40163。")
)

// Third-party platforms.
var (
	ComponentTicketExpired = seen("component.ticket.expired", "rules 3.2", live, "2019-08",
		"A verify ticket past its twelve hours is answered with 61005.", "超过十二小时的 component_verify_ticket 返回 61005。")
	ComponentTicketUnknown = seen("component.ticket.unknown", "rules 3.2", live, "2023-03-30",
		"A verify ticket that is missing or was never pushed is answered with 61006.", "缺少或从未推送过的 component_verify_ticket 返回 61006。")
	ComponentTicketOlder = page("component.ticket.older", "rules 3.2", "component_verify_ticket page",
		"A verify ticket is taken for twelve hours, also when newer ones were pushed.",
		"component_verify_ticket 在十二小时内有效，即使已推送更新的。")
	ComponentDay = page("component.day", "rules 3.2", "api_component_token page",
		"Fetches of a platform's token above the day's limit are answered with 45009.", "当日取第三方平台 token 次数超限时返回 45009。")
	ComponentCodeMissing = choice("component.code.missing", "rules 3.2",
		"api_query_auth without authorization_code is answered with 40097.", "api_query_auth 缺少 authorization_code 时返回 40097。")
	ComponentCodeUnknown = seen("component.code.unknown", "rules 3.2", live, "2024-08-30",
		"An authorization_code that was never given to this platform is answered with 61009.", "从未发给该平台的 authorization_code 返回 61009。")
	ComponentCodeUsed = seen("component.code.used", "rules 3.2", live, "2023-08-07",
		"An authorization_code that was used or is over is answered with 61010.", "已使用或过期的 authorization_code 返回 61010。")
	ComponentRefresh = seen("component.refresh", "rules 3.2", live, "2024-06-06",
		"Every refresh token but the one in force is answered with 61023.", "除当前有效者外，任何刷新令牌都返回 61023。")
	ComponentRefreshSame = seen("component.refresh.same", "rules 3.2", "easywechat issue 1033", "2017-11-25",
		"A refresh of an authorizer token answers the same refresh token again.", "刷新授权方 token 时返回同一个刷新令牌。")
	ComponentReauthorized = inferred("component.reauthorized", "rules 3.2", "wxcloudrun-wxcomponent issue 10",
		"A new authorisation of an account ends the authorizer_access_token from before at once, with 40001.",
		"账号重新授权后，此前的 authorizer_access_token 立即失效，返回 40001。")
	ComponentOption = page("component.option.unknown", "rules 3.2", "authorizer option pages",
		"An option_name or option_value that the page does not have is answered with 40097.",
		"文档没有的 option_name 或 option_value 返回 40097。")
	ComponentOptionUnset = choice("component.option.unset", "rules 3.2",
		"An option that nobody set is 0.", "从未设置过的选项值为 0。")
	ComponentAccountMissing = choice("component.account.missing", "rules 3.2",
		"A component call without authorizer_appid is answered with 40097.", "第三方平台接口缺少 authorizer_appid 时返回 40097。")
	ComponentAccountUnknown = page("component.account.unknown", "rules 3.2", "component pages",
		"An authorizer_appid that nobody has is answered with 40013.", "authorizer_appid 不存在时返回 40013。")
	ComponentAccountStranger = seen("component.account.stranger", "rules 3.2", live, "2018-11-20",
		"An account that did not authorise the platform, or withdrew it, is answered with 61003.", "未授权或已取消授权的账号返回 61003。")
	ComponentListCount = page("component.list.count", "rules 3.2", "api_get_authorizer_list page",
		"More than 500 authorisers asked for at once are answered with 40170.", "一次拉取超过 500 个授权账号时返回 40170。")
	ComponentListRange = choice("component.list.range", "rules 3.2",
		"A negative offset or count is answered with 40097.", "offset 或 count 为负时返回 40097。")
	ComponentListDefault = choice("component.list.default", "rules 3.2",
		"An absent count is the most there may be, 500.", "缺少 count 时按最大值 500 处理。")
	ConsentSame = choice("consent.same", "rules 3.2",
		"An authorisation that leaves the permission sets as they were sends no event and keeps the refresh token.",
		"授权后权限集不变时，不推送事件，刷新令牌也不变。")
	ConsentKinds = choice("consent.kinds", "rules 3.2",
		"auth_type 4, 5 and 8 offer accounts of every kind.", "auth_type 为 4、5、8 时各类账号均可选。")
	MessageSlow = choice("message.slow", "rules 3.2",
		"A receiver that takes more than five seconds to answer gets the same message again.", "接收方五秒内未回复时，会再次收到同一消息。")
	MessageSignature = choice("message.signature", "rules 3.5",
		"An event to an account's message URL is signed with an empty token.", "推送到账号消息地址的事件用空 token 签名。")
	MessageUserName = choice("message.user_name", "rules 3.2",
		"An account's gh_ name follows from its AppID.", "账号的 gh_ 原始 ID 由 AppID 推出。")
	MessageReleased = choice("message.released", "rules 1.5",
		"An account whose rule the operator releases gets an event that the platform does not have.",
		"运维强制释放规则时，账号会收到平台所没有的事件。")
)
