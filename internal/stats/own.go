package stats

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/qrjump/qrjump/internal/stats/calendar"
	"github.com/qrjump/qrjump/internal/stats/sketch"
)

// Own adds up for their owners the counts of a day that were counted by a version that knew no owners, the newest day
// first, and at last those of months; more says whether there are others. What it adds up it takes from the counts of
// rules and applications, whatever the ledger has.
func (c *Counter) Own(ctx context.Context) (more bool, err error) {
	state, err := c.stored(ctx)
	if err != nil || state.OwnersSince == 0 || state.OwnersMissed {
		return false, err
	}
	day, any, err := c.lastBefore(ctx, state.OwnersSince)
	if err == nil && any {
		err = c.ownDay(ctx, state, day)
	} else if day = 0; err == nil {
		err = c.ownMonths(ctx, state)
	}
	if err != nil {
		return false, fmt.Errorf("adding up the scans of each owner: %w", err)
	}
	_, err = c.change(ctx, func(_ context.Context, _ Tx, s *State) error {
		if more = s.OwnersSince != state.OwnersSince || any; s.OwnersSince == state.OwnersSince {
			s.OwnersSince = day
		}
		return nil
	})
	return more, err
}

// ownFor lets Own run for a while.
func (c *Counter) ownFor(ctx context.Context, while time.Duration) error {
	c.mu.Lock()
	counts := c.loaded
	c.mu.Unlock()
	for began := time.Now(); counts && time.Since(began) < while; {
		if more, err := c.Own(ctx); err != nil || !more {
			return err
		}
	}
	return nil
}

func (c *Counter) lastBefore(ctx context.Context, day int64) (last int64, any bool, err error) {
	err = c.Store.ViewStatistics(ctx, func(tx Tx) error {
		last, any, err = tx.LastCounted(ctx, PerDayOfAll, day)
		return err
	})
	return last, any && last != 0, err // 0 says that all days are added up
}

// never is a day before or after all others.
const never = 1 << 40

// resketched is for how many days before the newest the users are added up in any case: who wrote them may have been
// another than who counted the scans.
const resketched = 3

func (c *Counter) ownDay(ctx context.Context, state State, day int64) error {
	hours, days := Span{PerHour, day*24 - state.Offset, (day+1)*24 - state.Offset}, Span{PerDay, day, day + 1}
	if hours.From = max(hours.From, state.HoursFrom); hours.From < hours.To {
		if _, err := c.ownLacking(ctx, hours); err != nil {
			return err
		}
	}
	lacking, err := c.ownLacking(ctx, days)
	if err != nil || len(lacking) == 0 && day < calendar.Day(calendar.Hour(c.Now()), state.Offset)-resketched {
		return err
	}
	return c.ownUsers(ctx, day)
}

func (c *Counter) ownMonths(ctx context.Context, state State) error {
	lacking, err := c.ownLacking(ctx, Span{PerMonth, -never, state.Months})
	for _, month := range lacking {
		if err == nil {
			err = c.ownUsers(ctx, MonthSketches+month)
		}
	}
	return err
}

// ownLacking adds up the hours, days or months of a span whose sums of owners are not the sum of all, and returns them.
func (c *Counter) ownLacking(ctx context.Context, of Span) ([]int64, error) {
	lacking, err := view(ctx, c, func(tx Tx) ([]int64, error) { return tx.LackingOwners(ctx, of) })
	for _, at := range lacking {
		if err != nil {
			break
		}
		err = c.ownAt(ctx, of.Per, at)
	}
	return lacking, err
}

// ownAt adds up an hour, day or month. It is read before anybody has to wait for it, and stored if nothing was counted
// meanwhile; where that does not help, others wait.
func (c *Counter) ownAt(ctx context.Context, per Per, at int64) error {
	for try := 0; ; try++ {
		rows, err := view(ctx, c, func(tx Tx) ([]OwnedRow, error) { return tx.CountsByOwner(ctx, per, at) })
		if err != nil {
			return err
		}
		stored := false
		_, err = c.change(ctx, func(ctx context.Context, tx Tx, _ *State) error {
			all, err := tx.SumsFrom(ctx, Span{per, at, at + 1}, Total, "", 1)
			if err != nil {
				return err
			}
			var sum, total Count
			for _, row := range rows {
				sum.Add(row.Count)
			}
			for _, row := range all {
				total.Add(row.Count)
			}
			if stored = sum == total; !stored && try < 2 {
				return nil
			}
			if !stored {
				if rows, err = tx.CountsByOwner(ctx, per, at); err != nil {
					return err
				}
				stored = true
			}
			return putOwned(ctx, tx, per, at, rows)
		})
		if err != nil || stored {
			return err
		}
	}
}

// putOwned stores the counts of owners of an hour, day or month.
func putOwned(ctx context.Context, tx Tx, per Per, at int64, rows []OwnedRow) error {
	counts, sums := make([]CountRow, 0, len(rows)), []SumRow(nil)
	slices.SortFunc(rows, func(a, b OwnedRow) int { return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Tuple, b.Tuple)) })
	for _, row := range rows {
		counts = append(counts, CountRow{per.OfOwner(), at, OwnerNumber(row.Owner), row.Tuple, row.Count})
		if n := len(sums); n == 0 || sums[n-1].Value != row.Owner {
			sums = append(sums, SumRow{Per: per, Dim: Owner, At: at, Value: row.Owner})
		}
		sums[len(sums)-1].Add(row.Count)
	}
	slices.SortFunc(counts, func(a, b CountRow) int { return a.compare(&b) })
	names := make([]string, len(sums))
	for i := range sums {
		names[i] = sums[i].Value
	}
	if err := tx.NameOwners(ctx, names); err != nil {
		return err
	}
	if err := tx.PutScanCounts(ctx, counts); err != nil {
		return err
	}
	return tx.PutSums(ctx, sums)
}

// ownUsers adds the users of rules and applications to those of their owners, for a day or MonthSketches + a month.
func (c *Counter) ownUsers(ctx context.Context, day int64) error {
	for _, dim := range [...]Dim{Rule, Batch} {
		for from := "0"; from != ""; {
			keys, err := view(ctx, c, func(tx Tx) ([]UsersKey, error) {
				return tx.UsersFrom(ctx, Span{PerDay, day, day + 1}, dim, from, usersAtOnce)
			})
			if err == nil {
				err = c.ownSketches(ctx, keys)
			}
			if err != nil {
				return err
			}
			if from = ""; len(keys) == usersAtOnce {
				from = keys[len(keys)-1].Value + "!" // behind it, and before what begins with it
			}
		}
	}
	return nil
}

// ownSketches adds sketches of one day's rules or applications to those of their owners.
func (c *Counter) ownSketches(ctx context.Context, keys []UsersKey) error {
	owners := map[UsersKey]UsersKey{}
	for _, key := range keys {
		n, err := strconv.ParseInt(key.Value, 10, 64)
		if err != nil {
			return fmt.Errorf("users of %s %q: %w", key.Dim, key.Value, err)
		}
		rule, batch := n, int64(0)
		if key.Dim == Batch {
			rule, batch = 0, n
		}
		of, err := c.Owner(ctx, rule, batch)
		if err != nil {
			return err
		}
		if of != "" {
			owners[key] = UsersKey{key.Day, Owner, of}
		}
	}
	if len(owners) == 0 {
		return nil
	}
	_, err := c.change(ctx, func(ctx context.Context, tx Tx, _ *State) error {
		wanted := keys
		for _, of := range owners {
			wanted = append(wanted[:len(wanted):len(wanted)], of)
		}
		have, err := tx.UsersRows(ctx, wanted)
		if err != nil {
			return err
		}
		users, erased := map[UsersKey]*sketch.Users{}, map[UsersKey]int64{}
		for key, of := range owners {
			row := have[key]
			some, err := row.Whole()
			if err != nil {
				return err
			}
			if users[of] == nil {
				already := have[of]
				all, err := already.Whole()
				if err != nil {
					return err
				}
				users[of], erased[of] = &all, already.Erased
			}
			users[of].Merge(some)
			erased[of] += row.Erased
		}
		rows := make([]UsersRow, 0, len(users))
		for of, all := range users {
			rows = append(rows, UsersRow{UsersKey: of, Users: all.Count(), Sketch: all.Encode(), Erased: erased[of], Since: have[of].Since})
		}
		return tx.PutUsers(ctx, rows)
	})
	return err
}
