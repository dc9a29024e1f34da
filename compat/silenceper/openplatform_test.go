package silenceper_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/openplatform"
	open "github.com/silenceper/wechat/v2/openplatform/config"
	"github.com/silenceper/wechat/v2/util"

	"github.com/qrjump/qrjump/compat/harness"
)

// thirdParty returns the library as a third-party platform, which receives pushes on an HTTP server.
func thirdParty(t *testing.T, s *harness.Server) (*openplatform.OpenPlatform, harness.Events) {
	t.Helper()
	redirect(t, s)
	p := wechat.NewWechat().GetOpenPlatform(&open.Config{
		AppID: harness.Platform, AppSecret: harness.PlatformSecret, Token: harness.PlatformToken, EncodingAESKey: harness.PlatformAESKey, Cache: cache.NewMemory(),
	})
	events := make(harness.Events, 100)
	s.ThirdParty(t, func(w http.ResponseWriter, r *http.Request) {
		receiver := p.GetServer(r, w)
		receiver.SetMessageHandler(func(m *message.MixMessage) *message.Reply {
			events <- harness.Event{InfoType: string(m.InfoType), Ticket: m.ComponentVerifyTicket, AuthorizerAppID: m.AuthorizerAppid, AuthCode: m.AuthorizationCode}
			return nil
		})
		if err := receiver.Serve(); err != nil {
			t.Errorf("the library rejects the push: %v", err)
			return
		}
		// In safe mode the library sends no response.
		w.Write([]byte("success"))
	})
	return p, events
}

// The authorisation links for a phone, on both hosts.
func TestMobileAuthLinks_BothNames(t *testing.T) {
	s := harness.Start(t)
	p, events := thirdParty(t, s)
	if _, err := p.SetComponentAccessToken(t.Context(), events.Next(t, "component_verify_ticket").Ticket); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]func(redirectURI string, authType int, bizAppID string) (string, error){
		"mp": p.GetBindComponentURL,
		// GetBindComponentURLV2 returns the link of mp, a bug of the library.
		"open": func(redirectURI string, authType int, bizAppID string) (string, error) {
			return p.GetBindComponentURLV2Context(t.Context(), redirectURI, authType, bizAppID)
		},
	} {
		address, err := link(harness.Back, 2, harness.MiniProgram)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(address, "https://"+name+".weixin.qq.com/") {
			t.Errorf("%s: link = %s", name, address)
		}
		info, err := p.QueryAuthCode(s.Agree(t, address, harness.MiniProgram, 18, 33))
		if err != nil || info.Appid != harness.MiniProgram {
			t.Errorf("%s: got %+v, %v", name, info, err)
		}
	}
}

// The complete authorisation: ticket, page, authorization code, rules and codes on behalf of the account, revocation.
func TestAuthorization_TicketToRevocation(t *testing.T) {
	s := harness.Start(t)
	p, events := thirdParty(t, s)
	ticket := events.Next(t, "component_verify_ticket").Ticket
	if _, err := p.SetComponentAccessToken(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	authorize := func(appid string, authType int, sets ...int) {
		t.Helper()
		link, err := p.GetComponentLoginPage(harness.Back, authType, appid)
		if err != nil {
			t.Fatal(err)
		}
		code := s.Agree(t, link, appid, sets...)
		if !s.Shared {
			e := events.Next(t, "authorized")
			if e.AuthorizerAppID != appid || e.AuthCode != code {
				t.Errorf("got %+v, want the code %s of %s", e, code, appid)
			}
		}
		info, err := p.QueryAuthCode(code)
		if err != nil {
			t.Fatal(err)
		}
		if info.Appid != appid || len(info.FuncInfo) != len(sets) || info.ExpiresIn != 7200 {
			t.Errorf("got %+v", info)
		}
		for i, set := range sets {
			if info.FuncInfo[i].FuncscopeCategory.ID != set {
				t.Errorf("func_info %+v, want %v", info.FuncInfo, sets)
			}
		}
		if _, err := p.RefreshAuthrToken(appid, info.RefreshToken); err != nil {
			t.Fatal(err)
		}
		if _, err := p.QueryAuthCode(code); err == nil || !strings.Contains(err.Error(), "61010") {
			t.Errorf("second use of a code: %v, want 61010", err)
		}
	}
	token := func(appid string) string {
		t.Helper()
		text, err := p.GetAuthrAccessToken(appid)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	authorize(harness.MiniProgram, 2, 18, 33)
	authorize(harness.ServiceAcct, 1, 3, 33, 46)
	mini, service := token(harness.MiniProgram), token(harness.ServiceAcct)
	listable(t, mini)
	listable(t, service)
	harness.OrdinaryRules(t, s, s.CallAs(mini))
	harness.ServiceRules(t, s, s.CallAs(service))
	harness.ProductCodes(t, s, s.CallAs(service))

	info, authorization, err := p.GetAuthrInfo(harness.MiniProgram)
	if err != nil {
		t.Fatal(err)
	}
	if info.NickName != "Coffee" || info.MiniProgramInfo == nil || info.ServiceTypeInfo.ID != 0 || info.VerifyTypeInfo.ID != 0 ||
		authorization.AccessToken != "" || authorization.RefreshToken == "" {
		t.Errorf("got %+v, %+v", info, authorization)
	}
	if info, _, err = p.GetAuthrInfo(harness.ServiceAcct); err != nil || info.MiniProgramInfo != nil || info.ServiceTypeInfo.ID != 2 {
		t.Errorf("got %+v, %v", info, err)
	}

	s.Withdraw(t, harness.MiniProgram)
	if e := events.Next(t, "unauthorized"); e.AuthorizerAppID != harness.MiniProgram {
		t.Errorf("got %v", e)
	}
	harness.NotGranted(t, s.CallAs(mini), "qrcodejumpget", 61003)
	if rejected, ok := list(t, mini).(*util.CommonError); !ok || rejected.ErrCode != 61003 {
		t.Errorf("got %v, want 61003", rejected)
	}
	if _, err := p.RefreshAuthrToken(harness.MiniProgram, authorization.RefreshToken); err == nil {
		// The library does not check errcode here; its cache then has an empty token.
		if text, _ := p.GetAuthrAccessToken(harness.MiniProgram); text != "" {
			t.Errorf("token after the revocation = %q, want none", text)
		}
	}
	listable(t, service)
}

func TestComponentToken_ForgedTicket(t *testing.T) {
	s := harness.Start(t)
	p, events := thirdParty(t, s)
	events.Next(t, "component_verify_ticket")
	if _, err := p.SetComponentAccessToken(t.Context(), "ticket@@@x"); err == nil || !strings.Contains(err.Error(), "61006") {
		t.Errorf("got %v, want 61006", err)
	}
}
