// Command golang gets a token and, with an HTTP client, the rules from api.weixin.qq.com. Its argument is the name of the client or
// SDK.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/chanxuehong/wechat/mp/core"
	"github.com/fastwego/miniprogram"
	"github.com/fastwego/offiaccount"
	"github.com/go-resty/resty/v2"
	weapp "github.com/medivhzhan/weapp/v2"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpproxy"
)

var (
	appid   = os.Getenv("QRJUMP_APPID")
	secret  = os.Getenv("QRJUMP_SECRET")
	address = "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=" + appid + "&secret=" + secret
	byLine  = os.Args[len(os.Args)-1] == "line"
)

var clients = map[string]func(method, url, body string) ([]byte, error){
	"net/http": func(method, url, body string) ([]byte, error) {
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	},
	"resty": func(method, url, body string) ([]byte, error) {
		resp, err := resty.New().R().SetBody(body).Execute(method, url)
		return resp.Body(), err
	},
	"fasthttp": func(method, url, body string) ([]byte, error) {
		client := &fasthttp.Client{}
		if byLine {
			client.Dial = fasthttpproxy.FasthttpProxyHTTPDialer()
		}
		r, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		r.Header.SetMethod(method)
		r.SetRequestURI(url)
		r.SetBodyString(body)
		err := client.Do(r, resp)
		return resp.Body(), err
	},
}

var sdks = map[string]func() (string, error){
	"chanxuehong/wechat": func() (string, error) { return core.NewDefaultAccessTokenServer(appid, secret, nil).Token() },
	"fastwego/miniprogram": func() (string, error) {
		app := miniprogram.New(miniprogram.Config{Appid: appid, Secret: secret})
		return app.AccessToken.GetAccessTokenHandler(app)
	},
	"fastwego/offiaccount": func() (string, error) {
		app := offiaccount.New(offiaccount.Config{Appid: appid, Secret: secret})
		return app.AccessToken.GetAccessTokenHandler(app)
	},
	"medivhzhan/weapp": func() (string, error) {
		answer, err := weapp.GetAccessToken(appid, secret)
		if err != nil {
			return "", err
		}
		return answer.AccessToken, answer.GetResponseError()
	},
}

func main() {
	name := os.Args[1]
	if sdk, ok := sdks[name]; ok {
		token, err := sdk()
		fmt.Println(token)
		check(err)
		return
	}
	call := clients[name]
	text, err := call(http.MethodGet, address, "")
	check(err)
	var answer struct {
		Token string `json:"access_token"`
	}
	check(json.Unmarshal(text, &answer))
	fmt.Println(answer.Token)
	text, err = call(http.MethodPost, "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token="+answer.Token, `{"get_type":0}`)
	fmt.Printf("%s\n", text)
	check(err)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
