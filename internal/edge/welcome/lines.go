package welcome

import (
	"fmt"
	"net/url"
)

// tour is the prefix of the rule in the example commands: an unused host.
const tour = "https://tour.example/t/"

// CommandLines returns shell commands that demonstrate the whole workflow as an account, in order.
func (s Server) CommandLines(a Account) []string {
	asked := url.Values{"grant_type": {"client_credential"}, "appid": {a.AppID}, "secret": {a.Secret}}.Encode()
	wire := func(call, body string) string {
		return fmt.Sprintf(`%s "%s/cgi-bin/wxopen/%s?access_token=$TOKEN" -d '%s'`, s.Curl, s.Wire, call, body)
	}
	return []string{
		fmt.Sprintf(`TOKEN=$(%s '%s/cgi-bin/token?%s' | sed 's/.*access_token":"\([^"]*\).*/\1/')`, s.Curl, s.Wire, asked),
		wire("qrcodejumpadd", `{"prefix":"`+tour+`","path":"pages/index/index","permit_sub_rule":1,"open_version":3,"is_edit":0}`),
		wire("qrcodejumppublish", `{"prefix":"`+tour+`"}`),
		fmt.Sprintf(`%s %s/scan/v1/resolve -d '{"text":"%s7"}'`, s.Curl, s.Scan, tour),
		fmt.Sprintf(`%s %s/scan/v1/explain -d '{"text":"https://tour.example/t"}'`, s.Curl, s.Scan),
	}
}

// SDK describes how to configure a client library for this server.
type SDK struct {
	ID, Name, Language string
	Lines              []string
}

// Libraries returns common client libraries with three lines of code each. The libraries' default addresses are listed in
// docs/contract/clients.md.
func (s Server) Libraries(a Account) []SDK {
	return []SDK{
		{"silenceper", "silenceper/wechat", "Go", []string{
			fmt.Sprintf(`util.SetURIModifier(func(uri string) string { return strings.Replace(uri, "https://api.weixin.qq.com", %q, 1) })`,
				s.Wire),
			fmt.Sprintf(`app := wechat.NewWechat().GetMiniProgram(&config.Config{AppID: %q, AppSecret: %q, Cache: cache.NewMemory()})`,
				a.AppID, a.Secret),
			`token, err := app.GetContext().GetAccessToken()`,
		}},
		{"node-easywechat", "node-easywechat", "Node.js", []string{
			`const { MiniApp } = require('node-easywechat');`,
			fmt.Sprintf(`const app = new MiniApp({ app_id: '%s', secret: '%s', http: { baseURL: '%s/' } });`, a.AppID, a.Secret, s.Wire),
			`app.getClient().postJson('/cgi-bin/wxopen/qrcodejumpget', {}).then(answer => console.log(answer.toObject()));`,
		}},
		{"wxjava", "WxJava", "Java", []string{
			fmt.Sprintf(`WxMaDefaultConfigImpl config = new WxMaDefaultConfigImpl(); config.setAppid("%s"); config.setSecret("%s");`,
				a.AppID, a.Secret),
			fmt.Sprintf(`config.setApiHostUrl("%s");`, s.Wire),
			`WxMaService service = new WxMaServiceImpl(); service.setWxMaConfig(config);`,
		}},
		{"wechatpy", "wechatpy", "Python", []string{
			`from requests.adapters import HTTPAdapter; from wechatpy import WeChatClient`,
			fmt.Sprintf(`Here = type("Here", (HTTPAdapter,), {"send": lambda self, r, **o: setattr(r, "url", `+
				`r.url.replace("https://api.weixin.qq.com", "%s")) or HTTPAdapter.send(self, r, **o)})`, s.Wire),
			fmt.Sprintf(`client = WeChatClient("%s", "%s"); client._http.mount("https://api.weixin.qq.com", Here())`, a.AppID, a.Secret),
		}},
		{"easywechat", "EasyWeChat", "PHP", []string{
			fmt.Sprintf(`$config = ['app_id' => '%s', 'secret' => '%s', 'http' => ['base_uri' => '%s/']];`, a.AppID, a.Secret, s.Wire),
			`$app = new EasyWeChat\MiniApp\Application($config);`,
			`$rules = $app->getClient()->postJson('cgi-bin/wxopen/qrcodejumpget', [])->toArray();`,
		}},
	}
}
