package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/qrjump/qrjump/compat/harness"
)

func TestHTTPClients_RedirectLine(t *testing.T) {
	program := filepath.Join(t.TempDir(), "golang")
	if out, err := exec.Command("go", "build", "-o", program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var list []harness.Client
	for _, c := range []struct{ name, module, line string }{
		{"net/http", "", ""},
		{"resty", "github.com/go-resty/resty/v2", ""},
		{"fasthttp", "github.com/valyala/fasthttp", "client.Dial = fasthttpproxy.FasthttpProxyHTTPDialer()"},
		{"chanxuehong/wechat", "github.com/chanxuehong/wechat", ""},
		{"fastwego/miniprogram", "github.com/fastwego/miniprogram", ""},
		{"fastwego/offiaccount", "github.com/fastwego/offiaccount", ""},
		{"medivhzhan/weapp", "github.com/medivhzhan/weapp/v2", ""},
	} {
		version := strings.TrimPrefix(runtime.Version(), "go")
		if c.module != "" {
			pinned := regexp.MustCompile(`\s` + regexp.QuoteMeta(c.module) + ` v(\S+)`).FindSubmatch(mod)
			if pinned == nil {
				t.Fatalf("go.mod does not pin %s", c.module)
			}
			version = string(pinned[1])
		}
		client := harness.Client{Language: "Go", Name: c.name, Version: version, SDK: sdks[c.name] != nil, Line: c.line,
			Command: []string{program, c.name}}
		if c.line != "" {
			client.ByLine = []string{program, c.name, "line"}
		}
		list = append(list, client)
	}
	harness.Lines(t, t.TempDir(), list...)
}
