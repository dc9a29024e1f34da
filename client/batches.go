package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Batch is an application for codes in the operator's view.
type Batch struct {
	ID        int64     `json:"application_id"`
	Account   string    `json:"account"`
	ISV       string    `json:"isv_application_id"`
	Count     int64     `json:"code_count"`
	Status    string    `json:"status"`
	Prefix    string    `json:"prefix"`
	Version   string    `json:"version"`
	Segment   int64     `json:"segment"` // Number of codes per download.
	Text      string    `json:"text,omitempty" doc:"how its texts are written; none = prefix and secret"`
	TextBits  int       `json:"text_bits,omitempty" doc:"what such a text costs to guess, in bits"`
	Weak      bool      `json:"weak,omitempty" doc:"such a text costs less than 40 bits to guess, so it never shows that a product is genuine"`
	QRVersion int       `json:"qr_version" doc:"the smallest QR version that holds a code text at level Q"`
	Proof     bool      `json:"proof,omitempty" doc:"codes for a printer's trials: they never activate"`
	Imported  bool      `json:"imported,omitempty" doc:"its codes were made elsewhere"`
	Arrived   int64     `json:"arrived,omitempty" doc:"of an imported batch: how many of its codes are here"`
	CreatedAt time.Time `json:"created_at"`
	Frozen    int64     `json:"frozen" minimum:"0"`
	Void      int64     `json:"void" minimum:"0"`
	Redeemed  int64     `json:"redeemed" minimum:"0"`
	Revised
}

// BatchQuery selects applications for codes, of one account or of all accounts.
type BatchQuery struct {
	Account string `query:"account"` // "" = any
	Idle    int    `query:"idle" minimum:"0" maximum:"3660" doc:"only those of which no code is active so many days after the application, proofs left out"`
	After   int64  `query:"after" minimum:"0"`                              // ID of the last application of the previous page.
	Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"` // A Limit of 0 selects the server's default page size.
}

// BatchList is a page of applications.
type BatchList struct {
	Batches []Batch `json:"batches"`
}

// List lists applications of all accounts, oldest first.
func (c BatchesService) List(ctx context.Context, q BatchQuery) ([]Batch, error) {
	reply, err := get[BatchList](ctx, c.transport, withQuery("batches", paramsOf(q)))
	return reply.Batches, err
}

// Get returns one application, or a *Problem with status 404 if the application does not exist.
func (c BatchesService) Get(ctx context.Context, id int64) (Batch, error) {
	return get[Batch](ctx, c.transport, batchPath(id, ""))
}

func batchPath(id int64, kind string) string {
	path := "batches/" + strconv.FormatInt(id, 10)
	if kind != "" {
		path += "/" + kind
	}
	return path
}

// CodeSelection selects codes of a batch; a code that is selected in several ways counts once.
type CodeSelection struct {
	All    bool        `json:"all,omitempty" doc:"the whole batch"`
	Ranges []CodeRange `json:"ranges,omitempty" maxItems:"100000"`
	Codes  []string    `json:"codes,omitempty" maxItems:"100000" doc:"original codes or code texts"`
}

// The operator actions on codes.
const (
	Freeze   = "freeze"
	Unfreeze = "unfreeze"
	Void     = "void"   // for ever
	Redeem   = "redeem" // For a single code that has been redeemed already, Redeem results in a *Problem with status 409.
)

// CodeChange is an operator's change of codes, with the actor and the reason for the history of the codes. An empty Actor means
// "admin".
type CodeChange struct {
	CodeSelection
	Actor string `json:"actor,omitempty" doc:"who did it, for the history; left out: admin"`
	Note  string `json:"note,omitempty"`
}

// CodesChanged is the result of a change of codes.
type CodesChanged struct {
	Codes   int64  `json:"codes" doc:"how many codes were named"`
	Changed int64  `json:"changed" doc:"how many of them this changes; the others are so already. Of a schedule: as things stand now"`
	Warning string `json:"warning,omitempty"`
}

// Update freezes, unfreezes, voids or redeems codes. If some of several codes have been redeemed already, only the remaining codes
// are redeemed; compare the counts in the result.
func (c CodesService) Update(ctx context.Context, id int64, did string, change CodeChange) (CodesChanged, error) {
	return post[CodesChanged](ctx, c.transport, batchPath(id, "states"), struct {
		CodeChange
		Action string `json:"action"`
	}{change, did})
}

// Deactivate deactivates codes at the time t; the zero time means immediately.
func (c CodesService) Deactivate(ctx context.Context, id int64, t time.Time, change CodeChange) (CodesChanged, error) {
	return post[CodesChanged](ctx, c.transport, batchPath(id, "withdrawals"), struct {
		CodeChange
		At time.Time `json:"effective_at,omitzero"`
	}{change, t})
}

// Schedule activates a range of codes for a page from a time on; the zero time means immediately. actor and note are recorded in
// the history of the codes; an empty actor means admin. If the range overlaps codes that another range has activated, the result is
// a *Problem with status 409.
func (c CodesService) Schedule(ctx context.Context, id int64, r CodeRange, b CodeBinding, t time.Time,
	actor, note string) (CodesChanged, error) {
	return post[CodesChanged](ctx, c.transport, batchPath(id, "activations"), struct {
		From    int64       `json:"code_start"`
		To      int64       `json:"code_end"`
		Binding CodeBinding `json:"binding"`
		At      time.Time   `json:"effective_at,omitzero"`
		Actor   string      `json:"actor,omitempty"`
		Note    string      `json:"note,omitempty"`
	}{r.From, r.To, b, t, actor, note})
}

// CodeEventList is a page of events of codes.
type CodeEventList struct {
	Events []CodeEvent `json:"events"`
}

// ListEvents lists at most limit events of a batch's codes after the event start, oldest first; limit 0 selects the server's
// default page size. The list includes scheduled events. If the batch does not exist, the result is a *Problem with status 404.
func (c CodesService) ListEvents(ctx context.Context, id, start int64, limit int) ([]CodeEvent, error) {
	reply, err := get[CodeEventList](ctx, c.transport, withQuery(batchPath(id, "events"), params{"after": start, "limit": limit}))
	return reply.Events, err
}

// CodesRetargeted is the result of a re-target.
type CodesRetargeted struct {
	CodesChanged     // Changed counts the codes that are active, now or by a schedule.
	Activations  int `json:"activations" doc:"how many activations were renewed"`
}

// Retarget changes the page of the active codes in a range. wxaType has the same values as in CodeBinding.
func (c CodesService) Retarget(ctx context.Context, id int64, r CodeRange, appid, page string, wxaType int,
	actor string) (CodesRetargeted, error) {
	body := map[string]any{"code_start": r.From, "code_end": r.To, "wxa_appid": appid, "wxa_path": page, "wxa_type": wxaType}
	if actor != "" {
		body["actor"] = actor
	}
	return post[CodesRetargeted](ctx, c.transport, batchPath(id, "retarget"), body)
}

// StoredCode is a code with its state and history.
type StoredCode struct {
	ApplicationID int64       `json:"application_id"`
	CodeIndex     int64       `json:"code_index"`
	Code          string      `json:"code"`
	CodeURL       string      `json:"code_url"` // the code text
	Serial        string      `json:"serial,omitempty" doc:"the brand's own number of it"`
	Active        bool        `json:"active"`
	Frozen        bool        `json:"frozen"`
	Void          bool        `json:"void"`
	Redeemed      bool        `json:"redeemed"`
	Activation    *CodeEvent  `json:"activation,omitempty"` // The activation in effect; nil if the code is not active.
	History       []CodeEvent `json:"history" doc:"what happened to it, newest first"`
	// Alarms lists the open alarms about the code.
	Alarms []OpenAlarm `json:"alarms,omitempty" answer:"optional" doc:"of it, that nobody dismissed"`
}

// OpenAlarm is an alarm that has not been dismissed, in the form that is shown with its code.
type OpenAlarm struct {
	ID             int64         `json:"id"`
	Kind           string        `json:"kind"`
	OccurredAt     time.Time     `json:"occurred_at" doc:"of the scan that gave rise to it"`
	Score          int64         `json:"score"`
	Reasons        []AlarmReason `json:"reasons" doc:"what gave rise to it, for people, the heaviest first"`
	AcknowledgedAt *time.Time    `json:"acknowledged_at,omitempty"`
	AcknowledgedBy string        `json:"acknowledged_by,omitempty"`
}

// CodeEvent is an event in the history of codes.
type CodeEvent struct {
	Seq         int64        `json:"seq"`
	Action      string       `json:"action"` // Action is activate, withdraw, or one of the four state changes.
	Ranges      []CodeRange  `json:"ranges" doc:"at most 100 are shown"`
	Codes       int64        `json:"codes" doc:"how many"`
	Binding     *CodeBinding `json:"binding,omitempty"`
	OccurredAt  time.Time    `json:"occurred_at"`
	EffectiveAt time.Time    `json:"effective_at" doc:"when it takes effect"`
	Actor       string       `json:"actor"`
	RID         string       `json:"rid,omitempty"`
	Note        string       `json:"note,omitempty"`
	Warning     string       `json:"warning,omitempty"`
}

// Get returns a code of any account.
func (c CodesService) Get(ctx context.Context, name CodeName) (StoredCode, error) {
	return post[StoredCode](ctx, c.transport, "codes/lookup", name.fields())
}

// OpenID is the identifier of a user under one account.
type OpenID struct {
	OpenID string `json:"openid"`
}

// GetOpenID returns the openid of a user under an account. namespace is the namespace of the scan key with which the user scans; ""
// means default.
func (c AccountsService) GetOpenID(ctx context.Context, appid, user, namespace string) (string, error) {
	reply, err := get[OpenID](ctx, c.transport, withQuery("users/"+url.PathEscape(user)+"/openid",
		params{"appid": appid, "namespace": namespace}))
	return reply.OpenID, err
}

// SerialBinding assigns the brand's own serial number to a code. A SerialBinding identifies the code by its index, its nine
// characters or its text.
type SerialBinding struct {
	Index   *int64 `json:"code_index,omitempty" minimum:"0"`
	Code    string `json:"code,omitempty"`
	CodeURL string `json:"code_url,omitempty"`
	Serial  string `json:"serial" doc:"1 to 128 characters"`
}

// MaxSerials is the maximum number of serial numbers in one call of BindSerials.
const MaxSerials = 10_000

// BindSerials assigns the brand's own serial numbers to codes of a batch, either all of them or none. A repeated call with the same
// data changes nothing. A *Problem with status 409 means that a code has another serial number and replace is false, or that
// another code has the serial number.
func (c CodesService) BindSerials(ctx context.Context, batch int64, serials []SerialBinding, replace bool,
	actor string) (CodesChanged, error) {
	body := map[string]any{"serials": serials}
	if replace {
		body["replace"] = true
	}
	if actor != "" {
		body["actor"] = actor
	}
	return put[CodesChanged](ctx, c.transport, batchPath(batch, "serials"), body)
}

// NewImport is a batch for codes that another system produced.
type NewImport struct {
	ISV    string `json:"isv_application_id" doc:"1 to 128 characters; the same again is the same application"`
	ID     int64  `json:"application_id,omitempty" minimum:"0" doc:"the one that it had; left out: it gets one"`
	Count  int64  `json:"code_count" minimum:"1" doc:"how many codes will come"`
	Prefix string `json:"prefix,omitempty" doc:"what each code text begins with, before its last 19 characters; left out where text says it"`
	Text   string `json:"text,omitempty" maxLength:"2048" doc:"as in an order, or a URL with {token:N}; none = prefix and 19 characters"`
	GTIN   string `json:"gtin,omitempty" maxLength:"14" doc:"for {gtin}"`
	Given  string `json:"given,omitempty" maxLength:"64" doc:"for {given:N}"`
	Weak   bool   `json:"weak,omitempty" doc:"take a text that costs less than 40 bits to guess"`
	Actor  string `json:"actor,omitempty"`
}

// CreateImport creates a batch for codes that another system produced, or returns the existing batch from an earlier call with the
// same data. A *Problem with status 409 means that the account used the ISV number for another application, or that the ID belongs
// to another application.
func (c BatchesService) CreateImport(ctx context.Context, account string, n NewImport) (Batch, error) {
	return post[Batch](ctx, c.transport, "accounts/"+url.PathEscape(account)+"/imported-batches", n)
}

// CodesImported is the result of ImportCodes.
type CodesImported struct {
	Lines     int64 `json:"lines" doc:"that were read"`
	Added     int64 `json:"added" doc:"of them; the others were here already, and equal"`
	Available int64 `json:"available" doc:"how many codes of the application are here now"`
}

// MaxImportLines is the maximum number of lines in one call of ImportCodes.
const MaxImportLines = 50_000

// ImportCodes imports codes that another system produced; each line has the four columns of a wire API download, lines are in index
// order, and the call imports all lines or none. Lines that have been imported already change nothing. first is the line number of
// the first line in the source file; a *Problem with status 422 names the invalid line.
func (c BatchesService) ImportCodes(ctx context.Context, batch, first int64, actor string, lines io.Reader) (done CodesImported,
	err error) {
	r := request{method: http.MethodPut, path: "/admin/v1/" + batchPath(batch, "imported-codes"), contentType: "text/plain",
		query: params{"line": first, "actor": actor}.values()}
	err = c.sendLines(ctx, r, lines, &done)
	return done, err
}

// ImportTexts imports codes of a batch whose text has {token:N}: each line is the text of a code, as it is printed, and the first has
// the index start. Otherwise ImportTexts is ImportCodes.
func (c BatchesService) ImportTexts(ctx context.Context, batch, first, start int64, actor string, lines io.Reader) (done CodesImported,
	err error) {
	r := request{method: http.MethodPut, path: "/admin/v1/" + batchPath(batch, "imported-codes"), contentType: "text/plain",
		query: params{"line": first, "code_start": start, "actor": actor}.values()}
	err = c.sendLines(ctx, r, lines, &done)
	return done, err
}

// ImportToUndo selects codes that were imported by mistake.
type ImportToUndo struct {
	From  int64  `json:"code_start" minimum:"0"`
	To    int64  `json:"code_end" minimum:"0"`
	Note  string `json:"note,omitempty"`
	Actor string `json:"actor,omitempty"`
}

// ImportUndone reports the effect of a call of Batches.UndoImport.
type ImportUndone struct {
	Removed   int64 `json:"removed" doc:"codes that were taken back"`
	Available int64 `json:"available" doc:"codes of the application that are still here; 0 after its whole range: the application is gone"`
	More      bool  `json:"more" doc:"codes of the range are still here: call again"`
}

// UndoImport removes codes that were imported by mistake, some thousand per call; repeat the call while More is true. If the
// application has other events than imports, the result is a *Problem with status 409.
func (c BatchesService) UndoImport(ctx context.Context, batch int64, w ImportToUndo) (ImportUndone, error) {
	return post[ImportUndone](ctx, c.transport, batchPath(batch, "take-back"), w)
}
