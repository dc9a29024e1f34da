package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

// ruleReply is one rule in a response; the last three fields are present only for ordinary rules, not for a service account's rules.
// Contract: rules §1.3.
type ruleReply struct {
	Prefix        string    `json:"prefix"`
	Path          string    `json:"path"`
	State         int       `json:"state"`
	PermitSubRule int       `json:"permit_sub_rule,omitempty"`
	OpenVersion   int       `json:"open_version,omitempty"`
	DebugURL      *[]string `json:"debug_url,omitempty"`
}

type listRulesReply struct {
	envelope
	RuleList           []ruleReply `json:"rule_list"`
	QRCodeJumpOpen     int         `json:"qrcodejump_open"`
	ListSize           int         `json:"list_size"`
	QRCodeJumpPubQuota int         `json:"qrcodejump_pub_quota"`
	TotalCount         int         `json:"total_count"`
}

func readListRules(f *fields) (rules.ListRequest, error) {
	var req rules.ListRequest
	req.Type, _ = f.number("get_type")
	if req.Type == rules.ListPrefixes {
		req.Prefixes, _ = f.texts("prefix_list")
	}
	if req.Type == rules.ListPage {
		req.Page, _ = f.number("page_num")
		req.PageSize, _ = f.number("page_size")
	}
	return req, f.err
}

// listRules returns the caller's rules. Contract: rules §1.3.
func (a *API) listRules(ctx context.Context, c *call, f *fields) (any, error) {
	appid := f.targetAppID(c.caller.Kind)
	req, err := readListRules(f)
	if err != nil {
		return nil, err
	}
	req.AppID = appid
	list, err := a.Rules.List(ctx, c.caller, req)
	if err != nil {
		return nil, err
	}
	reply := listRulesReply{envelope: success, RuleList: make([]ruleReply, 0, len(list.Rules)), ListSize: len(list.Rules),
		QRCodeJumpOpen: bit(list.Open), QRCodeJumpPubQuota: list.PublishesLeft, TotalCount: list.Total}
	for _, r := range list.Rules {
		item := ruleReply{Prefix: r.Prefix.Text, Path: r.Path, State: r.State()}
		if r.Kind == rules.Ordinary {
			links := append([]string{}, r.TestLinks...)
			item.PermitSubRule, item.OpenVersion, item.DebugURL = 1+bit(r.Occupy), r.OpenVersion, &links
		}
		reply.RuleList = append(reply.RuleList, item)
	}
	return reply, nil
}
