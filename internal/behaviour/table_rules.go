package behaviour

// Jump rules: add, edit, list, publish, delete.
var (
	RulesEditFlag = choice("rules.add.edit_flag", "rules 1.1",
		"is_edit that is absent or neither 0 nor 1 is answered with 40097.", "is_edit 缺失或不是 0、1 时返回 40097。")
	RulesOccupyFlag = choice("rules.add.occupy_flag", "rules 1.1",
		"permit_sub_rule that is neither 1 nor 2 is answered with 40097.", "permit_sub_rule 不是 1、2 时返回 40097。")
	RulesOpenVersion = choice("rules.add.open_version", "rules 1.1",
		"open_version outside 1 to 3 is answered with 40097.", "open_version 不在 1 到 3 之间时返回 40097。")
	RulesTestLinksMany = choice("rules.add.test_links", "rules 1.1",
		"More than five test links are answered with 40097.", "测试链接超过五个时返回 40097。")
	RulesTargetMissing = choice("rules.add.target_missing", "rules 1.1",
		"A service account's rule without appid is answered with 40097.", "服务号规则缺少 appid 时返回 40097。")
	RulesPath = choice("rules.add.path", "rules 1.1",
		"A path that is blank, above 1,024 bytes or has control characters is answered with 40097; it is not checked otherwise.",
		"path 为空白、超过 1024 字节或含控制字符时返回 40097；除此不做检查。")
	RulesPathUnasked = choice("rules.add.path_unasked", "rules 1.1",
		"Whether the page of a rule exists is not asked where nobody said which pages the Mini Program has.",
		"没有登记小程序的页面时，不检查规则的页面是否存在。")
	RulesPathUnknown = choice("rules.add.path_unknown", "rules 1.1",
		"A page that is not among those of the Mini Program is taken.", "接受不在小程序页面之列的 path。")
	RulesPathSlash = choice("rules.add.path_slash", "rules 1.1",
		"A page with a slash in front is taken, and opens without it.", "接受以 / 开头的 path，打开时去掉该 /。")
	RulesPrefixMissing = choice("rules.prefix.missing", "rules 1.8",
		"A rule call without prefix is answered with 40097.", "规则接口缺少 prefix 时返回 40097。")
	RulesPrefixUnknown = choice("rules.prefix.unknown", "rules 1.2",
		"Publish, edit or delete of a prefix that is no rule of the caller is answered with 40097, whoever else has it.",
		"发布、修改、删除不属于自己的 prefix 返回 40097，无论他人是否拥有。")
	RulesTargetUnknown = inferred("rules.target.unknown", "rules 1.8", "40166 seen on another family, and the common table",
		"An appid that is no Mini Program is answered with 40166.", "appid 不是小程序时返回 40166。")
	RulesTargetUnlinked = choice("rules.target.unlinked", "rules 1.8",
		"Add, edit or list with a Mini Program that is not linked is answered with 40166, not 61007.",
		"新增、修改、查询未关联的小程序返回 40166，而不是 61007。")

	RulesPrefixLong = choice("rules.prefix.long", "rules 2.5",
		"A prefix above 1,024 bytes is answered with 85066.", "prefix 超过 1024 字节时返回 85066。")
	RulesPrefixCharacters = seen("rules.prefix.characters", "rules 2.5", live, "2022-08-17",
		"A prefix with characters that a URL cannot have, Chinese ones most of all, is answered with 85066.",
		"prefix 含 URL 不允许的字符（尤其是中文）时返回 85066。")
	RulesPrefixScheme = choice("rules.prefix.scheme", "rules 2.5",
		"A prefix that is no http or https link is answered with 85066.", "prefix 不是 http、https 链接时返回 85066。")
	RulesPrefixService = seen("rules.prefix.service", "rules 2.5", live, "2022-10-16",
		"A service account's prefix must be http://weixin.qq.com/q/ and a code; any other, /r/ too, is answered with 85066.",
		"服务号的 prefix 须为 http://weixin.qq.com/q/ 加码；其他（包括 /r/）返回 85066。")
	RulesPrefixKind = choice("rules.prefix.kind", "rules 1",
		"A Mini Program's prefix under http://weixin.qq.com/q/ is answered with 85066.",
		"小程序的 prefix 位于 http://weixin.qq.com/q/ 下时返回 85066。")
	RulesPrefixPort = choice("rules.prefix.port", "rules 2.5",
		"A port in the prefix, which the platform was seen not to take, is answered with 85066: the number is ours.",
		"prefix 带端口（已见平台不接受）时返回 85066，错误码为本服务器所选。")
	RulesPrefixEncoded = choice("rules.prefix.encoded", "rules 2.5",
		"A prefix with % is taken, and compared as it is written.", "接受含 % 的 prefix，按原文比较，不解码。")
	RulesPrefixCase = choice("rules.prefix.case", "rules 2.5",
		"Capitals in scheme and host of a prefix are taken, and compared as small letters.", "接受协议和域名含大写字母的 prefix，比较时不分大小写。")
	RulesPrefixHost = choice("rules.prefix.host", "rules 2.5",
		"A host that is an address, has one label, a final dot or user information is answered with 85066.",
		"主机为 IP、单级名称、以点结尾或带用户信息时返回 85066。")
	RulesPrefixPrivate = choice("rules.prefix.private", "rules 2.5",
		"With allow_private_hosts, the default of --dev, ports, addresses and one-label hosts are taken.",
		"开启 allow_private_hosts（--dev 的默认）时接受端口、IP 和单级主机名。")
	RulesPrefixPortTaken = choice("rules.prefix.port_taken", "rules 2.5",
		"With allow_private_hosts a port in the prefix is taken.", "开启 allow_private_hosts 时接受 prefix 中的端口。")
	RulesPrefixNewer = seen("rules.prefix.newer", "rules 2.5", live, "2023-03-16",
		"Hosts under .ink, .media, .plus and .run are refused with 85066 where the setting refuse_newer_domains is on.",
		"设置 refuse_newer_domains 开启时，.ink、.media、.plus、.run 下的主机返回 85066。")
	RulesPrefixNewerTaken = choice("rules.prefix.newer_taken", "rules 2.5",
		"Hosts under .ink, .media, .plus and .run are taken by default, although the platform refused them.",
		"默认接受 .ink、.media、.plus、.run 下的主机，尽管平台曾拒绝。")
	RulesTestLink = page("rules.test_link", "rules 2.6", "common error table",
		"A test link that does not satisfy its rule is answered with 85068.", "测试链接不满足规则时返回 85068。")

	RulesAddOwn = page("rules.add.own", "rules 2.4", "add page",
		"Adding a prefix that the caller has already is answered with 85071.", "重复新增自己已有的 prefix 返回 85071。")
	RulesAddOwned = choice("rules.add.owned", "rules 2.4",
		"A prefix that another account has, occupied or not, is answered with 85072: a prefix has one owner.",
		"其他账号已有的 prefix（无论是否占用）返回 85072：一个 prefix 只有一个所有者。")
	RulesAddOccupied = seen("rules.add.occupied", "rules 2.4", live, "2023-10-24",
		"A prefix below one that another account occupies is answered with 85072.", "位于其他账号占用的规则之下的 prefix 返回 85072。")
	RulesAddMaker = choice("rules.add.maker", "rules 1.1",
		"The parametric code of another service account is answered with 85072; a code made elsewhere is anybody's.",
		"其他服务号的带参数二维码返回 85072；别处生成的，任何服务号都可使用。")
	RulesAddMadeElsewhere = choice("rules.add.made_elsewhere", "rules 1.1",
		"A service account's prefix that no qrcode/create of this server made is taken.", "接受并非由本服务器 qrcode/create 生成的服务号 prefix。")
	RulesAddAbove = choice("rules.add.above", "rules 1",
		"A setting lets a Mini Program have more rules than the platform's hundred, or 100,000 of service accounts.",
		"可用设置放行超过平台上限（小程序一百条、服务号规则十万条）的规则。")
	RulesAddLimit = page("rules.add.limit", "rules 1", "add page",
		"A rule above the limit is answered with 85073.", "规则数超限时返回 85073。")
	RulesAddDenied = page("rules.add.denied", "rules 1.8", "add page",
		"A host that the operator denies is answered with 85070.", "运维禁止的主机返回 85070。")
	RulesAddICP = seen("rules.add.icp", "rules 2.7", live, "2020-10-15",
		"A host whose ICP record the operator denies is answered with 85076.", "运维标记为无备案的主机返回 85076。")
	RulesAddICPUnasked = choice("rules.add.icp_unasked", "rules 2.7",
		"A host of which the operator says nothing counts as having an ICP record.", "运维未说明的主机视为已备案。")
	RulesConfirm = seen("rules.confirm.failed", "rules 2.7", live, "2024-09-22",
		"A verification file that is missing or differs is answered with 85069.", "校验文件缺失或内容不符时返回 85069。")
	RulesConfirmVouched = choice("rules.confirm.vouched", "rules 2.7",
		"No file is fetched where the operator vouches for every host.", "运维担保所有主机时不抓取校验文件。")
	RulesConfirmNamed = choice("rules.confirm.named", "rules 2.7",
		"No file is fetched for a host that the operator vouches for by its name; such a host also counts as having an ICP record.",
		"运维指名担保的主机不抓取校验文件，并视为已备案。")
	RulesConfirmAnyPort = choice("rules.confirm.any_port", "rules 2.7",
		"A host that is vouched for without a port is vouched for on every port.", "未写端口的受信主机在任何端口都受信。")
	RulesConfirmTrim = choice("rules.confirm.trim", "rules 2.7",
		"White space round the content of the verification file is trimmed.", "校验文件内容首尾的空白会被忽略。")
	RulesConfirmFragment = choice("rules.confirm.fragment", "rules 2.7",
		"A # in the directory of a prefix goes out as %23 when the file is fetched.", "抓取校验文件时，目录中的 # 编码为 %23。")
	RulesConfirmAddress = choice("outbound.address.mixed", "rules 2.7",
		"A name of which one address is not public is not fetched at all.", "域名解析到的地址中只要有一个不是公网地址，就不抓取。")
	RulesConfirmASCII = choice("outbound.host.ascii", "rules 2.7",
		"A host that is not ASCII is not fetched; other scripts are written as xn--.", "非 ASCII 主机名不抓取，其他文字须写成 xn-- 形式。")
	RulesConfirmLiteral = choice("outbound.host.literal", "rules 2.7",
		"An address in place of a name is not fetched, a public one neither.", "以 IP 代替域名时不抓取，公网 IP 也不行。")

	RulesEditPage = seen("rules.edit.page", "rules 1.2", "D/00046a4e9108d083df3e1023451400", "2022-07-15",
		"Another page for a published rule is answered with 40097.", "修改已发布规则的 path 返回 40097。")
	RulesEditService = page("rules.edit.service", "rules 1.2", "G1s and G3 add pages",
		"Any edit of a published service-account rule is answered with 40097.", "修改已发布的服务号规则一律返回 40097。")
	RulesEditKeeps = choice("rules.edit.keeps_links", "rules 1.2",
		"An edit without debug_url keeps the test links; [] clears them.", "修改时不带 debug_url 则保留测试链接，[] 则清空。")
	RulesEditKeepsEmpty = choice("rules.edit.keeps_empty", "rules 1.2",
		"With empty_debug_url_keeps an edit with an empty debug_url keeps the test links.",
		"开启 empty_debug_url_keeps 时，修改时 debug_url 为空数组也保留测试链接。")
	RulesEditUnchecked = choice("rules.edit.unchecked", "rules 1.2",
		"An edit does not fetch the verification file again and spends nothing.", "修改规则不再抓取校验文件，也不消耗次数。")

	RulesGetPrefixes = choice("rules.get.prefixes", "rules 1.3",
		"get_type 1 with no or more than 200 prefixes is answered with 40097.", "get_type 为 1 时 prefix 数为 0 或超过 200 返回 40097。")
	RulesGetPage = choice("rules.get.page", "rules 1.3",
		"get_type 2 with page_num below 1 or page_size outside 1 to 200 is answered with 40097.",
		"get_type 为 2 时 page_num 小于 1 或 page_size 不在 1 到 200 返回 40097。")
	RulesGetType = choice("rules.get.type", "rules 1.3",
		"A get_type other than 0, 1 and 2 is answered with 40097.", "get_type 不是 0、1、2 时返回 40097。")
	RulesGetAll = choice("rules.get.all", "rules 1.3",
		"A service account's list without appid has all its rules.", "服务号查询不带 appid 时返回其全部规则。")
	RulesGetOrder = inferred("rules.get.order", "rules 1.3", "the words of the get page",
		"get_type 0 lists the newest first, 2 the oldest first.", "get_type 为 0 时新的在前，为 2 时旧的在前。")
	RulesGetWhole = inferred("rules.get.whole", "rules 1.3", "the words of the get page",
		"get_type 1 compares whole prefixes.", "get_type 为 1 时按完整 prefix 比较。")
	RulesGetOwn = inferred("rules.get.own", "rules 1.3", "a remark of the get page",
		"A Mini Program's list has no rules that service accounts made for it.", "小程序的列表不含服务号为它建立的规则。")
	RulesGetByGET = choice("rules.get.by_get", "rules 1.3",
		"A setting lets qrcodejumpget be called with GET.", "可用设置允许以 GET 调用 qrcodejumpget。")

	RulesPublishUnlinked = choice("rules.publish.unlinked", "rules 1.4",
		"Publishing a service account's rule whose Mini Program is not linked any more is answered with 40166.",
		"发布服务号规则时，若小程序已解除关联则返回 40166。")
	RulesPublishUnreleased = page("rules.publish.unreleased", "rules 1.4", "publish page",
		"Publishing for a Mini Program without a released version is answered with 85074.", "小程序没有线上版本时发布返回 85074。")
	RulesPublishQuota = seen("rules.publish.quota", "rules 1.4", "D/0002ec5d7b8a78f9c8cc4473f5fc00", "2021-09-25",
		"A publish above the month's quota is answered with 886000.", "当月发布次数用完时返回 886000。")
	RulesPublishAbove = choice("rules.publish.above", "rules 1.4",
		"A setting lets a Mini Program publish more than a hundred times a month.", "可用设置放行小程序每月超过一百次的发布。")
	RulesPublishAgain = choice("rules.publish.again", "rules 1.4",
		"Publishing a published rule answers 0 and spends nothing.", "再次发布已发布的规则返回 0，不消耗次数。")
	RulesPublishService = choice("rules.publish.service", "rules 1",
		"Service-account rules have no publish quota by default, also above a hundred a month, and 100 is reported.",
		"服务号规则默认不限发布次数（每月超过一百次也可），额度显示为 100。")
	RulesPublishClosed = choice("rules.publish.closed", "rules 1.4",
		"A publish while jumping is off for the account is done, spends a publish and opens nothing.",
		"跳转功能关闭时仍可发布并消耗次数，但扫码不会打开。")
	RulesDeleteUnlinked = choice("rules.delete.unlinked", "rules 1.5",
		"A service account's rule can be deleted also where its Mini Program is not linked any more.",
		"小程序已解除关联时，仍可删除服务号规则。")
	RulesPublishMonth = choice("rules.publish.month", "rules 1.4",
		"The month of publishes is the calendar month in +08:00, a setting.", "发布额度按东八区自然月计，时区可设。")
	RulesDeleteTarget = choice("rules.delete.target", "rules 1.5",
		"Deleting a service account's rule without its appid, or with another, is answered with 40097.",
		"删除服务号规则时 appid 缺失或不符返回 40097。")
	RulesUndo = choice("rules.undo", "rules 1.4",
		"An operator's undo of a change spends no publish and gives none back.", "运维撤销更改既不消耗也不退还发布次数。")
)

// Links between service accounts and Mini Programs, parametric codes.
var (
	LinkOwnToken = inferred("link.own_token", "rules 3.4", "a live 48001 of an official account whose call is not known",
		"A link call with an account's own token is answered with 48001; a setting lets it.", "用账号自己的 token 调用关联接口返回 48001；可设置放行。")
	LinkOwnTaken = choice("link.own_token_taken", "rules 3.4",
		"With links_by_own_token an account calls the link interfaces with a token of its own.",
		"开启 links_by_own_token 时账号可用自己的 token 调用关联接口。")
	LinkKind = choice("link.kind", "rules 3.4",
		"A link call for an account that is no service account is answered with 48001.", "非服务号调用关联接口返回 48001。")
	LinkAppIDMissing = choice("link.appid.missing", "rules 3.4",
		"A link call without appid is answered with 40097.", "关联接口缺少 appid 时返回 40097。")
	LinkFlagsMissing = choice("link.flags.missing", "rules 3.4",
		"wxamplink with neither notify_users nor show_profile is answered with 40097 and changes nothing.",
		"wxamplink 既无 notify_users 也无 show_profile 时返回 40097，不做任何更改。")
	LinkAppIDUnknown = choice("link.appid.unknown", "rules 3.4",
		"Linking what is no Mini Program here is answered with 40013.", "关联对象不是本服务器上的小程序时返回 40013。")
	LinkDone = page("link.done", "rules 3.4", "wxamplink page",
		"Linking what is linked already is answered with 89015.", "已关联时再次关联返回 89015。")
	LinkAsked = page("link.asked", "rules 3.4", "wxamplink page",
		"Linking what waits to be confirmed is answered with 89010.", "关联待确认时再次关联返回 89010。")
	LinkEndAsked = page("link.end.asked", "rules 3.4", "wxampunlink page",
		"Unlinking what waits to be confirmed is answered with 89018.", "解除关联待确认时再次解除返回 89018。")
	LinkLimitAccount = page("link.limit.account", "rules 3.4", "wxamplink page",
		"A link above the service account's limit is answered with 89007.", "服务号关联数超限时返回 89007。")
	LinkLimitProgram = page("link.limit.program", "rules 3.4", "wxamplink page",
		"A link above the Mini Program's limit is answered with 89009.", "小程序被关联数超限时返回 89009。")
	LinkAtOnce = choice("link.at_once", "rules 3.4",
		"A link takes effect at once, and a rule or an activation may rest on it; strict or hold_links holds it until both administrators agreed.",
		"关联立即生效，规则和激活可以依赖它；strict 或 hold_links 使其等待双方管理员确认。")
	LinkRefused = choice("link.refused", "rules 3.4",
		"Status 3 is also that of a link which the account's own administrator refused.", "账号自己的管理员拒绝后状态同样为 3。")
	LinkEndAbsent = choice("link.end.absent", "rules 3.4",
		"Unlinking what is not linked answers 0.", "解除并不存在的关联返回 0。")

	QRCodeAccount = inferred("qrcode.account", "rules 3.5", "48001 of other families",
		"qrcode/create by an account that is no certified service account is answered with 48001.", "非认证服务号调用 qrcode/create 返回 48001。")
	QRCodeAction = page("qrcode.action", "rules 3.5", "qrcode/create page",
		"An action_name that is none of the four is answered with 40052.", "action_name 不是四种之一时返回 40052。")
	QRCodeInfo = page("qrcode.info", "rules 3.5", "qrcode/create page",
		"An action_info without a scene that fits is answered with 40053.", "action_info 没有合适的 scene 时返回 40053。")
	QRCodeLife = choice("qrcode.life", "rules 3.5",
		"expire_seconds outside 1 to 2592000 is answered with 40097, not cut.", "expire_seconds 不在 1 到 2592000 时返回 40097，不做截断。")
	QRCodeLifeIgnored = choice("qrcode.life_ignored", "rules 3.5",
		"expire_seconds of a permanent code is ignored.", "永久二维码的 expire_seconds 会被忽略。")
	QRCodeLimit = inferred("qrcode.limit", "rules 3.5", "the limit of the qrcode/create page, the words of 45029",
		"A permanent code above 100,000 is answered with 45029.", "永久二维码超过十万个时返回 45029。")
	QRCodeTicket = choice("qrcode.ticket", "rules 3.5",
		"A code's ticket is URL-safe Base64 without padding.", "二维码的 ticket 是无填充的 URL 安全 Base64。")
	QRCodeOutlived = choice("qrcode.outlived", "rules 3.5",
		"A temporary code that has ended opens by its rule all the same.", "过期的临时码只要有规则仍能打开。")
	QRCodeShowRate = choice("qrcode.show.rate", "rules 3.5",
		"Pictures above a number a second for one address are status 429.", "同一地址每秒取图过多时状态为 429。")
	QRCodeEvent = choice("qrcode.event", "rules 3.5",
		"The scan of a code whose rule opens nothing now sends the account its event.", "规则当前打不开时，扫码仍向账号推送事件。")
)
