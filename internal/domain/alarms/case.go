package alarms

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/accounts"
)

// ErrNoCase is returned if the requested case does not exist, or does not accept the alarm.
var ErrNoCase = errors.New("alarms: no such case")

// ErrCaseFull is returned if a case would have more than MaxCaseAlarms alarms.
var ErrCaseFull = errors.New("alarms: a case has at most 1,000 alarms")

// MaxCaseAlarms is the maximum number of alarms of a case.
const MaxCaseAlarms = 1000

// CaseClosed is the state of a case on which the work has ended; other cases are in the state StateOpen.
const CaseClosed = "closed"

// Case groups alarms that belong together, such as those of a reseller.
type Case struct {
	ID        int64
	Account   string // the account of all alarms of the case; "" = any accounts
	Title     string
	State     string // StateOpen or CaseClosed
	Assignee  string // person who works on the case; "" = none
	Note      string
	CreatedAt time.Time
	CreatedBy string
	Alarms    string // changes whenever an alarm is put into the case or removed from it
}

// CaseQuery selects cases; the zero value selects none, because Limit is 0.
type CaseQuery struct {
	Before          int64    // only cases with a lower ID; 0 = any
	State, Assignee string   // "" = any
	Owners          []string // only cases of these accounts; empty = any
	Limit           int
}

// Cases returns the cases that match a query, newest first.
func (s *Service) Cases(ctx context.Context, q CaseQuery) ([]Case, error) {
	return view(ctx, s, func(tx Tx) ([]Case, error) { return tx.Cases(ctx, q) })
}

// Case returns a case with its alarms, oldest first. The error is ErrNoCase if the case does not exist.
func (s *Service) Case(ctx context.Context, id int64) (c Case, list []Alarm, err error) {
	err = s.Store.ViewAlarms(ctx, func(tx Tx) error {
		if c, err = tx.Case(ctx, id); err == nil {
			list, err = tx.Alarms(ctx, Query{Case: id, Limit: MaxCaseAlarms})
		}
		return err
	})
	return c, list, err
}

// SaveCase stores a case, and a new one if its ID is 0; without a state, the state stays, and a new case is open. If ids is not nil, the
// case then contains exactly these alarms: SaveCase acknowledges those that it adds. owners are the accounts of the caller; empty = all.
// The errors are ErrNoCase, ErrNoAlarm and ErrCaseFull.
func (s *Service) SaveCase(ctx context.Context, c Case, ids []int64, actor string, owners []string) (Case, error) {
	if len(ids) > MaxCaseAlarms {
		return c, ErrCaseFull
	}
	return accounts.Transact(ctx, s.Store.UpdateAlarms, func(tx Tx) (Case, error) {
		if err := tx.LockCases(ctx); err != nil {
			return c, err
		}
		c, alarms, err := s.putCase(ctx, tx, c, actor)
		if err != nil || ids == nil {
			return c, err
		}
		for _, a := range alarms {
			if !slices.Contains(ids, a.ID) {
				if _, err := tx.Assign(ctx, a.ID, 0, s.Now()); err != nil {
					return c, err
				}
			}
		}
		for _, id := range ids {
			if slices.ContainsFunc(alarms, func(a Alarm) bool { return a.ID == id }) {
				continue
			}
			a, err := tx.Acknowledge(ctx, id, actor, s.Now())
			if err == nil {
				_, err = s.assign(ctx, tx, a, c, owners)
			}
			if err != nil {
				return c, err
			}
		}
		return c, nil
	})
}

// putCase stores a case; it returns the case with the fields that do not change, and its alarms.
func (s *Service) putCase(ctx context.Context, tx Tx, c Case, actor string) (_ Case, list []Alarm, err error) {
	before := Case{State: StateOpen, Account: c.Account, CreatedAt: s.Now(), CreatedBy: actor}
	if c.ID != 0 {
		if before, err = tx.Case(ctx, c.ID); err == nil {
			list, err = tx.Alarms(ctx, Query{Case: c.ID, Limit: MaxCaseAlarms})
		}
		if err != nil {
			return c, nil, err
		}
	}
	c.State, c.Account, c.CreatedAt, c.CreatedBy = cmp.Or(c.State, before.State), before.Account, before.CreatedAt, before.CreatedBy
	c, err = tx.PutCase(ctx, c)
	return c, list, err
}

// move puts an alarm into a case that is not full, or removes it from its case if the ID of the case is 0.
func (s *Service) move(ctx context.Context, tx Tx, a Alarm, id int64, owners []string) (Alarm, error) {
	if id == 0 || id == a.Case.ID {
		return s.assign(ctx, tx, a, Case{ID: id}, owners)
	}
	c, err := tx.Case(ctx, id)
	if err != nil {
		return a, err
	}
	list, err := tx.Alarms(ctx, Query{Case: id, Limit: MaxCaseAlarms})
	if err == nil && len(list) == MaxCaseAlarms {
		err = ErrCaseFull
	}
	if err == nil {
		a, err = s.assign(ctx, tx, a, c, owners)
	}
	if err == nil {
		_, err = tx.PutCase(ctx, c)
	}
	return a, err
}

// assign puts an alarm into a case, or removes it from its case if the ID of the case is 0. owners are the accounts whose cases the
// caller may change; empty = all.
func (s *Service) assign(ctx context.Context, tx Tx, a Alarm, c Case, owners []string) (Alarm, error) {
	if a.Case.ID == c.ID {
		return a, nil
	}
	for _, changed := range []Case{a.Case, c} {
		if changed.ID != 0 && len(owners) > 0 && !slices.Contains(owners, changed.Account) {
			return a, ErrNoCase
		}
	}
	if c.Account != "" {
		account, err := tx.AccountOf(ctx, a.Batch)
		if err != nil {
			return a, err
		}
		if account != c.Account {
			return a, ErrNoCase
		}
	}
	moved, err := tx.Assign(ctx, a.ID, c.ID, s.Now())
	if err == nil && a.Case.ID != 0 {
		_, err = tx.PutCase(ctx, a.Case) // records the change of the case, for If-Match
	}
	return moved, err
}
