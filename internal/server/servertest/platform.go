package servertest

import (
	"fmt"

	"github.com/qrjump/qrjump/internal/testkit/require"
)

// secret returns a non-empty string member of a response and registers it as a secret.
func (s *Server) secret(a Answer, name string) string {
	s.t.Helper()
	text := a.Text(s.t, name)
	require.True(s.t, text != "", "%s = %s, want a %s", a.Path, a.Body, name)
	s.RegisterSecret(text)
	return text
}

// Ticket returns a component_verify_ticket of a third-party platform.
func (s *Server) Ticket(component string) string {
	s.t.Helper()
	return s.secret(s.Admin("POST", "/emulator/ticket", fmt.Sprintf(`{"component":%q}`, component)), "component_verify_ticket")
}

// ComponentToken returns a new component_access_token.
func (s *Server) ComponentToken(component string) string {
	s.t.Helper()
	return s.secret(s.Do("POST", "/cgi-bin/component/api_component_token",
		fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`, component, s.appSecret(component),
			s.Ticket(component))), "component_access_token")
}

// Component calls an endpoint of the component API with a component_access_token.
func (s *Server) Component(token, call, body string) Answer {
	s.t.Helper()
	return s.Do("POST", "/cgi-bin/component/"+call+"?component_access_token="+token, body)
}

// PreAuthCode returns a new pre_auth_code.
func (s *Server) PreAuthCode(token, component string) string {
	s.t.Helper()
	return s.secret(s.Component(token, "api_create_preauthcode", fmt.Sprintf(`{"component_appid":%q}`, component)), "pre_auth_code")
}

// Authorize grants a consent without the page and returns the authorization_code; sets is a JSON list.
func (s *Server) Authorize(token, component, appid, sets string) string {
	s.t.Helper()
	body := fmt.Sprintf(`{"component":%q,"pre_auth_code":%q,"appid":%q,"permission_sets":%s}`, component, s.PreAuthCode(token, component),
		appid, sets)
	return s.secret(s.Admin("POST", "/emulator/authorize", body), "auth_code")
}

// AuthorizerToken returns the authorizer_access_token of a platform for an account, and the refresh token.
func (s *Server) AuthorizerToken(token, component, appid string) (access, refresh string) {
	s.t.Helper()
	var info struct {
		Authorization struct {
			Refresh string `json:"authorizer_refresh_token"`
		} `json:"authorization_info"`
	}
	s.Component(token, "api_get_authorizer_info", fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q}`, component, appid)).JSON(s.t,
		&info)
	refresh = info.Authorization.Refresh
	s.RegisterSecret(refresh)
	return s.secret(s.Component(token, "api_authorizer_token",
		fmt.Sprintf(`{"component_appid":%q,"authorizer_appid":%q,"authorizer_refresh_token":%q}`, component, appid, refresh)),
		"authorizer_access_token"), refresh
}
