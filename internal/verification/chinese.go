package verification

import "cmp"

// InChinese is the step for a reader of Chinese: its name, what to do, and those of its details that are words of ours. What a host, a
// certificate or the network says stays as it is.
func (s Step) InChinese() Step {
	s.Did = cmp.Or(didChinese[s.Did], s.Did)
	s.Detail = cmp.Or(detailChinese[s.Detail], s.Detail)
	if s.Next != "" {
		s.Next = cmp.Or(cureChinese[s.Cure], s.Next)
	}
	return s
}

var didChinese = map[string]string{"address": "地址", "DNS": "域名解析", "public": "公网", "connect": "连接", "TLS": "TLS", "redirect": "跳转",
	"size": "大小", "status": "状态码", "type": "类型", "content": "内容", "time": "用时"}

var detailChinese = map[string]string{"none": "无", "as it must be": "正确", "every address of the host is public": "主机的地址都在公网",
	"none: the address begins with http": "无：地址以 http 开头"}

// cureChinese is what Next says, by the step's Cure.
var cureChinese = map[string]string{
	"bad_url":         "请给出公网主机的网址，与码中一致",
	"port_refused":    "请在 80 或 443 端口提供该文件；要试其他端口：--allow-private",
	"not_resolved":    "请为该主机添加 DNS 记录，并等待全网生效",
	"address_refused": "该主机只应有公网地址；要试内网地址：--allow-private",
	"connect_failed":  "请启动该主机的 Web 服务器，并让防火墙放行外部访问",
	"tls_failed":      "证书须属于该主机、在有效期内、证书链完整，并使用 TLS 1.2 及以上；私有机构签发的证书用 --host-ca-file",
	"redirect":        "请在该地址直接返回文件：把它的路径排除在跳转之外",
	"encoded":         "请对该文件关闭压缩",
	"body_too_long":   "文件只有短短一行：可能返回的是一个网页",
	"timeout":         "回答太慢，超过了时限",
	"bad_request":     "请查看该主机 Web 服务器的日志",
	"send_failed":     "请查看该主机 Web 服务器的日志",
	"header_too_long": "请查看该主机 Web 服务器的日志",
	"read_failed":     "请查看该主机 Web 服务器的日志",
	"canceled":        "请查看该主机 Web 服务器的日志",
	"status_404":      "请把文件放到该地址所指的目录：qrjump rule file --write DIR",
	"status_403":      "请允许任何人读取该文件：其路径上不要有登录或过滤",
	"status_5xx":      "Web 服务器出错，请查看其日志",
	"status":          "请以状态码 200 返回该文件",
	"slow":            "平台可能放弃等待：请在一秒内回答",
	"private":         "因 --allow-private 而放行；平台不会访问",
	"type":            "请发送 Content-Type: text/plain，最为稳妥",
	"content":         "请重新写入文件，内容一字不改；或移除在此地址回答的网页：qrjump rule file --write DIR",
}
