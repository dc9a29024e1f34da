package codes

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/qrjump/qrjump/internal/contract/errcode"
	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// Order is a request for a batch of codes that may need the approval of a second person.
type Order struct {
	Account     string    `json:"account"`
	ISV         string    `json:"isv_application_id"`
	Count       int64     `json:"code_count"`
	Template    string    `json:"text,omitempty"` // completed template; "" = texts consist of prefix and secret
	RequestedBy string    `json:"requested_by"`
	CreatedAt   time.Time `json:"created_at"`
	DecidedBy   string    `json:"decided_by,omitempty"` // "" = undecided
	DecidedAt   time.Time `json:"decided_at,omitzero"`
	Refused     bool      `json:"refused,omitempty"`
	Batch       int64     `json:"application_id,omitempty"` // 0 = the codes have not been created
}

// IsUndecided reports whether the order is neither approved nor rejected.
func (o Order) IsUndecided() bool { return o.DecidedBy == "" }

// Interrupted reports whether the order is approved but its codes have not been created.
func (o Order) Interrupted() bool { return !o.IsUndecided() && !o.Refused && o.Batch == 0 }

// Revision returns a hash of the complete order, which changes with its text, count, requester or decision.
func (o Order) Revision() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // cannot fail: the store contains the same JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]) // never begins with "-", which the command line would parse as a flag
}

// OrderDecision is the approval or rejection of an order.
type OrderDecision struct {
	ISV      string
	Approve  bool
	Revision string // revision of the order that the approver has read; "" = not compared, which is allowed only for a rejection
}

// decide returns the order after a decision. If requireSecondPerson is true, the requester must not approve the order. Conflict.
func (o Order) decide(d OrderDecision, actor string, requireSecondPerson bool, now time.Time) (Order, error) {
	switch {
	case !o.IsUndecided() && !(d.Approve && o.Interrupted()):
		return o, Conflict(o.DecidedBy + " decided this order already")
	case d.Approve && d.Revision == "":
		return o, Conflict("approval needs the revision of the order: read the order again, and send its revision")
	case d.Revision != "" && d.Revision != o.Revision():
		return o, Conflict("this order has changed since it was read: read it again, and send its revision")
	case d.Approve && requireSecondPerson && o.IsUndecided() && actor == o.RequestedBy:
		return o, Conflict(actor + " ordered these codes: another person must approve the order (setting order_approval_required)")
	case o.IsUndecided():
		o.DecidedBy, o.DecidedAt, o.Refused = actor, now, !d.Approve
	}
	return o, nil
}

// Orders manages orders of codes and their approval.
type Orders struct {
	Codes *Service
	// Change lets f change the order of an account with the given isv_application_id, in one transaction; f receives a zero Order if there
	// is none.
	Change func(ctx context.Context, account, isv string, f func(Order) (Order, error)) (Order, error)
	// Newest returns one page of the orders of the given accounts (empty = all), newest first, and the total number.
	Newest func(ctx context.Context, appids []string, offset, limit int) (page []Order, total int, err error)
}

// Create creates an order, and creates its codes at once if no approval by a second person is needed. A repeated request returns the same
// order, which is completed if it was interrupted; a rejected order may be requested again. Create returns a Conflict or an error of Apply.
func (o *Orders) Create(ctx context.Context, caller accounts.Account, a Application, requireSecondPerson bool) (Order, error) {
	actor, now := accounts.ActorFromContext(ctx).ActorID, o.Codes.Now().UTC()
	if err := CheckPermission(caller); err != nil {
		return Order{}, err
	}
	if err := a.check(o.Codes.Settings.Get().MaxCodesPerApplication); err != nil {
		return Order{}, err
	}
	created, err := o.Change(ctx, caller.AppID, a.ISV, func(order Order) (Order, error) {
		if order.RequestedBy == "" || order.Refused {
			order = Order{Account: caller.AppID, ISV: a.ISV, Count: a.Count, Template: a.Template, RequestedBy: actor, CreatedAt: now}
		}
		switch {
		case order.Count != a.Count:
			return order, Conflict("this order number was used with another count")
		case order.Template != a.Template:
			return order, Conflict("this order number was used with another text")
		case order.IsUndecided() && !requireSecondPerson:
			order.DecidedBy, order.DecidedAt = actor, now
		}
		return order, nil
	})
	if err != nil || !created.Interrupted() {
		return created, err
	}
	return o.complete(ctx, caller, created)
}

// Decide rejects an order, or approves it and creates its codes. Decide returns ErrNoBatch if the order does not exist, a Conflict, or an
// error of Apply; the comment of the function complete describes the order after an error of Apply.
func (o *Orders) Decide(ctx context.Context, caller accounts.Account, d OrderDecision, requireSecondPerson bool) (Order, error) {
	actor, now := accounts.ActorFromContext(ctx).ActorID, o.Codes.Now().UTC()
	decided, err := o.Change(ctx, caller.AppID, d.ISV, func(old Order) (Order, error) {
		if old.RequestedBy == "" {
			return old, ErrNoBatch
		}
		return old.decide(d, actor, requireSecondPerson, now)
	})
	if err != nil || decided.Refused {
		return decided, err
	}
	return o.complete(ctx, caller, decided)
}

// complete creates the codes of an approved order. complete may run twice, even on two nodes at once: for the same ISV, count and text,
// Apply returns the same application. If Apply rejects the application, the order becomes undecided again; after a system error the order
// stays interrupted.
func (o *Orders) complete(ctx context.Context, caller accounts.Account, order Order) (Order, error) {
	ctx = context.WithoutCancel(ctx) // the order is approved, whether or not the client is still connected
	batch, failed := o.Codes.Apply(ctx, caller, Application{Count: order.Count, ISV: order.ISV, Template: order.Template, Approved: true})
	if code, _ := errcode.FromError(failed); failed != nil && code == errcode.SystemError {
		return order, failed
	}
	updated, err := o.Change(ctx, order.Account, order.ISV, func(currentOrder Order) (Order, error) {
		switch {
		case !currentOrder.Interrupted(): // another node has already completed the order
		case failed != nil:
			currentOrder.DecidedBy, currentOrder.DecidedAt = "", time.Time{}
		default:
			currentOrder.Batch = batch.ID
		}
		return currentOrder, nil
	})
	return updated, cmp.Or(failed, err)
}

// Interrupted lists approved orders whose codes have not been created.
func (o *Orders) Interrupted(ctx context.Context, appids []string) (list []Order, err error) {
	const page = 1000
	for offset := 0; ; offset += page {
		orders, _, err := o.Newest(ctx, appids, offset, page)
		if err != nil {
			return nil, err
		}
		for _, order := range orders {
			if order.Interrupted() {
				list = append(list, order)
			}
		}
		if len(orders) < page {
			return list, nil
		}
	}
}

// CompleteInterrupted creates the codes of all interrupted orders; account returns an account by its AppID.
func (o *Orders) CompleteInterrupted(ctx context.Context, account func(context.Context, string) (accounts.Account, error)) error {
	list, err := o.Interrupted(ctx, nil)
	for _, order := range list {
		owner, failed := account(ctx, order.Account)
		if failed == nil {
			order, failed = o.complete(ctx, owner, order)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("order %s of %s: %w", order.ISV, order.Account, failed))
		}
	}
	return err
}
