package accounts

import (
	"context"
	"strconv"
	"time"
)

// Notice is a notification of an account about an operator's action.
type Notice struct {
	ID      int64
	Account string
	At      time.Time
	Kind    NoticeKind
	Prefix  string
	Reason  string
}

// NoticeKind says what happened. Kinds are kept for ever.
type NoticeKind string

// PrefixReleased: a rule was taken away, because its domain changed hands.
const PrefixReleased NoticeKind = "prefix_released"

// NoticeTx is the part of a transaction that stores notices.
type NoticeTx interface {
	// AddNotice stores a notice and gives it its ID.
	AddNotice(ctx context.Context, n Notice) error
	// Notices lists an account's notices, newest first.
	Notices(ctx context.Context, account string, limit int) ([]Notice, error)
}

// Event returns the notice as the account's message URL gets it. Assumed(message.released): the
// platform has no such event; its form is that of the others.
func (n Notice) Event(a Account) string {
	return message([]element{
		{name: "ToUserName", text: a.UserName()}, {name: "FromUserName", text: "qrjump"},
		{name: "CreateTime", text: strconv.FormatInt(n.At.Unix(), 10)},
		{name: "MsgType", text: "event"}, {name: "Event", text: "qrcodejump_" + string(n.Kind)}, {name: "Prefix", text: n.Prefix},
		{name: "Reason", text: n.Reason},
	}, false)
}

// Notices lists what an account was told, newest first. ErrNoAccount.
func (d *Service) Notices(ctx context.Context, appid string, limit int) ([]Notice, error) {
	var list []Notice
	err := d.Store.ViewAccounts(ctx, func(tx Tx) (err error) {
		if _, err = tx.Account(ctx, appid); err != nil {
			return err
		}
		list, err = tx.Notices(ctx, appid, limit)
		return err
	})
	return list, err
}
