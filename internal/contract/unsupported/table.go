// Package unsupported lists platform API paths that this server does not offer and that client programs are likely to call: paths
// that are related to the offered paths and occur in the source of widely used client libraries.
package unsupported

import (
	"embed"

	"github.com/qrjump/qrjump/internal/infra/i18n"
)

// families lists the unsupported paths, each with the client libraries whose source contains it.
var families = []Family{
	{"pictures", []Path{
		{"/wxa/getwxacode", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/getwxacodeunlimit", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/wxaapp/createwxaqrcode", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/get_qrcode", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/shorturl", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
	}},
	{"links", []Path{
		{"/wxa/generatescheme", "EasyWeChat, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/queryscheme", "nest-wechat, silenceper/wechat, wechat-mp-sdk"},
		{"/wxa/generate_urllink", "EasyWeChat, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/query_urllink", "nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/genwxashortlink", "EasyWeChat, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/generatenfcscheme", "nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
	}},
	{"versions", []Path{
		{"/wxa/commit", "EasyWeChat, fastwego, nest-wechat, WxJava"},
		{"/wxa/submit_audit", "EasyWeChat, fastwego, nest-wechat, WxJava"},
		{"/wxa/get_auditstatus", "EasyWeChat, fastwego, nest-wechat, WxJava"},
		{"/wxa/get_latest_auditstatus", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/undocodeaudit", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/speedupaudit", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/queryquota", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/release", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/revertcoderelease", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/grayrelease", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/getgrayreleaseplan", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/revertgrayrelease", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/change_visitstatus", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/get_page", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/get_category", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/gettemplatedraftlist", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/gettemplatelist", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/addtotemplate", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/deletetemplate", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/getversioninfo", "EasyWeChat, WxJava"},
		{"/wxa/bind_tester", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/unbind_tester", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/memberauth", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/getweappsupportversion", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/setweappsupportversion", "EasyWeChat, fastwego, WxJava"},
	}},
	{"account", []Path{
		{"/cgi-bin/account/getaccountbasicinfo", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/account/modifyheadimage", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/account/modifysignature", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/wxa/setnickname", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/wxa/api_wxa_querynickname", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxverify/checkwxverifynickname", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/wxopen/getallcategories", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/getcategory", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/addcategory", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/deletecategory", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/wxopen/modifycategory", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/modify_domain", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/setwebviewdomain", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/getwxasearchstatus", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/wxa/changewxasearchstatus", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/wxa/getshowwxaitem", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/updateshowwxaitem", "EasyWeChat, fastwego, WxJava"},
		{"/wxa/getwxamplinkforshow", "EasyWeChat, fastwego"},
		{"/cgi-bin/component/getprivacysetting", "EasyWeChat, silenceper/wechat, WxJava"},
		{"/cgi-bin/component/setprivacysetting", "EasyWeChat, silenceper/wechat, WxJava"},
		{"/cgi-bin/component/uploadprivacyextfile", "EasyWeChat, silenceper/wechat, WxJava"},
		{"/cgi-bin/component/fastregisterweapp", "EasyWeChat, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/account/fastregister", "EasyWeChat, WxJava"},
		{"/cgi-bin/open/create", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/open/get", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/open/bind", "EasyWeChat, fastwego, WxJava"},
		{"/cgi-bin/open/unbind", "EasyWeChat, fastwego, WxJava"},
	}},
	{"users", []Path{
		{"/wxa/business/getuserphonenumber", "EasyWeChat, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/business/getuserencryptkey", "silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/checksession", "fastwego, silenceper/wechat, wechat-mp-sdk"},
		{"/wxa/resetusersessionkey", "silenceper/wechat, wechat-mp-sdk"},
		{"/wxa/getpaidunionid", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/getpluginopenpid", "nest-wechat, silenceper/wechat, wechat-mp-sdk"},
		{"/sns/oauth2/access_token", "fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/sns/oauth2/refresh_token", "fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/sns/oauth2/component/access_token", "fastwego, silenceper/wechat, WxJava"},
		{"/sns/oauth2/component/refresh_token", "fastwego, WxJava"},
		{"/sns/userinfo", "fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/sns/auth", "fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/user/info", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/user/info/batchget", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/user/get", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/ticket/getticket", "EasyWeChat, fastwego, nest-wechat, node-easywechat, silenceper/wechat, WxJava"},
	}},
	{"messages", []Path{
		{"/cgi-bin/message/subscribe/send", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/addtemplate", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/deltemplate", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/getcategory", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/getpubtemplatekeywords", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/getpubtemplatetitles", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxaapi/newtmpl/gettemplate", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/message/template/send", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/message/custom/send", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/message/custom/typing", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/message/wxopen/activityid/create", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/message/wxopen/updatablemsg/send", "EasyWeChat, fastwego, nest-wechat, silenceper/wechat, WxJava"},
		{"/cgi-bin/media/upload", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/media/get", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/cgi-bin/menu/create", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/menu/get", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/cgi-bin/menu/delete", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
	}},
	{"safety", []Path{
		{"/wxa/msg_sec_check", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/media_check_async", "EasyWeChat, fastwego, silenceper/wechat, wechat-mp-sdk, WxJava"},
		{"/wxa/img_sec_check", "EasyWeChat, fastwego, silenceper/wechat, WxJava"},
		{"/wxa/getuserriskrank", "EasyWeChat, silenceper/wechat, wechat-mp-sdk, WxJava"},
	}},
}

//go:embed locale
var locale embed.FS

var book = i18n.Open(locale)

// A Path is an API path of the platform.
type Path struct {
	Path string
	SDKs string // client libraries whose source contains the path
}

// A Family is a group of paths with the same purpose.
type Family struct {
	name  string
	Paths []Path
}

// Is describes the purpose of the paths in a family, and Do describes the alternative on this server.
func (f Family) Is() i18n.Message { return book.Text(f.name) }
func (f Family) Do() i18n.Message { return book.Text(f.name + ".do") }

// Families returns all families, the most closely related to the offered calls first.
func Families() []Family { return families }

// Lookup returns the family of a path; false = the path is not in the list.
func Lookup(path string) (Family, bool) {
	for _, f := range families {
		for _, p := range f.Paths {
			if p.Path == path {
				return f, true
			}
		}
	}
	return Family{}, false
}
