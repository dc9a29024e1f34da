package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/edge/api"
	"github.com/qrjump/qrjump/internal/server/servertest"
	"github.com/qrjump/qrjump/internal/testkit/assert"
	"github.com/qrjump/qrjump/internal/testkit/require"
)

// town is who lives on the server of these tests.
const town = `
accounts:
  - {appid: shop, kind: mini_program, secret: secret-shop, versions: [release, trial, development], members: {dev: developer, tri: trial, adm: admin}}
  - {appid: rival, kind: mini_program, secret: secret-rival, versions: [release]}
  - {appid: third, kind: mini_program, secret: secret-third, versions: [release]}
  - {appid: draft, kind: mini_program, secret: secret-draft, versions: [trial]}
  - {appid: person, kind: mini_program, subject: personal, secret: secret-person, versions: [release]}
  - {appid: svc, kind: service_account, secret: secret-svc, certified: true, linked: [shop, rival, draft, person]}
  - {appid: svc2, kind: service_account, secret: secret-svc2, certified: true, linked: [shop]}
  - {appid: plain, kind: service_account, secret: secret-plain, linked: [shop]}
  - {appid: sub, kind: subscription_account, secret: secret-sub, certified: true}
  - {appid: fenced, kind: mini_program, secret: secret-fenced, ip_allowlist: [203.0.113.0/24]}
components:
  - {appid: isv, secret: secret-isv, message_token: tok, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFE}
settings: {verification: trust, rate_limit: 0}
`

const (
	addPath      = "/cgi-bin/wxopen/qrcodejumpadd"
	getPath      = "/cgi-bin/wxopen/qrcodejumpget"
	publishPath  = "/cgi-bin/wxopen/qrcodejumppublish"
	deletePath   = "/cgi-bin/wxopen/qrcodejumpdelete"
	downloadPath = "/cgi-bin/wxopen/qrcodejumpdownload"
	tokenPath    = "/cgi-bin/token"
	stablePath   = "/cgi-bin/stable_token"
)

// The texts of a call that takes or makes an ordinary token, spelt as they were met
// live. Contract: rules 3.6.
const (
	badToken = "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
	dayQuota = "reach max api daily quota limit, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
)

// quoted is a text as JSON; fmt's %q writes control characters as Go does.
func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// rule is the body of an add of an ordinary rule; extra fields come last and win.
func rule(prefix string, extra ...string) string {
	fields := append([]string{`"prefix":` + quoted(prefix) +
		`,"path":"pages/index/index","is_edit":0,"permit_sub_rule":1,"open_version":3`}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

// code is the body of an add of a service-account rule.
func code(prefix, appid string, extra ...string) string {
	fields := append([]string{fmt.Sprintf(`"prefix":%q,"appid":%q,"path":"pages/index/index","is_edit":0`, prefix, appid)}, extra...)
	return "{" + strings.Join(fields, ",") + "}"
}

func prefix(p string) string { return fmt.Sprintf(`{"prefix":%q}`, p) }

const q = "http://weixin.qq.com/q/"

type how func(s *servertest.Server) servertest.Answer

// as makes one call of a rule endpoint.
func as(appid, path, body string) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Do("POST", path+"?access_token="+s.Token(appid), body)
	}
}

// after runs calls that must succeed, then the one that counts.
func after(last how, first ...how) how {
	return func(s *servertest.Server) servertest.Answer {
		for _, call := range first {
			if a := call(s); strings.HasPrefix(a.Body, `{"errcode":`) && !strings.HasPrefix(a.Body, `{"errcode":0,`) {
				panic("a preparation failed: " + a.Body)
			}
		}
		return last(s)
	}
}

// set changes settings or domains through the admin API.
func set(path, body string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Admin("PUT", path, body) }
}

// unlink ends a link through the admin API.
func unlink(service, mini string) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Admin("DELETE", "/accounts/"+service+"/links/"+mini, "")
	}
}

// fault makes the next call of an endpoint answer a code.
func fault(path string, number int) how {
	return func(s *servertest.Server) servertest.Answer {
		return s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":%d,"times":1}`, path, number))
	}
}

func get(path string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Do("GET", path, "") }
}

func post(path, body string) how {
	return func(s *servertest.Server) servertest.Answer { return s.Do("POST", path, body) }
}

func fetch(grant, appid, secret string) how {
	return get(tokenPath + "?grant_type=" + grant + "&appid=" + appid + "&secret=" + secret)
}

func stable(appid string) string {
	return fmt.Sprintf(`{"grant_type":"client_credential","appid":%q,"secret":"secret-%s"}`, appid, appid)
}

// many makes one call n times and answers what the last one got.
func many(n int, call how) how {
	return func(s *servertest.Server) (a servertest.Answer) {
		for range n {
			a = call(s)
		}
		return a
	}
}

// ends are the five rule endpoints with a body that works for shop.
var ends = []struct{ path, body string }{
	{addPath, rule("https://shop.example/ends/")},
	{getPath, `{}`},
	{publishPath, prefix("https://shop.example/have/")},
	{deletePath, prefix("https://shop.example/have/")},
	{downloadPath, `{}`},
}

// have is a rule of shop that exists.
var have = as("shop", addPath, rule("https://shop.example/have/"))

type errorRow struct {
	code int
	text string // errmsg before the request id
	path string
	name string
	how  how
}

func errorRows() []errorRow {
	var rows []errorRow
	row := func(code int, text, path, name string, how how) {
		rows = append(rows, errorRow{code, text, path, name, how})
	}
	occupied := as("rival", addPath, rule("https://shop.example/up/", `"permit_sub_rule":2`))
	long := "https://shop.example/" + strings.Repeat("x", 1024-len("https://shop.example/"))

	for _, e := range ends {
		row(0, "ok", e.path, "a call that works", after(as("shop", e.path, e.body), have))
		row(-1, "system error", e.path, "a fault of the emulator", after(as("shop", e.path, e.body), fault(e.path, -1)))
		row(886001, "system busy, please retry", e.path, "a fault of the emulator",
			after(as("shop", e.path, e.body), fault(e.path, 886001)))
		row(40001, badToken, e.path, "a token that nobody issued",
			post(e.path+"?access_token=109_"+strings.Repeat("x", 128), e.body))
		row(40001, badToken, e.path, "a text that is no token", post(e.path+"?access_token=T", e.body))
		row(41001, "access_token missing", e.path, "no token", post(e.path, e.body))
		row(41001, "access_token missing", e.path, "a token in the body only", post(e.path, `{"access_token":"T"}`))
		row(42001, "access_token expired", e.path, "a token after its two hours", func(s *servertest.Server) servertest.Answer {
			s.Token("shop")
			s.Advance(2 * time.Hour)
			return as("shop", e.path, e.body)(s)
		})
		row(40001, badToken, e.path, "a replaced token after its overlap", func(s *servertest.Server) servertest.Answer {
			old := s.Token("shop")
			s.NewToken("shop")
			s.Advance(5 * time.Minute)
			return s.Do("POST", e.path+"?access_token="+old, e.body)
		})
		row(43002, "require POST method", e.path, "GET", get(e.path+"?access_token=T"))
		row(47001, "data format error", e.path, "single quotes", as("shop", e.path, `{'prefix':'https://shop.example/'}`))
		row(48001, "api unauthorized", e.path, "a subscription account", as("sub", e.path, e.body))
		row(85075, "can not access", e.path, "a personal Mini Program", as("person", e.path, e.body))
		row(44990, "reach max api second frequence limit", e.path, "the sixth call within a second",
			after(many(6, as("shop", e.path, e.body)), set("/settings", `{"rate_limit":5}`)))
		if e.path == getPath || e.path == downloadPath {
			rejected := set("/settings", `{"behaviours":{"wire.body.empty_accepted":"reject"}}`)
			row(44002, "empty post data", e.path, "no body, rejected", after(as("shop", e.path, ""), rejected))
		} else {
			row(44002, "empty post data", e.path, "no body", as("shop", e.path, ""))
			row(44002, "empty post data", e.path, "white space", as("shop", e.path, " \r\n\t"))
			row(40097, "invalid args", e.path, "no prefix",
				as("shop", e.path, `{"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`))
			row(40097, "invalid args", e.path, "NUL in the prefix",
				as("shop", e.path, `{"prefix":"https://shop.example/\u0000","path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`))
			row(40097, "invalid args", e.path, "a prefix that is a number",
				as("shop", e.path, `{"prefix":7,"path":"p","is_edit":0,"permit_sub_rule":1,"open_version":1}`))
		}
		if e.path == publishPath || e.path == deletePath {
			row(40097, "invalid args", e.path, "an unknown prefix", as("shop", e.path, prefix("https://shop.example/none/")))
			row(40097, "invalid args", e.path, "another account's prefix",
				after(as("rival", e.path, prefix("https://shop.example/have/")), have))
			row(40097, "invalid args", e.path, "a prefix that is no link", as("shop", e.path, prefix("shop")))
		}
	}
	row(48001, "api unauthorized", addPath, "a service account that is not certified", as("plain", addPath, code(q+"a", "shop")))
	for _, e := range ends[1:] {
		row(48001, "api unauthorized", e.path, "a service account that is not certified", as("plain", e.path, e.body))
	}
	for name, body := range map[string]string{
		"an array": `[]`, "a string": `"x"`, "a number": `7`, "null": `null`, "truncated": `{"prefix":"https`, "trailing garbage": `{}x`,
		"two objects": `{}{}`, "invalid UTF-8": "{\"prefix\":\"\xff\"}", "a comma too many": `{"a":1,}`,
		"NUL in the clear": "{\"prefix\":\"a\x00\"}",
		"nested too deep":  strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000),
		"above 1 MiB":      `{"prefix":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		row(47001, "data format error", addPath, name, as("shop", addPath, body))
	}

	// 40097 of add and edit.
	for name, body := range map[string]string{
		"no path":                                     `{"prefix":"https://shop.example/","is_edit":0,"permit_sub_rule":1,"open_version":1}`,
		"a path that is null":                         rule("https://shop.example/", `"path":null`),
		"an empty path":                               rule("https://shop.example/", `"path":""`),
		"a blank path":                                rule("https://shop.example/", `"path":"  "`),
		"a path of an ideographic space":              rule("https://shop.example/", `"path":"\u3000"`),
		"a path of 1,025 bytes":                       rule("https://shop.example/", `"path":"`+strings.Repeat("x", 1025)+`"`),
		"a control character in the path":             rule("https://shop.example/", `"path":"a\u0007"`),
		"a path that is a list":                       rule("https://shop.example/", `"path":["a"]`),
		"no is_edit":                                  `{"prefix":"https://shop.example/","path":"p","permit_sub_rule":1,"open_version":1}`,
		"is_edit 2":                                   rule("https://shop.example/", `"is_edit":2`),
		"is_edit true":                                rule("https://shop.example/", `"is_edit":true`),
		"is_edit 0.5":                                 rule("https://shop.example/", `"is_edit":0.5`),
		"a number in a text, with an underscore":      rule("https://shop.example/", `"open_version":"0_1"`),
		"a number in a text, hexadecimal":             rule("https://shop.example/", `"open_version":"0x1p0"`),
		"a number in a text, hexadecimal, underscore": rule("https://shop.example/", `"open_version":"0x_1p0"`),
		"a number in a text, with an exponent":        rule("https://shop.example/", `"open_version":"1e0"`),
		"a number in a text, not whole":               rule("https://shop.example/", `"open_version":"1.5"`),
		"a number in a text, a point and no more":     rule("https://shop.example/", `"open_version":"1."`),
		"a number in a text, a sign and no more":      rule("https://shop.example/", `"open_version":"+"`),
		"a number in a text, two signs":               rule("https://shop.example/", `"open_version":"+-1"`),
		"a number in a text, other digits":            rule("https://shop.example/", `"open_version":"１"`),
		"no permit_sub_rule":                          `{"prefix":"https://shop.example/","path":"p","is_edit":0,"open_version":1}`,
		"permit_sub_rule 0":                           rule("https://shop.example/", `"permit_sub_rule":0`),
		"permit_sub_rule 3":                           rule("https://shop.example/", `"permit_sub_rule":3`),
		"permit_sub_rule [1]":                         rule("https://shop.example/", `"permit_sub_rule":[1]`),
		"no open_version":                             `{"prefix":"https://shop.example/","path":"p","is_edit":0,"permit_sub_rule":1}`,
		"open_version 0":                              rule("https://shop.example/", `"open_version":0`),
		"open_version 4":                              rule("https://shop.example/", `"open_version":4`),
		"open_version 1.5":                            rule("https://shop.example/", `"open_version":1.5`),
		"open_version 1e400":                          rule("https://shop.example/", `"open_version":1e400`),
		"open_version above 2^64":                     rule("https://shop.example/", `"open_version":99999999999999999999`),
		"open_version one":                            rule("https://shop.example/", `"open_version":"one"`),
		"open_version {}":                             rule("https://shop.example/", `"open_version":{}`),
		"six test links": rule("https://shop.example/",
			`"debug_url":["https://shop.example/1","https://shop.example/2","https://shop.example/3","https://shop.example/4","https://shop.example/5","https://shop.example/6"]`),
		"a test link that is null":      rule("https://shop.example/", `"debug_url":[null]`),
		"a test link that is a number":  rule("https://shop.example/", `"debug_url":[1]`),
		"test links that are an object": rule("https://shop.example/", `"debug_url":{}`),
		"an edit of an unknown prefix":  rule("https://shop.example/none/", `"is_edit":1`),
	} {
		row(40097, "invalid args", addPath, name, as("shop", addPath, body))
	}
	row(40097, "invalid args", addPath, "an edit of another account's prefix",
		after(as("rival", addPath, rule("https://shop.example/have/", `"is_edit":1`)), have))
	row(40097, "invalid args", addPath, "another path for a published rule",
		after(as("shop", addPath, rule("https://shop.example/have/", `"is_edit":1,"path":"pages/other"`)), have,
			as("shop", publishPath, prefix("https://shop.example/have/"))))
	row(40097, "invalid args", addPath, "an edit that blanks the path",
		after(as("shop", addPath, rule("https://shop.example/have/", `"is_edit":1,"path":" "`)), have))
	row(40097, "invalid args", addPath, "a blank path of a service account", as("svc", addPath, code(q+"a", "shop", `"path":" "`)))
	row(40097, "invalid args", addPath, "a service-account rule without appid",
		as("svc", addPath, `{"prefix":"`+q+`a","path":"p","is_edit":0}`))
	row(40097, "invalid args", addPath, "a service-account rule with appid 0",
		as("svc", addPath, `{"prefix":"`+q+`a","appid":0,"path":"p","is_edit":0}`))
	row(40097, "invalid args", addPath, "an edit of a published service-account rule",
		after(as("svc", addPath, code(q+"a", "shop", `"is_edit":1`)), as("svc", addPath, code(q+"a", "shop")),
			as("svc", publishPath, prefix(q+"a"))))
	row(40097, "invalid args", deletePath, "a service-account rule without appid",
		after(as("svc", deletePath, prefix(q+"a")), as("svc", addPath, code(q+"a", "shop"))))
	row(40097, "invalid args", deletePath, "another appid than the rule's",
		after(as("svc", deletePath, `{"prefix":"`+q+`a","appid":"rival"}`), as("svc", addPath, code(q+"a", "shop"))))
	for name, body := range map[string]string{
		"get_type 3":               `{"get_type":3}`,
		"get_type -1":              `{"get_type":-1}`,
		"get_type true":            `{"get_type":true}`,
		"get_type 1, no list":      `{"get_type":1}`,
		"get_type 1, list null":    `{"get_type":1,"prefix_list":null}`,
		"get_type 1, empty list":   `{"get_type":1,"prefix_list":[]}`,
		"get_type 1, 201 prefixes": `{"get_type":1,"prefix_list":["` + strings.Repeat(`a","`, 200) + `a"]}`,
		"get_type 2, nothing else": `{"get_type":2}`,
		"get_type 2, page 0":       `{"get_type":2,"page_num":0,"page_size":10}`,
		"get_type 2, size 0":       `{"get_type":2,"page_num":1,"page_size":0}`,
		"get_type 2, size 201":     `{"get_type":2,"page_num":1,"page_size":201}`,
		"get_type 2, page -1":      `{"get_type":2,"page_num":-1,"page_size":1}`,
	} {
		row(40097, "invalid args", getPath, name, as("shop", getPath, body))
	}

	// Accounts and links.
	for name, appid := range map[string]string{
		"no account": "nobody", "malformed": "not an appid at all, and far too long to be one", "a service account": "svc2",
		"not linked": "third",
	} {
		row(40166, "invalid weapp appid", addPath, name, as("svc", addPath, code(q+"a", appid)))
		row(40166, "invalid weapp appid", getPath, name, as("svc", getPath, fmt.Sprintf(`{"appid":%q}`, appid)))
	}
	row(85075, "can not access", addPath, "a personal target", as("svc", addPath, code(q+"a", "person")))
	row(85075, "can not access", getPath, "a personal target", as("svc", getPath, `{"appid":"person"}`))

	// Prefixes.
	for name, p := range map[string]string{
		"ftp": "ftp://shop.example/", "hlht": "hlht://123.operatorID", "no scheme": "shop.example/a", "no host": "https:///a",
		"Chinese letters": "https://shop.example/?name=食堂", "a space": "https://shop.example/a b", "a star": "https://*.shop.example/",
		"user information": "https://me@shop.example/", "a control character": "https://shop.example/\x01", "1,025 bytes": long + "x",
		"a service account's code": q + "02AAAA", "a host with a final dot": "https://shop.example./", "text": "hello",
	} {
		row(85066, "illegal prefix", addPath, name, as("shop", addPath, rule(p)))
	}
	for name, p := range map[string]string{
		"a port": "https://shop.example:8443/", "an address": "https://192.0.2.1/", "an address of version 6": "https://[2001:db8::1]/",
		"one label": "https://localhost/",
	} {
		row(85066, "illegal prefix", addPath, name+", private hosts not allowed",
			after(as("shop", addPath, rule(p)), set("/settings", `{"allow_private_hosts":false}`)))
	}
	for name, p := range map[string]string{
		"an ordinary prefix": "https://shop.example/", "/r/ instead of /q/": "http://weixin.qq.com/r/a",
		"https":   "https://weixin.qq.com/q/a",
		"no code": q, "a path below": q + "a/b", "parameters": q + "a?b",
	} {
		row(85066, "illegal prefix", addPath, "of a service account: "+name, as("svc", addPath, code(p, "shop")))
	}
	for name, link := range map[string]string{
		"another host": "https://other.example/have/1", "above": "https://shop.example/", "another scheme": "http://shop.example/have/",
		"no link":             "x",
		"a control character": "https://shop.example/have/\x02", "above 4 KiB": "https://shop.example/have/" + strings.Repeat("x", 4096),
	} {
		row(85068, "test url is not the sub prefix", addPath, name,
			as("shop", addPath, rule("https://shop.example/have/", `"debug_url":["https://shop.example/have/1",`+quoted(link)+`]`)))
	}
	row(85068, "test url is not the sub prefix", addPath, "another path with the parameters of the rule",
		as("shop", addPath, rule("https://shop.example/have?id=1", `"debug_url":["https://shop.example/other?id=12"]`)))
	row(85068, "test url is not the sub prefix", addPath, "on an edit",
		after(as("shop", addPath, rule("https://shop.example/have/", `"is_edit":1,"debug_url":["https://x.example/"]`)), have))
	row(85071, "prefix has been added", addPath, "the same again", after(have, have))
	row(85071, "prefix has been added", addPath, "the same host in capitals",
		after(as("shop", addPath, rule("HTTPS://SHOP.example/have/")), have))
	row(85071, "prefix has been added", addPath, "a host with and without a slash",
		after(as("shop", addPath, rule("https://shop.example/")), as("shop", addPath, rule("https://shop.example"))))
	row(85071, "prefix has been added", addPath, "a code again",
		after(as("svc", addPath, code(q+"a", "rival")), as("svc", addPath, code(q+"a", "shop"))))
	row(85072, "prefix owned by other", addPath, "the same prefix of another, not occupied",
		after(as("rival", addPath, rule("https://shop.example/have/")), have))
	row(85072, "prefix owned by other", addPath, "a code of another service account",
		after(as("svc2", addPath, code(q+"a", "shop")), as("svc", addPath, code(q+"a", "shop"))))
	row(85072, "prefix owned by other", addPath, "below what another occupies",
		after(as("shop", addPath, rule("https://shop.example/up/a")), occupied))
	row(85072, "prefix owned by other", addPath, "parameters that begin with occupied ones",
		after(as("shop", addPath, rule("https://wx.qq.com/mp?id=1234")),
			as("rival", addPath, rule("https://wx.qq.com/mp?id=123", `"permit_sub_rule":2`))))
	row(85072, "prefix owned by other", addPath, "an occupier above a nearer rule that does not occupy",
		after(as("shop", addPath, rule("https://shop.example/up/b/c")), as("third", addPath, rule("https://shop.example/up/b/")), occupied))
	row(85072, "prefix owned by other", addPath, "an occupier above an own nearer rule",
		after(as("shop", addPath, rule("https://shop.example/up/b/c")), as("shop", addPath, rule("https://shop.example/up/b/")), occupied))
	row(85073, "prefix reach limit", addPath, "one rule above the limit",
		after(as("shop", addPath, rule("https://shop.example/2")), set("/settings", `{"rule_limit":1}`), have))
	row(85073, "prefix reach limit", addPath, "one code above the limit",
		after(as("svc2", addPath, code(q+"b", "shop")), set("/settings", `{"service_rule_limit":1}`),
			as("svc", addPath, code(q+"a", "shop"))))
	row(85070, "url in blacklist", addPath, "a denied host", after(have, set("/domains/shop.example", `{"status":"denied"}`)))
	row(85070, "url in blacklist", addPath, "below a denied host",
		after(as("shop", addPath, rule("https://a.b.shop.example/")), set("/domains/shop.example", `{"status":"denied"}`)))
	row(85076, "check ICP fail", addPath, "a host without a record", after(have, set("/domains/shop.example", `{"status":"no_icp"}`)))
	row(85069, "check confirm file fail", addPath, "nobody listens",
		after(as("shop", addPath, rule("http://127.0.0.1:1/a/")), set("/settings", `{"verification":"fetch"}`)))

	// Publishing.
	row(85074, "not published", publishPath, "no release",
		after(as("draft", publishPath, prefix("https://draft.example/")), as("draft", addPath, rule("https://draft.example/"))))
	row(85074, "not published", publishPath, "a code whose target has no release",
		after(as("svc", publishPath, prefix(q+"a")), as("svc", addPath, code(q+"a", "draft"))))
	// Issue 11, 2: of accounts and addresses that the platform has measures against.
	row(48004, "api forbidden for irregularities, view detail on mp.weixin.qq.com", getPath, "a fault of the emulator",
		after(as("shop", getPath, "{}"), fault(getPath, 48004)))
	row(50002, "user limited", getPath, "a fault of the emulator", after(as("shop", getPath, "{}"), fault(getPath, 50002)))
	for number, text := range map[int]string{50002: "user limited", 89503: "此次调用需要管理员确认，请耐心等候",
		89506: "该IP调用求请求已被公众号管理员拒绝，请24小时后再试，建议调用前与管理员沟通确认",
		89507: "该IP调用求请求已被公众号管理员拒绝，请1小时后再试，建议调用前与管理员沟通确认"} {
		row(number, text, tokenPath, "a fault of the emulator",
			after(fetch("client_credential", "shop", "secret-shop"), fault(tokenPath, number)))
		row(number, text, stablePath, "a fault of the emulator", after(post(stablePath, stable("shop")), fault(stablePath, number)))
	}
	row(40166, "invalid weapp appid", publishPath, "a code whose target is not linked any more",
		after(as("svc", publishPath, prefix(q+"a")), as("svc", addPath, code(q+"a", "shop")), unlink("svc", "shop")))
	row(40166, "invalid weapp appid", publishPath, "again, after its target was unlinked",
		after(as("svc", publishPath, prefix(q+"a")), as("svc", addPath, code(q+"a", "shop")), as("svc", publishPath, prefix(q+"a")),
			unlink("svc", "shop")))
	row(85095, "data exception", publishPath, "a fault of the emulator",
		after(as("shop", publishPath, prefix("https://shop.example/have/")), have, fault(publishPath, 85095)))
	row(886000, "beyond publish count this month", publishPath, "the month's publishes are spent",
		after(as("shop", publishPath, prefix("https://shop.example/2")), have, as("shop", addPath, rule("https://shop.example/2")),
			set("/settings", `{"publish_quota":1}`), as("shop", publishPath, prefix("https://shop.example/have/"))))
	row(886000, "beyond publish count this month", publishPath, "codes, where the operator limits them",
		after(as("svc", publishPath, prefix(q+"b")), as("svc", addPath, code(q+"a", "shop")), as("svc", addPath, code(q+"b", "shop")),
			set("/settings", `{"service_publish_quota":1}`), as("svc", publishPath, prefix(q+"a"))))

	// Credentials.
	row(40002, "invalid grant_type", tokenPath, "another grant_type", fetch("password", "shop", "secret-shop"))
	row(41002, "appid missing", tokenPath, "no appid", fetch("client_credential", "", "secret-shop"))
	row(41004, "appsecret missing", tokenPath, "no secret", fetch("client_credential", "shop", ""))
	row(40013, "invalid appid", tokenPath, "an unknown appid", fetch("client_credential", "nobody", "secret-shop"))
	row(40125, "invalid appsecret", tokenPath, "a secret of 257 bytes", fetch("client_credential", "shop", strings.Repeat("s", 257)))
	row(40125, "invalid appsecret", tokenPath, "another secret", fetch("client_credential", "shop", "secret-rival"))
	row(61024, "must use api(api_component_token) to get token for component acct", tokenPath, "a component",
		fetch("client_credential", "isv", "secret-isv"))
	row(40164, "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist", tokenPath, "an address that is not on the list",
		fetch("client_credential", "fenced", "secret-fenced"))
	row(40243, "appsecret has been frozen", tokenPath, "a frozen secret",
		after(fetch("client_credential", "shop", "secret-shop"), set("/accounts/shop", `{"kind":"mini_program","secret_frozen":true}`)))
	row(45009, dayQuota, tokenPath, "one call above the day's", after(fetch("client_credential", "shop", "secret-shop"),
		set("/settings", `{"token_daily_limit":1}`), fetch("client_credential", "shop", "secret-shop")))
	row(40002, "invalid grant_type", stablePath, "no grant_type", post(stablePath, `{"appid":"shop","secret":"secret-shop"}`))
	row(41002, "appid missing", stablePath, "no appid", post(stablePath, `{"grant_type":"client_credential","secret":"secret-shop"}`))
	row(41004, "appsecret missing", stablePath, "no secret", post(stablePath, `{"grant_type":"client_credential","appid":"shop"}`))
	row(40013, "invalid appid", stablePath, "an unknown appid", post(stablePath, stable("nobody")))
	row(40125, "invalid appsecret", stablePath, "a secret of 257 bytes",
		post(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"`+strings.Repeat("s", 257)+`"}`))
	row(40125, "invalid appsecret", stablePath, "another secret",
		post(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"secret-rival"}`))
	row(61024, "must use api(api_component_token) to get token for component acct", stablePath, "a component",
		post(stablePath, stable("isv")))
	row(40164, "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist", stablePath, "an address that is not on the list",
		post(stablePath, stable("fenced")))
	row(40097, "invalid args", stablePath, "a secret that is a list",
		post(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":["secret-shop"]}`))
	row(40097, "invalid args", stablePath, "force_refresh maybe",
		post(stablePath, `{"grant_type":"client_credential","appid":"shop","secret":"secret-shop","force_refresh":"maybe"}`))
	row(43002, "require POST method", stablePath, "GET", get(stablePath+"?grant_type=client_credential&appid=shop&secret=secret-shop"))
	row(44002, "empty post data", stablePath, "no body", post(stablePath, ""))
	row(47001, "data format error", stablePath, "single quotes",
		post(stablePath, `{'grant_type':'client_credential','appid':'shop','secret':'secret-shop'}`))
	row(45009, "reach max api daily quota limit", stablePath, "the 21st forced refresh of a day",
		func(s *servertest.Server) (a servertest.Answer) {
			for range 21 {
				s.Advance(30 * time.Second)
				a = s.Do("POST", stablePath, strings.Replace(stable("shop"), "{", `{"force_refresh":true,`, 1))
			}
			return a
		})

	row(40029, "invalid code,", sessionPath, "a js_code that nobody made",
		get(sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x"))
	row(41008, "missing code,", sessionPath, "no js_code", get(sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop"))
	row(40163, "code been used,", sessionPath, "a js_code for the second time", func(s *servertest.Server) (a servertest.Answer) {
		var made struct {
			JSCode string `json:"js_code"`
		}
		if err := json.Unmarshal([]byte(s.Do("POST", "/scan/v1/login", `{"user":"u","appid":"shop"}`).Body), &made); err != nil {
			panic(err)
		}
		return many(2, get(sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code="+made.JSCode))(s)
	})

	// Quotas and request ids.
	for _, e := range ends {
		row(45009, dayQuota, e.path, "one call above the day's",
			after(many(2, as("shop", e.path, e.body)), have, set("/settings", fmt.Sprintf(`{"daily_limits":{%q:1}}`, e.path))))
	}
	const clearPath, clearSecretPath, clearPlatformPath = "/cgi-bin/clear_quota", "/cgi-bin/clear_quota/v2",
		"/cgi-bin/component/clear_quota/v2"
	const quotaPath, clearOnePath, ridPath = "/cgi-bin/openapi/quota/get", "/cgi-bin/openapi/quota/clear", "/cgi-bin/openapi/rid/get"
	row(45009, "reach max api daily quota limit", stablePath, "one call above the day's",
		after(many(2, post(stablePath, stable("shop"))), set("/settings", fmt.Sprintf(`{"daily_limits":{%q:1}}`, stablePath))))
	row(0, "ok", clearPath, "a call that works", as("shop", clearPath, `{"appid":"shop"}`))
	row(40013, "invalid appid", clearPath, "another account", as("shop", clearPath, `{"appid":"rival"}`))
	row(40013, "invalid appid", clearPath, "no appid", as("shop", clearPath, `{}`))
	row(40097, "invalid args", clearPath, "an appid that is a list", as("shop", clearPath, `{"appid":["shop"]}`))
	row(44002, "empty post data", clearPath, "no body", as("shop", clearPath, ""))
	row(47001, "data format error", clearPath, "an array", as("shop", clearPath, "[]"))
	row(43002, "require POST method", clearPath, "GET", get(clearPath+"?access_token=T"))
	row(0, "ok", clearSecretPath, "all in the query, no body", post(clearSecretPath+"?appid=shop&appsecret=secret-shop", ""))
	row(40125, "invalid appsecret", clearSecretPath, "another secret", post(clearSecretPath+"?appid=shop&appsecret=wrong", ""))
	row(40125, "invalid appsecret", clearSecretPath, "a secret of 257 bytes",
		post(clearSecretPath+"?appid=shop&appsecret="+strings.Repeat("s", 257), ""))
	row(40013, "invalid appid", clearSecretPath, "a component", post(clearSecretPath+"?appid=isv&appsecret=secret-isv", ""))
	row(40013, "invalid appid", clearSecretPath, "nobody", post(clearSecretPath, `{"appid":"nobody","appsecret":"secret-shop"}`))
	row(40164, "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist", clearSecretPath, "an address that is not on the list",
		post(clearSecretPath+"?appid=fenced&appsecret=secret-fenced", ""))
	row(41002, "appid missing", clearSecretPath, "nothing at all", post(clearSecretPath, ""))
	row(41004, "appsecret missing", clearSecretPath, "no secret", post(clearSecretPath, `{"appid":"shop"}`))
	row(47001, "data format error", clearSecretPath, "a form", post(clearSecretPath, "appid=shop&appsecret=secret-shop"))
	row(40097, "invalid args", clearSecretPath, "a secret that is a list",
		post(clearSecretPath, `{"appid":"shop","appsecret":["secret-shop"]}`))
	row(0, "ok", clearPlatformPath, "a platform for itself", post(clearPlatformPath, `{"component_appid":"isv","appsecret":"secret-isv"}`))
	row(40013, "invalid appid", clearPlatformPath, "an account that did not authorise",
		post(clearPlatformPath, `{"appid":"shop","component_appid":"isv","appsecret":"secret-isv"}`))
	row(40125, "invalid appsecret", clearPlatformPath, "another secret",
		post(clearPlatformPath, `{"component_appid":"isv","appsecret":"wrong"}`))
	for _, clear := range []struct {
		path string
		how  how
	}{
		{clearPath, as("shop", clearPath, `{"appid":"shop"}`)},
		{clearOnePath, as("shop", clearOnePath, `{"cgi_path":"/cgi-bin/token"}`)},
		{clearSecretPath, post(clearSecretPath+"?appid=shop&appsecret=secret-shop", "")},
		{clearPlatformPath, post(clearPlatformPath, `{"component_appid":"isv","appsecret":"secret-isv"}`)},
	} {
		row(48006, "forbid to clear quota because of reaching the limit", clear.path, "the eleventh of the month", many(11, clear.how))
	}
	for _, path := range []string{quotaPath, clearOnePath} {
		row(0, "ok", path, "a call that works", as("shop", path, `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`))
		row(40097, "invalid args", path, "no cgi_path", as("shop", path, `{}`))
		row(40097, "invalid args", path, "a cgi_path that is a number", as("shop", path, `{"cgi_path":1}`))
		for name, cgi := range map[string]string{
			"no such interface": "/cgi-bin/nothing", "no leading slash": "cgi-bin/token",
			"with the host": "https://api.weixin.qq.com/cgi-bin/token",
			"with a query":  "/cgi-bin/token?a=b", "in capitals": "/CGI-BIN/token", "two slashes": "//cgi-bin/token",
			"a slash at the end": "/cgi-bin/token/", "sns without a slash": "sns/jscode2session",
		} {
			row(76021, "cgi_path not found, please check", path, name, as("shop", path, fmt.Sprintf(`{"cgi_path":%q}`, cgi)))
		}
		row(76022, "could not use this cgi_path, no permission", path, "below /sns/",
			as("shop", path, `{"cgi_path":"/sns/jscode2session"}`))
		row(76022, "could not use this cgi_path, no permission", path, "nothing below /sns/",
			as("shop", path, `{"cgi_path":"/sns/nothing"}`))
		row(76022, "could not use this cgi_path, no permission", path, "a platform's interface",
			as("shop", path, `{"cgi_path":"/cgi-bin/component/api_query_auth"}`))
		row(76022, "could not use this cgi_path, no permission", path, "rules of a subscription account",
			as("sub", path, `{"cgi_path":"/cgi-bin/wxopen/qrcodejumpget"}`))
	}
	// A call that is refused, whose request id is then asked for by somebody,
	// some time later.
	ask := func(by string, later time.Duration) how {
		return func(s *servertest.Server) servertest.Answer {
			rid := ridOf(as("shop", publishPath, prefix("https://shop.example/none/"))(s))
			s.Advance(later)
			return s.Do("POST", ridPath+"?access_token="+s.NewToken(by), fmt.Sprintf(`{"rid":%q}`, rid))
		}
	}
	row(0, "ok", ridPath, "an own call", ask("shop", 0))
	row(0, "ok", ridPath, "an own call after seven days", ask("shop", 7*24*time.Hour))
	row(76004, "rid time is error", ridPath, "an own call a second later", ask("shop", 7*24*time.Hour+time.Second))
	row(76003, "could not query this rid,no permission", ridPath, "another account's call", ask("rival", 0))
	row(76004, "rid time is error", ridPath, "another account's call, too old", ask("rival", 8*24*time.Hour))
	row(76001, "rid not found, please check", ridPath, "of the future", as("shop", ridPath, `{"rid":"ffffffff-00000000-00000000"}`))
	row(76001, "rid not found, please check", ridPath, "a call of nobody", func(s *servertest.Server) servertest.Answer {
		rid := ridOf(post(publishPath, "{}")(s))
		return as("shop", ridPath, fmt.Sprintf(`{"rid":%q}`, rid))(s)
	})
	row(76001, "rid not found, please check", ridPath, "an own login", func(s *servertest.Server) servertest.Answer {
		rid := ridOf(get(sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x")(s))
		return as("shop", ridPath, fmt.Sprintf(`{"rid":%q}`, rid))(s)
	})
	row(76004, "rid time is error", ridPath, "of 2021", as("shop", ridPath, `{"rid":"61725984-6126f6f9-040f19c4"}`))
	for name, rid := range map[string]string{
		"empty": "", "capitals": "61725984-6126F6F9-040F19C4", "too short": "61725984-6126f6f9-040f19c",
		"too long": "61725984-6126f6f9-040f19c44", "no hexadecimal digits": "6172598g-6126f6f9-040f19c4",
		"no dashes": "61725984a6126f6f9a040f19c4", "with its word": "rid: 61725984-6126f6f9-040f19c4",
		"NUL": "61725984-6126f6f9-040f19c\x00",
	} {
		want := 76002
		if name == "NUL" {
			want = 40097
		}
		row(want, map[int]string{76002: "rid is error", 40097: "invalid args"}[want], ridPath, name,
			as("shop", ridPath, fmt.Sprintf(`{"rid":%s}`, quoted(rid))))
	}

	row(40066, "invalid url", "/cgi-bin/nothing", "no endpoint", post("/cgi-bin/nothing?access_token=T", "{}"))
	row(40066, "invalid url", "/", "no path", get("/"))
	row(40066, "invalid url", "/wxa/qrcodejumpaddurl", "a call of the family that has no page",
		post("/wxa/qrcodejumpaddurl?access_token=T", "{}"))
	rows = append(rows, linkRows()...)
	return append(rows, qrcodeRows()...)
}

var ridText = regexp.MustCompile(`^(.*) rid: ([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})$`)

func TestEveryErrorCode(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for _, r := range errorRows() {
		t.Run(fmt.Sprintf("%d %s %s", r.code, r.path[strings.LastIndex(r.path, "/")+1:], r.name), func(t *testing.T) {
			s.Renew(t)
			s.Advance(36 * time.Hour) // the time of a request id is the server's, not the world's
			checkEnvelope(t, s, r, r.how(s))
		})
	}
}

func checkEnvelope(t *testing.T, s *servertest.Server, r errorRow, a servertest.Answer) {
	t.Helper()
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != contentType(a) {
		t.Errorf("status %d, Content-Type %q", a.Status, a.Header.Get("Content-Type"))
	}
	if r.code == 0 {
		if !strings.HasPrefix(a.Body, `{"errcode":0,"errmsg":"ok"`) {
			t.Errorf("got %s", a.Body)
		}
		return
	}
	var e struct{ ErrMsg string }
	a.JSON(t, &e)
	m := ridText.FindStringSubmatch(e.ErrMsg)
	if m == nil || a.Code(t) != r.code || m[1] != r.text {
		t.Fatalf("got %s, want %d %q and a request id", a.Body, r.code, r.text)
	}
	if want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: %s-%s-%s"}`, r.code, r.text, m[2], m[3], m[4]); a.Body != want {
		t.Errorf("got  %s\nwant %s", a.Body, want)
	}
	var clock struct{ Now time.Time }
	s.Admin("GET", "/emulator/clock", "").JSON(t, &clock)
	assert.Equal(t, strconv.FormatInt(clock.Now.Unix(), 16), m[2], "the request id begins with %s, the server's second", m[2])
	if clock.Now.Before(servertest.Began.Add(36 * time.Hour)) {
		t.Errorf("the clock shows %s", clock.Now)
	}
}

const ofCodes = "its text has a hint: TestApplyCodeQuery and others of the code family, TestFaultsOfEveryCodeCall where it is injected"

// elsewhere are the codes that the table above cannot produce.
var elsewhere = map[int]string{
	40090: "TestAddressesOffTheList_EachCall",
	40170: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	41018: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	40014: "only as an injected fault: TestOnlyFaultsAnswerThese",
	42007: "only as an injected fault: TestOnlyFaultsAnswerThese",
	40226: "only as an injected fault: TestOnlyFaultsAnswerThese",
	61003: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61004: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61005: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61006: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61007: "TestPermissionSetsOpenTheirFamilies",
	61009: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61010: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61011: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61014: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	61023: "of third-party platforms: TestEveryErrorCodeOfAPlatform",
	45011: "TestMinuteLimit makes the 10,001 calls",
	80300: ofCodes,
	80301: ofCodes,
	80302: ofCodes,
	80303: ofCodes,
	80304: ofCodes,
	80305: ofCodes,
	80306: ofCodes,
	80307: ofCodes,
	80308: ofCodes,
	80309: ofCodes,
	80310: ofCodes,
	80311: ofCodes,
	80312: ofCodes,
	80313: ofCodes,
}

func TestNoErrorCodeIsForgotten(t *testing.T) {
	rows := errorRows()
	for _, c := range errcode.All() {
		if _, named := elsewhere[c.Number]; !named && !slices.ContainsFunc(rows, func(r errorRow) bool { return r.code == c.Number }) {
			t.Errorf("no row produces %d %s", c.Number, c.Text)
		}
	}
}

// TestNumbersNeverAnswered holds the numbers that pages list for a call by mistake. Contract: rules 1.8; marketcode 2, 7.
func TestNumbersNeverAnswered(t *testing.T) {
	if code, known := errcode.ByNumber(45112); known {
		t.Errorf("ByNumber(45112) = %v, want none", code)
	}
	for _, e := range api.Describe() {
		if strings.HasPrefix(e.Path, codeFamily) && slices.Contains(e.Codes, errcode.InvalidGrantType) {
			t.Errorf("%s may answer 40002, want never", e.Path)
		}
	}
}

// Contract: rules 1.8, the order of checks. Every request has two faults, or
// more; the earlier one wins.
func TestTheEarlierFaultWins(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	bad := rule("https://shop.example/have/", `"debug_url":["https://x.example/"]`)
	occupied := as("rival", addPath, rule("https://shop.example/", `"permit_sub_rule":2`))
	full, denied, noICP := set("/settings", `{"rule_limit":0}`), set("/domains/shop.example", `{"status":"denied"}`),
		set("/domains/shop.example", `{"status":"no_icp"}`)
	check := set("/settings", `{"verification":"fetch"}`)
	for _, c := range []struct {
		name string
		want int
		how  how
	}{
		{"the method before the token", 43002, get(addPath)},
		{"the token before the body", 41001, post(addPath, "{'")},
		{"the token's form before the body", 40001, post(addPath+"?access_token=T", "{'")},
		{"the limit of calls before the body", 44990, after(many(2, as("shop", getPath, "{'")), set("/settings", `{"rate_limit":1}`))},
		{"JSON before required fields", 47001, as("shop", addPath, `{"path":"p"`)},
		{"an empty body before required fields", 44002, as("shop", addPath, "")},
		{"the kind of account before the body: subscription", 48001, as("sub", addPath, "{'")},
		{"the kind of account before an empty body", 48001, as("sub", getPath, "")},
		{"required fields before the kind of account: personal", 40097,
			as("person", addPath, rule("https://shop.example/", `"open_version":9`))},
		{"certification before the body", 48001, as("plain", addPath, "{'")},
		{"certification before the body of a parametric code", 48001, as("plain", "/cgi-bin/qrcode/create", "{'")},
		{"a token of its own before the body of a link", 48001, as("svc", "/cgi-bin/wxopen/wxamplink", "{'")},
		{"the feature before the body of a code call", 48001, as("svc", "/intp/marketcode/applycode", "{'")},
		{"a wrong type before the kind of account", 40097, as("person", publishPath, `{"prefix":[]}`)},
		{"ranges of a list before the kind of account", 40097, as("person", getPath, `{"get_type":9}`)},
		{"certification before appid", 48001, as("plain", addPath, code(q+"a", "nobody"))},
		{"personal before the prefix", 85075, as("person", addPath, rule("ftp://x"))},
		{"subscription account before the prefix", 48001, as("sub", addPath, rule("ftp://x"))},
		{"appid before the prefix", 40166, as("svc", addPath, code("ftp://x", "nobody"))},
		{"a personal target before the prefix", 85075, as("svc", addPath, code("ftp://x", "person"))},
		{"the prefix before test links", 85066, as("shop", addPath, rule("ftp://x", `"debug_url":["https://x.example/"]`))},
		{"test links before a duplicate", 85068, after(as("shop", addPath, bad), have)},
		{"test links before another owner", 85068, after(as("shop", addPath, bad), occupied)},
		{"an own duplicate before another's occupation", 85071, after(have, have, occupied)},
		{"a duplicate before the limit", 85071, after(have, have, full)},
		{"another owner before the limit", 85072, after(have, occupied, full)},
		{"another owner before a denied host", 85072, after(have, occupied, denied)},
		{"the limit before a denied host", 85073, after(have, full, denied)},
		{"the limit before ICP", 85073, after(have, full, noICP)},
		{"a denied host before the file", 85070, after(have, check, denied)},
		{"ICP before the file", 85076, after(have, check, noICP)},
		{"an unknown rule before the release", 40097, as("draft", publishPath, prefix("https://draft.example/"))},
		{"the release before the quota", 85074, after(as("shop", publishPath, prefix("https://shop.example/2")), have,
			as("shop", addPath, rule("https://shop.example/2")),
			set("/settings", `{"publish_quota":1}`), as("shop", publishPath, prefix("https://shop.example/have/")),
			set("/accounts/shop/versions", `{"versions":["trial"]}`))},
		{"an edit: the prefix before the rule", 85066, as("shop", addPath, rule("ftp://x", `"is_edit":1`))},
		{"an edit: the rule before its test links", 40097,
			as("shop", addPath, rule("https://shop.example/none/", `"is_edit":1,"debug_url":["https://x.example/"]`))},
		{"an edit: test links before what may not change", 85068,
			after(as("shop", addPath, rule("https://shop.example/have/", `"is_edit":1,"path":"pages/other","debug_url":["https://x.example/"]`)),
				have, as("shop", publishPath, prefix("https://shop.example/have/")))},
		{"a missing appid before grant_type", 41002, fetch("x", "", "")},
		{"an unknown appid before grant_type", 40013, get(tokenPath + "?appid=nobody&secret=s")},
		{"a component's appid before grant_type", 61024, fetch("x", "isv", "")},
		{"grant_type before a missing secret", 40002, fetch("x", "shop", "")},
		{"grant_type before a wrong secret", 40002, fetch("x", "shop", "wrong")},
		{"appid before secret", 41002, fetch("client_credential", "", "")},
		{"an unknown appid before a missing secret", 40013, fetch("client_credential", "nobody", "")},
		{"the secret before the address", 40125, fetch("client_credential", "fenced", "wrong")},
		{"login: a missing appid before grant_type", 41002, get(sessionPath + "?secret=s&js_code=x")},
		{"login: an unknown appid before grant_type", 40013, get(sessionPath + "?appid=nobody&secret=s&js_code=x")},
		{"login: grant_type before the secret", 40002, get(sessionPath + "?appid=shop&secret=wrong&js_code=x")},
		{"login: the secret before the code", 40125, get(sessionPath + "?grant_type=authorization_code&appid=shop&secret=wrong")},
		{"the link before the release, and before what is published already", 40166, after(as("svc", publishPath, prefix(q+"a")),
			as("svc", addPath, code(q+"a", "draft")), unlink("svc", "draft"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Renew(t)
			if a := c.how(s); a.Code(t) != c.want {
				t.Errorf("got %s, want %d", a.Body, c.want)
			}
		})
	}
}

// Contract: rules 0: digits, with a sign or a point.
func TestANumberInAText(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	for i, number := range []string{`"1"`, `" 1 "`, `"+1"`, `"01"`, `"1.0"`, `"+1.00"`, `1`, `1.0`, `1e0`, `10e-1`} {
		as("shop", addPath, rule(fmt.Sprintf("https://shop.example/%d/", i), `"open_version":`+number))(s).WantCode(t, 0, "%s", number)
	}
}

// A monitor that probes an address must neither end a token nor use a login up.
// Contract: rules 3.1.
func TestAProbeMakesNoToken(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	var first, again struct {
		Token  string `json:"access_token"`
		JSCode string `json:"js_code"`
	}
	s.Do("POST", stablePath, stable("shop")).JSON(t, &first)
	s.Hide(first.Token)
	plain := s.NewToken("shop")
	s.Do("POST", "/scan/v1/login", `{"user":"u","appid":"shop"}`).JSON(t, &first)
	paths := map[string]string{
		tokenPath:   tokenPath + "?grant_type=client_credential&appid=shop&secret=secret-shop",
		stablePath:  stablePath + "?grant_type=client_credential&appid=shop&secret=secret-shop",
		sessionPath: sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=" + first.JSCode,
	}
	for name, path := range paths {
		for _, method := range []string{"HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROBE"} {
			body := ""
			if name == stablePath {
				body = strings.Replace(stable("shop"), "{", `{"force_refresh":true,`, 1)
			}
			a := s.Do(method, path, body)
			if method == "HEAD" && a.Body == "" && a.Status == http.StatusOK {
				continue // what it did shows below
			}
			text := "require POST method"
			if name == sessionPath {
				text += ","
			}
			t.Run(method+" "+name, func(t *testing.T) { checkText(t, a, 43002, text) })
		}
	}
	if a := s.Do("GET", paths[sessionPath], ""); !strings.Contains(a.Body, `"openid"`) {
		t.Errorf("the login was used up: %s", a.Body)
	}
	s.Advance(5 * time.Minute) // a token that was replaced has ended
	s.Do("POST", getPath+"?access_token="+plain, "{}").WantCode(t, 0, "the token of before")
	if s.Do("POST", stablePath, stable("shop")).JSON(t, &again); again.Token != first.Token {
		t.Error("the stable token is another one")
	}
}

// Contract: rules 3.2, 3.6: 40014 and 42007 do not happen by themselves.
func TestOnlyFaultsAnswerThese(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	shop := s.Token("shop")
	for _, text := range []string{"2", "undefined", strings.Repeat("0", 40), "ACCESS_TOKEN", shop[:60], shop + "x", shop + "%20", "109_" +
		strings.Repeat("x", 128)} {
		for _, path := range []string{addPath, tradePath, "/cgi-bin/get_api_domain_ip", "/cgi-bin/clear_quota", family +
			"api_create_preauthcode"} {
			checkText(t, s.Do("POST", path+"?access_token="+text, "{}"), 40001, badToken)
		}
	}
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":40014,"times":1}`, getPath))
	checkText(t, s.Do("POST", getPath+"?access_token="+shop, "{}"), 40014, "invalid access_token")
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":40226,"times":1}`, sessionPath))
	blocked := s.Do("GET", sessionPath+"?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x", "")
	checkText(t, blocked, 40226, "code blocked,")
	s.Admin("POST", "/emulator/faults", fmt.Sprintf(`{"path":%q,"errcode":42007,"times":1}`, family+"api_authorizer_token"))
	refresh := `{"component_appid":"isv","authorizer_appid":"shop","authorizer_refresh_token":"x"}`
	token := s.ComponentToken("isv")
	checkText(t, s.Component(token, "api_authorizer_token", refresh), 42007, "access_token and refresh_token exception")
	checkText(t, s.Component(token, "api_authorizer_token", refresh), 61023, "refresh_token is invalid")
}

// The advice to use stable_token stands behind 40001 and 45009 on the calls
// that take or make an ordinary token, and nowhere else. Contract: rules 3.6.
// Behaviour(wire.answer.advice) Behaviour(wire.answer.no_advice).
func TestWhereTheAdviceStands(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: agency})
	const dead, spent = "invalid credential, access_token is invalid or not latest", "reach max api daily quota limit"
	secret := `{"component_appid":"isv","component_secret":"secret-isv"}`
	for _, c := range []struct {
		path, behind string
		call         how
	}{
		{tokenPath, errcode.StableTokenAdvice, fetch("client_credential", "shop", "secret-shop")},
		{getPath, errcode.StableTokenAdvice, as("shop", getPath, "{}")},
		{"/intp/marketcode/applycodequery", errcode.StableTokenAdvice,
			as("svc", "/intp/marketcode/applycodequery", `{"application_id":1}`)},
		{stablePath, "", post(stablePath, stable("shop"))},
		{family + "api_start_push_ticket", "", post(family+"api_start_push_ticket", secret)},
		{sessionPath, ",", get(sessionPath + "?grant_type=authorization_code&appid=shop&secret=secret-shop&js_code=x")},
	} {
		checkText(t, after(c.call, fault(c.path, 40001))(s), 40001, dead+c.behind)
		checkText(t, after(c.call, fault(c.path, 45009))(s), 45009, spent+c.behind)
	}
	if errcode.InvalidCredential.Text+errcode.StableTokenAdvice != badToken || errcode.DailyLimit.Text+
		errcode.StableTokenAdvice != dayQuota {
		t.Error("the texts are not those that were met live")
	}
}

// Contract: rules 0: five calls a second per account per interface.
func TestFiveCallsASecond(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	s.Admin("PUT", "/settings", `{"rate_limit":5}`)
	call := func(want int, appid, path, body string) {
		t.Helper()
		if a := as(appid, path, body)(s); a.Code(t) != want {
			t.Fatalf("%s as %s: got %s, want %d", path, appid, a.Body, want)
		}
	}
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	call(44990, "shop", getPath, "not even JSON")
	call(0, "rival", getPath, "{}")
	call(0, "shop", downloadPath, "{}")
	// A refused call counts for nothing, and the window is no calendar second.
	s.Clock.Step(time.Second - 1)
	call(44990, "shop", getPath, "{}")
	s.Clock.Step(1)
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	// The emulator's clock counts as well as the machine's.
	s.Advance(time.Hour)
	for range 5 {
		call(0, "shop", getPath, "{}")
	}
	call(44990, "shop", getPath, "{}")
	// Another limit holds at once; 0 is none.
	s.Admin("PUT", "/settings", `{"rate_limit":0}`)
	for range 12 {
		call(0, "shop", getPath, "{}")
	}
	// No limit of calls to the token endpoints but their own.
	s.Admin("PUT", "/settings", `{"rate_limit":1}`)
	for range 3 {
		s.NewToken("shop")
	}
}

// Issue 11, 2: the platform refused them from 2021 to 2023, and its console took them.
func TestPrefixesUnderNewerTopLevelDomainsAreASetting(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town + `rules: [{owner: shop, prefix: "https://seed.ink/", path: p}]` + "\n"})
	wants := func(link string, want int) {
		t.Helper()
		as("shop", addPath, rule(link))(s).WantCode(t, want, "%s", link)
	}
	newer := []string{"https://jg.ink/nutcards/8", "http://a.b.PLUS/", "https://x.media?a=b", "https://x.run"}
	for _, link := range newer {
		wants(link, 0)
		as("shop", deletePath, prefix(link))(s)
	}
	s.Admin("PUT", "/settings", `{"behaviours":{"rules.prefix.newer_taken":"reject"}}`)
	for _, link := range newer {
		wants(link, 85066)
	}
	wants("https://x.ink:8443/", 85066)
	for _, link := range []string{"https://ink.example/", "https://x.inks/", "https://x.trunk/", "https://x.example/a.ink",
		"https://x.ink.example/"} {
		wants(link, 0)
	}
	// Rules that exist stay, and can be published and edited.
	wants("https://seed.ink/", 85066)
	for _, call := range []how{as("shop", addPath, rule("https://seed.ink/", `"is_edit":1`)),
		as("shop", publishPath, prefix("https://seed.ink/"))} {
		call(s).WantCode(t, 0, "a rule from before")
	}
}

// Issue 11, 2: twenty codes in a row gave fifteen errors, and a shop trades a ticket for every scan.
func TestOnlyTheJumpRulesHaveALimitASecondByDefault(t *testing.T) {
	t.Parallel()
	granted := strings.Replace(town, "secret: secret-svc,", "secret: secret-svc, features: [marketcode],", 1)
	s := servertest.Start(t, servertest.Options{Seed: strings.Replace(granted, ", rate_limit: 0", "", 1)})
	often := func(appid, path, body string) (refused int) {
		for range 20 {
			if as(appid, path, body)(s).Code(t) == 44990 {
				refused++
			}
		}
		return refused
	}
	perSecond := func(appid, path string) string {
		a := as(appid, quotaOf, fmt.Sprintf(`{"cgi_path":%q}`, path))(s)
		_, rate, _ := strings.Cut(a.Body, `"rate_limit":`)
		rate, _, _ = strings.Cut(rate, "}")
		return rate + "}"
	}
	const tradePath = "/intp/marketcode/tickettocode"
	rest := map[string]string{createPath: wanted("QR_SCENE", `"scene_id":1`, ""), tradePath: "{}", "/cgi-bin/get_api_domain_ip": "{}"}
	for path, body := range rest {
		assert.Equal(t, often("svc", path, body), 0, "%s", path)
	}
	for _, path := range []string{addPath, getPath, publishPath, deletePath, downloadPath} {
		assert.Equal(t, often("shop", path, "{}"), 15, "%s", path)
	}
	assert.Equal(t, perSecond("svc", getPath), `{"call_count":5,"refresh_second":1}`, "quota/get of a jump rule's call")
	assert.Equal(t, perSecond("svc", createPath), `{"call_count":500000,"refresh_second":86400}`, "quota/get of qrcode/create")

	// The setting for the rest leaves the jump rules alone.
	s.Admin("PUT", "/settings", `{"rate_limit":0,"other_rate_limit":7}`)
	s.Clock.Step(time.Minute)
	for path, body := range rest {
		assert.Equal(t, often("svc", path, body), 13, "%s", path)
	}
	assert.Equal(t, often("shop", getPath, "{}"), 0, "%s", getPath)
	s.Clock.Step(time.Minute)
	assert.Equal(t, perSecond("svc", createPath), `{"call_count":7,"refresh_second":1}`, "quota/get of qrcode/create with a limit")
}

func TestMinuteLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand calls, one after the other")
	}
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Seed: town})
	a := s.Do("POST", stablePath, stable("shop"))
	var issued struct {
		Token string `json:"access_token"`
	}
	a.JSON(t, &issued)
	s.Hide(issued.Token)
	client := &http.Client{}
	send := func() int {
		resp, err := client.Do(s.Request("POST", stablePath, stable("shop")))
		require.NoError(t, err)
		defer resp.Body.Close()
		b := make([]byte, 4096)
		n, _ := resp.Body.Read(b)
		return servertest.Answer{Body: string(b[:n])}.Code(t)
	}
	for n := range 9_999 {
		require.Equal(t, send(), 0, "call %d", n+2)
	}
	a = s.Do("POST", stablePath, stable("shop"))
	checkText(t, a, 45011, "api minute-quota reach limit, must slower, retry next minute")
	s.Do("POST", stablePath, stable("rival")).WantCode(t, 0, "another account")
	s.Advance(time.Minute)
	s.Do("POST", stablePath, stable("shop")).WantCode(t, 0, "in the next minute")
}

func checkText(t *testing.T, a servertest.Answer, code int, text string) {
	t.Helper()
	if want := fmt.Sprintf(`{"errcode":%d,"errmsg":"%s rid: `, code, text); !strings.HasPrefix(a.Body, want) {
		t.Errorf("got %s, want %s…", a.Body, want)
	}
}
