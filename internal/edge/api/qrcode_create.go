package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/qrjump/qrjump/internal/contract/behaviour"
	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// createQRCodeReply has no errcode or errmsg, because one client treats any errmsg as a failure. Contract: clients §6.
type createQRCodeReply struct {
	Ticket        string `json:"ticket"`
	ExpireSeconds int    `json:"expire_seconds,omitempty"`
	URL           string `json:"url"`
}

// object returns an object field, or nil if the field is absent or not an object; names lists the documented fields of the object.
func (f *fields) object(name string, names ...string) *fields {
	if f.isAbsent(name) {
		return nil
	}
	object, err := parseFields(f.raw(name))
	if err != nil {
		f.setError(behaviour.WireFieldType, name, "an object")
		return nil
	}
	object.notes, object.settings = f.notes, f.settings
	if object.duplicate != "" {
		object.noteOrRefuse(behaviour.WireFieldDoubled, object.duplicate, "one such field")
	}
	for _, item := range object.list {
		if !slices.Contains(names, string(item.name)) {
			object.noteOrRefuse(behaviour.WireFieldUnknown, string(item.name), "no such field")
		}
	}
	return object
}

func readQRDraft(f *fields) (accounts.QRDraft, error) {
	d := accounts.QRDraft{Action: accounts.QRAction(f.text("action_name"))}
	if life, given := f.number("expire_seconds"); given {
		d.Life = &life
	}
	if f.err != nil {
		return d, f.err
	}
	info := f.object("action_info", "scene")
	if info == nil {
		return d, cmp.Or(f.err, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo, "action_info is missing"))
	}
	scene := info.object("scene", "scene_id", "scene_str")
	if scene == nil {
		return d, cmp.Or(info.err, errcode.InvalidActionInfo.WithDetail(behaviour.QRCodeInfo, "action_info.scene is missing"))
	}
	// Only the scene field that matches the action is read; the other scene field may have any value.
	switch d.Action {
	case accounts.QRNumber, accounts.QRNumberForEver:
		if id, given := scene.number("scene_id"); given {
			d.ID = &id
		}
	case accounts.QRText, accounts.QRTextForEver:
		text := scene.textOrNumber("scene_str")
		if !scene.isAbsent("scene_str") {
			d.Text = &text
		}
	}
	return d, cmp.Or(info.err, scene.err)
}

// createQRCode creates a parametric QR code. Contract: rules §3.5.
func (a *API) createQRCode(ctx context.Context, c *call, draft accounts.QRDraft) (any, error) {
	if draft.Action.Permanent() && draft.Life != nil {
		err := a.noteOrRefuse(c, behaviour.QRCodeLifeIgnored, "expire_seconds is %d, and the code is permanent", *draft.Life)
		if err != nil {
			return nil, err
		}
	}
	q, err := a.Accounts.CreateQRCode(ctx, c.caller, draft)
	if err != nil {
		return nil, err
	}
	reply := createQRCodeReply{Ticket: q.Ticket, URL: q.URL()}
	if !q.Permanent() {
		reply.ExpireSeconds = int(q.ExpiresAt.Sub(q.CreatedAt).Seconds())
	}
	return reply, nil
}
