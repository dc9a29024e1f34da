package api

import (
	"context"

	"github.com/qrjump/qrjump/internal/domain/codes"
)

func readActivation(f *fields) (codes.Activation, error) {
	wxaType, _ := f.number("wxa_type")
	return codes.Activation{Batch: f.requireBatchID(), Range: f.codeRange(), Binding: codes.Binding{
		ActivityName: f.text("activity_name"), ProductBrand: f.text("product_brand"), ProductTitle: f.text("product_title"),
		ProductCode: f.textOrNumber("product_code"), WxaAppID: f.text("wxa_appid"), WxaPath: f.text("wxa_path"), WxaType: wxaType,
	}}, f.err
}

// activateCodes activates a range of codes and binds the codes to a Mini Program page. Contract: marketcode §3.4.
func (a *API) activateCodes(ctx context.Context, c *call, activation codes.Activation) (any, error) {
	return success, a.Codes.Activate(ctx, c.caller, activation)
}
