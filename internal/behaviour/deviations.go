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

// deviations are the rows with a deviation, in the order of the tables.
var deviations = []Deviation{
	{WireMethodTaken, Choice, 0, "Call with GET, as the page has it.", "请按文档使用 GET 调用。"},
	{WireBodyEmptyAccepted, Page, 44002, "Send {} as the body: the page documents 44002 for an empty one.",
		"请求体请发送 {}：文档规定空请求体返回 44002。"},
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
	{WireRateAbove, Page, 44990, "Make at most five calls a second to each jump-rule interface.", "每个跳转规则接口每秒请不超过 5 次调用。"},
	{WireRetry, Choice, 0, "Do not repeat this call: only another request can succeed.", "请不要重试该调用：只有修改请求后才可能成功。"},

	{TokenAgain, Page, 0, "Keep the token until it ends, and share it between processes: the platform gives out few a day.",
		"请缓存 token 直到过期并在进程间共享：平台每日签发次数有限。"},
	{ComponentTicketOlder, Choice, 0, "Store each component_verify_ticket as it is pushed, and use the newest.",
		"请保存每次推送的 component_verify_ticket，并使用最新的。"},
	{MessageSlow, Choice, 0, "Answer the message at once, and do the work afterwards.", "请先立即回复，再处理消息。"},

	{CodesApplyAgain, Choice, 80307, "Keep the application_id that applycode answered; ask for its state with applycodequery.",
		"请保存 applycode 返回的 application_id，并用 applycodequery 查询其状态。"},
	{CodesTicketToken, Inferred, 41001, "Send the service account's access_token with tickettocode.",
		"调用 tickettocode 请带上服务号的 access_token。"},
	{CodesTicketAgain, Choice, 0, "Keep what the ticket was traded for: nobody knows whether the platform trades it twice.",
		"请保存兑换结果：平台是否允许重复兑换尚不清楚。"},

	{RulesPathUnasked, Choice, 0, "Make sure that the page is in the released version: nobody looked.", "请确认线上版本有该页面：这里没有检查。"},
	{RulesPrefixPrivate, Inferred, 85066, "Use a public host name with an ICP record.", "请使用有备案的公网域名。"},
	{RulesPrefixPortTaken, Seen, 85066, "Use a prefix without a port.", "prefix 请不要带端口。"},
	{RulesPrefixNewerTaken, Seen, 85066, "Use a host under another top-level domain: the platform refused this one.",
		"请换用其他顶级域名：平台曾拒绝该顶级域名。"},
	{RulesAddICPUnasked, Choice, 85076, "Make sure that the host has an ICP record: nobody told this server.",
		"请确认该主机已备案：本服务器并不知情。"},
	{RulesConfirmVouched, Choice, 85069, "Put the verification file where the platform can fetch it: here nobody looked.",
		"请把校验文件放到平台能抓取的位置：这里没有检查。"},
	{RulesEditKeeps, Choice, 0, "Send debug_url with every edit, so that nothing hangs on what its absence means.",
		"每次修改都请带上 debug_url，不要依赖缺省时的含义。"},
	{RulesEditUnchecked, Choice, 0, "Leave the verification file in place: the platform may fetch it again for an edit.",
		"请保留校验文件：平台在修改时可能再次抓取。"},
	{RulesGetAll, Page, 40097, "Send the appid of the Mini Program: the page requires it of a service account.",
		"服务号查询请带小程序 appid：文档规定必填。"},
	{RulesGetByGET, Page, 43002, "Call with POST.", "请使用 POST 调用。"},
	{RulesPublishAbove, Seen, 886000, "Publish at most a hundred times a month.", "每月请不超过一百次发布。"},
	{RulesPublishAgain, Choice, 0, "Publish once: the platform may count a publish for it or refuse it.",
		"请只发布一次：平台可能再扣一次额度或拒绝。"},
	{LinkOwnTaken, Seen, 48001, "Call with the token that a third-party platform has of the account.", "请用第三方平台取得的该账号 token 调用。"},
	{LinkEndAbsent, Choice, 0, "Ask wxamplinkget what is linked before you unlink.", "解除前请先用 wxamplinkget 查询已关联的小程序。"},

	{QuotaInQuery, Choice, 44002, "Send the fields in the JSON body: a secret in an address ends up in logs.",
		"参数请放在 JSON 请求体里：地址中的密钥会留在日志里。"},
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
