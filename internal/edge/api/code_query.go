package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/codes"
)

// codeReply is a code with its binding; the binding is omitted if the code is not active. Contract: marketcode §3.5, §3.6.
type codeReply struct {
	envelope
	Code             string `json:"code"`
	ApplicationID    int64  `json:"application_id"`
	ISVApplicationID string `json:"isv_application_id"`
	*bindingReply
}

type bindingReply struct {
	ActivityName string `json:"activity_name"`
	ProductBrand string `json:"product_brand"`
	ProductTitle string `json:"product_title"`
	ProductCode  string `json:"product_code"`
	WxaAppID     string `json:"wxa_appid"`
	WxaPath      string `json:"wxa_path"`
	WxaType      int    `json:"wxa_type"`
	CodeStart    int64  `json:"code_start"`
	CodeEnd      int64  `json:"code_end"`
}

func showCode(f codes.Found) codeReply {
	reply := codeReply{envelope: success, Code: f.Code, ApplicationID: f.Batch.ID, ISVApplicationID: f.Batch.ISV}
	if event := f.State.Activation; event != nil {
		b, r := event.Binding, event.Activated()
		reply.bindingReply = &bindingReply{ActivityName: b.ActivityName, ProductBrand: b.ProductBrand, ProductTitle: b.ProductTitle,
			ProductCode: b.ProductCode, WxaAppID: b.WxaAppID, WxaPath: b.WxaPath, WxaType: b.WxaType, CodeStart: r.From, CodeEnd: r.To}
	}
	return reply
}

func readCodeName(f *fields) (codes.CodeName, error) {
	name := codes.CodeName{URL: f.text("code_url"), Code: f.textOrNumber("code"), ID: f.batchID()}
	index, given := f.number("code_index")
	name.Index, name.HasIndex = int64(index), given
	if !given && name.ID != 0 && name.URL == "" && name.Code == "" && !f.settings.Refuses(behaviour.CodesQueryIndexTaken) {
		f.notes.Add(behaviour.CodesQueryIndexTaken)
		name.HasIndex = true
	}
	return name, f.err
}

// queryCode returns the page to which a code is bound. Contract: marketcode §3.5.
func (a *API) queryCode(ctx context.Context, c *call, name codes.CodeName) (any, error) {
	found, err := a.Codes.Get(ctx, c.caller, name)
	if err == nil && found.State.Activation == nil && !a.isAllowed(c, behaviour.CodesQueryBare) {
		// the code itself must not be logged, so the detail names its index
		err = errcode.CodeNotActive.WithDetail(behaviour.CodesQueryInactive,
			"code_index %d of application_id %d is not active", found.Index,
			found.Batch.ID)
	}
	if err != nil {
		return nil, err
	}
	return showCode(found), nil
}
