package behaviour

import "math/bits"

// Deviation is what makes a row one that a caller may stumble over on the platform:
// the caller did something that this server lets pass. Decision 37.
type Deviation struct {
	Row     Row
	Minds   Mark // how sure it is that the platform minds; Choice = nothing says so
	Refusal int  // the number that strict answers; 0 = strict cannot turn the row
	English string
	Chinese string // what to change in the caller
}

// closed are refused, also without strict, unless the operator lets them pass.
var closed = map[Row]bool{WireBodyEmptyAccepted: true, ComponentReauthorized: true}

// held are let wait by strict, which refuses nothing there.
var held = map[Row]bool{LinkAtOnce: true}

// Closed reports whether the row is refused unless the operator turns it.
func (d Deviation) Closed() bool { return closed[d.Row] }

// Turns reports whether strict, or the operator, can decide otherwise.
func (d Deviation) Turns() bool { return d.Refusal != 0 || held[d.Row] }

// deviations are the rows with a deviation, in the order of the tables.
var deviations = []Deviation{
	{WireMethodTaken, Choice, 0, "Call with GET, as the page has it.", "请按文档使用 GET 调用。"},
	{WireBodyEmptyAccepted, Seen, 44002, "Send {} as the body: the platform was seen to answer 44002 to an empty one.",
		"请求体请发送 {}：已见平台对空请求体返回 44002。"},
	{WireBodyType, Choice, 47001, "Send Content-Type: application/json.", "请发送 Content-Type: application/json。"},
	{WireFieldNull, Choice, 40097, "Leave out fields that say nothing, instead of null or an empty text.",
		"没有取值的字段请省略，不要发送 null 或空字符串。"},
	{WireFieldUnknown, Choice, 40097, "Look for a misspelt field: the page does not name it, and it is ignored.",
		"请检查字段名是否写错：文档没有该字段，会被忽略。"},
	{WireFieldQuery, Choice, 40097, "Send the field in the JSON body: in the query it is ignored.",
		"请把该字段放在 JSON 请求体里：写在查询串中会被忽略。"},
	{WireNumberText, Choice, 40097, "Send numbers as JSON numbers: that the platform takes digits in quotes was seen on few fields.",
		"数字请用 JSON 数字：平台只在少数字段上被见到接受带引号的数字。"},
	{WireNumberFloat, Choice, 40097, "Send whole numbers without a point or an exponent.", "整数请不要带小数点或指数。"},
	{WireListText, Choice, 40097, "Send a list, also of one text: that the platform takes a bare text was seen once.",
		"即使只有一个值也请发送数组：平台接受单个字符串只被见到一次。"},
	{WireFlagWord, Choice, 40097, "Send true or false, or 1 or 0 where the page of the call has a number, without quotes.",
		"请发送不带引号的 true 或 false；该接口页面写明为数字的，请发送 1 或 0。"},
	{WireTextNumber, Choice, 40097, "Send this text in quotes.", "该文本请加引号发送。"},
	{WireFieldDoubled, Choice, 40097, "Send each field once: which of two counts on the platform is not known.",
		"每个字段只发送一次：平台以哪一个为准尚不清楚。"},
	{WireRateAbove, Page, 44990, "Make at most five calls a second to each jump-rule interface.", "每个跳转规则接口每秒请不超过 5 次调用。"},
	{WireRetry, Choice, 0, "Do not repeat this call: only another request can succeed.", "请不要重试该调用：只有修改请求后才可能成功。"},

	{TokenAgain, Page, 0, "Keep the token until it ends, and share it between processes: the platform gives out few a day.",
		"请缓存 token 直到过期并在进程间共享：平台每日签发次数有限。"},
	{TokenStableSoon, Page, 0, "Force a refresh only where the token leaked, and not again within thirty seconds: this one changed nothing.",
		"仅在 token 泄露时强制刷新，且 30 秒内不要重复：这一次没有生效。"},
	{ComponentReauthorized, Inferred, 40001, "After a new authorisation use the token that it gave: the one before was seen to end at once.",
		"重新授权后请使用新取得的 token：已见旧 token 立即失效。"},
	{ComponentListDefault, Page, 40097, "Send count: the page requires it.", "请发送 count：文档规定必填。"},
	{ComponentTicketOlder, Choice, 0, "Store each component_verify_ticket as it is pushed, and use the newest.",
		"请保存每次推送的 component_verify_ticket，并使用最新的。"},
	{MessageSlow, Choice, 0, "Answer the message at once, and do the work afterwards.", "请先立即回复，再处理消息。"},

	{CodesApplyAgain, Choice, 80307, "Keep the application_id that applycode answered; ask for its state with applycodequery.",
		"请保存 applycode 返回的 application_id，并用 applycodequery 查询其状态。"},
	{CodesRangePart, Inferred, 80310, "Download whole segments, as code_generate_list of applycodequery lists them.",
		"请按 applycodequery 返回的 code_generate_list 整段下载。"},
	{CodesActivateAgain, Choice, 80302, "Do not activate a range twice: nobody knows whether the platform replaces or refuses.",
		"请不要重复激活同一区间：平台是替换还是拒绝尚不清楚。"},
	{CodesActivateOverlapTaken, Inferred, 80302, "Activate ranges that do not overlap: the platform has a number for it.",
		"激活区间请不要重叠：平台为此有专门的错误码。"},
	{CodesActivateUnlinkedTaken, Choice, 40097, "Link the service account with the Mini Program before you activate codes for it.",
		"激活前请先把服务号与小程序关联。"},
	{CodesActivatePersonal, Choice, 40097, "Activate for a Mini Program that is not a person's: nobody knows whether the platform opens it.",
		"请绑定非个人主体的小程序：平台是否允许个人小程序尚不清楚。"},
	{CodesActivatePathSlash, Choice, 40097, "Send the page without a slash in front, as the page's sample does.",
		"页面路径开头请不要带 /，与文档示例一致。"},
	{CodesActivatePathUnasked, Choice, 0,
		"Make sure that the page exists: nobody looked. `qrjump account put APPID --page PAGE` tells this server of it.",
		"请确认页面存在：这里没有检查。可用 `qrjump account put APPID --page PAGE` 告知本服务器。"},
	{CodesActivatePathUnknown, Inferred, 40097, "Activate for a page that the Mini Program has.", "请绑定小程序已有的页面。"},
	{CodesQueryIndexTaken, Choice, 40097, "Send code_index, also where it is 0.", "code_index 为 0 时也请发送。"},
	{CodesQueryBare, Inferred, 80304, "Expect 80304 for a code that is not active.", "请按未激活的码返回 80304 处理。"},
	{CodesTicketToken, Inferred, 41001, "Send the service account's access_token with tickettocode.",
		"调用 tickettocode 请带上服务号的 access_token。"},
	{CodesTicketAgain, Choice, 0, "Keep what the ticket was traded for: nobody knows whether the platform trades it twice.",
		"请保存兑换结果：平台是否允许重复兑换尚不清楚。"},

	{RulesPathUnasked, Choice, 0,
		"Make sure that the page is in the released version: nobody looked. `qrjump account put APPID --page PAGE` tells this server of it.",
		"请确认线上版本有该页面：这里没有检查。可用 `qrjump account put APPID --page PAGE` 告知本服务器。"},
	{RulesPathUnknown, Inferred, 40097, "Use a page that the Mini Program has.", "请使用小程序已有的页面。"},
	{RulesPathSlash, Choice, 40097, "Send the page without a slash in front, as all samples do.", "页面路径开头请不要带 /，与文档示例一致。"},
	{RulesPrefixEncoded, Choice, 85066, "Use a prefix without %: whether the platform takes and decodes it is not known.",
		"prefix 请不要含 %：平台是否接受、是否解码尚不清楚。"},
	{RulesPrefixCase, Choice, 85066, "Write scheme and host in small letters: whether the platform folds them is not known.",
		"协议和域名请用小写：平台是否忽略大小写尚不清楚。"},
	{RulesAddMadeElsewhere, Choice, 85066, "Use the url that qrcode/create answered: this server made no such code.",
		"请使用 qrcode/create 返回的 url：本服务器没有生成过这个码。"},
	{RulesAddAbove, Page, 85073, "Keep to the platform's limit: a hundred rules of a Mini Program, 100,000 of service accounts for one.",
		"请遵守平台上限：小程序一百条规则，服务号规则每个小程序十万条。"},
	{RulesPrefixPrivate, Inferred, 85066, "Use a public host name with an ICP record.", "请使用有备案的公网域名。"},
	{RulesPrefixPortTaken, Seen, 85066, "Use a prefix without a port.", "prefix 请不要带端口。"},
	{RulesPrefixNewerTaken, Seen, 85066, "Use a host under another top-level domain: the platform refused this one.",
		"请换用其他顶级域名：平台曾拒绝该顶级域名。"},
	{RulesAddICPUnasked, Choice, 85076, "Make sure that the host has an ICP record: nobody told this server.",
		"请确认该主机已备案：本服务器并不知情。"},
	{RulesConfirmVouched, Choice, 85069, "Put the verification file where the platform can fetch it: here nobody looked.",
		"请把校验文件放到平台能抓取的位置：这里没有检查。"},
	{RulesConfirmTrim, Choice, 85069, "Let the verification file have its 32 characters alone, without a line feed.",
		"校验文件请只含 32 个字符，不要带换行。"},
	{RulesConfirmFragment, Choice, 0, "Use a prefix without # before its last slash: how the platform asks for the file there is not known.",
		"prefix 最后一个 / 之前请不要含 #：平台如何抓取校验文件尚不清楚。"},
	{RulesEditKeepsEmpty, Choice, 0, "Leave debug_url out where the test links shall stay: [] may clear them.",
		"要保留测试链接请不要发送 debug_url：[] 可能会清空。"},
	{RulesEditKeeps, Choice, 0, "Send debug_url with every edit, so that nothing hangs on what its absence means.",
		"每次修改都请带上 debug_url，不要依赖缺省时的含义。"},
	{RulesEditUnchecked, Choice, 0, "Leave the verification file in place: the platform may fetch it again for an edit.",
		"请保留校验文件：平台在修改时可能再次抓取。"},
	{RulesGetAll, Page, 40097, "Send the appid of the Mini Program: the page requires it of a service account.",
		"服务号查询请带小程序 appid：文档规定必填。"},
	{RulesGetByGET, Page, 43002, "Call with POST.", "请使用 POST 调用。"},
	{RulesPublishAbove, Seen, 886000, "Publish at most a hundred times a month.", "每月请不超过一百次发布。"},
	{RulesPublishService, Choice, 886000, "Publish at most a hundred times a month, for service accounts too: one page limits them.",
		"服务号每月发布也请不超过一百次：有一份文档限制它。"},
	{RulesPublishClosed, Choice, 0, "Switch jumping on (qrcodejump_open) before you publish: no scan opens the rule.",
		"发布前请打开跳转功能（qrcodejump_open）：目前扫码不会打开。"},
	{RulesDeleteUnlinked, Page, 0, "Delete a rule before the Mini Program is unlinked: the page wants it linked.",
		"请在解除关联之前删除规则：文档要求处于关联状态。"},
	{RulesPublishAgain, Choice, 0, "Publish once: the platform may count a publish for it or refuse it.",
		"请只发布一次：平台可能再扣一次额度或拒绝。"},
	{LinkAtOnce, Page, 0, "Wait until wxamplinkget shows status 1: on the platform both administrators are asked first.",
		"请等 wxamplinkget 显示 status 为 1：平台会先征求双方管理员同意。"},
	{LinkOwnTaken, Inferred, 48001, "Call with the token that a third-party platform has of the account.", "请用第三方平台取得的该账号 token 调用。"},
	{LinkEndAbsent, Choice, 0, "Ask wxamplinkget what is linked before you unlink.", "解除前请先用 wxamplinkget 查询已关联的小程序。"},
	{QRCodeLifeIgnored, Choice, 40097, "Leave expire_seconds out of a permanent code.", "永久二维码请不要发送 expire_seconds。"},
}

// deviant has the bits of the rows with a deviation, deviationOf their entries.
var (
	deviant     [maxRows / 64]uint64
	deviationOf [maxRows]*Deviation
)

func init() {
	for i, d := range deviations {
		deviant[d.Row/64] |= 1 << (d.Row % 64)
		deviationOf[d.Row] = &deviations[i]
	}
}

// Deviations are all of them.
func Deviations() []Deviation { return deviations }

// Deviation is the deviation of a row; ok is false for a row that has none.
func (r Row) Deviation() (d Deviation, ok bool) {
	if found := deviationOf[r]; found != nil {
		return *found, true
	}
	return Deviation{}, false
}

// Deviates reports whether a caller deviated.
func (n *Notes) Deviates() bool {
	for i := range n.rows {
		if n.rows[i].Load()&deviant[i] != 0 {
			return true
		}
	}
	return false
}

// EachDeviation calls f with every row noted that has a deviation, in the order of
// the table.
func (n *Notes) EachDeviation(f func(Row)) {
	for i := range n.rows {
		for left := n.rows[i].Load() & deviant[i]; left != 0; left &= left - 1 {
			f(Row(i*64 + bits.TrailingZeros64(left)))
		}
	}
}
