package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

type typeID struct {
	ID int `json:"id"`
}

// authorizerInfo omits basic_config, because clients expect different spellings of its keys. Contract: rules §3.2, clients.
type authorizerInfo struct {
	NickName        string           `json:"nick_name"`
	HeadImg         string           `json:"head_img"`
	ServiceTypeInfo typeID           `json:"service_type_info"`
	VerifyTypeInfo  typeID           `json:"verify_type_info"`
	UserName        string           `json:"user_name"`
	Alias           string           `json:"alias"`
	QRCodeURL       string           `json:"qrcode_url"`
	BusinessInfo    businessInfo     `json:"business_info"`
	IDC             int              `json:"idc"`
	PrincipalName   string           `json:"principal_name"`
	Signature       string           `json:"signature"`
	MiniProgramInfo *miniProgramInfo `json:"MiniProgramInfo,omitempty"`
	RegisterType    int              `json:"register_type"`
	AccountStatus   int              `json:"account_status"`
}

// businessInfo lists abilities of an account that this server does not offer.
type businessInfo struct {
	OpenPay   int `json:"open_pay"`
	OpenShake int `json:"open_shake"`
	OpenScan  int `json:"open_scan"`
	OpenCard  int `json:"open_card"`
	OpenStore int `json:"open_store"`
}

// miniProgramInfo is present for Mini Programs only; platforms recognise Mini Programs by this object.
type miniProgramInfo struct {
	Network struct {
		RequestDomain   []string `json:"RequestDomain"`
		WsRequestDomain []string `json:"WsRequestDomain"`
		UploadDomain    []string `json:"UploadDomain"`
		DownloadDomain  []string `json:"DownloadDomain"`
		BizDomain       []string `json:"BizDomain"`
		UDPDomain       []string `json:"UDPDomain"`
	} `json:"network"`
	Categories  []struct{} `json:"categories"`
	VisitStatus int        `json:"visit_status"`
}

type authorizerInfoReply struct {
	Info          authorizerInfo `json:"authorizer_info"`
	Authorization struct {
		AppID        string     `json:"authorizer_appid"`
		RefreshToken string     `json:"authorizer_refresh_token"`
		Sets         []funcInfo `json:"func_info"`
	} `json:"authorization_info"`
}

// authorizerInfo returns the description of an account to a platform. Contract: rules §3.2.
func (a *API) authorizerInfo(ctx context.Context, c *call, appid string) (any, error) {
	got, err := a.Accounts.Authorization(ctx, c.component, appid)
	if err != nil {
		return nil, err
	}
	reply := authorizerInfoReply{Info: showAuthorizer(got.Account)}
	reply.Authorization.AppID, reply.Authorization.RefreshToken, reply.Authorization.Sets = appid, got.RefreshToken, funcInfos(got.Sets)
	return reply, nil
}

func showAuthorizer(account accounts.Account) authorizerInfo {
	info := authorizerInfo{NickName: account.Name, UserName: account.UserName(), PrincipalName: account.Name, IDC: 1, AccountStatus: 1}
	info.VerifyTypeInfo.ID = -1
	if account.Certified {
		info.VerifyTypeInfo.ID = 0
	}
	switch account.Kind {
	case accounts.ServiceAccount:
		info.ServiceTypeInfo.ID = 2
	case accounts.MiniProgram:
		m := &miniProgramInfo{Categories: []struct{}{}}
		for _, list := range []*[]string{&m.Network.RequestDomain, &m.Network.WsRequestDomain, &m.Network.UploadDomain,
			&m.Network.DownloadDomain, &m.Network.BizDomain, &m.Network.UDPDomain} {
			*list = []string{}
		}
		info.MiniProgramInfo = m
	}
	return info
}
