package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

type listLinksReply struct {
	envelope
	Wxopens struct {
		Items []linkItem `json:"items"`
	} `json:"wxopens"`
}

type linkItem struct {
	Status              accounts.LinkStatus `json:"status"`
	UserName            string              `json:"username"`
	AppID               string              `json:"appid"`
	Source              string              `json:"source"`
	Nickname            string              `json:"nickname"`
	Selected            int                 `json:"selected"`
	NearbyDisplayStatus int                 `json:"nearby_display_status"`
	Released            int                 `json:"released"`
	HeadImgURL          string              `json:"headimg_url"`
	FuncInfos           []linkAbility       `json:"func_infos"`
	FuncInfo            []linkAbility       `json:"func_info"` // Contract: clients: one client reads this field name
	CopyVerifyStatus    int                 `json:"copy_verify_status"`
	Email               string              `json:"email"`
}

type linkAbility struct {
	ID     int    `json:"id"`
	Status int    `json:"status"`
	Name   string `json:"name"`
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// listLinks returns the Mini Programs that are linked with the calling service account, including pending links. Fields for
// features that this server lacks (pictures, mail addresses, payment, a nearby list) are empty or 0. Contract: rules §3.4.
func (a *API) listLinks(ctx context.Context, c *call, _ *fields) (any, error) {
	list, err := a.Accounts.LinkedPrograms(ctx, c.caller.AppID)
	if err != nil {
		return nil, err
	}
	reply := listLinksReply{envelope: success}
	reply.Wxopens.Items = []linkItem{}
	for _, l := range list {
		abilities := []linkAbility{{1, bit(l.Program.Certified), "微信认证"}, {2, 0, "微信支付"}}
		reply.Wxopens.Items = append(reply.Wxopens.Items, linkItem{
			Status: l.Status, UserName: l.Program.UserName(), AppID: l.MiniProgram, Source: "SOURCE_NORMAL", Nickname: l.Program.Name,
			Selected: bit(l.ShowProfile), Released: bit(l.Program.Has(accounts.Release)), FuncInfos: abilities, FuncInfo: abilities,
		})
	}
	return reply, nil
}
