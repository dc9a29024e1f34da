package silenceper_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/domain/openapi"
	mini "github.com/silenceper/wechat/v2/miniprogram/config"
	official "github.com/silenceper/wechat/v2/officialaccount/config"

	"github.com/qrjump/qrjump/compat/harness"
)

// The library's four functions for quotas and request ids, for a Mini Program and for a service account.
func TestOpenAPIQuota_GetClearAndRID(t *testing.T) {
	s := harness.Start(t)
	if s.Shared {
		t.Skip("the limit is ten resets per month, which an earlier run may have used")
	}
	redirect(t, s)
	type api interface {
		ClearQuota() error
		ClearQuotaByAppSecret() error
		GetAPIQuota(openapi.GetAPIQuotaParams) (openapi.APIQuota, error)
		GetRidInfo(openapi.GetRidInfoParams) (openapi.RidInfo, error)
	}
	const path = "/cgi-bin/wxopen/qrcodejumpget"
	program := wechat.NewWechat().GetMiniProgram(&mini.Config{AppID: harness.MiniProgram, AppSecret: harness.MiniProgramSecret, Cache: cache.NewMemory()})
	account := wechat.NewWechat().GetOfficialAccount(&official.Config{AppID: harness.ServiceAcct, AppSecret: harness.ServiceAcctSecret, Cache: cache.NewMemory()})
	for _, c := range []struct {
		name, secret string
		api          api
		token        func() (string, error)
	}{
		{"Mini Program", harness.MiniProgramSecret, program.GetOpenAPI(), program.GetContext().GetAccessToken},
		{"service account", harness.ServiceAcctSecret, account.GetOpenAPI(), account.GetContext().GetAccessToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, err := c.token()
			if err != nil {
				t.Fatal(err)
			}
			used := func() int64 {
				t.Helper()
				q, err := c.api.GetAPIQuota(openapi.GetAPIQuotaParams{CgiPath: path})
				if err != nil || q.Quota.DailyLimit != 500_000 || q.Quota.Remain != q.Quota.DailyLimit-q.Quota.Used {
					t.Fatalf("%+v, %v", q, err)
				}
				return q.Quota.Used
			}
			for name, clear := range map[string]func() error{"by token": c.api.ClearQuota, "by secret": c.api.ClearQuotaByAppSecret} {
				listable(t, token)
				if n := used(); n != 1 {
					t.Errorf("used quota = %d, want 1", n)
				}
				if err := clear(); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if n := used(); n != 0 {
					t.Errorf("used quota after a reset %s = %d, want 0", name, n)
				}
			}
			_, err = c.api.GetAPIQuota(openapi.GetAPIQuotaParams{CgiPath: "/sns/jscode2session"})
			if err == nil || !strings.Contains(err.Error(), "76022") {
				t.Errorf("quota of a path of /sns/: %v, want 76022", err)
			} else if m := regexp.MustCompile(`rid: ([0-9a-f-]{26})`).FindStringSubmatch(err.Error()); m == nil {
				t.Errorf("no request id in %v", err)
			} else {
				info, err := c.api.GetRidInfo(openapi.GetRidInfoParams{Rid: m[1]})
				if err != nil {
					t.Fatal(err)
				}
				r := info.Request
				if r.InvokeTime == 0 || r.ClientIP != "127.0.0.1" || r.RequestBody != `{"cgi_path":"/sns/jscode2session"}` || !strings.Contains(r.ResponseBody, `"errcode":76022`) || strings.Contains(r.RequestURL, token) {
					t.Errorf("%+v", r)
				}
			}
			for range 8 {
				if err := c.api.ClearQuotaByAppSecret(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.api.ClearQuota(); err == nil || !strings.Contains(err.Error(), "48006") {
				t.Errorf("eleventh reset of the month: %v, want 48006", err)
			}
		})
	}
}
