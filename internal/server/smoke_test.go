package server

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestSmoke(t *testing.T) {
	c := Default()
	c.Data, c.Listen, c.Dev = t.TempDir(), "127.0.0.1:0", true
	s, err := Start(context.Background(), c, os.Stderr, Seams{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	do := func(method, path, body string) string {
		req, _ := http.NewRequest(method, s.URL+path, strings.NewReader(body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		t.Log(method, path, body, "->", resp.StatusCode, resp.Header.Get("Content-Type"), string(b[:min(len(b), 600)]))
		return string(b)
	}
	do("GET", "/healthz", "")
	do("GET", "/readyz", "")
	tok := do("GET", "/cgi-bin/token?grant_type=client_credential&appid=wxminiprogram0001&secret=secret0001", "")
	tok = strings.Split(tok, `"`)[3]
	do("POST", "//cgi-bin/wxopen/qrcodejumpget?access_token="+tok, "")
	do("POST", "/cgi-bin/wxopen/qrcodejumpadd?access_token="+tok, `{"prefix":"https://a.example/t/","path":"pages/x","permit_sub_rule":"1","open_version":"3","is_edit":"0"}`)
	do("POST", "/scan/v1/resolve", `{"text":"https://a.example/t/7?x=1"}`)
	do("POST", "/cgi-bin/wxopen/qrcodejumppublish?access_token="+tok, `{"prefix":"https://a.example/t/"}`)
	do("POST", "/scan/v1/resolve", `{"text":"https://a.example/t/7?x=1&y=a b"}`)
	do("POST", "/scan/v1/explain", `{"text":"https://a.example/t"}`)
	do("POST", "/scan/v1/explain", `{"text":"https://coffee.example/menu?draft=1","user":"bob"}`)
	do("POST", "/cgi-bin/nothing", ``)
	do("GET", "/cgi-bin/wxopen/qrcodejumpget", ``)
	do("GET", "/admin/v1/accounts", ``)
	do("PUT", "/admin/v1/settings", `{"rate_limit":0}`)
	do("PUT", "/admin/v1/settings", `{"rate_limi":0}`)
	do("POST", "/admin/v1/emulator/faults", `{"path":"/cgi-bin/wxopen/qrcodejumpget","errcode":-1,"times":1}`)
	do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+tok, "")
	do("PUT", "/admin/v1/emulator/clock", `{"advance":"36h"}`)
	do("POST", "/cgi-bin/wxopen/qrcodejumpget?access_token="+tok, "")
	do("GET", "/admin/v1/emulator/calls?limit=2", "")
	do("POST", "/admin/v1/emulator/reset", "")
	do("GET", "/admin/v1/nothing", "")
	do("DELETE", "/admin/v1/accounts", "")
	do("GET", "/metrics", "")
	do("GET", "/openapi.json", "")
}
