package api

import "context"

// componentTokenReply has neither errcode nor errmsg. Contract: clients §6.
type componentTokenReply struct {
	Token     string `json:"component_access_token"`
	ExpiresIn int    `json:"expires_in"`
}

// componentToken exchanges a verify ticket for a platform's access token. Contract: rules §3.2.
func (a *API) componentToken(ctx context.Context, c *call, f *fields) (any, error) {
	credentials := platformCredentials(c, f, "component_appsecret")
	ticket := f.text("component_verify_ticket")
	if f.err != nil {
		return nil, f.err
	}
	issued, err := a.Accounts.PlatformToken(ctx, credentials, ticket)
	c.attributeBySecret(credentials.AppID, err)
	a.noteTokenRequest(c, err)
	return componentTokenReply{Token: issued.Text, ExpiresIn: issued.ExpiresIn}, err
}
