package behaviour

// One item, one code.
var (
	CodesKind = inferred("codes.kind", "marketcode 1", "the live 48001 of an account without the feature",
		"A Mini Program's token on a code call is answered with 48001.", "用小程序的 token 调用一物一码接口返回 48001。")
	CodesGrant = seen("codes.grant", "marketcode 1", "a live answer quoted in public", "2020-08-11",
		"A service account without the feature is answered with 48001.", "未开通一物一码的服务号返回 48001。")
	CodesGate = inferred("codes.gate", "marketcode 1", "one number, one text and no hint: the service behind has not answered",
		"The 48001 of an account that may not use a family at all comes after the token and before the body, for every family.",
		"账号根本无权使用某类接口时，48001 在校验 token 之后、读取请求体之前返回，各类接口一致。")
	CodesPrefix = choice("codes.prefix", "marketcode 1",
		"Without a code prefix of the operator's own applycode is answered with 48001 in production.",
		"生产环境未设置自有码前缀时 applycode 返回 48001。")
	CodesApplyDay = choice("codes.apply.day", "marketcode 1",
		"More than a thousand applycode calls a day are answered with 45009.", "每日 applycode 超过一千次时返回 45009。")
	CodesApplyCount = choice("codes.apply.count", "marketcode 3.1",
		"A code_count that is absent, out of range or no multiple of 10,000 is answered with 40097.",
		"code_count 缺失、越界或不是一万的倍数时返回 40097。")
	CodesApplyOrder = choice("codes.apply.order", "marketcode 3.1",
		"An isv_application_id that is absent or above 128 characters is answered with 40097.",
		"isv_application_id 缺失或超过 128 字符时返回 40097。")
	CodesApplyAgain = choice("codes.apply.again", "marketcode 3.1",
		"The same isv_application_id with the same count answers the application that exists.", "相同 isv_application_id 且数量相同，返回已有的申请单。")
	CodesApplyOther = choice("codes.apply.other", "marketcode 3.1",
		"The same isv_application_id with another count is answered with 80307.", "相同 isv_application_id 但数量不同返回 80307。")
	CodesApplicationUnknown = seen("codes.application.unknown", "marketcode 3.2", live, "2020",
		"An application that does not exist is answered with 80300.", "申请单不存在时返回 80300。")
	CodesApplicationOther = seen("codes.application.other", "marketcode 3.2", live, "2022-11-24",
		"Another account's application, or a code of one, is answered with 80301.", "属于其他账号的申请单或其码返回 80301。")
	CodesApplicationMissing = choice("codes.application.missing", "marketcode 3.2",
		"A call that names no application, or a negative one, is answered with 40097.", "未指明申请单或编号为负时返回 40097。")
	CodesApplicationTwo = choice("codes.application.two", "marketcode 3.2",
		"Two names of different applications in one call are answered with 40097.", "一次调用中两个编号指向不同申请单时返回 40097。")
	CodesUnfinished = inferred("codes.unfinished", "marketcode 3.3", "the words of 80308",
		"A download or an activation before FINISH is answered with 80308.", "申请单未 FINISH 时下载或激活返回 80308。")
	CodesRangeMissing = choice("codes.range.missing", "marketcode 3.3",
		"A range without both code_start and code_end is answered with 40097.", "code_start、code_end 未同时给出时返回 40097。")
	CodesRangeOrder = choice("codes.range.order", "marketcode 3.4",
		"A range that begins after its end, or below 0, is answered with 40097.", "区间起点大于终点或为负时返回 40097。")
	CodesRangeBeyond = inferred("codes.range.beyond", "marketcode 3.3", "the words of 80306",
		"An index past the end of the application is answered with 80306.", "码索引超出申请单范围时返回 80306。")
	CodesRangeSegments = inferred("codes.range.segments", "marketcode 3.3", "the words of 80310",
		"A download across two segments is answered with 80310.", "下载区间跨越两个分段时返回 80310。")
	CodesRangePart = choice("codes.range.part", "marketcode 3.3",
		"A download of a part of one segment is served.", "允许下载某一分段的一部分。")
	CodesKeyMissing = inferred("codes.key.missing", "marketcode 3.3", "the words of 80313",
		"A download by an account without a package key is answered with 80313.", "账号没有加密密钥时下载返回 80313。")
	CodesDownloadElsewhere = choice("codes.download.elsewhere", "marketcode 3.3",
		"A download of codes that were made elsewhere and imported is answered with 80309.", "下载由外部生成并导入的码返回 80309。")
	CodesSeparator = choice("codes.separator", "marketcode 4.2",
		"One space stands between the columns of a package, a line feed after every line.", "码包各列以一个空格分隔，每行以换行结束。")

	CodesActivateText = choice("codes.activate.text", "marketcode 3.4",
		"A text of an activation that is empty or above 128 characters is answered with 40097.", "激活文本为空或超过 128 字符时返回 40097。")
	CodesActivatePage = choice("codes.activate.page", "marketcode 3.4",
		"A blank wxa_path is answered with 40097; nothing else of it is checked.", "wxa_path 为空白时返回 40097，除此不做检查。")
	CodesActivateAppIDMissing = choice("codes.activate.appid_missing", "marketcode 3.4",
		"An activation without wxa_appid is answered with 40097.", "激活时缺少 wxa_appid 返回 40097。")
	CodesActivateAppIDForm = choice("codes.activate.appid_form", "marketcode 3.4",
		"A wxa_appid that cannot be an AppID is answered with 40013.", "wxa_appid 的格式不是 AppID 时返回 40013。")
	CodesActivateAppIDUnknown = choice("codes.activate.appid_unknown", "marketcode 3.4",
		"A wxa_appid of no Mini Program here is answered with 40097.", "wxa_appid 不是本服务器上的小程序时返回 40097。")
	CodesActivateUnlinked = choice("codes.activate.unlinked", "marketcode 3.4",
		"A setting wants the accounts linked for an activation, else 40097; by default they need not be.",
		"可设置激活须先关联，否则返回 40097；默认不要求。")
	CodesActivateUnlinkedTaken = choice("codes.activate.unlinked_taken", "marketcode 3.4",
		"Codes are activated for a Mini Program that is not linked with the service account.", "可为未与服务号关联的小程序激活码。")
	CodesActivatePersonal = choice("codes.activate.personal", "marketcode 3.4",
		"Codes are activated for a personal Mini Program.", "可为个人主体的小程序激活码。")
	CodesActivatePathSlash = choice("codes.activate.path_slash", "marketcode 3.4",
		"A wxa_path with a slash in front is taken, and opens without it.", "接受以 / 开头的 wxa_path，打开时去掉该 /。")
	CodesActivatePathUnasked = choice("codes.activate.path_unasked", "marketcode 3.4",
		"Whether the page of an activation exists is not asked where nobody said which pages the Mini Program has.",
		"没有登记小程序的页面时，不检查激活的页面是否存在。")
	CodesActivatePathUnknown = choice("codes.activate.path_unknown", "marketcode 3.4",
		"A wxa_path that is not among the pages of the Mini Program is taken.", "接受不在小程序页面之列的 wxa_path。")
	CodesActivateType = choice("codes.activate.type", "marketcode 3.4",
		"A wxa_type outside 0 to 2 is answered with 40097.", "wxa_type 不在 0 到 2 时返回 40097。")
	CodesActivateOverlap = inferred("codes.activate.overlap", "marketcode 3.4", "the words of 80302",
		"An activation over codes that are active by another range is answered with 80302.", "与其他区间的已激活码重叠时返回 80302。")
	CodesActivateOverlapTaken = choice("codes.activate.overlap_taken", "marketcode 3.4",
		"With activation_overlap replace an activation over codes that are active by another range is done.",
		"activation_overlap 为 replace 时，允许激活与其他区间重叠的码。")
	CodesActivateAgain = choice("codes.activate.again", "marketcode 3.4",
		"An activation of the very same range replaces the one before.", "对完全相同的区间再次激活会替换先前的激活。")

	CodesQueryName = choice("codes.query.name", "marketcode 3.5",
		"codeactivequery that names no code is answered with 40097.", "codeactivequery 未指明任何码时返回 40097。")
	CodesQueryIndex = choice("codes.query.index", "marketcode 3.5",
		"application_id without code_index is answered with 40097; a setting reads it as 0.",
		"只有 application_id 而无 code_index 时返回 40097；可设置按 0 处理。")
	CodesQueryIndexTaken = choice("codes.query.index_taken", "marketcode 3.5",
		"With missing_index_is_zero a codeactivequery without code_index is about the code 0.",
		"开启 missing_index_is_zero 时，缺少 code_index 的 codeactivequery 查询第 0 个码。")
	CodesQueryText = inferred("codes.query.text", "marketcode 3.5", "the words of 80303",
		"A code or code_url that names no code of this server is answered with 80303, whatever its form.",
		"code、code_url 不是本服务器的码时返回 80303，无论形式是否正确。")
	CodesQueryElsewhere = choice("codes.query.elsewhere", "marketcode 3.5",
		"Nine characters that name codes of several applications, some of them imported, are answered with 40097 unless application_id says which.",
		"九位原始码对应多个申请单的码（含导入的码）且未以 application_id 区分时返回 40097。")
	CodesQueryInactive = inferred("codes.query.inactive", "marketcode 3.5", "the words of 80304",
		"A code that is not active is answered with 80304; a setting answers 0 instead.", "未激活的码返回 80304；可设置改为返回 0。")
	CodesQueryBare = choice("codes.query.bare", "marketcode 3.5",
		"With inactive_code_is_an_error off a code that is not active is answered with 0 and without the fields of an activation.",
		"关闭设置 inactive_code_is_an_error 后，未激活的码返回 0，且不含激活字段。")

	CodesTicketOpenID = seen("codes.ticket.openid", "marketcode 3.6", live, "2023-07-07",
		"An openid of impossible form is answered with 40097, openid invalid.", "openid 格式有误时返回 40097 openid invalid。")
	CodesTicketBad = seen("codes.ticket.bad", "marketcode 3.6", "D/ thread of tickettocode, quoted in marketcode 1.1", "2024-05-10",
		"A ticket that is unknown or not this openid's is answered with 40097.", "code_ticket 不存在或与 openid 不对应时返回 40097。")
	CodesTicketOther = choice("codes.ticket.other", "marketcode 3.6",
		"The ticket of another account's code is answered as an unknown one.", "其他账号的码的 code_ticket 按不存在处理。")
	CodesTicketOver = choice("codes.ticket.over", "marketcode 3.6",
		"A ticket past its thirty minutes is answered as an unknown one.", "超过三十分钟的 code_ticket 按不存在处理。")
	CodesTicketState = choice("codes.ticket.state", "marketcode 3.6",
		"The ticket of a code that is frozen, void or not active any more is answered as an unknown one.",
		"码已冻结、作废或不再激活时，其 code_ticket 按不存在处理。")
	CodesTicketToken = choice("codes.ticket.token", "marketcode 3.6",
		"A setting lets tickettocode come without a token; the ticket then names the account.",
		"可设置允许 tickettocode 不带 token，由 code_ticket 确定账号。")
	CodesTicketAgain = choice("codes.ticket.again", "marketcode 3.6",
		"A code_ticket is traded as often as its user likes until its end.", "code_ticket 在有效期内可由同一用户重复兑换。")
	CodesText = choice("codes.text", "marketcode 5.4",
		"A code prefix has no percent sign and nothing that a path would be cleaned of.", "码前缀不含百分号，也不含会被路径规整掉的内容。")
)

// What a scan opens.
var (
	ScanMatchPath = page("scan.match.path", "rules 2.1", "INTRO",
		"A rule that does not end with / matches its own path alone, whatever the link's parameters.",
		"不以 / 结尾的规则只匹配同一路径，不论链接参数。")
	ScanMatchBelow = page("scan.match.below", "rules 2.1", "INTRO",
		"A rule that ends with / matches what lies below.", "以 / 结尾的规则匹配其下的链接。")
	ScanMatchQuery = page("scan.match.query", "rules 2.1", "INTRO",
		"A rule with parameters wants an equal path, and parameters that begin with its own.", "带参数的规则要求路径相同、参数以其为前缀。")
	ScanMatchOrigin = page("scan.match.origin", "rules 2.1", "INTRO",
		"Scheme and host must be the rule's.", "协议和域名须与规则相同。")
	ScanMatchService = inferred("scan.match.service", "rules 2.3", "the code is the whole text",
		"A service account's rule matches the identical text alone.", "服务号规则只匹配完全相同的文本。")
	ScanOrder = page("scan.order", "rules 2.2", "INTRO, row six",
		"The longest rule of an account governs, also when it is unpublished.", "同一账号以最长的规则为准，即使未发布。")
	ScanOrderOthers = choice("scan.order.others", "rules 2.9",
		"An unpublished rule hides rules of its own account alone.", "未发布的规则只遮蔽同一账号的规则。")
	ScanBlocked = choice("scan.blocked", "rules 2.10",
		"A rule that governs and cannot open is the web page, never another account's shorter rule.",
		"命中的规则打不开时显示网页，不会落到其他账号较短的规则。")
	ScanTestRole = choice("scan.test.role", "rules 2.6",
		"A role outside the range of open_version counts as an ordinary user.", "不在 open_version 范围内的角色视为普通用户。")
	ScanTestAnonymous = choice("scan.test.anonymous", "rules 2.6",
		"A scan without a user never meets a test link.", "没有用户身份的扫码不会命中测试链接。")
	ScanPlain = choice("scan.plain", "rules 2.9",
		"A text with control characters, bad UTF-8 or above 4 KiB is shown as text.", "含控制字符、UTF-8 无效或超过 4 KiB 的内容按文本显示。")
	ScanPage = choice("scan.page", "rules 2.8",
		"A leading / of the page is dropped, and a page with a query is joined with &.", "页面开头的 / 会去掉，已带参数的页面用 & 连接。")
	ScanEncoding = seen("scan.encoding", "rules 2.8", "a public project's log", "2021-03-17",
		"q is the scanned text, encoded once as encodeURIComponent does.", "q 为扫到的原文，按 encodeURIComponent 编码一次。")
	ScanScene = page("scan.scene", "rules 2.8", "scene table",
		"Scenes are 1011, 1012 and 1013 for scan, press and album.", "扫码、长按、相册的场景值为 1011、1012、1013。")
	ScanCodeScene = seen("scan.code.scene", "marketcode 6.1", "public projects", "2020",
		"Scenes of a code are 1124, 1125 and 1126.", "一物一码的场景值为 1124、1125、1126。")
	ScanCodeFirst = choice("scan.code.first", "rules 2.10",
		"A complete code text wins over a rule, also when the code is invalid.", "完整的码文本优先于规则，即使码无效。")
	ScanCodeUnknown = choice("scan.code.unknown", "marketcode 6.2",
		"A text of a code's form that nobody made is a message, unknown_code.", "符合码形式但无人生成的文本显示提示 unknown_code。")
	ScanCodeState = choice("scan.code.state", "marketcode 6.2",
		"A code that is not active, frozen or void is a message.", "未激活、冻结或作废的码显示提示。")
	ScanCodeSerial = choice("scan.code.serial", "marketcode 6.2",
		"The bare nine characters are a message, serial_only, and yield no ticket.", "只有九位码时显示提示 serial_only，不给 ticket。")
	ScanCodeVersion = inferred("scan.code.version", "marketcode 6.2", "versions of the platform",
		"A code whose version the user cannot have opens nothing, no_release.", "用户无权打开码所绑定的版本时不打开，提示 no_release。")
)
