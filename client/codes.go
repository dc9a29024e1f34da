package client

import (
	"context"
	"io"
	"regexp"
	"strconv"
	"time"
)

// CodeRange is a range of code indexes of an application, both ends included.
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
	ApplicationFinished   = "FINISH" // The codes of the application can be downloaded and activated.
)

// Application is an application for codes in the wire API's format.
type Application struct {
	ID        int64       `json:"application_id"`
	ISV       string      `json:"isv_application_id"` // The caller's own number for the application.
	Status    string      `json:"status"`
	Segments  []CodeRange `json:"segments"` // Ranges of available codes; one download is within one range.
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
}

// ApplicationKey identifies an application of the calling account; one of the two fields is sufficient.
type ApplicationKey struct {
	ID  int64
	ISV string
}

// CodeBinding is the page that an active code opens, with the activity and product for which its scans are counted.
type CodeBinding struct {
	ActivityName string `json:"activity_name"`
	ProductBrand string `json:"product_brand"`
	ProductTitle string `json:"product_title"`
	ProductCode  string `json:"product_code"` // Product code, intended for an EAN.
	WxaAppID     string `json:"wxa_appid"`    // The Mini Program that the code opens.
	WxaPath      string `json:"wxa_path"`
	WxaType      int    `json:"wxa_type,omitempty" answer:"optional" minimum:"0" maximum:"2"` // WxaType is 0 for release, 1 for development, 2 for trial.
}

// CodeName identifies one code: by its text, its nine characters, or its application and index; the first non-empty field is used.
type CodeName struct {
	URL   string // the code text
	Code  string // the nine characters
	ID    int64  // application_id
	Index int64
}

var (
	indexName    = regexp.MustCompile(`^([0-9]{1,18}):([0-9]{1,18})$`)
	originalCode = regexp.MustCompile(`^[0-9A-Za-z]{9}$`)
)

// ParseCodeName parses a code name that a user typed: APPLICATION:INDEX, the nine characters, or the code text; "" gives the zero CodeName.
func ParseCodeName(text string) CodeName {
	if m := indexName.FindStringSubmatch(text); m != nil {
		id, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits fit
		index, _ := strconv.ParseInt(m[2], 10, 64)
		return CodeName{ID: id, Index: index}
	}
	if originalCode.MatchString(text) {
		return CodeName{Code: text}
	}
	return CodeName{URL: text}
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

// BoundCode is a code and its binding, in the wire API's format.
type BoundCode struct {
	Code          string       `json:"code"`
	ApplicationID int64        `json:"application_id"`
	ISV           string       `json:"isv_application_id"`
	Binding       *CodeBinding `json:"binding,omitempty"` // Binding is nil if the code is not active.
	Activated     *CodeRange   `json:"activated,omitempty"`
}

// ApplyCodes applies for codes under an application number that the caller chooses. A second call with the same number and count
// returns the same application; another count returns a *WireError with 80307.
func (c WireService) ApplyCodes(ctx context.Context, count int64, isv string) (id int64, err error) {
	var reply struct {
		ID int64 `json:"application_id"`
	}
	err = c.call(ctx, "/intp/marketcode/applycode", map[string]any{"code_count": count, "isv_application_id": isv}, &reply)
	return reply.ID, err
}

// GetApplication returns an application.
func (c WireService) GetApplication(ctx context.Context, key ApplicationKey) (Application, error) {
	body := map[string]any{}
	if key.ID != 0 {
		body["application_id"] = key.ID
	}
	if key.ISV != "" {
		body["isv_application_id"] = key.ISV
	}
	var reply struct {
		// Contract: marketcode §2: the documented samples contain only status and segments.
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

// ActivateCodes binds a range of an application's codes to a page immediately. A second call for exactly the same range replaces
// its binding. If the range overlaps a different active range, the result is a *WireError with 80302, unless a setting of the
// server makes the last call win.
func (c WireService) ActivateCodes(ctx context.Context, id int64, r CodeRange, b CodeBinding) error {
	return c.call(ctx, "/intp/marketcode/codeactive", map[string]any{"application_id": id, "code_start": r.From, "code_end": r.To,
		"activity_name": b.ActivityName, "product_brand": b.ProductBrand, "product_title": b.ProductTitle, "product_code": b.ProductCode,
		"wxa_appid": b.WxaAppID, "wxa_path": b.WxaPath, "wxa_type": b.WxaType}, nil)
}

// GetCode returns the binding of a code of the calling account. For a code that is not active, the result is a *WireError with
// 80304, unless a setting of the server changes this result.
func (c WireService) GetCode(ctx context.Context, name CodeName) (BoundCode, error) {
	return c.boundCode(ctx, "/intp/marketcode/codeactivequery", name.fields())
}

// ExchangeTicket exchanges the ticket of a scan for the code. openid identifies the user of the scan under the service account or
// the Mini Program.
func (c WireService) ExchangeTicket(ctx context.Context, openid, ticket string) (BoundCode, error) {
	return c.boundCode(ctx, "/intp/marketcode/tickettocode", map[string]any{"openid": openid, "code_ticket": ticket})
}

func (c *transport) boundCode(ctx context.Context, path string, body map[string]any) (BoundCode, error) {
	var reply struct {
		// Contract: marketcode §2: one variant of the tickettocode response lacks application_id and isv_application_id.
		Code          string `json:"code"`
		ApplicationID int64  `json:"application_id" answer:"optional"`
		ISV           string `json:"isv_application_id" answer:"optional"`
		CodeBinding   `answer:"optional"`
		From          *int64 `json:"code_start"` // From is nil if the code is not active.
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

// CodeRun is a range of consecutive codes with the same state.
type CodeRun struct {
	CodeRange
	Active     bool         `json:"active"`
	Frozen     bool         `json:"frozen"`
	Void       bool         `json:"void"`
	Redeemed   bool         `json:"redeemed"`
	Activation int64        `json:"activation,omitempty" answer:"optional" doc:"seq of the activation event that applies to the run"`
	Binding    *CodeBinding `json:"binding,omitempty" answer:"optional"` // Binding is nil if the codes are not active.
	OpenAlarms []int64      `json:"open_alarms,omitempty" answer:"optional" doc:"indexes of the codes with an open alarm, that is, not dismissed"`
}

// CodeRunQuery selects a range of codes.
type CodeRunQuery struct {
	From  int64 `query:"from" minimum:"0"`
	To    int64 `query:"to" default:"-1" minimum:"-1" doc:"last code_index; -1: the last of the application"`
	Limit int   `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

// CodeRuns contains the states of the codes in a range.
type CodeRuns struct {
	Runs []CodeRun `json:"runs" doc:"runs in index order, without gaps"`
	More bool      `json:"more" doc:"whether the range has more runs; continue after the last index"`
}

// ListRuns returns the current states of the codes in a range; a To of 0 means the end of the application. ListRuns returns at most
// limit ranges (CodeRun), and sets More if ranges are left over; limit 0 selects the server's default page size.
func (c CodesService) ListRuns(ctx context.Context, id int64, r CodeRange, limit int) (CodeRuns, error) {
	return OpListCodeRuns.call(ctx, c.transport, CodeRunQuery{r.From, r.To, limit}, id)
}

// CodeQuery selects a range of at most 50,000 codes.
type CodeQuery struct {
	From int64 `query:"from" minimum:"0"`
	To   int64 `query:"to" minimum:"0" doc:"last code_index"`
}

// Export writes the codes of a range, at most 50,000, to w as CSV: index, code and code text. After an error, the CSV is incomplete.
func (c CodesService) Export(ctx context.Context, id int64, r CodeRange, w io.Writer) error {
	return c.pour(ctx, OpListCodes.request(c.transport, CodeQuery(r), id), "text/csv", w)
}
