package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/qrjump/qrjump/internal/accounts"
	"github.com/qrjump/qrjump/internal/codes"
	"github.com/qrjump/qrjump/internal/errcode"
)

// batch is an application for codes as an operator sees it.
type batch struct {
	ID        int64        `json:"application_id"`
	Account   string       `json:"account"`
	ISV       string       `json:"isv_application_id"`
	Count     int64        `json:"code_count"`
	Status    codes.Status `json:"status"`
	Prefix    string       `json:"prefix"`
	Version   string       `json:"version"`
	Segment   int64        `json:"segment"`
	QRVersion int          `json:"qr_version" doc:"the smallest QR version that holds a code text at level Q"`
	CreatedAt time.Time    `json:"created_at"`
	Frozen    uint64       `json:"frozen"`
	Void      uint64       `json:"void"`
	Redeemed  uint64       `json:"redeemed"`
}

type binding struct {
	ActivityName string `json:"activity_name"`
	ProductBrand string `json:"product_brand"`
	ProductTitle string `json:"product_title"`
	ProductCode  string `json:"product_code"`
	WxaAppID     string `json:"wxa_appid"`
	WxaPath      string `json:"wxa_path"`
	WxaType      int    `json:"wxa_type,omitempty" minimum:"0" maximum:"2"`
}

// codeEvent is one thing that happened to codes.
type codeEvent struct {
	Seq     int64         `json:"seq"`
	Did     codes.Did     `json:"did"`
	Ranges  []codes.Range `json:"ranges" doc:"at most 100 are shown"`
	Codes   int64         `json:"codes" doc:"how many"`
	Binding *binding      `json:"binding,omitempty"`
	At      time.Time     `json:"at"`
	From    time.Time     `json:"from" doc:"when it takes effect"`
	Actor   string        `json:"actor"`
	RID     string        `json:"rid,omitempty"`
	Note    string        `json:"note,omitempty"`
	Warning string        `json:"warning,omitempty"`
}

const noGTIN = "product_code is no EAN or GTIN with a right check digit"

// acting is the context of changes that the operator makes in somebody's name.
func acting(ctx context.Context, name string) context.Context {
	return accounts.By(ctx, accounts.Author{Actor: cmp.Or(name, "admin")})
}

func showEvent(e codes.Event) codeEvent {
	shown := codeEvent{Seq: e.Seq, Did: e.Did, Ranges: e.Codes[:min(len(e.Codes), 100)], Codes: e.Codes.Len(), At: e.At, From: e.From, Actor: e.Actor, RID: e.RID, Note: e.Note}
	if e.Did == codes.Activate {
		b := binding(e.Binding)
		shown.Binding = &b
		if !codes.ValidGTIN(b.ProductCode) {
			shown.Warning = noGTIN
		}
	}
	return shown
}

type code struct {
	ApplicationID int64       `json:"application_id"`
	CodeIndex     int64       `json:"code_index"`
	Code          string      `json:"code"`
	CodeURL       string      `json:"code_url"`
	Active        bool        `json:"active"`
	Frozen        bool        `json:"frozen"`
	Void          bool        `json:"void"`
	Redeemed      bool        `json:"redeemed"`
	Activation    *codeEvent  `json:"activation,omitempty"`
	History       []codeEvent `json:"history" doc:"what happened to it, newest first"`
}

type BatchPath struct {
	ID int64 `path:"application_id" minimum:"1"`
}

// CodeSelection names codes of a batch. Exported because huma sees no embedded
// field that is not; so is BatchPath.
type CodeSelection struct {
	All    bool          `json:"all,omitempty" doc:"the whole batch"`
	Ranges []codes.Range `json:"ranges,omitempty" maxItems:"100000"`
	Codes  []string      `json:"codes,omitempty" maxItems:"100000" doc:"original codes or code texts"`
}

// selected turns a selection into a set of indexes.
func (a *Admin) selected(ctx context.Context, b codes.Batch, s CodeSelection) (codes.Set, error) {
	var ranges []codes.Range
	if s.All {
		ranges = append(ranges, codes.Range{From: 0, To: b.Count - 1})
	}
	for _, r := range s.Ranges {
		if err := b.Within(r); err != nil {
			return nil, err
		}
		ranges = append(ranges, r)
	}
	for i, text := range s.Codes {
		name := codes.CodeName{URL: text, ID: b.ID}
		if len(text) == codes.CodeLength {
			name = codes.CodeName{Code: text, ID: b.ID}
		}
		f, err := a.Codes.Find(ctx, name)
		// Which of them, by its place: the code itself is not for logs.
		if code, detail := errcode.Of(err); code == errcode.CodeMalformed {
			return nil, accounts.Invalid(fmt.Sprintf("codes[%d]: %s", i, detail))
		}
		if err != nil {
			return nil, err
		}
		if f.Batch.ID != b.ID {
			return nil, accounts.Invalid(fmt.Sprintf("codes[%d] is of another application", i))
		}
		ranges = append(ranges, codes.Range{From: f.Index, To: f.Index})
	}
	return codes.NewSet(ranges...), nil
}

func (a *Admin) showBatch(b codes.Batch) batch {
	now := a.Codes.Now()
	counts := a.Codes.Memory.Counts(b.ID, now)
	return batch{ID: b.ID, Account: b.Account, ISV: b.ISV, Count: b.Count, Status: b.Status(now, a.Codes.Takes()), Prefix: b.Prefix,
		Version: string(b.Version), Segment: b.Segment, QRVersion: codes.QRVersion(b.Prefix), CreatedAt: b.CreatedAt,
		Frozen: counts.Frozen, Void: counts.Void, Redeemed: counts.Redeemed}
}

func (a *Admin) registerCodes(api huma.API) {
	type batchList struct {
		Batches []batch `json:"batches"`
	}
	huma.Register(api, operation(http.MethodGet, "/batches", "listBatches", "Applications for codes, oldest first"), func(_ context.Context, in *struct {
		Account string `query:"account"`
		After   int64  `query:"after" minimum:"0"`
		Limit   int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[batchList], error) {
		shown := batchList{Batches: []batch{}}
		for _, b := range a.Codes.Memory.Batches() {
			if b.ID > in.After && (in.Account == "" || b.Account == in.Account) && len(shown.Batches) < in.Limit {
				shown.Batches = append(shown.Batches, a.showBatch(b))
			}
		}
		return &answer[batchList]{shown}, nil
	})
	huma.Register(api, operation(http.MethodGet, "/batches/{application_id}", "getBatch", "Show an application"), func(ctx context.Context, in *BatchPath) (*answer[batch], error) {
		b, err := a.Codes.Memory.Know(ctx, in.ID)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[batch]{a.showBatch(b)}, nil
	})

	type eventList struct {
		Events []codeEvent `json:"events"`
	}
	huma.Register(api, operation(http.MethodGet, "/batches/{application_id}/events", "listCodeEvents", "What happened to codes of a batch, oldest first; from after now is scheduled"), func(ctx context.Context, in *struct {
		BatchPath
		After int64 `query:"after" minimum:"0" doc:"only events after this seq"`
		Limit int   `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}) (*answer[eventList], error) {
		if _, err := a.Codes.Memory.Know(ctx, in.ID); err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := eventList{Events: []codeEvent{}}
		for e, err := range a.Codes.Store.Events(ctx, in.ID, in.After) {
			if err != nil {
				return nil, a.problem(ctx, err)
			}
			if shown.Events = append(shown.Events, showEvent(e)); len(shown.Events) == in.Limit {
				break
			}
		}
		return &answer[eventList]{shown}, nil
	})

	type changeDone struct {
		Codes   int64  `json:"codes" doc:"how many codes were named"`
		Changed int64  `json:"changed" doc:"how many of them this changes; the others are so already. Of a schedule: as things stand now"`
		Warning string `json:"warning,omitempty"`
	}
	change := func(ctx context.Context, actor string, id int64, s CodeSelection, c codes.Change) (*answer[changeDone], error) {
		b, err := a.Codes.Memory.Know(ctx, id)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		set, err := a.selected(ctx, b, s)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		c.Batch, c.Codes = id, set
		changed, err := a.Codes.Change(acting(ctx, actor), c)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		done := changeDone{Codes: set.Len(), Changed: changed}
		if c.Did == codes.Activate && !codes.ValidGTIN(c.Binding.ProductCode) {
			done.Warning = noGTIN
		}
		return &answer[changeDone]{done}, nil
	}
	huma.Register(api, operation(http.MethodPost, "/batches/{application_id}/states", "changeCodes", "Freeze, unfreeze, void or redeem codes; void is for ever"), func(ctx context.Context, in *struct {
		BatchPath
		Body struct {
			CodeSelection
			Did   codes.Did `json:"did" enum:"freeze,unfreeze,void,redeem"`
			Actor string    `json:"actor,omitempty" doc:"who did it, for the history; left out: admin"`
			Note  string    `json:"note,omitempty"`
		}
	}) (*answer[changeDone], error) {
		return change(ctx, in.Body.Actor, in.ID, in.Body.CodeSelection, codes.Change{Did: in.Body.Did, Note: in.Body.Note})
	})
	huma.Register(api, operation(http.MethodPost, "/batches/{application_id}/activations", "activateCodes", "Activate a range of codes, now or at a time"), func(ctx context.Context, in *struct {
		BatchPath
		Body struct {
			From    int64      `json:"code_start" minimum:"0"`
			To      int64      `json:"code_end" minimum:"0"`
			Binding binding    `json:"binding"`
			At      *time.Time `json:"at,omitempty" doc:"when it takes effect; left out: at once"`
			Actor   string     `json:"actor,omitempty"`
			Note    string     `json:"note,omitempty"`
		}
	}) (*answer[changeDone], error) {
		c := codes.Change{Did: codes.Activate, Binding: codes.Binding(in.Body.Binding), Note: in.Body.Note}
		if in.Body.At != nil {
			c.From = *in.Body.At
		}
		return change(ctx, in.Body.Actor, in.ID, CodeSelection{Ranges: []codes.Range{{From: in.Body.From, To: in.Body.To}}}, c)
	})
	huma.Register(api, operation(http.MethodPost, "/batches/{application_id}/withdrawals", "withdrawCodes", "Make codes not active any more, now or at a time"), func(ctx context.Context, in *struct {
		BatchPath
		Body struct {
			CodeSelection
			At    *time.Time `json:"at,omitempty"`
			Actor string     `json:"actor,omitempty"`
			Note  string     `json:"note,omitempty"`
		}
	}) (*answer[changeDone], error) {
		c := codes.Change{Did: codes.Withdraw, Note: in.Body.Note}
		if in.Body.At != nil {
			c.From = *in.Body.At
		}
		return change(ctx, in.Body.Actor, in.ID, in.Body.CodeSelection, c)
	})
	type retargeted struct {
		Activations int   `json:"activations" doc:"how many activations were renewed"`
		Codes       int64 `json:"codes" doc:"how many codes were named"`
		Changed     int64 `json:"changed" doc:"how many of them are active, now or by a schedule, and open the other page"`
	}
	huma.Register(api, operation(http.MethodPost, "/batches/{application_id}/retarget", "retargetCodes", "Open another page for what is active in a range; what the codes count for stays"), func(ctx context.Context, in *struct {
		BatchPath
		Body struct {
			From     int64  `json:"code_start" minimum:"0"`
			To       int64  `json:"code_end" minimum:"0"`
			WxaAppID string `json:"wxa_appid"`
			WxaPath  string `json:"wxa_path"`
			WxaType  int    `json:"wxa_type,omitempty" minimum:"0" maximum:"2"`
			Actor    string `json:"actor,omitempty"`
		}
	}) (*answer[retargeted], error) {
		r := codes.Range{From: in.Body.From, To: in.Body.To}
		done, err := a.Codes.Retarget(acting(ctx, in.Body.Actor), in.ID, r, in.Body.WxaAppID, in.Body.WxaPath, in.Body.WxaType)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[retargeted]{retargeted{Activations: done.Activations, Codes: codes.NewSet(r).Len(), Changed: done.Codes}}, nil
	})

	huma.Register(api, operation(http.MethodPost, "/codes/lookup", "lookupCode", "Find a code by its text, its nine characters, or application and index, with its history"), func(ctx context.Context, in *struct {
		Body struct {
			CodeURL       string `json:"code_url,omitempty"`
			Code          string `json:"code,omitempty"`
			ApplicationID int64  `json:"application_id,omitempty"`
			CodeIndex     *int64 `json:"code_index,omitempty"`
		}
	}) (*answer[code], error) {
		name := codes.CodeName{URL: in.Body.CodeURL, Code: in.Body.Code, ID: in.Body.ApplicationID}
		if in.Body.CodeIndex != nil {
			name.Index, name.HasIndex = *in.Body.CodeIndex, true
		}
		f, err := a.Codes.Find(ctx, name)
		if err == nil {
			f, err = a.Codes.Afresh(ctx, f)
		}
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		history, err := a.Codes.History(ctx, f.Batch.ID, f.Index)
		if err != nil {
			return nil, a.problem(ctx, err)
		}
		shown := code{ApplicationID: f.Batch.ID, CodeIndex: f.Index, Code: f.Code, CodeURL: a.Codes.Text(f.Batch, f.Index),
			Active: f.State.Activation != nil, Frozen: f.State.Frozen, Void: f.State.Void, Redeemed: f.State.Redeemed, History: []codeEvent{}}
		if f.State.Activation != nil {
			e := showEvent(*f.State.Activation)
			shown.Activation = &e
		}
		for _, e := range history {
			shown.History = append(shown.History, showEvent(e))
		}
		return &answer[code]{shown}, nil
	})
}

func (a *Admin) registerUsers(api huma.API) {
	type openid struct {
		OpenID string `json:"openid"`
	}
	huma.Register(api, operation(http.MethodGet, "/users/{user}/openid", "getOpenID", "The openid of a user under an account"), func(ctx context.Context, in *struct {
		User      string `path:"user" maxLength:"512"`
		AppID     string `query:"appid" required:"true"`
		Namespace string `query:"namespace" default:"default"`
	}) (*answer[openid], error) {
		if _, err := a.Accounts.Get(ctx, in.AppID); err != nil {
			return nil, a.problem(ctx, err)
		}
		return &answer[openid]{openid{a.OpenIDs.OpenID(in.Namespace, in.AppID, in.User)}}, nil
	})
}
