package accounts

import (
	"context"
	"strconv"
	"time"
)

// Notice is a notification to an account about an action of the operator.
type Notice struct {
	ID      int64
	Account string
	At      time.Time
	Kind    NoticeKind
	Prefix  string
	Reason  string
}

// NoticeKind is the type of event that a notice reports. The values of NoticeKind are stored and never change.
type NoticeKind string

// ForceDeleted is the kind for a rule that the operator removed because the domain of the rule has a new owner.
const ForceDeleted NoticeKind = "prefix_force_deleted"

// NoticeTx is the part of a transaction that stores notices.
type NoticeTx interface {
	// AddNotice stores a notice and assigns its ID.
	AddNotice(ctx context.Context, n Notice) error
	// Notices lists an account's notices, newest first.
	Notices(ctx context.Context, account string, limit int) ([]Notice, error)
}

// Event returns the notice in the form that the account's message URL receives. Assumed(message.released): the Weixin platform has no event
// for a force-deleted rule, so Event uses the format of its other events.
func (n Notice) Event(a Account) string {
	return message([]element{
		{name: "ToUserName", text: a.UserName()}, {name: "FromUserName", text: "qrjump"},
		{name: "CreateTime", text: strconv.FormatInt(n.At.Unix(), 10)},
		{name: "MsgType", text: "event"}, {name: "Event", text: "qrcodejump_" + string(n.Kind)}, {name: "Prefix", text: n.Prefix},
		{name: "Reason", text: n.Reason},
	}, false)
}

// Notices lists the notices of an account, newest first. ErrNoAccount.
func (d *Service) Notices(ctx context.Context, appid string, limit int) ([]Notice, error) {
	return Transact(ctx, d.Store.ViewAccounts, func(tx Tx) ([]Notice, error) {
		if _, err := tx.Account(ctx, appid); err != nil {
			return nil, err
		}
		return tx.Notices(ctx, appid, limit)
	})
}
