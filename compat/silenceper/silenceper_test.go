// Package silenceper_test tests qrjump with github.com/silenceper/wechat/v2: both kinds of access token.
// The library has no wrappers for jump rules; the tests use the token and its generic PostJSON, as its users do.
package silenceper_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	mini "github.com/silenceper/wechat/v2/miniprogram/config"
	"github.com/silenceper/wechat/v2/util"

	"github.com/qrjump/qrjump/compat/harness"
)

const platform = "https://api.weixin.qq.com"

// redirect sets s as the library's base URL.
func redirect(t *testing.T, s *harness.Server) {
	util.SetURIModifier(func(uri string) string { return strings.Replace(uri, platform, s.URL, 1) })
	t.Cleanup(func() { util.SetURIModifier(nil) })
}

// list calls qrcodejumpget with token and returns the error of the library.
func list(t *testing.T, token string) error {
	t.Helper()
	raw, err := util.PostJSON(platform+"/cgi-bin/wxopen/qrcodejumpget?access_token="+url.QueryEscape(token), map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		util.CommonError
		ListSize int64 `json:"list_size"`
	}
	return util.DecodeWithError(raw, &answer, "qrcodejumpget")
}

func listable(t *testing.T, token string) {
	t.Helper()
	if token == "" {
		t.Fatal("got an empty token")
	}
	if err := list(t, token); err != nil {
		t.Errorf("the token is rejected: %v", err)
	}
}

func token(t *testing.T, h credential.AccessTokenHandle) string {
	t.Helper()
	token, err := h.GetAccessToken()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestSilenceper_TokenOpensOwnRules(t *testing.T) {
	redirect(t, harness.Start(t))
	accounts := []struct{ name, appid, secret string }{
		{"Mini Program", harness.MiniProgram, harness.MiniProgramSecret},
		{"service account", harness.ServiceAcct, harness.ServiceAcctSecret},
	}
	for _, account := range accounts {
		t.Run(account.name, func(t *testing.T) {
			plain := credential.NewDefaultAccessToken(account.appid, account.secret, "compat_", cache.NewMemory())
			first := token(t, plain)
			listable(t, first)
			if cached := token(t, plain); cached != first {
				t.Errorf("cached token = %q, want %q: the library caches a token for expires_in - 1500 s", cached, first)
			}

			// Two processes without a shared cache must get the same stable token.
			stable := token(t, credential.NewStableAccessToken(account.appid, account.secret, "compat_", cache.NewMemory()))
			other := token(t, credential.NewStableAccessToken(account.appid, account.secret, "compat_", cache.NewMemory()))
			if stable != other {
				t.Errorf("got the stable tokens %q and %q, want one token", stable, other)
			}
			listable(t, stable)
			listable(t, first) // a stable token does not revoke the plain token
		})
	}
}

func TestSilenceper_MiniProgramStableToken(t *testing.T) {
	redirect(t, harness.Start(t))
	program := wechat.NewWechat().GetMiniProgram(&mini.Config{
		AppID: harness.MiniProgram, AppSecret: harness.MiniProgramSecret, UseStableAK: true, Cache: cache.NewMemory(),
	})
	listable(t, token(t, program.GetContext()))
}

func TestSilenceper_ForceRefreshKeepsPlainToken(t *testing.T) {
	s := harness.Start(t)
	if s.Shared {
		t.Skip("a refresh can be forced once in 30 s, and an earlier run may have done it")
	}
	redirect(t, s)
	plain := token(t, credential.NewDefaultAccessToken(harness.MiniProgram, harness.MiniProgramSecret, "compat_", cache.NewMemory()))
	stable := credential.NewStableAccessToken(harness.MiniProgram, harness.MiniProgramSecret, "compat_", cache.NewMemory()).(*credential.StableAccessToken)
	old, err := stable.GetAccessTokenDirectly(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	forced, err := stable.GetAccessTokenDirectly(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if forced.AccessToken == old.AccessToken {
		t.Fatal("a forced refresh returned the old token")
	}
	repeated, err := stable.GetAccessTokenDirectly(t.Context(), true)
	if err != nil || repeated.AccessToken != forced.AccessToken {
		t.Errorf("got %q, %v, want the current token: a refresh can be forced every 30 s", repeated.AccessToken, err)
	}
	listable(t, forced.AccessToken)
	listable(t, plain)
	rejected, ok := list(t, old.AccessToken).(*util.CommonError)
	if !ok || rejected.ErrCode != 40001 {
		t.Errorf("got %v with the revoked token, want 40001", rejected)
	}
}

// Contract: clients 6 and 10. In some calls this library treats any errmsg as an error, even that of a success.
func TestSilenceper_TokenWithoutErrmsg(t *testing.T) {
	redirect(t, harness.Start(t))
	query := url.Values{"grant_type": {"client_credential"}, "appid": {harness.MiniProgram}, "secret": {harness.MiniProgramSecret}}
	raw, err := util.HTTPGet(platform + "/cgi-bin/token?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	text, _ := fields["access_token"].(string)
	seconds, _ := fields["expires_in"].(float64)
	if len(fields) != 2 || text == "" || seconds <= 1500 || seconds > 7200 {
		t.Errorf("got %s, want an access_token, an expires_in above 1500 and at most 7200, and nothing else", raw)
	}
}

func TestToken_WrongSecret(t *testing.T) {
	s := harness.Start(t)
	redirect(t, s)
	handles := map[string]credential.AccessTokenHandle{
		"plain":  credential.NewDefaultAccessToken(harness.MiniProgram, "wrong", "compat_", cache.NewMemory()),
		"stable": credential.NewStableAccessToken(harness.MiniProgram, "wrong", "compat_", cache.NewMemory()),
	}
	for name, handle := range handles {
		t.Run(name, func(t *testing.T) {
			harness.WrongSecret(t, s, func() string {
				got, err := handle.GetAccessToken()
				return fmt.Sprint(got, err)
			})
		})
	}
}
