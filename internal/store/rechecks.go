package store

import (
	"context"
	"slices"
	"time"

	"github.com/qrjump/qrjump/internal/domain/rules"
)

var recheckRows = mapper[rules.Reverification]{table: "domain_reverifications", key: "owner, directory",
	columns: "owner, directory, prefix, checked_at, ok, reason, failing_since, next_check_at",
	targets: func(r *rules.Reverification) []any {
		return []any{&r.Owner, &r.Directory, &r.Prefix, moment{&r.CheckedAt}, &r.OK, &r.Reason, moment{&r.FailingSince}, moment{&r.NextAt}}
	}}

// Rechecks stores the rechecks of verification files.
type Rechecks struct{ *Store }

// Add implements rules.RecheckStore.
func (s Rechecks) Add(ctx context.Context, list []rules.Reverification) error {
	if len(list) == 0 {
		return nil
	}
	// Add reads first and writes only missing rechecks: usually none is missing, so the call needs no write lock.
	fresh, err := viewed(ctx, s.Store, func(tx *Tx) (fresh []rules.Reverification, err error) {
		for reverifications := range slices.Chunk(list, tx.argumentsAtOnce()/2) {
			var names []any
			for i := range reverifications {
				names = append(names, reverifications[i].Owner, reverifications[i].Directory)
			}
			known := make(map[[2]string]bool, len(reverifications))
			err := queryEach(ctx, tx, scanTwoTexts, func(name [2]string) error {
				known[name] = true
				return nil
			}, `SELECT owner, directory FROM domain_reverifications WHERE (owner, directory) IN (VALUES `+tx.rowMarks(len(reverifications), 2)+`)`, names...)
			if err != nil {
				return nil, err
			}
			for _, r := range reverifications {
				if !known[[2]string{r.Owner, r.Directory}] {
					fresh = append(fresh, r)
				}
			}
		}
		return fresh, nil
	})
	if err != nil || len(fresh) == 0 {
		return err
	}
	return s.update(ctx, func(tx *Tx) error {
		return recheckRows.addAll(ctx, tx, fresh, ` ON CONFLICT (owner, directory) DO NOTHING`)
	})
}

// Claim implements rules.RecheckStore.
func (s Rechecks) Claim(ctx context.Context, now, secondMoment time.Time, limit int) (taken []rules.Reverification, err error) {
	due, err := viewed(ctx, s.Store, func(tx *Tx) ([]rules.Reverification, error) {
		return recheckRows.all(ctx, tx, `WHERE next_check_at <= $1 ORDER BY next_check_at, owner, directory LIMIT $2`, millis(now), limit)
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	err = s.update(ctx, func(tx *Tx) error {
		taken = nil
		for _, r := range due {
			n, err := tx.exec(ctx, `UPDATE domain_reverifications SET next_check_at = $1 WHERE owner = $2 AND directory = $3 AND next_check_at = $4`, millis(secondMoment),
				r.Owner, r.Directory, millis(r.NextAt))
			if err != nil {
				return err
			}
			if n == 1 {
				taken = append(taken, r)
			}
		}
		return nil
	})
	return taken, err
}

// Save implements rules.RecheckStore.
func (s Rechecks) Save(ctx context.Context, r rules.Reverification) error {
	return execute(ctx, s.Store, `UPDATE domain_reverifications SET prefix = $3, checked_at = $4, ok = $5, reason = $6, failing_since = $7,
		next_check_at = $8 WHERE owner = $1 AND directory = $2`, recheckRows.args(&r)...)
}

// Delete implements rules.RecheckStore.
func (s Rechecks) Delete(ctx context.Context, owner, directory string) error {
	return execute(ctx, s.Store, `DELETE FROM domain_reverifications WHERE owner = $1 AND directory = $2`, owner, directory)
}

// MakeDue implements rules.RecheckStore.
func (s Rechecks) MakeDue(ctx context.Context, now time.Time) error {
	return execute(ctx, s.Store, `UPDATE domain_reverifications SET next_check_at = $1 WHERE next_check_at > $1 AND owner <> ''`,
		millis(now))
}

// List implements rules.RecheckStore.
func (s Rechecks) List(ctx context.Context, q rules.ReverificationQuery) (found []rules.Reverification, err error) {
	var w criteria
	w.and("(owner, directory) > (?, ?)", q.AfterOwner, q.AfterDirectory)
	w.and("checked_at > 0 AND owner <> ''")
	w.andIf(q.Owner != "", "owner = ?", q.Owner)
	w.andIf(q.Failing, "failing_since > 0")
	rest := w.String() + ` ORDER BY owner, directory LIMIT ` + w.bind(q.Limit)
	return viewed(ctx, s.Store, func(tx *Tx) ([]rules.Reverification, error) { return recheckRows.all(ctx, tx, rest, w.args...) })
}

// CountFailing implements rules.RecheckStore.
func (s Rechecks) CountFailing(ctx context.Context) (int64, error) {
	return viewed(ctx, s.Store, func(tx *Tx) (int64, error) {
		return scalar[int64](ctx, tx, `SELECT COUNT(*) FROM domain_reverifications WHERE failing_since > 0`)
	})
}
