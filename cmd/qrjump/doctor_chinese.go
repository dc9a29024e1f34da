package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/qrjump/qrjump/internal/server"
)

// amount is so many of a thing; in Chinese the text says of which.
type amount struct {
	n    int
	noun string
}

func (a amount) String() string { return counted(a.n, a.noun) }

// words says words in the language of their reader. What a system or a database
// says stays as it is.
func (l languageFlags) words(w server.Words) string {
	if l.in("", "中文") == "" {
		return w.String()
	}
	of := make([]any, len(w.Of))
	for i, one := range w.Of {
		switch one := one.(type) {
		case server.Words:
			of[i] = l.words(one)
		case amount:
			of[i] = one.n
		default:
			of[i] = one
		}
	}
	return fmt.Sprintf(cmp.Or(doctorChinese[w.Text], w.Text), of...)
}

// about is what was looked at, as wide as its column.
func (l languageFlags) about(name string) string {
	const width = 13
	said := l.in(name, aboutChinese[name])
	wide := 0
	for _, r := range said {
		if wide++; r >= 0x2e80 { // Chinese stands two columns wide
			wide++
		}
	}
	return said + strings.Repeat(" ", max(0, width-wide))
}

var aboutChinese = map[string]string{"configuration": "配置", "server": "服务器", "nodes": "节点", "clock": "时钟", "ready": "就绪",
	"credentials": "凭证", "version": "版本", "metrics": "指标", "lag": "滞后", "ledger": "扫码记录", "rules": "规则", "backups": "备份",
	"folder": "数据目录", "disk": "磁盘", "store": "数据库", "keys": "密钥", "certificate": "证书"}

// doctorChinese are the texts of doctor and of server.Examine in Chinese.
var doctorChinese = map[string]string{
	"other machines reach the admin API in plain HTTP, where its token can be read on the way": "其他机器可经明文 HTTP 访问管理 API，其 token 可能在途中被读取",
	"start it with --admin-listen 127.0.0.1:8082, or with --tls-cert FILE --tls-key FILE":      "启动时请加 --admin-listen 127.0.0.1:8082，或 --tls-cert FILE --tls-key FILE",
	"no replica confirms changes, although --database names several servers":                   "--database 写了多台服务器，却没有副本确认变更",
	"let one follow, and set synchronous_standby_names on every server":                        "让副本跟随，并在每台服务器上设置 synchronous_standby_names",
	"no token, key or secret keeps failing":                                                    "没有反复出错的 token、密钥或口令",
	"%s came %d times from %s, the last %s":                                                    "%s：%d 次，来自 %s，最近一次 %s",
	"a wrong admin token":                                                                      "管理员 token 错误",
	"the admin key %s, which is none any more,":                                                "管理密钥 %s 已失效",
	"give the program there a key that is good: qrjump admin-key add NAME":                     "请为该处的程序换用有效的密钥：qrjump admin-key add NAME",
	"a wrong scan key":                                                "扫码密钥错误",
	"the scan key %s, which is none any more,":                        "扫码密钥 %s 已失效",
	"give the app there a key that is good: qrjump scan-key add NAME": "请为该处的应用换用有效的密钥：qrjump scan-key add NAME",
	"a wrong AppSecret of %s":                                         "%s 的 AppSecret 错误",
	"give the program there the secret of its account, or set another one: qrjump account put": "请在该处的程序中填写该账号的 AppSecret，或重新设置：qrjump account put",
	"a wrong password of %s": "%s 的登录密码错误",
	"ask this person; where it was nobody you know, close the console to that address": "请询问本人；若非熟人所为，请禁止该地址访问控制台",
	"a sign-in link that is none any more":                                             "登录链接已失效",
	"send a new one: qrjump login-link NAME":                                           "请重新发送：qrjump person link NAME",
	"a sign-in at the provider that lets nobody in":                                    "身份提供方的登录未获准",
	"the server's log says why: look there":                                            "原因见服务器日志",

	"prove that a backup restores: qrjump drill FILE --note": "验证备份可以恢复：qrjump drill FILE --note",
	"no drill of a backup is noted on this server":           "本服务器没有记录过备份恢复演练",
	"the last drill, of %s by %s, failed":                    "最近一次恢复演练（%s，%s）失败",
	"the last drill, of %s by %s, restored its archive":      "最近一次恢复演练（%s，%s）成功恢复了备份",
	"nothing is wrong: %s, %s":                               "没有问题：共检查 %v 项，提醒 %v 项",
	"%d of %s found something wrong":                         "共检查 %[2]v 项，其中 %[1]d 项有问题",

	"mend it: the server would not start":             "请修改：服务器会因此无法启动",
	"nothing reads the variable %s":                   "没有任何程序读取环境变量 %s",
	"nothing reads the variable %s: did you mean %s?": "没有任何程序读取环境变量 %s：是否应为 %s？",
	"rename it, or unset it":                          "请改名或取消设置",
	"every variable QRJUMP_… is one that is read":     "所有 QRJUMP_… 环境变量都会被读取",

	"none runs in %s":                  "%s 中没有运行的服务器",
	"start it: qrjump serve --data %s": "请启动：qrjump serve --data %s",
	"no answer from %s: %v":            "%s 没有回答：%v",
	"%s does not answer plain HTTP":    "%s 不接受明文 HTTP",
	writeHTTPS:                         "该处使用 TLS：请把 http:// 写成 https://",
	"%s answers, and is no qrjump":     "%s 有回答，但不是 qrjump",
	"name the server: %s":              "请指明服务器：%s",
	"%s answers":                       "%s 正常回答",
	"start one with: qrjump serve --dev, or say where it is: " + whereFlags: "请启动一台：qrjump serve --dev，或指明其地址：" + whereFlags,
	"check " + whereFlags: "请检查 " + whereFlags,
	"name the server as its certificate does: " + whereFlags: "请使用证书上的主机名：" + whereFlags,
	unknownAuthority: "如果是您自己的服务器，请指明签发其证书的机构：--ca-file FILE（QRJUMP_CA_FILE）；serve --tls-dev 的机构在 DIR/tls/ca.pem",
	writeHTTP:        "该处使用明文 HTTP：请把 https:// 写成 http://",
	maybeTLS:         "如果该处使用 TLS，请把 http:// 写成 https://；否则原因可能在服务器日志中",
	hangs:            "服务器繁忙或没有响应；原因可能在其日志中",

	"%s: %s": "%s：%s",
	"this is the real platform, which is no node":                      "这是真正的平台，不是节点",
	"name a node of your own":                                          "请指明您自己的节点",
	"it does not answer: %s":                                           "没有回答：%s",
	"start it, or name it as --admin-listen of its server says":        "请启动它，或按该服务器的 --admin-listen 指明地址",
	"node %s (%s): %d scans are not in the ledger, and it has stopped": "节点 %s（%s）有 %d 次扫码尚未入账，且已停止",
	"start it, or give its scans up: qrjump scan-node forget %s":       "请启动它；或放弃其扫码记录：qrjump scan-node forget %s",
	"node %s (%s): %d scans are not in the ledger":                     "节点 %s（%s）有 %d 次扫码尚未入账",
	"node %s (%s) was last heard of %s, and did not stop in order":     "节点 %s（%s）最近一次有消息是 %s，且不是正常停止",
	"start it; where it never comes back: qrjump scan-node forget %s":  "请启动它；如果不再恢复：qrjump scan-node forget %s",
	"%s known, the furthest behind by %s":                              "已知 %v 个节点，最落后的差 %v 次扫码",

	"the server does not say what time it is":                                         "服务器没有给出时间",
	"the server says %s, and here it is %s":                                           "服务器时间为 %s，本机时间为 %s",
	"the server and this machine agree, within %s":                                    "服务器与本机时间一致，误差在 %s 以内",
	"let both machines follow a time server: tokens, quotas and tickets depend on it": "请让两台机器都与时间服务器同步：token、额度和 ticket 都依赖时间",

	"the server is not ready: %s":                                           "服务器未就绪：%s",
	"look into its log; a load balancer sends it nothing meanwhile":         "请查看其日志；在此期间负载均衡不会向它转发请求",
	"the database answers and takes changes, and scans can be written down": "数据库有回答且可写入，扫码可以记录",
	"the server does not say which version it is":                           "服务器没有给出版本",
	"the server is %s, this program is %s":                                  "服务器版本为 %s，本程序版本为 %s",
	"use the same on both sides":                                            "请两端使用同一版本",
	"the server and this program are %s":                                    "服务器与本程序的版本都是 %s",

	"the server does not show its metrics: how it keeps up is not known":     "服务器没有给出指标：无法得知它是否跟得上",
	"give the operator's token: --admin-token, or --data DIR on its machine": "请提供管理员 token：--admin-token；在服务器所在机器上也可用 --data DIR",
	"scans are answered from every change that was made":                     "扫码按全部已做的变更应答",
	"every scan is written down: %.0f wait":                                  "每次扫码都已记录：%.0f 次等待入账",
	"%.0f of %.0f files are open":                                            "已打开 %.0f 个文件，上限 %.0f 个",
	"let it open more (LimitNOFILE, ulimit -n)":                              "请提高可打开文件数（LimitNOFILE、ulimit -n）",
	"this node is %.0f seconds behind the changes of others":                 "本节点落后于其他节点的变更 %.0f 秒",
	"look into its log, and at the database":                                 "请查看其日志和数据库",
	"scans are answered from what was known %.0f seconds ago":                "扫码按 %.0f 秒前的数据应答",
	"the database does not answer: look at it":                               "数据库没有回答：请检查数据库",
	"%.0f scans of this node are not in the ledger yet":                      "本节点有 %.0f 次扫码尚未入账",
	"look into its log: the database or the stream takes them too slowly":    "请查看其日志：数据库或消息流写入太慢",
	"the ledger lacks %.0f scans that were counted":                          "账本中缺少 %.0f 次已统计的扫码",
	"put back the files of scans if you have them":                           "如有扫码文件，请放回原处",
	"%.0f scans in the journal cannot be read":                               "日志文件中有 %.0f 次扫码无法读取",
	"look at the disk":           "请检查磁盘",
	"the stream lost %.0f scans": "消息流丢失了 %.0f 次扫码",
	"look at the stream":         "请检查消息流",
	"%.0f scans were not written down since the server started": "服务器启动以来有 %.0f 次扫码没有记录",
	"look into its log": "请查看其日志",
	"the log of calls lost %.0f calls since the server started":                          "服务器启动以来调用日志丢失了 %.0f 次调用",
	"the database was too slow: look at it":                                              "数据库太慢：请检查数据库",
	"%.0f verification files are not in place any more":                                  "有 %.0f 个校验文件已找不到",
	"they are listed by: qrjump recheck list --failing; why, says: qrjump verify PREFIX": "清单：qrjump recheck list --failing；原因：qrjump verify PREFIX",
	"%.0f idle connections were cut to make room":                                        "为腾出连接，切断了 %.0f 个空闲连接",
	"let it open more files (LimitNOFILE, ulimit -n)":                                    "请提高可打开文件数（LimitNOFILE、ulimit -n）",

	"make one: qrjump export FILE --passphrase-file FILE": "请做一份：qrjump export FILE --passphrase-file FILE",
	"nothing here knows where exports are put":            "不知道导出文件存放在哪里",
	"name the folder: --backups DIR; %s":                  "请指明目录：--backups DIR；%s",
	"there is no export at %s":                            "%s 没有导出文件",
	"the newest export is %s, %s old, %d bytes":           "最新的导出是 %s，已有 %s，共 %d 字节",
	"%s is empty": "%s 是空文件",
	"%s; that it restores, only qrjump drill proves": "%s；能否恢复，只有 qrjump drill 能证明",

	// Of server.Examine.
	"%s is not there, or no folder":                  "%s 不存在，或不是目录",
	"name the data folder of the server: --data DIR": "请指明服务器的数据目录：--data DIR",
	"%s can be read by other users of this machine":  "本机其他用户可以读取 %s",
	"chmod 600 %s": "chmod 600 %s",
	"%s: nobody else can read the keys and the database":                                  "%s：其他用户无法读取密钥和数据库",
	"%.1f GB are free where %s is":                                                        "%[2]s 所在磁盘剩余 %.1[1]f GB",
	"nothing can be written into %s: %v":                                                  "无法写入 %s：%v",
	"make room there, or let the server's user write":                                     "请腾出空间，或让运行服务器的用户可写",
	"%s can be written":                                                                   "%s 可写",
	"make room: a server without it records no scans":                                     "请腾出空间：没有空间就无法记录扫码",
	"give the certificate and its own key: --tls-cert FILE --tls-key FILE":                "请给出证书及与其配对的密钥：--tls-cert FILE --tls-key FILE",
	"%s holds until %s":                                                                   "%s 的证书有效至 %s",
	"renew it: clients refuse it":                                                         "请更新证书：客户端会拒绝它",
	"renew it; the server reads the new one without a restart":                            "请更新证书；服务器无需重启即可读取新证书",
	"a server runs in this folder: it looks after the database":                           "有服务器在此目录运行：数据库由它照管",
	"there is no database yet; the first start makes it":                                  "还没有数据库；首次启动时建立",
	"let this user read the data folder":                                                  "请让当前用户可读数据目录",
	"the database is empty; the first start fills it":                                     "数据库是空的；首次启动时填充",
	"the database has schema %d; the next start with this program makes it %d":            "数据库结构为第 %d 版；用本程序下次启动时升级到第 %d 版",
	"the database has schema %d, as this program wants it":                                "数据库结构为第 %d 版，与本程序一致",
	"the master key opens the database, and codes have the keys that they were made with": "主密钥能打开数据库，各码的密钥与生成时一致",
	"the file is too large to be read within %s":                                          "文件太大，%s 内读不完",
	"restore the last export beside it: qrjump drill FILE":                                "请在旁边试着恢复最近的导出：qrjump drill FILE",
	"the file of the database is damaged: %s":                                             "数据库文件已损坏：%s",
	"keep a copy of it, and restore the last export: qrjump import FILE --data NEW":       "请保留一份副本，并恢复最近的导出：qrjump import FILE --data NEW",
	"the database is sound":                                                               "数据库完好",
}
