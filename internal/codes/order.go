package codes

import (
	"context"
	"time"

	"github.com/qrjump/qrjump/internal/accounts"
)

// Order is an application that people ask for, and maybe others agree to.
type Order struct {
	Account   string    `json:"account"`
	ISV       string    `json:"isv_application_id"`
	Count     int64     `json:"code_count"`
	Template  string    `json:"text,omitempty"` // filled in; "" = prefix and secret
	AskedBy   string    `json:"asked_by"`
	AskedAt   time.Time `json:"asked_at"`
	DecidedBy string    `json:"decided_by,omitempty"` // "" = it waits
	DecidedAt time.Time `json:"decided_at,omitzero"`
	Refused   bool      `json:"refused,omitempty"`
	Batch     int64     `json:"application_id,omitempty"` // 0 = its codes are not made
}

// Waits reports whether somebody still has to decide.
func (o Order) Waits() bool { return o.DecidedBy == "" }

// Decide is the order after somebody decided. two says that whoever asked cannot agree. Conflict.
func (o Order) Decide(agree bool, by string, two bool, now time.Time) (Order, error) {
	switch {
	case !o.Waits():
		return o, Conflict(o.DecidedBy + " decided this order already")
	case agree && two && by == o.AskedBy:
		return o, Conflict(by + " asked for these codes: somebody else has to agree (setting order_by_two)")
	}
	o.DecidedBy, o.DecidedAt, o.Refused = by, now, !agree
	return o, nil
}

// Orders are what people asked for.
type Orders struct {
	Press *Press
	// Change changes the order of a number that an account chose, in one transaction; a zero Order before it was asked for.
	Change func(ctx context.Context, account, isv string, f func(Order) (Order, error)) (Order, error)
	// Newest is a page of the orders of some accounts, none = of all, the newest first, with how many there are.
	Newest func(ctx context.Context, appids []string, offset, limit int) (page []Order, total int, err error)
}

// Ask asks for codes, and makes them at once where nobody else has to agree. The same again is the same order; one that was
// refused may be asked for anew. Conflict, or an error of Apply.
func (o *Orders) Ask(ctx context.Context, caller accounts.Account, a Application, two bool) (Order, error) {
	by := accounts.AuthorOf(ctx).Actor
	if err := Granted(caller); err != nil {
		return Order{}, err
	}
	if err := a.check(o.Press.Settings.Get().CodeCountMax); err != nil {
		return Order{}, err
	}
	asked, err := o.Change(ctx, caller.AppID, a.ISV, func(old Order) (Order, error) {
		if old.AskedBy != "" && !old.Refused {
			if old.Count != a.Count {
				return old, Conflict("this number is another order's, with another count")
			}
			if old.Template != a.Template {
				return old, Conflict("this number is another order's, with another text")
			}
			return old, nil
		}
		return Order{Account: caller.AppID, ISV: a.ISV, Count: a.Count, Template: a.Template,
			AskedBy: by, AskedAt: o.Press.Now().UTC()}, nil
	})
	if err != nil || two || !asked.Waits() {
		return asked, err
	}
	return o.Decide(ctx, caller, a, true, false)
}

// Decide makes the codes of an order, or refuses it; a count in seen is compared with the order's. ErrNoBatch where there is none;
// Conflict, or an error of Apply, after which it waits as before.
func (o *Orders) Decide(ctx context.Context, caller accounts.Account, seen Application, agree, two bool) (Order, error) {
	isv := seen.ISV
	by, now := accounts.AuthorOf(ctx).Actor, o.Press.Now()
	var was Order
	decided, err := o.Change(ctx, caller.AppID, isv, func(old Order) (Order, error) {
		if was = old; old.AskedBy == "" {
			return old, ErrNoBatch
		}
		if seen.Count != 0 && seen.Count != old.Count { // it was refused and asked for anew meanwhile
			return old, Conflict("this order has another count than the one that was decided about: look at it again")
		}
		if !old.Refused && !old.Waits() && old.Batch == 0 { // the process that made its codes ended before it said so
			return old, nil
		}
		return old.Decide(agree, by, two, now)
	})
	if err != nil || decided.Refused {
		return decided, err
	}
	// An application of the same number and count is the same: this may run twice.
	batch, failed := o.Press.Apply(ctx, caller, Application{Count: decided.Count, ISV: isv, Template: decided.Template})
	made, err := o.Change(ctx, caller.AppID, isv, func(Order) (Order, error) {
		if failed != nil {
			was.DecidedBy, was.DecidedAt = "", time.Time{}
			return was, nil
		}
		decided.Batch = batch.ID
		return decided, nil
	})
	if failed != nil {
		return was, failed
	}
	return made, err
}
