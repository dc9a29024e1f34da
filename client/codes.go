package client

import (
	"context"
	"time"
)

// CodeRange is a run of the indexes of an application, both ends included.
type CodeRange struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Len returns the number of codes of a range.
func (r CodeRange) Len() int64 { return r.To - r.From + 1 }

// The states of an application for codes.
const (
	ApplicationInit       = "INIT"
	ApplicationProcessing = "PROCESSING"
	ApplicationFinished   = "FINISH" // its codes can be downloaded and activated
)

// Application is an application for codes as the wire shows it.
type Application struct {
	ID        int64       `json:"application_id"`
	ISV       string      `json:"isv_application_id"` // the caller's own number
	Status    string      `json:"status"`
	Segments  []CodeRange `json:"segments"` // what is ready, in the pieces of a download
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
}

// ApplicationKey names an application of the calling account: one of the two
// is enough.
type ApplicationKey struct {
	ID  int64
	ISV string
}

// CodeBinding is the page that the scan of an active code opens, with the activity and product for which it counts.
type CodeBinding struct {
	ActivityName string `json:"activity_name"`
	ProductBrand string `json:"product_brand"`
	ProductTitle string `json:"product_title"`
	ProductCode  string `json:"product_code"` // meant to be an EAN
	WxaAppID     string `json:"wxa_appid"`    // Mini Program that opens
	WxaPath      string `json:"wxa_path"`
	WxaType      int    `json:"wxa_type,omitempty" answer:"optional" minimum:"0" maximum:"2"` // 0 release, 1 development, 2 trial
}

// CodeName names one code: by its text, its nine characters, or application
// and index; the first that is given counts.
type CodeName struct {
	URL   string // the code text
	Code  string // the nine characters
	ID    int64  // application_id
	Index int64
}

func (n CodeName) fields() map[string]any {
	switch {
	case n.URL != "":
		return map[string]any{"code_url": n.URL}
	case n.Code != "":
		return map[string]any{"code": n.Code}
	}
	return map[string]any{"application_id": n.ID, "code_index": n.Index}
}

// BoundCode is a code and what it is bound to, as the wire shows it.
type BoundCode struct {
	Code          string       `json:"code"`
	ApplicationID int64        `json:"application_id"`
	ISV           string       `json:"isv_application_id"`
	Binding       *CodeBinding `json:"binding,omitempty"` // nil: the code is not active
	Activated     *CodeRange   `json:"activated,omitempty"`
}

// ApplyCodes applies for codes under a number that the caller chooses. A second call with the same
// number and count returns the same application; with another count it is a *WireError with 80307.
func (c WireService) ApplyCodes(ctx context.Context, count int64, isv string) (id int64, err error) {
	var reply struct {
		ID int64 `json:"application_id"`
	}
	err = c.call(ctx, "/intp/marketcode/applycode", map[string]any{"code_count": count, "isv_application_id": isv}, &reply)
	return reply.ID, err
}

// GetApplication looks at an application.
func (c WireService) GetApplication(ctx context.Context, key ApplicationKey) (Application, error) {
	body := map[string]any{}
	if key.ID != 0 {
		body["application_id"] = key.ID
	}
	if key.ISV != "" {
		body["isv_application_id"] = key.ISV
	}
	var reply struct {
		// Contract: marketcode 2: samples show status and segments alone.
		Status   string `json:"status"`
		ID       int64  `json:"application_id" answer:"optional"`
		ISV      string `json:"isv_application_id" answer:"optional"`
		Segments []struct {
			From int64 `json:"code_start"`
			To   int64 `json:"code_end"`
		} `json:"code_generate_list" answer:"optional"`
		CreatedAt int64 `json:"create_time" answer:"optional"`
		UpdatedAt int64 `json:"update_time" answer:"optional"`
	}
	if err := c.call(ctx, "/intp/marketcode/applycodequery", body, &reply); err != nil {
		return Application{}, err
	}
	a := Application{ID: reply.ID, ISV: reply.ISV, Status: reply.Status, Segments: []CodeRange{},
		CreatedAt: time.Unix(reply.CreatedAt, 0).UTC(), UpdatedAt: time.Unix(reply.UpdatedAt, 0).UTC()}
	for _, s := range reply.Segments {
		a.Segments = append(a.Segments, CodeRange{s.From, s.To})
	}
	return a, nil
}

// ActivateCodes binds a range of an application to a page, at once. Activating exactly the same
// range again replaces its binding. Another range that overlaps it is a *WireError with 80302,
// unless the server's settings let the last call win.
func (c WireService) ActivateCodes(ctx context.Context, id int64, r CodeRange, b CodeBinding) error {
	return c.call(ctx, "/intp/marketcode/codeactive", map[string]any{"application_id": id, "code_start": r.From, "code_end": r.To,
		"activity_name": b.ActivityName, "product_brand": b.ProductBrand, "product_title": b.ProductTitle, "product_code": b.ProductCode,
		"wxa_appid": b.WxaAppID, "wxa_path": b.WxaPath, "wxa_type": b.WxaType}, nil)
}

// GetCode says what a code of the calling account is bound to. A code that is not active is a
// *WireError with 80304, unless the server's settings say otherwise.
func (c WireService) GetCode(ctx context.Context, name CodeName) (BoundCode, error) {
	return c.boundCode(ctx, "/intp/marketcode/codeactivequery", name.fields())
}

// ExchangeTicket trades the ticket of a scan for the code. The openid is that of
// the user who scanned, under the service account or the Mini Program.
func (c WireService) ExchangeTicket(ctx context.Context, openid, ticket string) (BoundCode, error) {
	return c.boundCode(ctx, "/intp/marketcode/tickettocode", map[string]any{"openid": openid, "code_ticket": ticket})
}

func (c *transport) boundCode(ctx context.Context, path string, body map[string]any) (BoundCode, error) {
	var reply struct {
		// Contract: marketcode 2: one form of the answer of tickettocode lacks the two ids.
		Code          string `json:"code"`
		ApplicationID int64  `json:"application_id" answer:"optional"`
		ISV           string `json:"isv_application_id" answer:"optional"`
		CodeBinding   `answer:"optional"`
		From          *int64 `json:"code_start"` // nil: the code is not active
		To            int64  `json:"code_end" answer:"optional"`
	}
	if err := c.call(ctx, path, body, &reply); err != nil {
		return BoundCode{}, err
	}
	b := BoundCode{Code: reply.Code, ApplicationID: reply.ApplicationID, ISV: reply.ISV}
	if reply.From != nil {
		b.Binding, b.Activated = &reply.CodeBinding, &CodeRange{*reply.From, reply.To}
	}
	return b, nil
}
