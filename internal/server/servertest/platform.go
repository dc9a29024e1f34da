package servertest

import (
	"fmt"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// Ticket returns a verify ticket of a third-party platform.
func (s *Server) Ticket(component string) string {
	s.t.Helper()
	var made struct {
		Ticket string `json:"component_verify_ticket"`
	}
	s.Admin("POST", "/emulator/ticket", fmt.Sprintf(`{"component":%q}`, component)).JSON(s.t, &made)
	s.Hide(made.Ticket)
	return made.Ticket
}

// ComponentToken returns a new component_access_token.
func (s *Server) ComponentToken(component string) string {
	s.t.Helper()
	a := s.Do("POST", "/cgi-bin/component/api_component_token",
		fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`, component, s.secretOf(component),
			s.Ticket(component)))
	var issued struct {
		Token string `json:"component_access_token"`
	}
	a.JSON(s.t, &issued)
	require.True(s.t, issued.Token != "", "no token for %s: %s", component, a.Body)
	s.Hide(issued.Token)
	return issued.Token
}

// Component makes a call of a platform with its token.
func (s *Server) Component(token, call, body string) Answer {
	s.t.Helper()
	return s.Do("POST", "/cgi-bin/component/"+call+"?component_access_token="+token, body)
}

// PreAuthCode returns a new pre_auth_code.
func (s *Server) PreAuthCode(token, component string) string {
	s.t.Helper()
	var made struct {
		Code string `json:"pre_auth_code"`
	}
	a := s.Component(token, "api_create_preauthcode", fmt.Sprintf(`{"component_appid":%q}`, component))
	a.JSON(s.t, &made)
	require.True(s.t, made.Code != "", "no pre_auth_code for %s: %s", component, a.Body)
	s.Hide(made.Code)
	return made.Code
}

// Authorize lets a person agree without the page and returns the authorization_code; sets is a JSON list.
func (s *Server) Authorize(token, component, appid, sets string) string {
	s.t.Helper()
	var agreed struct {
		Code string `json:"auth_code"`
	}
	s.Admin("POST", "/emulator/authorize", fmt.Sprintf(`{"component":%q,"pre_auth_code":%q,"appid":%q,"permission_sets":%s}`,
		component, s.PreAuthCode(token, component), appid, sets)).JSON(s.t, &agreed)
	s.Hide(agreed.Code)
	return agreed.Code
}

// AuthorizerToken returns a token with which a platform calls for an account that authorised it, and the refresh token.
func (s *Server) AuthorizerToken(token, component, appid string) (access, refresh string) {
	s.t.Helper()
	var info struct {
		Authorization struct {
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	s.Component(token, "api_get_authorizer_info", fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q}`, component, appid)).JSON(s.t,
		&info)
	a := s.Component(token, "api_authorizer_token",
		fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q,"authorizer_refresh_token":%q}`,
			component, appid, info.Authorization.Refresh))
	var issued struct {
		Token string `json:"authorizer_access_token"`
	}
	a.JSON(s.t, &issued)
	require.True(s.t, issued.Token != "", "no token of %s for %s: %s", appid, component, a.Body)
	s.Hide(issued.Token)
	s.Hide(info.Authorization.Refresh)
	return issued.Token, info.Authorization.Refresh
}
